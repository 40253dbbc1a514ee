"""Test tools for users of np6_async."""
