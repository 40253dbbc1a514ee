"""The namespaces of a client: `np6.events`, `np6.actions` and the others."""
