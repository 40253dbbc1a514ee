"""The events of one contact: attempts, decoding and resuming, behind one async iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from attrs import define, frozen

from ._bounds import Window, isoformat
from ._contacts import Contact, events_path, path_template
from ._decode import DecodeLimits, Decoder
from ._errors import ClientClosed, ConnectError, NotFound, NP6Error, ProtocolError, RateLimited, ServerError
from ._events import Event, EventKind
from ._gate import Gate
from ._hooks import (
    ContactDone,
    ContactFailed,
    Observers,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryScheduled,
)
from ._lifetime import Lifetime
from ._resume import ResumePoint
from ._retry import RetryBudget, RetryPolicy, parse_rate, parse_retry_after
from ._transport import Answer, Timeout, Transport

E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)
T = TypeVar("T")

# Work done on the event loop in one go, at most, before others get their turn.
_EVENTS_PER_TURN: Final = 100
_BYTES_PER_TURN: Final = 64 * 1024
# Connections found closed that a contact may run into, in a row, before it counts as a failure.
_STALE_ALLOWED: Final = 3


@frozen
class Runtime:
    """What all streams of one client share."""

    transport: Transport
    gate: Gate
    policy: RetryPolicy
    budget: RetryBudget
    timeout: Timeout
    limits: DecodeLimits
    observers: Observers
    lifetime: Lifetime


@frozen
class Query:
    """What is asked of each contact. `missing_is_empty`: a 404 means no events instead of an error."""

    kind: EventKind
    window: Window
    newest_first: bool = False
    classification: str | None = None
    missing_is_empty: bool = False

    @cached_property
    def _parameters(self) -> str:
        """The same for every contact, until an answer breaks off."""
        return self._encode(self.window)

    def target(self, contact: Contact, window: Window) -> str:
        """Path and query of the request for `window`, percent-encoded."""
        path = events_path(contact, self.kind.suffix)
        parameters = self._parameters if window is self.window else self._encode(window)
        return f"{path}{'&' if '?' in path else '?'}{parameters}"

    def _encode(self, window: Window) -> str:
        parts = ["sort=desc" if self.newest_first else "sort=asc"]
        if window.start is not None:
            parts.append(f"start={isoformat(window.start)}")
        if window.end is not None:
            parts.append(f"end={isoformat(window.end)}")
        if self.classification is not None:
            parts.append(f"classification={self.classification}")
        return "&".join(parts)


@define
class StreamStats:
    """Counts of one stream, up to now. `waited` is the time in seconds spent on backoff and rate limits."""

    events: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    waited: float = 0.0


class Fetch(Generic[E]):
    """Fetches the events of one contact, batch by batch. Each batch is delivered once, whatever breaks."""

    def __init__(self, runtime: Runtime, contact: Contact, query: Query) -> None:
        self._runtime = runtime
        self.contact = contact
        self.query = query
        self.resume: ResumePoint = ResumePoint(query.window, newest_first=query.newest_first)
        self.stats: StreamStats = StreamStats()
        self.failures: int = 0  # failed attempts in a row that brought nothing new
        self._nonsense = 0  # ... of them with an answer that was no array of events
        self._stale = 0  # ... not counted: the connection was closed while idle
        self._deadline = runtime.timeout.deadline
        self._answer: Answer | None = None
        self._decoder: Decoder[E] | None = None
        self._has_slot = False
        self._done = query.window.empty
        self._started_at = 0.0
        self._attempt_bytes = self._attempt_events = 0
        self._turn_bytes = self._turn_events = 0

    @property
    def path(self) -> str:
        """The path without the contact, for logs."""
        return path_template(self.contact, self.query.kind.suffix)

    @property
    def delivered_to(self) -> int | None:
        """The timestamp of the last event delivered, in epoch milliseconds; None before the first."""
        return self.resume.delivered_to

    async def next_batch(self) -> list[E]:
        """The next events, in order; empty at the end. Raises what could not be retried."""
        while not self._done:
            try:
                if self._decoder is not None:
                    batch = self._decoder.next_batch()
                    if batch is not None:
                        if batch := self.resume.accept(batch):
                            return await self._deliver(batch)
                        continue
                await self._advance()
                if self._done:  # at the end, or closed by another task meanwhile
                    self._end_attempt(None)
            except NP6Error as error:
                await self._recover(error)
            except BaseException:
                self.close()
                raise
        return []

    def close(self, error: NP6Error | None = None) -> None:
        """Let go of the answer and of the slot. Safe to call at any time."""
        self._done = True
        self._end_attempt(error)

    async def _deliver(self, batch: list[E]) -> list[E]:
        self.failures = self._nonsense = self._stale = 0
        self.stats.events += len(batch)
        self._attempt_events += len(batch)
        self._turn_events += len(batch)
        if self._turn_events >= _EVENTS_PER_TURN or self._turn_bytes >= _BYTES_PER_TURN:
            self._turn_events = self._turn_bytes = 0
            await asyncio.sleep(0)
        return batch

    async def _advance(self) -> None:
        """One step nearer to the next batch: an answer, more bytes of it, or its end."""
        if self._answer is not None and self._deadline is None:
            await self._read(self._answer)  # closing the client ends it without a scope
            return
        began = self._runtime.policy.clock()
        try:
            async with self._runtime.lifetime.scope(self._deadline):
                if self._answer is None:
                    await self._open()
                else:
                    await self._read(self._answer)
        finally:
            if self._deadline is not None:
                self._deadline -= self._runtime.policy.clock() - began

    async def _open(self) -> None:
        runtime = self._runtime
        if not self._has_slot:
            await runtime.gate.acquire(runtime.timeout.pool)
            self._has_slot = True
        self._started_at = await runtime.gate.turn()
        self._attempt_bytes = self._attempt_events = 0
        self.stats.requests += 1
        if runtime.observers:
            runtime.observers(RequestStarted(self.path, self.failures + 1, self.contact))
        try:
            answer = await runtime.transport.get(self.query.target(self.contact, self.resume.window))
        except BaseException:
            runtime.gate.unanswered()
            raise
        self._answer = answer
        rate = parse_rate(answer.headers, runtime.policy.wall_clock)
        delay = refused_for = 0.0
        if answer.status == 429:
            wait = parse_retry_after(answer.headers, runtime.policy.wall_clock)
            if wait is None and rate is not None:
                wait = rate.reset
            delay, refused_for = runtime.gate.refused(self._started_at, wait, rate)
        else:
            runtime.gate.answered(self._started_at, rate)
        if answer.status == 200:
            self.resume.restart()
            self._decoder = Decoder(self.query.kind, runtime.limits)
            if runtime.observers and self.stats.events:
                runtime.observers(Resumed(self.path, self.stats.events, self.contact))
            return
        error = await answer.error()
        error.retry_after = parse_retry_after(answer.headers, runtime.policy.wall_clock)
        if isinstance(error, RateLimited):
            error.retry_after = delay
            if refused_for > runtime.policy.max_wait:
                raise error
            await self._wait_for_rate(error, delay)
            return
        if isinstance(error, NotFound) and self.query.missing_is_empty:
            self._finish()
            return
        raise error

    async def _wait_for_rate(self, error: RateLimited, delay: float) -> None:
        # No attempt is spent and nothing is slept here: the gate holds the next request back.
        runtime = self._runtime
        self._end_attempt(error)
        self.stats.waited += delay
        if runtime.observers:
            runtime.observers(RateLimitWait(self.path, delay, self.contact))

    async def _read(self, answer: Answer) -> None:
        assert self._decoder is not None
        data = await answer.read()
        if data:
            self.stats.bytes += len(data)
            self._attempt_bytes += len(data)
            self._turn_bytes += len(data)
            self._decoder.feed(data)
        else:
            self._decoder.finish()
            self._finish()

    def _finish(self) -> None:
        runtime = self._runtime
        runtime.budget.succeed()
        self.close()
        if runtime.observers:
            runtime.observers(ContactDone(self.path, self.stats.events, self.stats.requests, self.contact))

    def _end_attempt(self, error: NP6Error | None) -> None:
        if self._answer is not None:
            self._answer.close()
        if self._started_at and self._runtime.observers:
            seconds = self._runtime.policy.clock() - self._started_at
            self._runtime.observers(
                RequestFinished(
                    self.path,
                    self.failures + 1,
                    seconds,
                    self._attempt_bytes,
                    self._attempt_events,
                    error,
                    self.contact,
                )
            )
        self._answer = self._decoder = None
        self._started_at = 0.0
        if self._has_slot:
            self._has_slot = False
            self._runtime.gate.release()

    async def _recover(self, error: NP6Error) -> None:
        """Wait before another attempt, or raise `error` where none is worth it."""
        runtime, policy = self._runtime, self._runtime.policy
        if isinstance(error, ConnectError) and error.stale and self._stale < _STALE_ALLOWED:
            self._stale += 1
            self._end_attempt(error)
            return
        if runtime.lifetime.closed and not isinstance(error, ClientClosed):
            error = ClientClosed("this NP6Client was closed while a call was waiting")
        elif self._done and not isinstance(error, ClientClosed):
            error = ClientClosed("the stream was closed while it was being read")
        if isinstance(error, ClientClosed):
            self.close(error)
            raise error from None
        self._end_attempt(error)
        self.failures += 1
        self._nonsense += isinstance(error, ProtocolError)
        attempts = policy.attempts(error)
        failed = self._nonsense if isinstance(error, ProtocolError) else self.failures
        if failed >= attempts or self.failures >= policy.max_attempts:
            self._fail(error, f"after {self.failures} attempts" if attempts > 1 else "")
        delay = policy.backoff(self.failures)
        if isinstance(error, ServerError) and error.retry_after is not None:
            delay = max(delay, error.retry_after)
            if error.retry_after > policy.max_wait:
                self._fail(error, f"and asks to wait {error.retry_after:.0f} s")
        if not runtime.budget.spend():
            self._fail(error, "and the client's retry budget (RetryPolicy.budget) is used up")
        self.stats.retries += 1
        self.stats.waited += delay
        if runtime.observers:
            runtime.observers(RetryScheduled(self.path, self.failures, delay, error, self.contact))
        began = policy.clock()
        try:
            async with runtime.lifetime.scope(self._deadline):
                await policy.sleep(delay)
        except NP6Error as ended:
            self._fail(ended, "")
        except BaseException:
            self.close()
            raise
        finally:
            if self._deadline is not None:
                self._deadline -= policy.clock() - began

    def _fail(self, error: NP6Error, reason: str) -> None:
        """Raise `error`, its message completed with the contact and what was tried."""
        self.close(error)
        error.contact = self.contact
        error.attempts = self.failures
        message = str(error.args[0]) if error.args else type(error).__name__
        error.args = (f"{self.contact.label}: {message}{f', {reason}' if reason else ''}",)
        if self._runtime.observers:
            self._runtime.observers(
                ContactFailed(self.path, self.stats.events, self.stats.requests, error, self.contact)
            )
        raise error from None


class EventStream(Generic[E_co]):
    """The events of one contact, an async iterator.

    Iterate it once, per event or by `batches`, bare or under ``async with``; the latter gives the connection
    back at once where the loop is left early. Events come in the order of their timestamps, each once, also
    where the connection broke in between. They are delivered as they arrive, before the answer is known to be
    complete: only the end of the iteration says that it was.

    Raises, while iterating: `APIError`, `TransportError` and `ProtocolError` by what went wrong, `ClientClosed`.
    """

    def __init__(self, fetch: Fetch[E_co]) -> None:
        self._fetch = fetch
        self._iterator: AsyncGenerator[Any] | None = None

    @property
    def contact(self) -> Contact:
        """Whose events these are."""
        return self._fetch.contact

    @property
    def stats(self) -> StreamStats:
        """Live counts of events, bytes, requests, retries and time waited."""
        return self._fetch.stats

    def __aiter__(self) -> AsyncIterator[E_co]:
        # The generator holds the fetch and not this object: where a bare loop is left early, the generator
        # goes with its last reference, and asyncio runs its `finally`.
        return self._begin(_each(self._fetch))

    async def __anext__(self) -> E_co:
        if self._iterator is None:
            self._begin(_each(self._fetch))
        assert self._iterator is not None
        event: E_co = await anext(self._iterator)
        return event

    def batches(self) -> AsyncIterator[list[E_co]]:
        """The same events in lists as they were decoded, 1 to 256 long: faster than one by one."""
        return self._begin(_batches(self._fetch))

    async def aclose(self) -> None:
        """End the stream and give its connection back. Iterating further raises StopAsyncIteration."""
        self._fetch.close()
        if self._iterator is not None:
            # Else asyncio would start a task for it. RuntimeError: it is being read, and ends by itself.
            with suppress(RuntimeError):
                await self._iterator.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _begin(self, iterator: AsyncGenerator[T]) -> AsyncGenerator[T]:
        if self._iterator is not None:
            raise ClientClosed("a stream is iterated once; call stream() again for another run")
        self._iterator = iterator
        return iterator


async def _each(fetch: Fetch[E]) -> AsyncGenerator[E]:
    try:
        while batch := await fetch.next_batch():
            for event in batch:
                yield event
    finally:
        fetch.close()


async def _batches(fetch: Fetch[E]) -> AsyncGenerator[list[E]]:
    try:
        while batch := await fetch.next_batch():
            yield batch
    finally:
        fetch.close()
