"""The progress of the events of a contact or of actions, in few bytes. No I/O, no clock; times are epoch milliseconds.

- The *watermark*: no event after it was delivered. Events come in the order of time, so when one is delivered, all
  before it in that response were, and the watermark is its timestamp. Once the response is complete, it is the end of
  what was requested.
- The *floor*: where the next run starts. An event may be published late, with a timestamp before the watermark, so the
  floor lies `overlap` before it. It never falls: before it nothing is remembered, and nothing requested.
- The *limit*, in one run: the end of what was requested or, where that turned out to lie too late, the time from which
  on the run has left out events. Nothing after it is complete.
- The *fingerprints* of the events delivered from the floor on. The next run's response repeats those events; a
  fingerprint recognises each, counted where several are alike, and whatever is left is new.

The overlap of a contact holds few events, so all fingerprints are in its state. That of a whole account may hold
millions, so they leave memory as *pages*, which are written once, read when the next run gets to their times, and
dropped when the floor has passed them. Late events have pages of their own: with a few of them, that of other events
would reach back over the whole overlap, and have to stay in memory for as long.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from operator import attrgetter, itemgetter
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it in lower case
from typing import Final, Self, TypeVar

from attrs import frozen

from .._errors import StoreError
from .._models.convert import MAX_TIMESTAMP
from .._models.events import Event
from .._models.time_bounds import Window
from .._protocol.resume import fingerprint, fingerprint_of

E = TypeVar("E", bound=Event)

# Events remembered of one contact, 24 bytes each. With more of them the floor rises.
MOST: Final = 10_000
_VERSION: Final = 1
_HEAD: Final = Struct(">Bqq")  # the version, the watermark, the floor
_SEEN: Final = Struct(">q16s")  # a timestamp, a fingerprint
_COUNT: Final = Struct(">I")  # of the pages
_PAGE: Final = Struct(">Iqq")  # the number of one, the first timestamp, the last
# Fingerprints in a page.
PAGE: Final = 8_192
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
    VERSION = _VERSION

    def __init__(self, overlap: int, start: int | None) -> None:
        self._overlap = overlap
        self._floor = start
        self._watermark: int | None = None
        self._limit: int | None = None
        self._limited = False  # events were left out
        # By time; events that are alike have one entry each. Ids become fingerprints only when they are kept.
        self._seen: list[tuple[int, bytes | str]] = []
        self._repeats: Counter[tuple[int, bytes]] = Counter()  # what this run's response may repeat
        self._repeats_until = -1  # the last timestamp of those
        self.ended: bool = False  # this run has finished the contact

    @classmethod
    def decode(cls, overlap: int, kept: bytes) -> Self:
        """What `encode` made, perhaps with another overlap; raises `StoreError`."""
        try:
            version, watermark, floor = _HEAD.unpack_from(kept)
            if version == cls.VERSION:
                if not (0 <= watermark <= MAX_TIMESTAMP and 0 <= floor <= MAX_TIMESTAMP):
                    raise ValueError
                state = cls(overlap, floor)
                state._watermark = watermark
                state._read(memoryview(kept)[_HEAD.size :])
                return state
            problem = f"is of version {version}, and this package reads version {cls.VERSION}"
        except (StructError, ValueError):
            problem = "is damaged"
        raise StoreError(f"the state of a contact {problem}; it was not written by this package's Sync")

    def _read(self, kept: memoryview) -> None:
        """What `encode` made, without its head."""
        self._seen = list(_SEEN.iter_unpack(kept))
        self._repeats = Counter(_SEEN.iter_unpack(kept))
        self._repeats_until = self._seen[-1][0] if self._seen else -1

    def encode(self) -> bytes:
        """The state to keep: 17 bytes, and 24 for each event remembered."""
        return self._head + _packed(self._seen)

    @property
    def _head(self) -> bytes:
        assert self._watermark is not None
        return _HEAD.pack(self.VERSION, self._watermark, self._floor or 0)

    def values(self, name: str) -> dict[str, bytes]:
        """What to write under which names, `name` being that of the state."""
        return {name: self.encode()}

    def written(self) -> None:
        """The `values` are in the store."""

    def pages_at(self, first: int, last: int) -> Iterable[int]:
        """The pages to `recall` before events from the time `first` to `last` are looked at."""
        return ()

    @property
    def watermark(self) -> int | None:
        """The watermark, in epoch milliseconds; None for a contact that is new."""
        return self._watermark

    def take_back(self, start: int | None) -> None:
        """The watermark is wrong: it lies in the future, where nothing can have been delivered.

        What was delivered before is known only where there are fingerprints: up to the last of them. Otherwise begin at
        `start` again.
        """
        self._watermark = self._last_seen
        if self._watermark is None:
            self._floor = start

    @property
    def _last_seen(self) -> int | None:
        """The latest time of which there are fingerprints."""
        return self._seen[-1][0] if self._seen else None

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
        late = bool(self._seen) and events[0].timestamp < self._seen[-1][0]
        self._seen += [(event.timestamp, event.id or fingerprint(event)) for event in events[first:]]
        if late:
            self._seen.sort(key=itemgetter(0))
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


@frozen
class Page:
    """Fingerprints in the store, of events from the time `first` to `last`."""

    number: int
    first: int
    last: int


class PagedState(State):
    """As `State`, for any number of events in the overlap: at most 24,576 fingerprints and some pages are in memory."""

    __slots__ = ("_dropped", "_late", "_pages", "_recalled", "_sealed")
    VERSION = 3

    def __init__(self, overlap: int, start: int | None) -> None:
        super().__init__(overlap, start)
        self._pages: list[Page] = []
        self._late: list[tuple[int, bytes | str]] = []  # as `_seen`, of events that came after later ones
        self._recalled: set[int] = set()
        self._sealed: dict[int, bytes] = {}  # not written yet
        self._dropped: set[int] = set()  # to be overwritten

    def _read(self, kept: memoryview) -> None:
        (count,) = _COUNT.unpack_from(kept)
        end = _COUNT.size + count * _PAGE.size
        self._pages = [Page(*page) for page in _PAGE.iter_unpack(kept[_COUNT.size : end])]
        (count,) = _COUNT.unpack_from(kept[end:])
        late, end = end + _COUNT.size, end + _COUNT.size + count * _SEEN.size
        self._late = list(_SEEN.iter_unpack(kept[late:end]))
        super()._read(kept[end:])
        self._repeats.update(_SEEN.iter_unpack(kept[late:end]))
        self._repeats_until = -1 if (last := self._last_seen) is None else last

    def encode(self) -> bytes:
        """The state to keep, without its pages."""
        pages = b"".join(_PAGE.pack(page.number, page.first, page.last) for page in self._pages)
        late = _COUNT.pack(len(self._late)) + _packed(self._late)
        return self._head + _COUNT.pack(len(self._pages)) + pages + late + _packed(self._seen)

    def values(self, name: str) -> dict[str, bytes]:
        pages = dict.fromkeys(self._dropped, b"") | self._sealed
        return {name: self.encode()} | {page_name(name, number): page for number, page in pages.items()}

    def written(self) -> None:
        self._sealed.clear()
        self._dropped.clear()

    @property
    def _last_seen(self) -> int | None:
        times = [page.last for page in self._pages] + [seen[0] for seen in (*self._seen[-1:], *self._late[-1:])]
        return max(times, default=None)

    def advance(self, events: list[E]) -> None:
        on_time = bisect_right(events, self._repeats_until, key=_timestamp)
        if late := events[:on_time]:
            self._move_watermark(late[-1].timestamp)
            self._late += [(event.timestamp, event.id or fingerprint(event)) for event in late]
            self._late.sort(key=itemgetter(0))
            self._raise_floor(self._floor or 0)
            self._forget_oldest()
        if events := events[on_time:]:
            super().advance(events)

    def pages_at(self, first: int, last: int) -> Iterable[int]:
        return [
            page.number
            for page in self._pages
            if page.first <= last and first <= page.last and page.number not in self._recalled
        ]

    def recall(self, number: int, page: bytes, first: int) -> None:
        """Recognise the events of a page as well; no event before the time `first` comes any more."""
        self._recalled.add(number)
        self._repeats = Counter({seen: count for seen, count in self._repeats.items() if seen[0] >= first})
        self._repeats.update(_SEEN.iter_unpack(page))

    def _forget_oldest(self) -> None:
        """Seal the oldest fingerprints in memory as pages."""
        while len(self._seen) >= 2 * PAGE:
            self._seal(self._seen[:PAGE])
            del self._seen[:PAGE]
        while len(self._late) >= PAGE:
            self._seal(self._late[:PAGE])
            del self._late[:PAGE]

    def _seal(self, oldest: list[tuple[int, bytes | str]]) -> None:
        used = {page.number for page in self._pages}
        number = next(number for number in range(len(used) + 1) if number not in used)
        self._pages.append(Page(number, oldest[0][0], oldest[-1][0]))
        self._recalled.add(number)  # this run has delivered them, or they are among its `_repeats`
        self._sealed[number] = _packed(oldest)
        self._dropped.discard(number)

    def _raise_floor(self, floor: int) -> None:
        super()._raise_floor(floor)
        del self._late[: bisect_left(self._late, (self._floor or 0,))]
        passed = {page.number for page in self._pages if page.last < (self._floor or 0)}
        if passed:
            self._pages = [page for page in self._pages if page.number not in passed]
            self._dropped |= passed
            self._sealed = {number: page for number, page in self._sealed.items() if number not in passed}


def page_name(name: str, number: int) -> str:
    """The name of a page of the state of this name."""
    return f"{name}/seen/{number}"


def _packed(seen: Iterable[tuple[int, bytes | str]]) -> bytes:
    return b"".join([_SEEN.pack(at, fingerprint_of(each) if isinstance(each, str) else each) for at, each in seen])
