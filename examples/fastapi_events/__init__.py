"""The events of a contact over HTTP, with FastAPI."""
