"""What waits for the consumer of a bulk run: the events of each contact, followed by its outcome.

Workers put items in and wait while the buffer is full; one consumer takes them out. The items of one contact keep
their order. Contacts are mixed as their items arrive, or follow each other where `in_turn`: then each contact has its
own queue, and the first queue never waits for the room that the others take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from .._errors import NP6Error, forget
from .._models.contacts import Contact
from .._models.events import Event
from .._protocol.event_query import EventQuery

if TYPE_CHECKING:
    from typing_extensions import TypeVar as WithDefault

    C_co = WithDefault("C_co", bound=str | Contact, default=str | Contact, covariant=True)
else:
    C_co = TypeVar("C_co", covariant=True)
E = TypeVar("E", bound=Event)

# Bytes that wait for the consumer before workers pause: those of the JSON, and OVERHEAD for each item and event.
BOUND: Final = 256 * 1024
OVERHEAD: Final = 256


@frozen
class Done:
    """Every event of a contact was delivered, and its response is known to be complete."""


@frozen
class Failure(Generic[C_co]):
    """A contact whose events could not all be fetched.

    `contact` is the object that was passed in; `error` says why; `attempts` is how many requests failed in a row.
    `resume_at` is the time, in epoch milliseconds, up to which its events were delivered: all before it, and perhaps
    some at it; None if no event was.
    """

    contact: C_co = field(repr=False)  # an address that was passed for an id would show
    error: NP6Error
    attempts: int
    resume_at: int | None

    def __str__(self) -> str:
        return str(self.error)

    @classmethod
    def of(cls, contact: Any, error: NP6Error, attempts: int = 0, resume_at: int | None = None) -> Failure[Any]:
        """A failure that may be kept: the traceback and context of `error` are dropped."""
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
    """How a contact ended, which counts once its events were taken; `early`: it is one of the first contacts."""

    contact: Any
    failure: Failure[Any] | None
    early: bool
    report: Callable[[], None]
    size: int = OVERHEAD


@define(eq=False)
class Body(Generic[E]):
    """The whole response of a contact, not yet decoded, in the queue that waits for it; `size` in bytes."""

    given: Any
    contact: Any
    query: EventQuery[Any]
    body: bytes
    queue: ItemQueue[E]
    early: bool
    size: int


Item: TypeAlias = Batch[E] | Body[E] | Outcome


class ItemQueue(Generic[E]):
    """Items in the order in which they were put in."""

    def __init__(self) -> None:
        self.items: deque[Item[E]] = deque()
        self.size: int = 0  # bytes
        self.room: asyncio.Event = asyncio.Event()


class Buffer(Generic[E]):
    """See the module."""

    def __init__(self, *, in_turn: bool = False) -> None:
        self._in_turn = in_turn
        self._queues: deque[ItemQueue[E]] = deque() if in_turn else deque([ItemQueue()])
        self._size = 0  # bytes, of all queues
        self._waiting: set[ItemQueue[E]] = set()  # those whose workers wait for room
        self._news = asyncio.Event()  # for the consumer

    def queue(self) -> ItemQueue[E]:
        """The queue for the items of the next contact."""
        if self._in_turn:
            self._queues.append(ItemQueue())
        return self._queues[-1]

    def add(self, queue: ItemQueue[E], item: Item[E]) -> None:
        """Add a small `item` for the consumer."""
        queue.items.append(item)
        queue.size += item.size
        self._size += item.size
        self._news.set()

    async def put(self, queue: ItemQueue[E], item: Item[E]) -> None:
        """Add `item` for the consumer, and wait while there is enough for it to do."""
        queue.items.append(item)  # as `add`
        queue.size += item.size
        self._size += item.size
        self._news.set()
        while queue.size >= BOUND or (self._size >= BOUND and self._full(queue)):
            queue.room.clear()
            self._waiting.add(queue)
            await queue.room.wait()

    def first(self) -> Item[E] | None:
        """The item that the consumer takes next; None where there is none yet."""
        return self._queues[0].items[0] if self._queues and self._queues[0].items else None

    def drop(self, item: Item[E], *, last: bool) -> None:
        """Take out `item`, the first one; `last`: of its contact.

        Workers that wait for room continue once there is less than the bound.
        """
        queue = self._queues[0]
        if not queue.items or queue.items[0] is not item:  # the run was closed meanwhile
            return
        queue.items.popleft()
        queue.size -= item.size
        self._size -= item.size
        if self._in_turn and last:
            self._queues.popleft()
        if self._waiting:
            self._make_room()

    async def next(self) -> Item[E] | None:
        """`first`, once there is an item; None where `wake` was called instead."""
        queues = self._queues
        if not (queues and queues[0].items):
            self._news.clear()
            await self._news.wait()
        return queues[0].items[0] if queues and queues[0].items else None

    def wake(self) -> None:
        """Let the consumer look."""
        self._news.set()

    def clear(self) -> None:
        """Drop everything. Nothing is added any more."""
        for queue in self._queues:
            queue.items.clear()
            queue.size = 0
        self._size = 0

    def _full(self, queue: ItemQueue[E]) -> bool:
        return (queue.size if self._queues and queue is self._queues[0] else self._size) >= BOUND

    def _make_room(self) -> None:
        for queue in [queue for queue in self._waiting if not self._full(queue)]:
            self._waiting.remove(queue)
            queue.room.set()
