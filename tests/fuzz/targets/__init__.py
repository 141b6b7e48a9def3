"""One module for each target.

A target has `check(data)`, which raises where a law is broken, and `TOKENS`, words that are worth inserting.
"""
