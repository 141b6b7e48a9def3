"""What may be spent: windows, what requests reserve of them, and what a spent budget means for the next one."""
