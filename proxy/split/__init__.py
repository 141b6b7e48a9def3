"""Pure: who is asking, and which variant that gives."""
