"""Several processes behind one port, and the parent that starts, watches and restarts them."""
