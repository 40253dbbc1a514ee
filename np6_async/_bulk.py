"""The events of many contacts: workers that receive, behind one async iterator that decodes.

A worker receives some of an answer, hands it over and waits until the consumer has taken its events. So what is
buffered are bytes, one piece for each worker at most, and no contact counts as done before its last event was
handed out. No HTTP here: a contact's events come from whatever `fetch` returns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from attrs import define, frozen

from ._contacts import Contact, parse
from ._errors import AuthError, BulkError, ClientClosed, EndpointNotFound, InvalidInput, NotFound, NP6Error, RateLimited
from ._events import Event
from ._fetch import EVENTS_PER_TURN, StreamStats, Turn
from ._lifetime import Lifetime
from ._stream import Batches

E = TypeVar("E", bound=Event)
T = TypeVar("T")
E_co = TypeVar("E_co", bound=Event, covariant=True)

Action: TypeAlias = Literal["raise", "collect", "skip"]
# A run whose first so many contacts all answer 404 was given a wrong address, not wrong contacts.
_ALL_MISSING: Final = 20
# Contacts that a worker begins in one go, at most, where none of them has to wait.
_CONTACTS_PER_TURN: Final = 20
_END: Final = object()
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

    Raises, while iterating: `BulkError` under ``on_error="raise"``; under every policy `AuthError`,
    `EndpointNotFound` and `RateLimited`, which concern all contacts, `ClientClosed`, and whatever the iterable
    of contacts or `on_error` raises. A run that was closed does not end: it raises `ClientClosed`.
    """

    def __init__(
        self,
        contacts: Iterable[str | Contact] | AsyncIterable[str | Contact],
        fetch: Callable[[Contact], BatchSource[E_co]],
        *,
        concurrency: int,
        on_error: ErrorPolicy,
        order: Literal["completion"] = "completion",
        slots: AbstractContextManager[None] | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        if order != "completion":
            raise InvalidInput(f"order={order!r} is not known; use 'completion'")
        if not callable(on_error) and on_error not in _ACTIONS:
            raise InvalidInput(f"on_error={on_error!r} is not known; use 'raise', 'collect', 'skip' or a callable")
        self._contacts = _Contacts(contacts)
        self._fetch = fetch
        self._concurrency = concurrency
        self._on_error = on_error
        self._lifetime = lifetime or Lifetime()
        self._slots = slots
        self._held = ExitStack()  # while the run lasts
        self._workers: list[asyncio.Task[None]] = []
        self._active: set[BatchSource[E_co]] = set()
        self._ready: deque[_Piece[E_co]] = deque()
        self._news = asyncio.Event()  # for the consumer: a piece, or a worker that ended
        self._running = 0  # workers
        self._stopping = False  # no contact is begun any more
        self._error: BaseException | None = None  # what ended the run; None: its own end
        self._turn, self._worker_turn = Turn(EVENTS_PER_TURN), Turn(_CONTACTS_PER_TURN)
        self._piece: _Piece[E_co] | None = None  # at hand
        self._events: Iterator[E_co] = iter(())  # of the batch at hand
        self._total = BulkStats()
        self._begun = 0  # contacts
        self._first_missing = 0  # of the first contacts, those with a 404
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

    def __aiter__(self) -> Self:
        self._check_entered()
        return self

    async def __anext__(self) -> tuple[str | Contact, E_co]:
        while True:
            for event in self._events:
                assert self._piece is not None
                return self._piece.contact, event
            _, batch = await self._next_batch()
            self._events = iter(batch)

    def batches(self) -> AsyncIterator[tuple[str | Contact, list[E_co]]]:
        """The same as ``(contact, list of events)``, the lists 1 to 256 long: faster than one by one."""
        self._check_entered()
        return Batches(self._next_batch)

    async def aclose(self) -> None:
        """Stop everything. Returns when no task is left; safe to call twice. Iterating raises `ClientClosed`."""
        self._stop(ClientClosed("the bulk stream is closed"))
        self._events = iter(())
        try:
            await self._join()
        finally:
            self._held.close()

    async def __aenter__(self) -> Self:
        if self._workers or self._stopping:
            raise ClientClosed("a bulk stream is entered once; call stream_many() again for another run")
        self._lifetime.check()
        if self._slots is not None:
            self._held.enter_context(self._slots)
        self._held.enter_context(
            self._lifetime.ends(lambda: self._stop(ClientClosed("this NP6Client was closed during a bulk fetch")))
        )
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

    def _check_entered(self) -> None:
        if not self._workers:
            raise ClientClosed("enter the bulk stream first: async with np6.events.stream_many(...) as events")

    async def _next_batch(self) -> tuple[str | Contact, list[E_co]]:
        await self._turn.give()
        while True:
            if self._piece is None:
                self._piece = await self._next_piece()
            if batch := self._piece.source.take():
                self._total.events += len(batch)
                self._turn.count += len(batch)
                return self._piece.contact, batch
            self._piece.give_back()
            self._piece = None

    async def _next_piece(self) -> _Piece[E_co]:
        self._check_entered()
        while not self._ready and self._running:
            self._news.clear()
            await self._news.wait()
        if self._ready:
            return self._ready.popleft()
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    # -- workers -------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Fetch contacts one after the other, until there are no more or the run is stopped."""
        try:
            while not self._stopping:
                await self._worker_turn.give()  # contacts that need no request wait for nothing
                given = await self._contacts.next()
                if given is _END or self._stopping:
                    return
                self._begun += 1
                self._worker_turn.count += 1
                await self._fetch_one(given, first=self._begun <= _ALL_MISSING)
        except asyncio.CancelledError as error:
            self._stop(error)  # keeps the reason, where it was stopped before
        except Exception as error:
            self._stop(error)
        except BaseException as error:
            self._stop(error)
            raise

    async def _fetch_one(self, given: Any, *, first: bool) -> None:
        try:
            source = self._fetch(parse(given))
        except NP6Error as error:
            await self._handle(Failure(given, error, 0, None), first=first)
            return
        self._active.add(source)
        try:
            while await source.receive():
                await self._hand_over(given, source)
        except NP6Error as error:
            await self._handle(Failure(given, error, source.failures, source.delivered_to), first=first)
        else:
            self._total.done += 1
        finally:
            source.close()
            self._active.discard(source)
            _add(self._total, source.stats)

    async def _hand_over(self, given: str | Contact, source: BatchSource[E_co]) -> None:
        """Let the consumer take what was received, and wait until it has."""
        taken = asyncio.get_running_loop().create_future()
        self._ready.append(_Piece(given, source, taken))
        self._news.set()
        await taken

    def _leave(self, _: object) -> None:
        self._running -= 1
        self._news.set()

    async def _handle(self, failure: Failure, *, first: bool) -> None:
        """Count a failed contact, and raise what ends the run."""
        error = failure.error
        # Its frames hold what was received of the answer.
        error.__traceback__ = error.__context__ = None
        if isinstance(error, AuthError | ClientClosed | RateLimited):
            raise error
        self._total.failed += 1
        if first and isinstance(error, NotFound):
            self._first_missing += 1
            if self._first_missing == _ALL_MISSING:
                raise EndpointNotFound(
                    f"each of the first {_ALL_MISSING} contacts answered {error.status}: the address is wrong, or "
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

    def _stop(self, reason: BaseException) -> None:
        """End the run, for the first `reason` given; after its own end there is none."""
        if self._stopping:
            return
        self._stopping = True
        if self._running:
            self._error = reason
        for worker in self._workers:
            if worker is not _current_task():
                worker.cancel()

    async def _join(self) -> None:
        """Wait until no worker is left, even if cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        while pending := [worker for worker in self._workers if not worker.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
                for worker in pending:  # in case a callback swallowed the first one
                    worker.cancel()
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

    async def next(self) -> Any:
        """The next contact, whatever it is; `_END` when there are no more, or when the iterable has failed."""
        if self._ended:
            return _END
        try:
            if isinstance(self._iterator, Iterator):
                return next(self._iterator)
            async with self._lock:
                return _END if self._ended else await anext(self._iterator)
        except (StopIteration, StopAsyncIteration):
            self._ended = True
            return _END
        except BaseException:
            self._ended = True
            raise


def _current_task() -> asyncio.Task[Any] | None:
    """The task that runs; None in a callback of the loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _add(total: BulkStats, part: StreamStats) -> None:
    total.bytes += part.bytes
    total.requests += part.requests
    total.retries += part.retries
    total.waited += part.waited
