"""The namespaces of a client: `np6.events`, `np6.segments` and `np6.contacts`."""
