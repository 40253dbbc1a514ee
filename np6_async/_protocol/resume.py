"""Where the next request resumes after a response broke off, so that each event is delivered once.

The API has no cursor, but it filters and sorts by timestamp (epoch milliseconds). Events are compared by a key that
grows in the requested order: the timestamp, or its negative where the newest come first. The order of each response
is checked, so all events before the last key delivered were delivered, too; but others may share that key (ties). So
the next request starts at the last key, inclusive, and the ties already delivered are recognised by their ids. Those
without an id are counted by a digest of their JSON: as many as were delivered are skipped, the others are new.
"""

from __future__ import annotations

from bisect import bisect_left
from hashlib import blake2b
from operator import attrgetter, neg
from typing import Any, Final, TypeVar

from attrs import frozen

from .._errors import LimitExceeded, OrderError
from .._models.convert import MAX_TIMESTAMP
from .._models.events import Event
from .._models.time_bounds import Window
from .endpoint import Progress

E = TypeVar("E", bound=Event)

# Ties are kept in memory, at most this many.
MAX_TIES: Final = 100_000
_timestamp: Final = attrgetter("timestamp")
_id: Final = attrgetter("id")


def fingerprint(event: Event) -> bytes:
    """A digest that tells ties apart, in 16 bytes: of the id, or of the JSON where there is none."""
    return fingerprint_of(event.id) if event.id else blake2b(event.raw, digest_size=16).digest()


def fingerprint_of(id: str) -> bytes:
    """The digest of an event with this id."""
    return blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@frozen
class Delivered:
    """What a later request must know about the events delivered: the last key, and the ties delivered at it."""

    last: int | None = None
    ids: frozenset[str | None] = frozenset()
    without_id: tuple[tuple[bytes, int], ...] = ()

    def plain(self) -> list[Any]:
        """As plain JSON types."""
        return [self.last, sorted(i for i in self.ids if i), [[d.hex(), n] for d, n in self.without_id]]

    @classmethod
    def from_plain(cls, plain: Any) -> Delivered:
        """The inverse of `plain`; raises TypeError or ValueError."""
        last, ids, without_id = plain
        if not (last is None or type(last) is int) or not all(isinstance(each, str) for each in ids):
            raise TypeError
        if last is not None and abs(last) > MAX_TIMESTAMP:
            raise ValueError
        return cls(last, frozenset(ids), tuple((bytes.fromhex(digest), int(count)) for digest, count in without_id))


class ResumePoint(Progress[Any]):
    """The progress of one contact's events, and the window still to be requested."""

    def __init__(self, window: Window, *, newest_first: bool = False) -> None:
        self._window = window
        self._newest_first = newest_first
        start, end = window.start, window.end
        if newest_first:
            start, end = (None if end is None else 1 - end), (None if start is None else 1 - start)
        self._low, self._high = start, end  # bounds of the keys to deliver, half-open
        self._previous: int | None = None  # key of the last event of this response
        self._last: int | None = None  # key of the last event delivered
        self._ids: set[str | None] = set()  # ids delivered at `_last`
        self._without_id: dict[bytes, int] = {}  # digests of events without id: how many were delivered at `_last`
        self._repeats: dict[bytes, int] = {}  # ... and how many of those this response may still repeat

    @property
    def window(self) -> Window:
        """The window that holds every event not yet delivered, and those that share the last timestamp."""
        if self._last is None:
            return self._window
        if self._newest_first:
            end = 1 - self._last
            # The millisecond after the last representable one cannot be written: no end means the same.
            return Window(self._window.start, end if end <= MAX_TIMESTAMP else None)
        return Window(self._last, self._window.end)

    @property
    def delivered_to(self) -> int | None:
        """The timestamp of the last event delivered; None before the first."""
        return None if self._last is None else abs(self._last)

    @property
    def delivered(self) -> Delivered:
        """What was delivered, for another resume point of the same query."""
        return Delivered(self._last, frozenset(self._ids), tuple(self._without_id.items()))

    def restore(self, delivered: Delivered) -> None:
        """Start after what another resume point of the same query has delivered."""
        if delivered.last is not None:
            self._last = delivered.last
            self._ids = set(delivered.ids)
            self._without_id = dict(delivered.without_id)

    def restart(self) -> None:
        """A new response begins, to a request for `window`."""
        self._low = self._low if self._last is None else self._last
        self._previous = None
        self._repeats = self._without_id.copy()

    def accept(self, batch: list[E]) -> list[E]:
        """The events of `batch` to deliver: inside the window and not delivered before.

        Raises `OrderError` where an event is out of order, and `LimitExceeded` where more than 100,000
        events share one timestamp; then none of the batch counts as delivered.
        """
        keys = list(map(_timestamp, batch))
        if self._newest_first:
            keys = list(map(neg, keys))
        if (self._previous is not None and keys[0] < self._previous) or keys != sorted(keys):
            order = "descending" if self._newest_first else "ascending"
            raise OrderError(f"the server did not keep the {order} order of timestamps it was asked for")
        self._previous = keys[-1]
        if (self._low is not None and keys[0] < self._low) or (self._high is not None and keys[-1] >= self._high):
            first = 0 if self._low is None else bisect_left(keys, self._low)
            end = len(keys) if self._high is None else bisect_left(keys, self._high)
            keys, batch = keys[first:end], batch[first:end]
            if not keys:
                return []
        ids = list(map(_id, batch))
        distinct = set(ids)
        repeats = keys[0] == self._last and not self._ids.isdisjoint(distinct)
        if repeats or len(distinct) < len(ids) or None in distinct or "" in distinct:
            return self._accept_singly(keys, batch)
        if keys[-1] == self._last:
            self._check_ties(len(distinct))
            self._ids |= distinct
            return batch
        self._last = keys[-1]
        self._ids = set(ids[bisect_left(keys, self._last) :])
        self._without_id.clear()
        return batch

    def _accept_singly(self, keys: list[int], batch: list[E]) -> list[E]:
        accepted = []
        delivered = self._last
        for key, event in zip(keys, batch, strict=True):
            if key != self._last:
                self._last = key
                self._ids = set()
                self._without_id = {}
                self._repeats = {}
            if not event.id:
                digest = fingerprint(event)
                if repeats := self._repeats.get(digest):
                    self._repeats[digest] = repeats - 1
                    continue
                self._without_id[digest] = self._without_id.get(digest, 0) + 1
            elif event.id in self._ids:
                continue
            else:
                self._ids.add(event.id)
            accepted.append(event)
        try:
            self._check_ties(0)
        except LimitExceeded:
            self._last = delivered
            raise
        return accepted

    def _check_ties(self, more: int) -> None:
        """Raise `LimitExceeded` where there are too many at the last key, with these that are to be added."""
        if len(self._ids) + sum(self._without_id.values()) + more > MAX_TIES:
            raise LimitExceeded(f"more than {MAX_TIES} events share one timestamp")
