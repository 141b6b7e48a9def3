"""The experiment: what the sums of both arms say, whether the ramp may go on, and what stops it."""
