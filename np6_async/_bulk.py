"""The events of many contacts: workers that fetch and decode, behind one async iterator.

Each worker fetches contacts one after the other and puts batches into one buffer; while more than so many bytes
are in it, each worker waits with its next batch, and so does the server. What became of a contact follows its
last batch through the same buffer, so that no contact counts as done or failed before its events were handed
out. No HTTP here: a contact's events come from whatever `fetch` returns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from attrs import define, field, frozen

from ._contacts import Contact, parse
from ._errors import (
    AuthError,
    BulkError,
    ClientClosed,
    EndpointNotFound,
    InvalidInput,
    NotFound,
    NP6Error,
    RateLimited,
    TLSError,
    UsageError,
    forget,
)
from ._events import Event
from ._fetch import StreamStats
from ._lifetime import Lifetime
from ._stream import Batches

E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)

Action: TypeAlias = Literal["raise", "collect", "skip"]
# A run whose first so many contacts all answer 404 was given a wrong address, not wrong contacts.
_ALL_MISSING: Final = 20
# Bytes that wait for the consumer before workers stop: those of the JSON, and so many more for each event.
_BUFFER: Final = 256 * 1024
_OVERHEAD: Final = 256
_END: Final = object()
_ACTIONS: Final[tuple[Action, ...]] = ("raise", "collect", "skip")


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


ErrorPolicy: TypeAlias = Action | Callable[[Failure], Action | Awaitable[Action | None] | None]


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


class BatchSource(Protocol[E]):
    """The events of one contact, as `BulkStream` wants them; see `Fetch`."""

    complete: bool
    failures: int

    @property
    def stats(self) -> StreamStats: ...
    @property
    def delivered_to(self) -> int | None: ...
    async def next_batch(self) -> list[E]: ...
    def report(self) -> None: ...
    def close(self) -> None: ...


@define
class _Batch(Generic[E]):
    """Events of the contact that was passed in as `contact`; `size` in bytes."""

    contact: Any
    events: list[E]
    size: int


@define
class _Outcome:
    """How a contact ended, which counts when its events were taken; `early`: it is one of the first."""

    failure: Failure | None
    early: bool
    report: Callable[[], None]
    size: int = _OVERHEAD


class BulkStream(Generic[E_co]):
    """The events of many contacts, an async iterator of ``(contact, event)``; enter it with ``async with``.

    `contact` is the very object that was passed in. Contacts come in the order in which their answers
    arrive, mixed with each other; the events of one contact keep their order. Leaving the ``async with``
    cancels what is still running and waits for it: no task, no connection stays.

    One task reads it, which `on_error` is called in. Raises, while iterating: `BulkError` under
    ``on_error="raise"``; under every policy `AuthError`, `EndpointNotFound`, `RateLimited` and `TLSError`, which
    concern all contacts, `ClientClosed`, `UsageError`, and whatever the iterable of contacts or `on_error`
    raises. A run that was closed does not end: it raises `ClientClosed`.
    """

    def __init__(
        self,
        contacts: Iterable[str | Contact] | AsyncIterable[str | Contact],
        fetch: Callable[[Contact], BatchSource[E_co]],
        *,
        slots: AbstractContextManager[int],
        on_error: ErrorPolicy,
        order: Literal["completion"] = "completion",
        lifetime: Lifetime,
    ) -> None:
        if order != "completion":
            raise InvalidInput(f"order={order!r} is not known; use 'completion'")
        if not callable(on_error) and on_error not in _ACTIONS:
            raise InvalidInput(f"on_error={on_error!r} is not known; use 'raise', 'collect', 'skip' or a callable")
        self._contacts = _Contacts(contacts)
        self._fetch = fetch
        self._on_error: ErrorPolicy = on_error
        self._lifetime = lifetime
        self._slots = slots  # how many workers
        self._held = ExitStack()  # while the run lasts
        self._workers: list[asyncio.Task[None]] = []
        self._running = 0  # workers
        self._active: set[BatchSource[E_co]] = set()
        self._ready: deque[_Batch[E_co] | _Outcome] = deque()
        self._buffered = 0  # bytes in `_ready`
        self._news = asyncio.Event()  # for the consumer: an item, or a worker that ended
        self._room = asyncio.Event()  # for the workers
        self._stopping = False  # no contact is begun any more
        self._error: BaseException | None = None  # what ended the run
        self._ended = False  # by itself, and the consumer knows
        self._reading = False  # a task waits for the next item
        self._contact: Any = None
        self._events: Iterator[E_co] = iter(())  # of `_contact`, at hand
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
                return self._contact, event
            self._contact, batch = await self._next_batch()
            self._events = iter(batch)

    def batches(self) -> AsyncIterator[tuple[str | Contact, list[E_co]]]:
        """The same as ``(contact, list of events)``, the lists 1 to 256 long: faster than one by one.

        Goes on where iteration by event left off, and the other way round.
        """
        self._check_entered()
        return Batches(self._next_batch)

    async def aclose(self) -> None:
        """Stop everything. Returns when no task is left; safe to call twice. Iterating raises `ClientClosed`."""
        self._stop(ClientClosed("the bulk stream is closed"))
        self._events = iter(())
        self._ready.clear()
        try:
            await self._join()
        finally:
            self._held.close()

    async def __aenter__(self) -> Self:
        if self._workers or self._stopping:
            raise UsageError("a bulk stream is entered once; call stream_many() again for another run")
        self._lifetime.check()
        self._running = self._held.enter_context(self._slots)
        self._held.enter_context(
            self._lifetime.ends(lambda: self._stop(ClientClosed("this NP6Client was closed during a bulk fetch")))
        )
        for _ in range(self._running):
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
            raise UsageError("enter the bulk stream first: async with np6.events.stream_many(...) as events")

    # -- the consumer's task -------------------------------------------------------------------

    async def _next_batch(self) -> tuple[str | Contact, list[E_co]]:
        if rest := list(self._events):
            return self._contact, rest
        self._check_entered()
        if self._reading:
            raise UsageError("the bulk stream is being read by another task; let one task read and hand on")
        self._reading = True
        try:
            while True:
                while not self._ready:
                    if not self._running:
                        self._ended = self._error is None
                        raise self._error or StopAsyncIteration
                    self._news.clear()
                    await self._news.wait()
                item = self._ready[0]
                if isinstance(item, _Outcome):
                    await self._settle(item)  # if this is cancelled, the item is still there
                    self._drop(item)
                else:
                    self._drop(item)
                    self._total.events += len(item.events)
                    return item.contact, item.events
        finally:
            self._reading = False

    def _drop(self, item: _Batch[E_co] | _Outcome) -> None:
        """Take the first item out of the buffer; all workers that wait for room begin anew below the bound."""
        if self._ready and self._ready[0] is item:  # nobody closed the run meanwhile
            self._ready.popleft()
        self._buffered -= item.size
        if self._buffered < _BUFFER:
            self._room.set()

    async def _settle(self, outcome: _Outcome) -> None:
        """Count a contact that has ended, and raise what ends the run."""
        outcome.report()
        failure = outcome.failure
        if failure is None:
            self._total.done += 1
            return
        try:
            if outcome.early and isinstance(failure.error, NotFound):
                outcome.early = False  # it may be settled again, see `_next_batch`
                self._check_address(failure.error)
            action = await self._decide(failure)
            self._total.failed += 1
            if action != "skip":
                self.failures.append(failure)
            if action == "raise":
                errors = [each.error for each in self.failures]
                plural = "s" * (len(errors) > 1)
                raise BulkError(f"{len(errors)} contact{plural} failed; the last: {errors[-1]}", errors)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._stop(error)
            self._ready.clear()
            raise

    async def _decide(self, failure: Failure) -> Action:
        if not callable(self._on_error):
            return self._on_error
        try:
            answer = self._on_error(failure)
            action = (await answer if isawaitable(answer) else answer) or "skip"
        except (StopIteration, StopAsyncIteration) as error:
            raise RuntimeError(f"on_error raised {type(error).__name__}") from error
        for known in _ACTIONS:
            if action == known:
                return known
        raise InvalidInput(f"on_error returned {action!r}; expected 'raise', 'collect', 'skip' or None")

    def _check_address(self, error: NotFound) -> None:
        self._first_missing += 1
        if self._first_missing == _ALL_MISSING:
            self._total.failed += 1
            raise EndpointNotFound(
                f"each of the first {_ALL_MISSING} contacts answered {error.status}: the address is wrong, or "
                "the contacts are of another account; check base_url, kind and the contacts",
                status=error.status,
                request_id=error.request_id,
            )

    # -- the workers' tasks --------------------------------------------------------------------

    async def _work(self) -> None:
        """Fetch contacts one after the other, until there are no more or the run is stopped."""
        try:
            while not self._stopping:
                given = await self._contacts.next()
                if given is _END or self._stopping:
                    return
                self._begun += 1
                await self._fetch_one(given, early=self._begun <= _ALL_MISSING)
        except (asyncio.CancelledError, Exception) as error:
            self._stop(error)  # keeps the reason, where it was stopped before
        except BaseException as error:
            self._stop(error)
            raise

    async def _fetch_one(self, given: Any, *, early: bool) -> None:
        failure = None
        try:
            source = self._fetch(parse(given))
        except NP6Error as error:
            error.contact = given
            await self._put(_Outcome(_failure(given, error, 0, None), early, lambda: None))
            return
        self._active.add(source)
        seen = 0
        try:
            while not source.complete and (batch := await source.next_batch()):
                received = source.stats.bytes
                await self._put(_Batch(given, batch, received - seen + len(batch) * _OVERHEAD))
                seen = received
        except (AuthError, ClientClosed, RateLimited, TLSError) as error:
            source.report()
            forget(error)
            raise  # of every contact, and not of this one
        except NP6Error as error:
            failure = _failure(given, error, source.failures, source.delivered_to)
        finally:
            source.close()
            self._active.discard(source)
            _add(self._total, source.stats)
        await self._put(_Outcome(failure, early, source.report))

    async def _put(self, item: _Batch[E_co] | _Outcome) -> None:
        """Hand `item` to the consumer, and wait while it has enough to do."""
        self._ready.append(item)
        self._buffered += item.size
        self._news.set()
        while self._buffered >= _BUFFER:
            self._room.clear()
            await self._room.wait()

    def _leave(self, worker: asyncio.Task[None]) -> None:
        if worker.cancelled():  # by others, before its first step
            self._stop(asyncio.CancelledError())
        else:
            worker.exception()  # it is the consumer's to raise
        self._running -= 1
        self._news.set()

    def _stop(self, reason: BaseException) -> None:
        """End the run, for the first `reason` given; after its own end there is none."""
        if self._stopping:
            return
        self._stopping = True
        if not self._ended:
            self._error = reason
        current = _current_task()
        for worker in self._workers:
            if worker is not current:
                worker.cancel()

    async def _join(self) -> None:
        """Wait until no worker is left, even if cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        # Not for a worker whose contacts come from an iterable that calls this.
        workers = [worker for worker in self._workers if worker is not _current_task()]
        while pending := [worker for worker in workers if not worker.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
                for worker in pending:  # in case the iterable swallowed the first one
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
                given = next(self._iterator, _END)
            else:
                async with self._lock:
                    given = _END if self._ended else await anext(self._iterator, _END)
        except StopAsyncIteration as error:  # from a synchronous one: it must not look like the end of the run
            self._ended = True
            raise RuntimeError("the iterable of contacts raised StopAsyncIteration") from error
        except BaseException:
            self._ended = True
            raise
        self._ended = given is _END
        return given


def _failure(given: Any, error: NP6Error, attempts: int, resume_at: int | None) -> Failure:
    forget(error)
    return Failure(given, error, attempts, resume_at)


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
