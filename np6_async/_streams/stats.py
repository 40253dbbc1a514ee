"""Counts of a stream and of a bulk run."""

from __future__ import annotations

from attrs import define


@define
class StreamStats:
    """Counts of one stream, up to now.

    `retries` counts requests sent again, those for a rate limit excluded; `waited` is the time in seconds that was
    spent on backoff, rate limits and pacing.
    """

    events: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    waited: float = 0.0


@define
class BulkStats:
    """Counts of one bulk fetch, up to now.

    `done`, `failed` and `in_flight` count contacts: one is done when its response is known to be complete and the
    consumer, having taken its last event, asks for more. `events` counts those delivered; `bytes`, `requests`,
    `retries` and `waited` (seconds) are summed over all contacts.
    """

    done: int = 0
    failed: int = 0
    in_flight: int = 0
    events: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    waited: float = 0.0

    def add(self, part: StreamStats | BulkStats) -> None:
        """Add the requests of `part`."""
        self.bytes += part.bytes
        self.requests += part.requests
        self.retries += part.retries
        self.waited += part.waited
