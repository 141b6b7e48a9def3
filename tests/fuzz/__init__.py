"""Fuzzing: bytes that nobody thought of, and what must hold for them all the same.

`make test` replays every kept input and tries a few thousand new ones; `make fuzz` goes on for as long as it is told,
guided by coverage.  README.md says how to add a target.
"""
