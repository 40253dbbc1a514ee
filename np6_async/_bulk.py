"""The events of many contacts: workers that receive, behind one async iterator that decodes.

A worker receives some of an answer, hands it over and waits until the consumer has taken its events. So what is
buffered are bytes, one piece for each worker at most, and no contact counts as done before its last event was
handed out. No HTTP here: a contact's events come from whatever `fetch` returns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from attrs import define, frozen

from ._contacts import Contact, parse
from ._errors import AuthError, BulkError, ClientClosed, EndpointNotFound, InvalidInput, NotFound, NP6Error
from ._events import Event
from ._fetch import StreamStats, Turn

E = TypeVar("E", bound=Event)
T = TypeVar("T")
E_co = TypeVar("E_co", bound=Event, covariant=True)

Action: TypeAlias = Literal["raise", "collect", "skip"]
# A run whose first so many contacts all answer 404 was given a wrong address, not wrong contacts.
_ALL_MISSING: Final = 20
_ACTIONS: Final = ("raise", "collect", "skip")


@frozen
class Failure:
    """A contact whose events could not all be fetched.

    `contact` is what was passed in; `error` says why; `attempts` is how many requests failed in a row.
    `resume_at` is the epoch milliseconds up to which its events were delivered (all before, perhaps some
    at it; None: none were).
    """

    contact: str | Contact
    error: NP6Error
    attempts: int
    resume_at: int | None

    def __str__(self) -> str:
        return str(self.error)


ErrorPolicy: TypeAlias = Action | Callable[[Failure], Action | Awaitable[Action | None] | None]


@define
class BulkStats:
    """Counts of one bulk fetch, up to now.

    `done`, `failed` and `in_flight` count contacts: one is done when its answer is known to be complete and its
    last event was handed to the consumer. `events` counts those; `bytes`, `requests`, `retries` and `waited`
    (seconds) are summed over all contacts.
    """

    done: int = 0
    failed: int = 0
    in_flight: int = 0
    events: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    waited: float = 0.0


class BatchSource(Protocol[E]):
    """The events of one contact, as `BulkStream` wants them."""

    @property
    def stats(self) -> StreamStats: ...
    @property
    def failures(self) -> int: ...
    @property
    def delivered_to(self) -> int | None: ...
    async def receive(self) -> bool: ...
    def take(self) -> list[E]: ...
    def close(self) -> None: ...


@frozen
class _Piece(Generic[E]):
    """Some of a contact's answer, received and not yet taken."""

    contact: str | Contact
    source: BatchSource[E]
    taken: asyncio.Future[None]

    def give_back(self) -> None:
        """All was taken: the worker may go on."""
        if not self.taken.done():
            self.taken.set_result(None)


class BulkStream(Generic[E_co]):
    """The events of many contacts, an async iterator of ``(contact, event)``; enter it with ``async with``.

    `contact` is the very object that was passed in. Contacts come in the order in which their answers
    arrive, mixed with each other; the events of one contact keep their order. Leaving the ``async with``
    cancels what is still running and waits for it: no task, no connection stays.

    Raises, while iterating: `BulkError` under ``on_error="raise"``; under every policy `AuthError` and
    `EndpointNotFound`, which concern all contacts, `ClientClosed`, and whatever the iterable of contacts
    raises.
    """

    def __init__(
        self,
        contacts: Iterable[str | Contact] | AsyncIterable[str | Contact],
        fetch: Callable[[Contact], BatchSource[E_co]],
        *,
        concurrency: int,
        on_error: ErrorPolicy,
        slots: AbstractContextManager[None] | None = None,
    ) -> None:
        if not callable(on_error) and on_error not in _ACTIONS:
            raise InvalidInput(f"on_error={on_error!r} is not known; use 'raise', 'collect', 'skip' or a callable")
        self._contacts = _Contacts(contacts)
        self._fetch = fetch
        self._concurrency = concurrency
        self._on_error = on_error
        self._slots = slots or nullcontext()
        self._workers: list[asyncio.Task[None]] = []
        self._active: set[BatchSource[E_co]] = set()
        self._ready: deque[_Piece[E_co]] = deque()
        self._news: asyncio.Future[None] | None = None  # the consumer waits for a piece, or for the end
        self._running = 0  # workers
        self._error: Exception | None = None  # what ended the run
        self._turn = Turn()
        self._total = BulkStats()
        self._only_missing = True
        self._iterator: AsyncGenerator[Any] | None = None
        self._closed = False
        self.failures: list[Failure] = []

    @property
    def stats(self) -> BulkStats:
        """A snapshot of the counts."""
        total = self._total
        now = BulkStats(
            done=total.done,
            failed=total.failed,
            in_flight=len(self._active),
            events=total.events,
            bytes=total.bytes,
            requests=total.requests,
            retries=total.retries,
            waited=total.waited,
        )
        for source in self._active:
            _add(now, source.stats)
        return now

    def __aiter__(self) -> AsyncIterator[tuple[str | Contact, E_co]]:
        return self._begin(self._pairs())

    def batches(self) -> AsyncIterator[tuple[str | Contact, list[E_co]]]:
        """The same as ``(contact, list of events)``, the lists 1 to 256 long: faster than one by one."""
        return self._begin(self._batches())

    async def aclose(self) -> None:
        """Stop everything. Returns when no task is left; safe to call twice."""
        self._closed = True
        self._cancel()
        try:
            await self._join()
            if self._iterator is not None:
                # Else asyncio would start a task for it. RuntimeError: it is being read, and ends by itself.
                with suppress(RuntimeError):
                    await self._iterator.aclose()
        finally:
            self._slots.__exit__(None, None, None)
            self._slots = nullcontext()

    async def __aenter__(self) -> Self:
        if self._workers or self._closed:
            raise ClientClosed("a bulk stream is entered once; call stream_many() again for another run")
        self._slots.__enter__()
        self._running = self._concurrency
        for _ in range(self._concurrency):
            worker = asyncio.create_task(self._work(), name="np6_async worker")
            # Not a `finally` in the worker: one that is cancelled before its first step never gets there.
            worker.add_done_callback(self._leave)
            self._workers.append(worker)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _begin(self, iterator: AsyncGenerator[T]) -> AsyncGenerator[T]:
        if not self._workers or self._closed:
            raise ClientClosed("enter the bulk stream first: async with np6.events.stream_many(...) as events")
        if self._iterator is not None:
            raise ClientClosed("a bulk stream is iterated once; call stream_many() again for another run")
        self._iterator = iterator
        return iterator

    async def _batches(self) -> AsyncGenerator[tuple[str | Contact, list[E_co]]]:
        while (piece := await self._next_piece()) is not None:
            while batch := piece.source.take():
                self._total.events += len(batch)
                yield piece.contact, batch
                await self._turn.spend(len(batch))
            piece.give_back()

    async def _pairs(self) -> AsyncGenerator[tuple[str | Contact, E_co]]:
        while (piece := await self._next_piece()) is not None:
            contact = piece.contact
            while batch := piece.source.take():
                self._total.events += len(batch)
                for event in batch:
                    yield contact, event
                await self._turn.spend(len(batch))
            piece.give_back()

    async def _next_piece(self) -> _Piece[E_co] | None:
        while not self._ready and self._running:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if self._ready:
            return self._ready.popleft()
        await self._join()
        if self._error is not None:
            raise self._error
        if self._closed:
            raise ClientClosed("the bulk stream was closed while it was being read")
        return None

    # -- workers -------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Fetch contacts one after the other, until there are no more."""
        try:
            while (given := await self._contacts.next()) is not None:
                await self._fetch_one(given)
        except Exception as error:
            self._error = self._error or error
            self._cancel()

    async def _fetch_one(self, given: str | Contact) -> None:
        try:
            source = self._fetch(parse(given))
        except NP6Error as error:
            await self._handle(Failure(given, error, 0, None))
            return
        self._active.add(source)
        try:
            while await source.receive():
                await self._hand_over(given, source)
        except NP6Error as error:
            await self._handle(Failure(given, error, source.failures, source.delivered_to))
        else:
            self._total.done += 1
            self._only_missing = False
        finally:
            source.close()
            self._active.discard(source)
            _add(self._total, source.stats)

    async def _hand_over(self, given: str | Contact, source: BatchSource[E_co]) -> None:
        """Let the consumer take what was received, and wait until it has."""
        taken = asyncio.get_running_loop().create_future()
        self._ready.append(_Piece(given, source, taken))
        self._tell()
        await taken

    def _leave(self, _: object) -> None:
        self._running -= 1
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _handle(self, failure: Failure) -> None:
        """Count a failed contact, and raise what ends the run."""
        error = failure.error
        if isinstance(error, AuthError | ClientClosed):
            raise error
        self._total.failed += 1
        self._only_missing = self._only_missing and isinstance(error, NotFound)
        if self._only_missing and self._total.failed >= _ALL_MISSING and isinstance(error, NotFound):
            raise EndpointNotFound(
                f"each of the first {self._total.failed} contacts answered {error.status}: the address is wrong, or "
                "the contacts are of another account; check base_url, kind and the contacts",
                status=error.status,
                request_id=error.request_id,
            )
        action = self._on_error
        if callable(action):
            result = action(failure)
            action = (await result if isawaitable(result) else result) or "skip"
            if action not in _ACTIONS:
                raise InvalidInput(f"on_error returned {action!r}; expected 'raise', 'collect', 'skip' or None")
        if action != "skip":
            self.failures.append(failure)
        if action == "raise":
            errors = [each.error for each in self.failures]
            raise BulkError(f"{len(errors)} contact{'s' * (len(errors) > 1)} failed; the last: {errors[-1]}", errors)

    def _cancel(self) -> None:
        for worker in self._workers:
            if worker is not asyncio.current_task():
                worker.cancel()

    async def _join(self) -> None:
        """Wait until no worker is left, even if cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        while pending := [worker for worker in self._workers if not worker.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled


class _Contacts:
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

    async def next(self) -> str | Contact | None:
        """The next contact; None when there are no more, or when the iterable has failed."""
        if self._ended:
            return None
        try:
            if isinstance(self._iterator, Iterator):
                return next(self._iterator)
            async with self._lock:
                return None if self._ended else await anext(self._iterator)
        except (StopIteration, StopAsyncIteration):
            self._ended = True
            return None
        except BaseException:
            self._ended = True
            raise


def _add(total: BulkStats, part: StreamStats) -> None:
    total.bytes += part.bytes
    total.requests += part.requests
    total.retries += part.retries
    total.waited += part.waited
