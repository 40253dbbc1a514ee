"""Workers: each fetches contacts one after the other and hands their events to the consumer.

No HTTP here: a contact's events come from whatever `fetch` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import define

from .._errors import AuthError, ClientClosed, InvalidInput, NP6Error, RateLimited, TLSError, forget
from .._models.contacts import Contact, parse
from .._models.events import Event
from .buffer import OVERHEAD, Batch, Buffer, Failure, Outcome
from .fetch import StreamStats

E = TypeVar("E", bound=Event)

# A run whose first so many contacts all answer 404 was given a wrong address, not wrong contacts.
EARLY: Final = 20
END: Final = object()


@define
class BulkStats:
    """Counts of one bulk fetch, up to now.

    `done`, `failed` and `in_flight` count contacts: one is done when its answer is known to be complete and the
    consumer, which has had its last event, asks for more. `events` counts those handed out; `bytes`, `requests`,
    `retries` and `waited` (seconds) are summed over all contacts.
    """

    done: int = 0
    failed: int = 0
    in_flight: int = 0
    events: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    waited: float = 0.0

    def add(self, part: StreamStats | BulkStats) -> None:
        """Count the requests of `part` as well."""
        self.bytes += part.bytes
        self.requests += part.requests
        self.retries += part.retries
        self.waited += part.waited


class BatchSource(Protocol[E]):
    """The events of one contact, as workers want them; see `Fetch`."""

    complete: bool
    failures: int

    @property
    def stats(self) -> StreamStats: ...
    @property
    def delivered_to(self) -> int | None: ...
    async def next_batch(self) -> list[E]: ...
    def report(self) -> None: ...
    def close(self) -> None: ...


class Workers(Generic[E]):
    """What fills the buffer of a bulk run. `slots` says how many there are, while the run lasts."""

    def __init__(
        self,
        contacts: Iterable[str | Contact] | AsyncIterable[str | Contact],
        fetch: Callable[[Contact], BatchSource[E]],
        slots: AbstractContextManager[int],
        *,
        in_turn: bool = False,
    ) -> None:
        self._contacts = ContactQueue(contacts)
        self._fetch = fetch
        self.buffer: Buffer[E] = Buffer(in_turn=in_turn)
        self.slots = slots
        self._active: set[BatchSource[E]] = set()
        self._ended = BulkStats()  # of the contacts that are not active any more
        self._begun = 0  # contacts
        self._stopping = False

    def begin(self, count: int) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What `count` tasks are to run."""
        return [self._work] * count

    def stop(self) -> None:
        """Begin no contact any more."""
        self._stopping = True

    @property
    def stats(self) -> BulkStats:
        """Counts of requests, up to now."""
        now = BulkStats(in_flight=len(self._active))
        now.add(self._ended)
        for source in self._active:
            now.add(source.stats)
        return now

    async def _work(self) -> None:
        """Fetch contacts one after the other, until there are no more or the run is stopped."""
        while not self._stopping:
            given = await self._contacts.next()
            if given is END or self._stopping:
                return
            self._begun += 1
            await self._fetch_one(given, early=self._begun <= EARLY)

    async def _fetch_one(self, given: Any, *, early: bool) -> None:
        lane = self.buffer.lane()
        failure = None
        try:
            source = self._fetch(parse(given))
        except NP6Error as error:
            error.contact = given
            await self.buffer.put(lane, Outcome(given, Failure.of(given, error), early, lambda: None))
            return
        self._active.add(source)
        seen = 0
        try:
            while not source.complete and (batch := await source.next_batch()):
                received = source.stats.bytes
                await self.buffer.put(lane, Batch(given, batch, received - seen + len(batch) * OVERHEAD))
                seen = received
        except (AuthError, ClientClosed, RateLimited, TLSError) as error:
            source.report()
            forget(error)
            raise  # of every contact, and not of this one
        except NP6Error as error:
            failure = Failure.of(given, error, source.failures, source.delivered_to)
        finally:
            source.close()
            self._active.discard(source)
            self._ended.add(source.stats)
        await self.buffer.put(lane, Outcome(given, failure, early, source.report))


def given(contacts: Any) -> Iterable[str | Contact] | AsyncIterable[str | Contact]:
    """Contacts that may be a single one; raises `InvalidInput`."""
    if isinstance(contacts, str | Contact):
        return [contacts]
    if not isinstance(contacts, Iterable | AsyncIterable):
        raise InvalidInput(f"contacts must be a contact or an iterable of them, not {type(contacts).__name__}")
    return contacts


def reusable(contacts: Any) -> Iterable[str | Contact] | AsyncIterable[str | Contact]:
    """Those that can be read once for each window; raises `InvalidInput`."""
    contacts = given(contacts)
    if hasattr(contacts, "__next__") or hasattr(contacts, "__anext__"):
        raise InvalidInput(
            "the contacts are read once for each window of time, and an iterator can be read only once; pass a list, "
            "or an object whose __iter__ begins anew"
        )
    return contacts  # type: ignore[no-any-return]


class ContactQueue:
    """Hands out contacts from any iterable, one at a time, to many workers."""

    def __init__(self, contacts: Iterable[str | Contact] | AsyncIterable[str | Contact]) -> None:
        if isinstance(contacts, str | bytes | Contact):
            raise InvalidInput("stream_many takes an iterable of contacts; for a single one use stream()")
        if not isinstance(contacts, AsyncIterable | Iterable):
            raise InvalidInput(f"contacts must be an iterable or async iterable, not {type(contacts).__name__}")
        self._iterator: Iterator[str | Contact] | AsyncIterator[str | Contact]
        self._iterator = aiter(contacts) if isinstance(contacts, AsyncIterable) else iter(contacts)
        self._ended = False
        self._lock = asyncio.Lock()  # an async generator cannot be asked twice at once

    async def next(self) -> Any:
        """The next contact, whatever it is; `END` when there are no more, or when the iterable has failed."""
        if self._ended:
            return END
        try:
            if isinstance(self._iterator, Iterator):
                given = next(self._iterator, END)
            else:
                async with self._lock:
                    given = END if self._ended else await anext(self._iterator, END)
        except StopAsyncIteration as error:  # from a synchronous one: it must not look like the end of the run
            self._ended = True
            raise RuntimeError("the iterable of contacts raised StopAsyncIteration") from error
        except BaseException:
            self._ended = True
            raise
        self._ended = given is END
        return given
