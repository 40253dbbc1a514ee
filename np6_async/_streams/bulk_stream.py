"""The events of many contacts behind one async iterator: the consumer's side of a bulk run, from start to end.

Tasks fill a buffer, see `Workers` and `TimeOrder`. The outcome of a contact follows its last batch through the buffer,
so that no contact counts as done or failed before its events were delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from .._config import DecodeLimits
from .._errors import ClientClosed, EndpointNotFound, NotFound, UsageError
from .._http.lifetime import Lifetime
from .._models.contacts import Contact
from .._models.events import Event
from .buffer import Body, Buffer, Done, Failure, Outcome
from .event_stream import Batches
from .failures import ErrorPolicy, Failures
from .stats import BulkStats
from .workers import EARLY

C_co = TypeVar("C_co", bound=str | Contact, covariant=True)
E_co = TypeVar("E_co", bound=Event, covariant=True)

_DONE: Final = Done()
_NOTHING: Final = object()


class Producer(Protocol):
    """What fills the buffer of a run. `slots` says how many tasks may `work`; each may start another."""

    buffer: Buffer[Any]
    slots: AbstractContextManager[int]

    @property
    def stats(self) -> BulkStats: ...
    @property
    def unfinished(self) -> bool: ...
    async def work(self, start_another: Callable[[], None]) -> None: ...
    def refetch(self, item: Body[Any]) -> Callable[[], Coroutine[Any, Any, None]] | None: ...
    def stop(self) -> None: ...


class BulkStream(Generic[C_co, E_co]):
    """The events of many contacts, an async iterator of ``(contact, event)``; enter it with ``async with``.

    `contact` is the very object that was passed in. Contacts come in the order that `stream_many` was asked for; the
    events of one contact keep their order. Leaving the ``async with`` cancels what is still running and waits for it:
    no task and no connection is left.

    Only one task may read it; `on_error` is called in that task. Raises, while iterating: `BulkError` under
    ``on_error="raise"``; under every policy `AuthError`, `EndpointNotFound`, `RateLimited`, `ServiceUnavailable` and
    `TLSError`, which concern all contacts, `ClientClosed`, `UsageError`, and whatever the iterable of contacts or
    `on_error` raises.
    Iterating a run that was closed raises `ClientClosed`, because an end would look like completeness.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        on_error: ErrorPolicy,
        lifetime: Lifetime,
        limits: DecodeLimits | None = None,
        by_recipient: bool = False,
        known: bool = False,
    ) -> None:
        self._failures = Failures(on_error)
        self.failures: list[Failure[C_co]] = self._failures.kept
        self._producer = producer
        self._buffer: Buffer[E_co] = producer.buffer
        self._lifetime = lifetime
        self._limits = limits or DecodeLimits()
        self._by_recipient = by_recipient
        self._held = ExitStack()  # while the run lasts
        self._most_workers = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._entered = False
        self._running = 0  # of the workers
        self._stopping = False
        self._error: BaseException | None = None  # what ended the run
        self._ended = False  # by itself, and the consumer knows
        self._reading = False  # a task waits for the next item
        self._contact: Any = None
        self._events: Iterator[E_co] = iter(())  # the next ones, of `_contact`
        self._done = self._delivered = 0
        self._just_read: Any = _NOTHING  # the contact whose whole response was delivered last, not yet counted as done
        self._known = known  # the address is right, although the first contacts may be unknown
        self._first_missing = 0  # those of the first contacts that got a 404

    @property
    def by_recipient(self) -> bool:
        """Whether the events of a batch are those of many contacts, so that each names its own: `Event.recipient`."""
        return self._by_recipient

    @property
    def stats(self) -> BulkStats:
        """A snapshot of the counts."""
        now = self._producer.stats
        now.done, now.failed, now.events = self._done, self._failures.count, self._delivered
        return now

    def __repr__(self) -> str:
        state = "open" if self._entered else "not entered"
        if self._ended or self._error is not None:
            state = "ended" if self._ended else "closed"
        now = self.stats
        return f"<BulkStream: {state}, {now.done:,} done, {now.failed:,} failed, {now.events:,} events>"

    def __aiter__(self) -> Self:
        self._check_entered()
        return self

    async def __anext__(self) -> tuple[C_co, E_co]:
        while True:
            for event in self._events:
                return self._contact, event
            self._contact, batch = await self._next_batch()
            self._events = iter(batch)

    def batches(self) -> AsyncIterator[tuple[C_co, list[E_co]]]:
        """The same as ``(contact, list of events)``, 1 to 256 events in each list: faster than one by one.

        Continues where iteration by event left off, and vice versa.
        """
        self._check_entered()
        return Batches(self._next_batch)

    def outcomes(self) -> AsyncIterator[tuple[C_co, list[E_co] | Done | Failure[C_co]]]:
        """The same as `batches`, and after the last list of each contact its outcome.

        That is `Done`, when all its events were delivered and its response is known to be complete; or its `Failure`,
        under a policy that continues. Write the events before an outcome first, and then the contact's checkpoint.
        """
        self._check_entered()
        return Batches(self._next_item)

    def stop(self) -> None:
        """Start no more contacts: the iteration ends when those in flight have ended, as if there were no others.

        With ``order="time"``, where every contact is in flight until the last window, it ends after a window, and no
        contact is done. Meant for a process that must end soon, but in an orderly way.
        """
        self._producer.stop()

    async def aclose(self) -> None:
        """Stop everything. Returns when no task is left; safe to call twice. Iterating then raises `ClientClosed`."""
        self._stop(ClientClosed("the bulk stream is closed"))
        self._events = iter(())
        self._just_read = _NOTHING
        self._buffer.clear()
        try:
            await self._join()
        finally:
            self._held.close()

    async def __aenter__(self) -> Self:
        if self._entered or self._stopping:
            raise UsageError("a bulk stream is entered once; call stream_many() again for another run")
        self._lifetime.check()
        self._most_workers = self._held.enter_context(self._producer.slots)
        self._held.enter_context(self._lifetime.calling_on_close(self._client_closes))
        self._entered = True
        self._start_worker()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check_entered(self) -> None:
        if not self._entered:
            raise UsageError("enter the bulk stream first: async with np6.events.stream_many(...) as events")

    # -- the consumer's task -------------------------------------------------------------------

    async def _next_batch(self) -> tuple[C_co, list[E_co]]:
        while True:
            if self._just_read is not _NOTHING and not self._reading:  # as `_settle_whole`
                self._just_read = _NOTHING
                self._done += 1
            contact, item = await self._next_item()
            if isinstance(item, list):
                return contact, item

    async def _next_item(self) -> tuple[C_co, list[E_co] | Done | Failure[C_co]]:
        if rest := list(self._events):
            return self._contact, rest
        if not self._entered:
            self._check_entered()
        if self._reading:
            raise UsageError("the bulk stream is being read by another task; let one task read and pass events on")
        if self._just_read is not _NOTHING:
            return self._settle_whole(), _DONE
        self._reading = True
        try:
            while True:
                running = self._running
                item = await self._buffer.next() if running else self._buffer.first()
                if item is None:
                    if running:
                        continue
                    self._ended = self._error is None
                    raise self._error or StopAsyncIteration
                if isinstance(item, Body):
                    events = item.query.read_whole(item.body, self._limits)
                    self._buffer.drop(item, last=events is not None)
                    if events is None:
                        if not self._stopping:
                            work = self._producer.refetch(item)
                            if work is None:
                                self._start_worker()
                            else:
                                self._start(work)
                        continue
                    self._just_read = item.given
                    if not events:
                        return self._settle_whole(), _DONE
                    self._delivered += len(events)
                    return item.given, events
                if isinstance(item, Outcome):
                    await self._settle(item)  # if this is cancelled, the item is still there
                    self._buffer.drop(item, last=True)
                    return item.contact, item.failure or _DONE
                self._buffer.drop(item, last=False)
                self._delivered += len(item.events)
                return item.contact, item.events
        finally:
            self._reading = False

    def _settle_whole(self) -> Any:
        """Count the contact whose whole response was delivered as done: the consumer asks for more."""
        contact, self._just_read = self._just_read, _NOTHING
        self._done += 1
        return contact

    async def _settle(self, outcome: Outcome) -> None:
        """Count a contact that has ended, or raise what ends the run."""
        outcome.report()
        failure = outcome.failure
        if failure is None:
            self._done += 1
            return
        try:
            if outcome.early and not self._known and isinstance(failure.error, NotFound):
                outcome.early = False  # it may be settled again, see `_next_item`
                self._check_address(failure.error)
            await self._failures.settle(failure)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._stop(error)
            self._buffer.clear()
            raise

    def _check_address(self, error: NotFound) -> None:
        self._first_missing += 1
        if self._first_missing == EARLY:
            self._failures.count += 1
            raise EndpointNotFound(
                f"each of the first {EARLY} contacts got a {error.status}: the address is wrong, or "
                "the contacts belong to another account; check base_url, kind and the contacts",
                status=error.status,
                request_id=error.request_id,
            )

    # -- the workers' tasks --------------------------------------------------------------------

    def _start_worker(self) -> None:
        if not self._stopping and self._running < self._most_workers:
            self._start(partial(self._producer.work, self._start_worker))

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        worker = asyncio.create_task(self._work(work), name="np6_async worker")
        # Not a `finally` in the worker: a task that is cancelled before its first step never gets there.
        worker.add_done_callback(self._leave)
        self._workers.add(worker)
        self._running += 1

    async def _work(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except (asyncio.CancelledError, Exception) as error:
            self._stop(error)  # where it was stopped before, the earlier reason stays
        except BaseException as error:
            self._stop(error)
            raise

    def _leave(self, worker: asyncio.Task[None]) -> None:
        if worker.cancelled():  # by others, before its first step
            self._stop(asyncio.CancelledError())
        else:
            worker.exception()  # retrieved; `_work` keeps it for the consumer
        self._running -= 1
        self._workers.discard(worker)
        if self._producer.unfinished:  # a body came to this worker as it left
            self._start_worker()
        self._buffer.wake()

    def _client_closes(self) -> None:
        self._stop(ClientClosed("this NP6Client was closed during a bulk fetch"))

    def _stop(self, reason: BaseException) -> None:
        """End the run, with the first `reason` given; a run that has ended by itself has none."""
        if self._stopping:
            return
        self._stopping = True
        self._producer.stop()
        if not self._ended:
            self._error = reason
        current = _current_task()
        for worker in tuple(self._workers):
            if worker is not current:
                worker.cancel()

    async def _join(self) -> None:
        """Wait until no worker is left, even if cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        # But not for the worker in which the iterable of contacts calls this.
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


def _current_task() -> asyncio.Task[Any] | None:
    """The task that runs; None in a callback of the loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
