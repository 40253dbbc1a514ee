"""What waits for the consumer of a bulk run: events, and behind a contact's last ones what became of it.

Workers put items in and wait while there is too much; one consumer takes them out. The items of one contact keep
their order. Those of all contacts come as they arrive, or contact after contact where `in_turn`: then each contact
has a lane of its own, and the first lane never waits for the room that the others take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from .._errors import NP6Error, forget
from .._models.contacts import Contact
from .._models.events import Event

E = TypeVar("E", bound=Event)

# Bytes that wait for the consumer before workers stop: those of the JSON, and so many more for each item and event.
BOUND: Final = 256 * 1024
OVERHEAD: Final = 256


@frozen
class Done:
    """Every event of a contact was handed out, and its answer is known to be complete."""


@frozen
class Failure:
    """A contact whose events could not all be fetched.

    `contact` is what was passed in; `error` says why; `attempts` is how many requests failed in a row.
    `resume_at` is the epoch milliseconds up to which its events were delivered (all before, perhaps some
    at it; None: none were).
    """

    contact: str | Contact = field(repr=False)  # an address that was passed for an id would show
    error: NP6Error
    attempts: int
    resume_at: int | None

    def __str__(self) -> str:
        return str(self.error)

    @classmethod
    def of(cls, contact: Any, error: NP6Error, attempts: int = 0, resume_at: int | None = None) -> Failure:
        """A failure that is kept: nothing that `error` came of is."""
        forget(error)
        return cls(contact, error, attempts, resume_at)


@define(eq=False)
class Batch(Generic[E]):
    """Events of the contact that was passed in as `contact`; `size` in bytes."""

    contact: Any
    events: list[E]
    size: int


@define(eq=False)
class Outcome:
    """How a contact ended, which counts when its events were taken; `early`: it is one of the first."""

    contact: Any
    failure: Failure | None
    early: bool
    report: Callable[[], None]
    size: int = OVERHEAD


Item: TypeAlias = Batch[E] | Outcome


class Lane(Generic[E]):
    """Items that come in the order in which they were put in."""

    def __init__(self) -> None:
        self.items: deque[Item[E]] = deque()
        self.size: int = 0  # bytes
        self.room: asyncio.Event = asyncio.Event()


class Buffer(Generic[E]):
    """See the module."""

    def __init__(self, *, in_turn: bool = False) -> None:
        self._in_turn = in_turn
        self._lanes: deque[Lane[E]] = deque() if in_turn else deque([Lane()])
        self._size = 0  # bytes, of all lanes
        self._waiting: set[Lane[E]] = set()  # those whose workers wait for room
        self._news = asyncio.Event()  # for the consumer

    def lane(self) -> Lane[E]:
        """Where the items of the next contact go."""
        if self._in_turn:
            self._lanes.append(Lane())
        return self._lanes[-1]

    async def put(self, lane: Lane[E], item: Item[E]) -> None:
        """Hand `item` to the consumer, and wait while it has enough to do."""
        lane.items.append(item)
        lane.size += item.size
        self._size += item.size
        self._news.set()
        while self._full(lane):
            lane.room.clear()
            self._waiting.add(lane)
            await lane.room.wait()

    def first(self) -> Item[E] | None:
        """What the consumer takes next; None: `wait` for it."""
        return self._lanes[0].items[0] if self._lanes and self._lanes[0].items else None

    def drop(self, item: Item[E]) -> None:
        """Take `item` out, the first one; all workers that wait for room begin anew below the bound."""
        if self.first() is not item:  # the run was closed meanwhile
            return
        lane = self._lanes[0]
        lane.items.popleft()
        lane.size -= item.size
        self._size -= item.size
        if self._in_turn and isinstance(item, Outcome):
            self._lanes.popleft()
        if self._waiting:
            self._make_room()

    async def wait(self) -> None:
        """Wait for an item, or for `wake`."""
        self._news.clear()
        await self._news.wait()

    def wake(self) -> None:
        """The consumer has something to see to."""
        self._news.set()

    def clear(self) -> None:
        """Drop everything. Nothing is put in any more."""
        for lane in self._lanes:
            lane.items.clear()
            lane.size = 0
        self._size = 0

    def _full(self, lane: Lane[E]) -> bool:
        return (lane.size if self._lanes and lane is self._lanes[0] else self._size) >= BOUND

    def _make_room(self) -> None:
        for lane in [lane for lane in self._waiting if not self._full(lane)]:
            self._waiting.remove(lane)
            lane.room.set()
