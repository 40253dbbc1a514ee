"""np6_async: an asyncio-first SDK for the NP6 contact-events API."""

__version__ = "0.1.0"
