"""Async iterators over many requests."""
