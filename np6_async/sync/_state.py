"""The progress of one contact's events, in a few bytes. No I/O and no clock here; times are epoch milliseconds.

- The *watermark*: no event after it was delivered. Events come in the order of time, so when one is delivered, all
  before it in that response were, and the watermark is its timestamp. Once the response is complete, it is the end of
  what was requested.
- The *floor*: where the next run starts. An event may be published late, with a timestamp before the watermark, so the
  floor lies `overlap` before it. It never falls: before it nothing is remembered, and nothing requested.
- The *limit*, in one run: the end of what was requested or, where that turned out to lie too late, the time from which
  on the run has left out events. Nothing after it is complete.
- The *fingerprints* of the events delivered from the floor on. The next run's response repeats those events; a
  fingerprint recognises each, counted where several are alike, and whatever is left is new.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it in lower case
from typing import Final, Self, TypeVar

from .._errors import StoreError
from .._models.convert import MAX_TIMESTAMP
from .._models.events import Event
from .._models.time_bounds import Window
from .._protocol.resume import fingerprint

E = TypeVar("E", bound=Event)

# Events remembered of one contact, 24 bytes each. With more of them the floor rises.
MOST: Final = 10_000
_VERSION: Final = 1
_HEAD: Final = Struct(">Bqq")  # the version, the watermark, the floor
_SEEN: Final = Struct(">q16s")  # a timestamp, a fingerprint
_timestamp: Final = attrgetter("timestamp")


class State:
    """The progress of one contact, in one run. `start` is the floor of a contact that is new; None: its first event."""

    __slots__ = (
        "_floor",
        "_limit",
        "_limited",
        "_overlap",
        "_repeats",
        "_repeats_until",
        "_seen",
        "_watermark",
        "ended",
    )

    def __init__(self, overlap: int, start: int | None) -> None:
        self._overlap = overlap
        self._floor = start
        self._watermark: int | None = None
        self._limit: int | None = None
        self._limited = False  # events were left out
        self._seen: list[tuple[int, bytes]] = []  # sorted; events that are alike have one entry each
        self._repeats: Counter[tuple[int, bytes]] = Counter()  # what this run's response may repeat
        self._repeats_until = -1  # the last timestamp of those
        self.ended: bool = False  # this run has finished the contact

    @classmethod
    def decode(cls, overlap: int, kept: bytes) -> Self:
        """What `encode` made, perhaps with another overlap; raises `StoreError`."""
        try:
            version, watermark, floor = _HEAD.unpack_from(kept)
            if version == _VERSION:
                if not (0 <= watermark <= MAX_TIMESTAMP and 0 <= floor <= MAX_TIMESTAMP):
                    raise ValueError
                state = cls(overlap, floor)
                state._watermark = watermark
                state._seen = list(_SEEN.iter_unpack(memoryview(kept)[_HEAD.size :]))
                state._repeats = Counter(state._seen)
                state._repeats_until = state._seen[-1][0] if state._seen else -1
                return state
            problem = f"is of version {version}, and this package reads version {_VERSION}"
        except (StructError, ValueError):
            problem = "is damaged"
        raise StoreError(f"the state of a contact {problem}; it was not written by this package's Sync")

    def encode(self) -> bytes:
        """The state to keep: 17 bytes, and 24 for each event remembered."""
        assert self._watermark is not None
        head = _HEAD.pack(_VERSION, self._watermark, self._floor or 0)
        return head + b"".join(_SEEN.pack(*seen) for seen in self._seen)

    @property
    def watermark(self) -> int | None:
        """The watermark, in epoch milliseconds; None for a contact that is new."""
        return self._watermark

    def take_back(self, start: int | None) -> None:
        """The watermark is wrong: it lies in the future, where nothing can have been delivered.

        What was delivered before is known only where there are fingerprints: up to the last of them. Otherwise begin at
        `start` again.
        """
        self._watermark = self._seen[-1][0] if self._seen else None
        if not self._seen:
            self._floor = start

    def window(self, end: int) -> Window:
        """What to request in a run that ends at `end`: nothing, where an earlier run got that far."""
        self._limit = end
        if self._watermark is not None and self._watermark >= end:
            return Window(end, end)
        return Window(self._floor, end)

    def limited(self, events: list[E], end: int, refuted: Callable[[int], bool]) -> list[E]:
        """Those of the response's next events that this run may deliver, which ends at `end`.

        `refuted` says of the time of a later one whether it proves that the end is wrong, and all may be delivered.
        """
        if self._limited and self._limit is not None:
            end = self._limit
        last = events[-1].timestamp
        if last < end or (not self._limited and refuted(last)):
            return events
        self._limit, self._limited = end, True
        return events[: bisect_left(events, end, key=_timestamp)]

    def fresh(self, events: list[E]) -> list[E]:
        """Those of the response's next events that no earlier run has delivered."""
        if events[0].timestamp > self._repeats_until:
            return events
        fresh = []
        for event in events:
            key = event.timestamp, fingerprint(event)
            if self._repeats[key]:
                self._repeats[key] -= 1
            else:
                fresh.append(event)
        return fresh

    def advance(self, events: list[E]) -> None:
        """These `fresh` events, in order, were delivered."""
        self._move_watermark(events[-1].timestamp)
        first = bisect_left(events, self._floor or 0, key=_timestamp)
        self._seen += [(event.timestamp, fingerprint(event)) for event in events[first:]]
        self._seen.sort()
        self._forget_oldest()

    def complete(self, end: int) -> None:
        """Every event up to `end`, or up to the limit, was delivered."""
        self._move_watermark(end if self._limit is None else min(end, self._limit))
        self._forget_oldest()

    def _move_watermark(self, watermark: int) -> None:
        self._watermark = max(watermark, self._watermark or 0)
        self._raise_floor(self._watermark - self._overlap)

    def _forget_oldest(self) -> None:
        """Remember at most `MOST` events; more only if they share the timestamp of the watermark."""
        if len(self._seen) > MOST:
            assert self._watermark is not None
            self._raise_floor(min(self._seen[-MOST - 1][0] + 1, self._watermark))

    def _raise_floor(self, floor: int) -> None:
        self._floor = max(floor, self._floor or 0)
        del self._seen[: bisect_left(self._seen, (self._floor,))]
