"""How far an export or a sync has got."""

from __future__ import annotations

from attrs import frozen


@frozen
class Counts:
    """Contacts that are done, contacts that failed, and events, of all runs up to now.

    `reached`, of actions: the time of the last event that was fetched, in epoch milliseconds; all before it were.
    `retries`: how many requests were sent again, in this run.
    """

    done: int
    failed: int
    events: int
    reached: int | None = None
    retries: int = 0
