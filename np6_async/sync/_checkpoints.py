"""Which progress may be written when: that of events only once the consumer has confirmed that they are safe."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Final, Self

from attrs import Factory, define

from .._errors import InvalidInput, StoreError
from .._models.actions import Action
from .._models.contacts import Contact
from .._streams.contact_queue import END, ContactQueue
from ._state import PagedState, State, page_name
from ._store import Store

# Contacts whose state is read, or written, at once.
BATCH: Final = 500
# Seconds after which the state of fewer is written.
_SOON: Final = 1.0
# No contact and no action has one of these names: theirs have the kind before a colon.
_QUERY: Final = "sync/query"
_NOTE: Final = "sync/note"


@define(eq=False, repr=False)
class Checkpoints:
    """The progress of a run's contacts, each from the moment its state is read until its last state is written.

    What is said of contacts here holds for actions as well; `parse` makes checked references of what was passed.

    A state takes these steps, those from `delivered` on again with each batch of the contact's events:

        begun         it was read; it says what to request, and which of the events are new
        delivered     the last batch is with the consumer: the state still ends before that batch
        unconfirmed   the consumer is back, and the state includes the batch, which may not be safe yet
        ready         all that was delivered is confirmed, by the next request (autocommit) or by `commit`
        written       it is in the store; a contact that has ended leaves memory

    Only a state that is ready is written, so the store never has more progress than is confirmed.
    """

    store: Store
    query: str
    contacts: Callable[[], Any]
    parse: Callable[[Any], Any]
    begin: Callable[[bytes | None], State]
    review: Callable[[dict[Any, State]], Awaitable[None]]  # of states that were read
    clock: Callable[[], float]
    note: str | None = None
    _written_at: float = Factory(lambda self: self.clock(), takes_self=True)
    _begun: dict[Any, State] = Factory(dict)  # all that have not ended, or are not written
    _delivered: tuple[Any, list[Any]] | None = None  # the last batch
    _unconfirmed: dict[Any, State] = Factory(dict)
    _ready: dict[Any, State] = Factory(dict)

    async def open(self) -> None:
        """Start a run: lock the store, check that it belongs to the query, and read the note."""
        await self.store.open()
        try:
            found = await self._kept([_QUERY, _NOTE])
            if _NOTE in found:
                self.note = _text(found[_NOTE])
            if _QUERY not in found:
                await self.store.write({_QUERY: self.query.encode()})
                return
            query = _text(found[_QUERY])
            if query != self.query:
                raise InvalidInput(
                    f"this state was made for {query!r} and cannot be used for {self.query!r}: each query (kind and "
                    "classification) needs its own state"
                )
        except BaseException:
            await self.store.close()
            raise

    async def close(self) -> None:
        """End the run."""
        await self.store.close()

    # Contacts

    def read_ahead(self) -> ReadAhead:
        """The contacts, once each, with their progress read from the store."""
        return ReadAhead(self.contacts, self.parse, self._take, self._read)

    async def recall(self, contact: Any, events: list[Any]) -> None:
        """Read what the state must know of, before its `fresh` looks at these events."""
        state = self._begun[contact]
        if not isinstance(state, PagedState):
            return
        first = events[0].timestamp
        for number in state.pages_at(first, events[-1].timestamp):
            name = page_name(name_of(contact), number)
            page = (await self._kept([name])).get(name)
            if not page:
                raise StoreError("the state of a sync is damaged: a part of it is missing; restore a copy of it")
            state.recall(number, page, first)

    def of(self, contact: Any) -> State:
        """The progress of a contact that came out of `read_ahead` and is not written yet."""
        return self._begun[contact]

    def _take(self, contact: Any) -> bool:
        """Whether the run may start the contact: not while it is in progress."""
        if contact in self._begun:
            return False
        self._begun[contact] = self.begin(None)
        return True

    async def _read(self, contacts: list[Any]) -> None:
        read = {contact: self.begin(state) for contact, state in (await self.kept(contacts)).items()}
        await self.review(read)
        self._begun |= read

    async def kept(self, contacts: list[Any]) -> dict[Any, bytes]:
        """What the store has of contacts, at most 500 of them, without those that it does not know."""
        kept = await self._kept([name_of(contact) for contact in contacts])
        return {contact: state for contact in contacts if (state := kept.get(name_of(contact))) is not None}

    async def put(self, states: Mapping[Any, bytes], note: str | None) -> None:
        """Write what another process has made of the progress of contacts, and the note: all of it, or nothing."""
        values = {name_of(contact): state for contact, state in states.items()}
        if note is not None:
            values[_NOTE] = note.encode()
        if values:
            await self.store.write(values)
        if note is not None:
            self.note = note

    async def _kept(self, names: list[str]) -> Mapping[str, bytes]:
        """What the store has under these names; raises `StoreError` where it is not what was written."""
        found = await self.store.read(names)
        if not isinstance(found, Mapping):
            raise StoreError(f"the store's read() must return a mapping of names to bytes, not {type(found).__name__}")
        for value in found.values():
            if not isinstance(value, bytes | bytearray | memoryview):
                raise StoreError(
                    f"the store has {type(value).__name__} where bytes were written: either it is damaged, or read() "
                    "must return them as they were given to write() (with Redis: decode_responses=False)"
                )
        return {name: bytes(value) for name, value in found.items()}

    # Their steps

    def deliver(self, contact: Any, events: list[Any]) -> None:
        """The contact's next events go to the consumer."""
        self._delivered = contact, events

    def consumer_returned(self, *, confirmed: bool) -> None:
        """The consumer has taken the last batch. `confirmed`: all that was delivered is safe."""
        if self._delivered is not None:
            contact, events = self._delivered
            self._delivered = None
            # Not sooner: the state may have been ready, and about to be written without these events.
            self._begun[contact].advance(events)
            self._unconfirmed[contact] = self._begun[contact]
        if confirmed:
            self._ready |= self._unconfirmed
            self._unconfirmed.clear()

    def done(self, contact: Any, end: int) -> None:
        """The consumer has taken all its events up to `end`."""
        state = self._begun[contact]
        state.complete(end)
        state.ended = True
        if contact not in self._unconfirmed:
            self._ready[contact] = state

    def failed(self, contact: Any) -> None:
        """There is no more progress than that of the events delivered."""
        self._begun[contact].ended = True
        if contact not in self._unconfirmed and contact not in self._ready:
            del self._begun[contact]

    async def write(self, *, now: bool = False) -> None:
        """Write the states that are ready, in batches; `now`: even a small one."""
        if self._ready and (now or len(self._ready) >= BATCH or self.clock() - self._written_at >= _SOON):
            await self._write(self._ready, {})

    async def commit(self, note: str | None) -> None:
        """All events delivered are safe: write that, together with the note. If it fails, neither is written."""
        if self._delivered is not None and self._delivered[0] in self._ready:
            await self._write(self._ready, {})
        self.consumer_returned(confirmed=False)
        values = {} if note is None else {_NOTE: note.encode()}
        await self._write(self._ready | self._unconfirmed, values)
        if note is not None:
            self.note = note

    async def _write(self, states: dict[Any, State], values: dict[str, bytes]) -> None:
        for contact, state in states.items():
            values |= state.values(name_of(contact))
        if values:
            await self.store.write(values)
        self._written_at = self.clock()
        for contact, state in tuple(states.items()):
            self._unconfirmed.pop(contact, None)
            self._ready.pop(contact, None)
            state.written()
            if state.ended:
                del self._begun[contact]


@define(eq=False, repr=False)
class ReadAhead:
    """An async iterator of contacts, which reads the states of the next ones at once.

    Contacts that `take` refuses are left out. Anything that is not a contact is passed on, for the run to refuse.
    """

    contacts: Callable[[], Any]
    parse: Callable[[Any], Any]
    take: Callable[[Any], bool]
    read: Callable[[list[Any]], Awaitable[None]]
    _queue: ContactQueue | None = None
    _ready: deque[Any] = Factory(deque)
    _ended: bool = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._fill()
        return self._ready.popleft()

    async def _fill(self) -> None:
        if self._queue is None:  # not before: an iterable may open something
            self._queue = ContactQueue(self.contacts())
        given: list[Any] = []
        known: list[Any] = []
        for number in count(1):
            each = await self._queue.next()
            if each is END:
                self._ended = True
                break
            try:
                contact = self.parse(each)
            except InvalidInput:
                given.append(each)
            else:
                if self.take(contact):
                    given.append(each)
                    known.append(contact)
            if number == BATCH:
                break
        if known:
            await self.read(known)
        else:
            await asyncio.sleep(0)  # other tasks get a turn, even if an iterable repeats one contact forever
        self._ready += given


def _text(kept: bytes) -> str:
    try:
        return kept.decode()
    except UnicodeDecodeError:
        problem = "the query or the note of a sync's state is damaged: it is not valid UTF-8"
    raise StoreError(problem)


def name_of(contact: Contact | Action) -> str:
    """The name under which the store has the progress of a contact or an action."""
    if isinstance(contact, Action):
        return "account:" if contact.id is None else f"action:{contact.id}"
    return f"{contact.kind}:{contact.value}"
