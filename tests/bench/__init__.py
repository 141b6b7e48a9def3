"""Tests of the benchmarks' own logic: who takes part, what is pinned, what a rival's failure costs."""
