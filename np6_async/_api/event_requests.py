"""From the arguments of a call to a query, and from a query to a run: for `Events` and for `np6_async.sync`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from attrs import evolve

from .._config import check_concurrency
from .._errors import InvalidInput, NP6Error
from .._models.contacts import Contact
from .._models.events import EventKind
from .._models.time_bounds import Bound, Window, window
from .._protocol.event_query import EventQuery
from .._streams.bulk_stream import BulkStream, ErrorPolicy
from .._streams.contact_queue import ContactIterable
from .._streams.fetch import Fetch
from .._streams.quick_lane import QuickLane
from .._streams.runtime import Runtime
from .._streams.workers import Workers

_CLASSIFICATION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

# No event can be in it, and yet it is not empty.
_NO_TIME: Final = Window(0, 1)

Missing: TypeAlias = Literal["error", "empty"]


class EventRequests:
    """The requests for events that a client makes."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def now(self) -> datetime:
        """The time by `RetryPolicy.wall_clock` or, where that is known to be ahead, by the server's clock."""
        return datetime.fromtimestamp(self.runtime.server_clock.now(), UTC)

    async def measure_clock(self, contact: Contact, query: EventQuery) -> None:
        """Make the server's time known by a request for next to nothing. Should it fail, so will those that follow."""
        self.runtime.server_clock.moment()
        narrow = evolve(query, window=_NO_TIME, missing_is_empty=True)
        fetch = Fetch[Contact, Any](self.runtime, contact, narrow, self.runtime.slots)
        with suppress(NP6Error):
            await fetch.next_batch()
        fetch.close()

    def query(
        self,
        kind: str,
        start: Bound | None,
        end: Bound | None,
        classification: str | Iterable[str] | None,
        newest_first: bool = False,
        missing: str = "error",
    ) -> EventQuery:
        """The query that the arguments describe; raises `InvalidInput`."""
        parsed = EventKind.parse(kind)
        if missing not in ("error", "empty"):
            raise InvalidInput(f"missing={missing!r} is not known; use 'error' or 'empty'")
        return EventQuery(
            kind=parsed,
            window=window(start, end, now=self.now(), tz=self.runtime.tz),
            newest_first=bool(newest_first),
            classification=_parse_classification(classification, parsed),
            missing_is_empty=missing == "empty",
            demand=self.runtime.demand,
        )

    def bulk(
        self,
        contacts: ContactIterable,
        query_of: Callable[[Contact], EventQuery],
        concurrency: int | None,
        on_error: ErrorPolicy,
        *,
        in_turn: bool = False,
    ) -> BulkStream[Any]:
        """A bulk run; `query_of` is called with each contact when its turn has come."""
        wanted = self.runtime.concurrency if concurrency is None else check_concurrency(concurrency, InvalidInput)
        workers: Workers[Any] = Workers(
            contacts,
            lambda contact: Fetch(self.runtime, contact, query_of(contact)),
            self.runtime.slots.lend(wanted),
            in_turn=in_turn,
            quick_lane=QuickLane(self.runtime, query_of),
            availability=self.runtime.availability,
        )
        return BulkStream(workers, on_error=on_error, lifetime=self.runtime.lifetime, limits=self.runtime.limits)


def _parse_classification(classification: str | Iterable[str] | None, kind: EventKind) -> str | None:
    if classification is None:
        return None
    if not kind.is_hits:
        raise InvalidInput(f"classification goes with the kinds of hits, not with kind={kind.value!r}")
    if isinstance(classification, str):
        classification = classification.split(",")
    names = list(classification) if isinstance(classification, Iterable) else []
    if not names or not all(isinstance(name, str) and _CLASSIFICATION.fullmatch(name) for name in names):
        raise InvalidInput("classification must be names such as 'genericrobot', 'mpp' or 'gsr'")
    return ",".join(names)
