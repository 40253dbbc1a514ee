"""Benchmarks of np6_async against code written by hand; run with ``python -m benchmarks``."""
