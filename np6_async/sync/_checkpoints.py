"""Which progress may be written when: that of events only when whoever took them says that they are safe."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from itertools import count
from typing import Any, Final, Self

from .._errors import InvalidContact, InvalidInput, StoreError
from .._models.contacts import Contact, parse
from .._streams.contact_queue import END, ContactQueue
from ._state import State
from ._store import Store

# Contacts whose state is read, and written, in one go.
BATCH: Final = 500
# Seconds after which the state of fewer is written.
_SOON: Final = 1.0
# Neither is the name of a contact: these have the contact's kind before a colon.
_QUERY: Final = "sync/query"
_NOTE: Final = "sync/note"


class Checkpoints:
    """The progress of a run's contacts, from when the run comes to one until its state was written.

    Memory holds the contacts that are in progress, those whose state was not written yet, and what was read ahead.
    """

    def __init__(
        self,
        store: Store,
        query: str,
        contacts: Callable[[], Iterable[str | Contact] | AsyncIterable[str | Contact]],
        begin: Callable[[bytes | None], State],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._query = query
        self._contacts = contacts
        self._begin = begin
        self._clock = clock
        self._written_at = clock()
        self._begun: dict[Contact, State] = {}
        self._in_hand: tuple[Contact, list[Any]] | None = None  # events last handed out
        self._owing: dict[Contact, State] = {}  # with the others handed out that may not be safe yet
        self._ready: dict[Contact, State] = {}  # to be written
        self.note: str | None = None

    async def open(self) -> None:
        """Begin a run: lock the store, check that it belongs to the query, and read the note."""
        await self._store.open()
        try:
            found = await self._kept([_QUERY, _NOTE])
            if _NOTE in found:
                self.note = _text(found[_NOTE])
            if _QUERY not in found:
                await self._store.write({_QUERY: self._query.encode()})
                return
            query = _text(found[_QUERY])
            if query != self._query:
                raise InvalidInput(
                    f"this state was made for {query!r} and cannot go on with {self._query!r}: each query (kind and "
                    "classification) needs a state of its own"
                )
        except BaseException:
            await self._store.close()
            raise

    async def close(self) -> None:
        """End the run."""
        await self._store.close()

    # Contacts

    def ahead(self) -> Ahead:
        """The contacts, once each, with their progress read from the store."""
        return Ahead(self._contacts, self._take, self._read)

    def of(self, contact: Contact) -> State:
        """The progress of a contact that came out of `ahead` and is not written yet."""
        return self._begun[contact]

    def _take(self, contact: Contact) -> bool:
        """Whether the run may come to the contact: not while it is in progress."""
        if contact in self._begun:
            return False
        self._begun[contact] = self._begin(None)
        return True

    async def _read(self, contacts: list[Contact]) -> None:
        kept = await self._kept([_name(contact) for contact in contacts])
        for contact in contacts:
            if (state := kept.get(_name(contact))) is not None:
                self._begun[contact] = self._begin(state)

    async def _kept(self, names: list[str]) -> Mapping[str, bytes]:
        """What the store has under these names; raises `StoreError` for what nobody gave it."""
        found = await self._store.read(names)
        if not isinstance(found, Mapping):
            raise StoreError(f"the store's read() must return a mapping of names to bytes, not {type(found).__name__}")
        for value in found.values():
            if not isinstance(value, bytes | bytearray | memoryview):
                raise StoreError(
                    f"the store has {type(value).__name__} where bytes were written: either it is damaged, or read() "
                    "must return them as they were given to write() (with Redis: decode_responses=False)"
                )
        return {name: bytes(value) for name, value in found.items()}

    # What becomes of them

    def hand_out(self, contact: Contact, events: list[Any]) -> None:
        """The contact's next events are on their way to whoever asked."""
        self._in_hand = contact, events

    def taken(self, *, safe: bool) -> None:
        """Whoever got the last events is back. `safe`: all that were handed out are written."""
        if self._in_hand is not None:
            contact, events = self._in_hand
            self._in_hand = None
            # Not before: the progress may be about to be written, with the events before these.
            self._begun[contact].advance(events)
            self._owing[contact] = self._begun[contact]
        if safe:
            self._ready |= self._owing
            self._owing.clear()

    def done(self, contact: Contact, end: int) -> None:
        """All its events up to `end` were taken."""
        state = self._begun[contact]
        state.complete(end)
        state.ended = True
        if contact not in self._owing:
            self._ready[contact] = state

    def failed(self, contact: Contact) -> None:
        """There is no more progress than that of the events handed out."""
        self._begun[contact].ended = True
        if contact not in self._owing and contact not in self._ready:
            del self._begun[contact]

    async def write(self, *, now: bool = False) -> None:
        """Write what is to be written, in batches; `now`: also a small one."""
        if self._ready and (now or len(self._ready) >= BATCH or self._clock() - self._written_at >= _SOON):
            await self._write(self._ready, {})

    async def commit(self, note: str | None) -> None:
        """All events handed out are safe: write that, and the note with it. If it fails, nothing is written."""
        if self._in_hand is not None and self._in_hand[0] in self._ready:
            await self._write(self._ready, {})
        self.taken(safe=False)
        values = {} if note is None else {_NOTE: note.encode()}
        await self._write(self._ready | self._owing, values)
        if note is not None:
            self.note = note

    async def _write(self, states: dict[Contact, State], values: dict[str, bytes]) -> None:
        values |= {_name(contact): state.encode() for contact, state in states.items()}
        if values:
            await self._store.write(values)
        self._written_at = self._clock()
        for contact, state in tuple(states.items()):
            self._owing.pop(contact, None)
            self._ready.pop(contact, None)
            if state.ended:
                del self._begun[contact]


class Ahead:
    """An async iterator of contacts, which reads the states of the next ones in one go.

    Contacts that `take` refuses are left out. What is no contact is passed on, for others to refuse.
    """

    def __init__(
        self,
        contacts: Callable[[], Iterable[str | Contact] | AsyncIterable[str | Contact]],
        take: Callable[[Contact], bool],
        read: Callable[[list[Contact]], Awaitable[None]],
    ) -> None:
        self._contacts = contacts
        self._take = take
        self._read = read
        self._queue: ContactQueue | None = None
        self._ready: deque[Any] = deque()
        self._ended = False

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
            self._queue = ContactQueue(self._contacts())
        given: list[Any] = []
        known: list[Contact] = []
        for number in count(1):
            each = await self._queue.next()
            if each is END:
                self._ended = True
                break
            try:
                contact = parse(each)
            except InvalidContact:
                given.append(each)
            else:
                if self._take(contact):
                    given.append(each)
                    known.append(contact)
            if number == BATCH:
                break
        if known:
            await self._read(known)
        else:
            await asyncio.sleep(0)  # others get a turn, even if an iterable names one contact for ever
        self._ready += given


def _text(kept: bytes) -> str:
    try:
        return kept.decode()
    except UnicodeDecodeError:
        problem = "the query or the note of a sync's state is damaged: it is no UTF-8"
    raise StoreError(problem)


def _name(contact: Contact) -> str:
    return f"{contact.kind}:{contact.value}"
