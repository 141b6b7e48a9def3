"""Ramps that never happened: traffic drawn at random, and what the gates would have made of it.  Needs NumPy."""
