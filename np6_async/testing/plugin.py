"""pytest plugin of np6_async."""
