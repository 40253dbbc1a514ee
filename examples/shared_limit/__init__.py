"""Processes that share one rate limit."""
