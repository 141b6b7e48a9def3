"""What the admin listener answers."""
