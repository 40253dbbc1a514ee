"""How far the events of one contact were handed out, in a few bytes. No I/O and no clock here.

Events come in the order of time. So when one was handed out, all before it in the same answer were, and the
watermark of a contact is: the end of what was asked for once the answer is complete, until then the last event.
Behind it nothing was handed out; before it an event may still be published late. That is why a run begins
somewhat before the watermark, at the floor, and why what was handed out from the floor on is remembered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
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

# Events remembered of one contact, 24 bytes each. Beyond, the floor rises.
MOST: Final = 10_000
_VERSION: Final = 1
_HEAD: Final = Struct(">Bqq")  # the version, the watermark, the floor
_SEEN: Final = Struct(">q16s")  # a timestamp, a fingerprint
_timestamp: Final = attrgetter("timestamp")


class State:
    """Of one contact, in one run. Times are epoch milliseconds.

    `start` is where a contact begins of which nothing is known; None: at its first event. The floor never falls:
    before it nothing is remembered, and nothing asked for.
    """

    __slots__ = ("_again", "_again_to", "_floor", "_overlap", "_seen", "_watermark", "ended")

    def __init__(self, overlap: int, start: int | None) -> None:
        self._overlap = overlap
        self._floor = start
        self._watermark: int | None = None
        self._seen: list[tuple[int, bytes]] = []  # sorted; an event without id is in it as often as it was handed out
        self._again: Counter[tuple[int, bytes]] = Counter()  # what this run's answer may bring again
        self._again_to = -1  # the last timestamp of those
        self.ended: bool = False  # this run is through with the contact

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
                state._again = Counter(state._seen)
                state._again_to = state._seen[-1][0] if state._seen else -1
                return state
            problem = f"is of version {version}, and this package reads version {_VERSION}"
        except (StructError, ValueError):
            problem = "is damaged"
        raise StoreError(f"the state of a contact {problem}; it was written by something else than this package's Sync")

    def encode(self) -> bytes:
        """The state to keep: 17 bytes, and 24 for each event remembered."""
        assert self._watermark is not None
        head = _HEAD.pack(_VERSION, self._watermark, self._floor or 0)
        return head + b"".join(_SEEN.pack(*seen) for seen in self._seen)

    def window(self, end: int) -> Window:
        """What to ask for in a run that ends at `end`: nothing, where that was asked for before."""
        if self._watermark is not None and self._watermark >= end:
            return Window(end, end)
        return Window(self._floor, end)

    def fresh(self, events: list[E]) -> list[E]:
        """Those of the answer's next events that no run before has handed out."""
        if events[0].timestamp > self._again_to:
            return events
        fresh = []
        for event in events:
            key = event.timestamp, fingerprint(event)
            if self._again[key]:
                self._again[key] -= 1
            else:
                fresh.append(event)
        return fresh

    def advance(self, events: list[E]) -> None:
        """These `fresh` ones, in order, were handed out."""
        self._reach(events[-1].timestamp)
        first = bisect_left(events, self._floor or 0, key=_timestamp)
        self._seen += [(event.timestamp, fingerprint(event)) for event in events[first:]]
        self._seen.sort()
        self._bound()

    def complete(self, end: int) -> None:
        """Every event up to `end` was handed out."""
        self._reach(end)
        self._bound()

    def _reach(self, watermark: int) -> None:
        self._watermark = max(watermark, self._watermark or 0)
        self._rise(self._watermark - self._overlap)

    def _bound(self) -> None:
        """Remember at most `MOST` events; more than that only of the very timestamp of the watermark."""
        if len(self._seen) > MOST:
            assert self._watermark is not None
            self._rise(min(self._seen[-MOST - 1][0] + 1, self._watermark))

    def _rise(self, floor: int) -> None:
        self._floor = max(floor, self._floor or 0)
        del self._seen[: bisect_left(self._seen, (self._floor,))]
