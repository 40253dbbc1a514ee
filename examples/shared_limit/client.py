"""The client of every process: those with the same API key and the same Redis share one rate limit."""

import os

from np6_async import NP6Client
from np6_async.integrations.redis import SharedLimit

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")


def make_client() -> NP6Client:
    """With four processes: while Redis is away, each goes on with a quarter of the rate."""
    return NP6Client(rate_limiter=SharedLimit(REDIS_URL, share=0.25))
