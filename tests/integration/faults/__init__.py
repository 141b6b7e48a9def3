"""The fault matrix: what can go wrong, where and when, and the few rules that say what comes of it."""
