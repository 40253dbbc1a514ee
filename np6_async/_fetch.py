"""The events of one contact: attempts, decoding and resuming, in two steps: `receive` bytes, `take` events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Final, Generic, TypeVar

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
T = TypeVar("T")

EVENTS_PER_TURN: Final = 100
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


class Turn:
    """Lets others have the event loop, now and then, where so much is at hand that nothing has to wait.

    Count what was done, and `give` before more is begun: a cancellation then finds nothing half-done.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0

    async def give(self) -> None:
        """Let others have their turn, if the limit was reached."""
        if self.count >= self._limit:
            self.count = 0
            await asyncio.sleep(0)


@define
class StreamStats:
    """Counts of one stream, up to now.

    `retries` counts requests sent again, those for a rate limit excluded; `waited` is the time in seconds
    spent on backoff and rate limits.
    """

    events: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    waited: float = 0.0


class Fetch(Generic[E]):
    """Fetches the events of one contact. Each is taken once, whatever breaks.

    Decoding is left to whoever takes the events, right when they are wanted: what waits is bytes, and what
    was just decoded is still in the processor's cache.
    """

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
        self._begun = self._answered = False
        self._complete = False
        self._closed: str | None = None  # why nothing more will come, of a stream that is not complete
        self._started_at = 0.0
        self._attempt = 0  # the number of the one that runs
        self._attempt_bytes = self._attempt_events = 0
        self._fault: NP6Error | None = None  # met while taking
        self._turn = Turn(EVENTS_PER_TURN)

    @property
    def path(self) -> str:
        """The path without the contact, for logs."""
        return path_template(self.contact, self.query.kind.suffix)

    @property
    def delivered_to(self) -> int | None:
        """The timestamp of the last event delivered, in epoch milliseconds; None before the first."""
        return self.resume.delivered_to

    def take(self) -> list[E]:
        """A batch of the events that have been received, in order; empty: `receive` more. Waits for nothing."""
        while self._decoder is not None and self._fault is None:
            try:
                batch = self._decoder.next_batch()
                if batch is None:
                    break
                batch = self.resume.accept(batch)
            except NP6Error as fault:
                self._fault = fault  # `receive` knows what to do about it
                break
            if batch:
                self.failures = self._nonsense = self._stale = 0
                self.stats.events += len(batch)
                self._attempt_events += len(batch)
                return batch
        return []

    async def receive(self) -> bool:
        """Wait for more of the answer, after all was taken; False at its end, which is then known to be good.

        Sees to slots, pauses, retries and resuming. Raises what could not be retried. A stream that was
        closed, or whose reading was cancelled, raises `ClientClosed`: its end would look like completeness.
        """
        if not self._begun:
            self._begun = True
            self._runtime.lifetime.check()
            if self.query.window.empty:
                self._finish()
        while not self._complete:
            try:
                self._check_open()
                if self._fault is not None:
                    fault, self._fault = self._fault, None
                    raise fault
                if self._answer is None:
                    await self._within_deadline(self._open)
                elif await self._read(self._answer):
                    return True
            except NP6Error as error:
                await self._recover(error)
            except BaseException:
                self.close("the reading of the stream was cancelled; begin another from where this one got to")
                raise
        return False

    async def next_batch(self) -> list[E]:
        """Take a batch, and receive what is needed for it; empty at the end."""
        await self._turn.give()
        while not (batch := self.take()):
            if not await self.receive():
                return []
        self._turn.count += len(batch)
        return batch

    def close(self, reason: str = "the stream is closed", error: NP6Error | None = None) -> None:
        """Let go of the answer and of the slot. Safe to call at any time."""
        if not self._complete:
            self._closed = self._closed or reason
        self._end_attempt(error)

    def abandon(self) -> None:
        """`close`, as soon as the event loop gets to it: for a stream that nobody refers to any more."""
        if self._has_slot:
            self._runtime.lifetime.soon(self.close)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ClientClosed(self._closed)

    async def _within_deadline(self, step: Callable[[], Awaitable[T]]) -> T:
        """`step`, ended when the client closes or when the time allowed for this contact is used up."""
        began = self._runtime.policy.clock()
        try:
            async with self._runtime.lifetime.scope(self._deadline):
                return await step()
        finally:
            if self._deadline is not None:
                self._deadline -= self._runtime.policy.clock() - began

    async def _open(self) -> None:
        runtime = self._runtime
        if not self._has_slot:
            await runtime.gate.acquire(runtime.timeout.pool)
            self._has_slot = True
            self._check_open()  # another task may close the stream at any await
        started_at = await runtime.gate.turn()
        if self._closed is not None:
            runtime.gate.unanswered()
        self._check_open()
        self._started_at = started_at
        self._attempt = self.failures + 1
        self._attempt_bytes = self._attempt_events = 0
        self.stats.requests += 1
        if runtime.observers:
            runtime.observers(RequestStarted(self.path, self._attempt, self.contact))
        try:
            answer = await runtime.transport.get(self.query.target(self.contact, self.resume.window))
        except BaseException:
            runtime.gate.unanswered()
            raise
        self._answer = answer
        if self._closed is not None:
            runtime.gate.unanswered()
        self._check_open()
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
            self._answered = True
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
        # Of a contact that had an answer before, a 404 is no proof that there was nothing more.
        if isinstance(error, NotFound) and self.query.missing_is_empty and not self._answered:
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

    async def _read(self, answer: Answer) -> bool:
        """Receive some of the body; False at its end."""
        assert self._decoder is not None
        # Closing the client closes the answer, and so ends this without a scope.
        data = await (answer.read() if self._deadline is None else self._within_deadline(answer.read))
        if data:
            self._runtime.gate.moved()
            self.stats.bytes += len(data)
            self._attempt_bytes += len(data)
            self._decoder.feed(data)
            return True
        self._decoder.finish()
        self._finish()
        return False

    def _finish(self) -> None:
        runtime = self._runtime
        self._complete = True
        if self._answered:
            runtime.budget.succeed()
        self._end_attempt(None)
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
                    self._attempt,
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
        if not isinstance(error, ClientClosed):
            if runtime.lifetime.closed:
                error = ClientClosed("this NP6Client was closed while a call was waiting")
            elif self._closed is not None:
                error = ClientClosed(self._closed)
        if isinstance(error, ClientClosed):
            self.close(error=error)
            raise error from None
        if isinstance(error, ConnectError) and error.stale and self._stale < _STALE_ALLOWED:
            self._stale += 1
            self.stats.retries += 1
            self._end_attempt(error)
            return
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
        try:
            await self._within_deadline(lambda: policy.sleep(delay))
        except NP6Error as ended:
            self._fail(ended, "")

    def _fail(self, error: NP6Error, reason: str) -> None:
        """Raise `error`, its message completed with the contact and what was tried."""
        self.close("the stream has failed", error)
        error.contact = self.contact
        error.attempts = self.failures
        message = str(error.args[0]) if error.args else type(error).__name__
        error.args = (f"{self.contact.label}: {message}{f', {reason}' if reason else ''}",)
        if self._runtime.observers:
            self._runtime.observers(
                ContactFailed(self.path, self.stats.events, self.stats.requests, error, self.contact)
            )
        raise error from None
