"""What was asked for: attempts, decoding and resuming, behind one coroutine, `next_batch`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from attrs import frozen

from .._config import DecodeLimits, RetryPolicy, Timeout
from .._errors import (
    ClientClosed,
    ConnectError,
    NotFound,
    NP6Error,
    ProtocolError,
    RateLimited,
    ServerError,
    TimeoutExceeded,
    UsageError,
    forget,
)
from .._http.concurrency import Slots
from .._http.lifetime import Lifetime, Patience, Wait
from .._http.observations import (
    ContactDone,
    ContactFailed,
    FetchFinished,
    FetchStarted,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryScheduled,
    fetch_numbers,
)
from .._http.observers import Observers
from .._http.rate_limiter import Gate
from .._http.retry import RetryBudget
from .._http.transport import Answer, Transport
from .._models.contacts import Contact
from .._protocol.endpoint import Decoding, Progress, Question
from .._protocol.rate_headers import RateState, parse_rate, parse_retry_after
from .stats import StreamStats

S = TypeVar("S", bound=Contact | None)
T = TypeVar("T")
R = TypeVar("R")

# Events after which others get their turn on the event loop, where so much is at hand that nothing has to wait.
_EVENTS_PER_TURN: Final = 500
# Connections found closed that a contact may run into, in a row, before it counts as a failure.
_STALE_ALLOWED: Final = 3


@frozen
class Runtime:
    """What all calls of one client share."""

    transport: Transport
    slots: Slots
    gate: Gate
    policy: RetryPolicy
    budget: RetryBudget
    timeout: Timeout
    limits: DecodeLimits
    observers: Observers
    lifetime: Lifetime
    patience: Patience  # for the next bytes of an answer


class Fetch(Generic[S, T]):
    """Fetches the answer to a question, most often the events of one contact. Each is given out once, whatever breaks.

    `slots` is None where the caller bounds the requests in flight by itself, as a bulk run does with its workers.
    `resume` is where to begin, other than at the begin of what is asked for.
    """

    def __init__(
        self,
        runtime: Runtime,
        contact: S,
        query: Question[S, T],
        slots: Slots | None = None,
        resume: Progress[T] | None = None,
    ) -> None:
        self._runtime = runtime
        self.contact = contact
        self.query = query
        self.resume: Progress[T] = resume or query.resume_point()
        self.stats: StreamStats = StreamStats()
        self.failures: int = 0  # failed attempts in a row that brought nothing new
        self.complete: bool = False  # all was given out or is about to be, and the answer is known to be good
        self._nonsense = 0  # of the failures, those with an answer that is not what the API promises
        self._stale = 0  # attempts that do not count: the connection was closed while idle
        self._left = runtime.timeout.deadline  # seconds of waiting that the contact may still take
        self._slots = slots
        self._has_slot = False
        self._observed = bool(runtime.observers)
        self._number = 0  # among the fetches that are observed
        self._begun_at: float | None = None  # while FetchStarted was told, and not its end
        self._answer: Answer | None = None
        self._decoder: Decoding[T] | None = None
        self._whole: list[T] | None = None  # all of an answer that needed no decoder
        self._begun = self._answered = self._busy = False
        self._closed: str | None = None  # why nothing more will come, of a stream that is not complete
        self._wait: Wait | None = None  # what `next_batch` is in
        self._outcome: ContactDone | ContactFailed | None = None  # not yet reported
        self._started_at = 0.0
        self._attempt = 0  # the number of the one that runs
        self._attempt_bytes = self._attempt_events = 0
        self._since_turn = 0  # events given out

    @property
    def path(self) -> str:
        """The path without ids, for logs."""
        return self.query.template(self.contact)

    @property
    def delivered_to(self) -> int | None:
        """The timestamp of the last event given out, in epoch milliseconds; None before the first."""
        return self.resume.delivered_to

    async def next_batch(self) -> list[T]:
        """The next events, in order; empty at the end of an answer that is known to be good.

        Sees to slots, pauses, retries and resuming. Raises what could not be retried. A stream that was
        closed, or whose reading was cancelled, raises `ClientClosed`: its end would look like completeness.
        """
        if self._busy:
            raise UsageError("the stream is being read by another task; give each task a stream of its own")
        self._busy = True
        if self._has_slot and self._slots is not None:
            self._slots.read()
        try:
            if not self._begun:
                self._begin()
            if self._since_turn >= _EVENTS_PER_TURN:
                self._since_turn = 0
                await asyncio.sleep(0)
            while not self.complete:
                if self._closed is not None:
                    raise ClientClosed(self._closed)
                fault = None
                try:
                    if self._answer is None:
                        await self._waiting(self._open)
                    elif batch := self._take():
                        return batch
                    elif not self.complete:
                        await self._receive(self._answer)
                except NP6Error as error:
                    fault = error
                if fault is not None:  # not inside `except`: what is raised there would keep `error` for its context
                    await self._recover(fault)
            return []
        except asyncio.CancelledError:
            self.close("the reading of the stream was cancelled; begin another from where this one got to")
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._busy = False
            if self._has_slot and self._slots is not None:
                self._slots.rest()

    def close(self, reason: str = "the stream is closed", error: NP6Error | None = None) -> None:
        """Let go of the answer and of the slot. Safe to call at any time, from any task of the loop."""
        if not self.complete:
            self._closed = self._closed or reason
            if self._wait is not None:  # whoever reads lets go, on the way out
                self._wait.end(ClientClosed(self._closed))
                return
            error = error or ClientClosed(self._closed)
        self._end_attempt(error)
        if self._observed:
            self._tell_end(error)

    def _client_closes(self) -> None:
        """Nobody may ever read on, and hooks are to see an end."""
        self.close("this NP6Client was closed before the end of the stream")

    def report(self) -> None:
        """Tell the hooks how the contact ended, once: for when its last event was taken and not only fetched."""
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._runtime.observers(outcome)

    def abandon(self) -> None:
        """`close`, as soon as the event loop gets to it: for a stream that nobody refers to any more."""
        if self._has_slot:
            self._runtime.lifetime.soon(self.close)

    def _begin(self) -> None:
        self._begun = True
        self._runtime.lifetime.check()
        if self._observed:
            self._number = next(fetch_numbers)
            self._begun_at = self._runtime.policy.clock()
            origin = str(self._runtime.transport.origin)
            self._runtime.lifetime.opened(self._client_closes)
            self._runtime.observers(FetchStarted(self.path, origin, self.contact, self._number))
        if self.query.nothing:
            self._finish()

    async def _waiting(self, step: Callable[[], Awaitable[R]]) -> R:
        """`step`, ended when the client or this stream is closed, or the time allowed for the contact is over."""
        began = self._runtime.policy.clock()
        try:
            with self._runtime.lifetime.wait() as self._wait:
                if self._left is not None:
                    self._wait.end_in(self._left, _deadline)
                return await step()
        finally:
            self._wait = None
            if self._left is not None:
                self._left -= self._runtime.policy.clock() - began

    async def _open(self) -> None:
        """Send the next request; its answer is then at hand, unless it was a 429 or tells that all is done."""
        runtime, contact = self._runtime, self.contact
        if self._slots is not None and not self._has_slot:
            await self._slots.acquire(runtime.timeout.pool)
            self._has_slot = True
        began = runtime.policy.clock()
        try:
            started_at = await runtime.gate.turn()
        finally:
            self.stats.waited += runtime.policy.clock() - began
        self._started_at = started_at
        self._attempt = self.failures + 1
        self._attempt_bytes = self._attempt_events = 0
        self.stats.requests += 1
        if self._observed:
            runtime.observers(RequestStarted(self.path, self._attempt, contact, self._number))
        assert self._wait is not None
        path, query = self.query.target(contact, self.resume)
        self._wait.bound(runtime.patience)
        try:
            answer = await runtime.transport.get(path, query)
        except BaseException:
            runtime.gate.unanswered()
            raise
        self._answer = answer
        rate = parse_rate(answer.headers, runtime.policy.wall_clock)
        if answer.status == 429:
            await self._refused(answer, rate)
            return
        runtime.gate.answered(started_at, rate)
        if answer.status == 200:
            self._answered = True
            self.resume.restart()
            if self._observed and self.stats.events:
                runtime.observers(Resumed(self.path, self.stats.events, contact, self._number))
            return
        error = await answer.error()
        error.retry_after = parse_retry_after(answer.headers, runtime.policy.wall_clock)
        # Of a contact that had an answer before, a 404 is no proof that there was nothing more.
        if isinstance(error, NotFound) and self.query.missing_is_empty and not self._answered:
            self._finish()
            return
        raise error

    async def _refused(self, answer: Answer, rate: RateState | None) -> None:
        """A 429: no attempt is spent and nothing is slept here; the gate holds the next request back."""
        runtime = self._runtime
        wait = parse_retry_after(answer.headers, runtime.policy.wall_clock)
        if wait is None and rate is not None:
            wait = rate.reset
        delay, refused_for = runtime.gate.refused(self._started_at, wait, rate)
        error = await answer.error()
        assert isinstance(error, RateLimited)
        error.retry_after = delay
        if refused_for > runtime.policy.max_wait:
            raise error
        self._end_attempt(error)
        if self._observed:
            runtime.observers(RateLimitWait(self.path, delay, self.contact, self._number))

    async def _receive(self, answer: Answer) -> None:
        """Hand more of the body to the decoder, and wait for it where none is at hand."""
        data = answer.read_nowait()
        if not data and not answer.ended:
            data = await self._waiting(self._read)
        self.stats.bytes += len(data)
        self._attempt_bytes += len(data)
        if self._decoder is None:
            if answer.ended:
                self._whole = self.query.whole(data, self._runtime.limits)
                if self._whole is not None:
                    return
            self._decoder = self.query.decoder(self._runtime.limits)
        self._decoder.feed(data)

    async def _read(self) -> bytes:
        assert self._wait is not None
        assert self._answer is not None
        self._wait.bound(self._runtime.patience)
        return await self._answer.read()

    def _take(self) -> list[T]:
        """A batch of the events that have been received, in order; empty: `_receive` more, unless complete."""
        assert self._answer is not None
        batch: list[T] = []
        if self._whole is not None:
            if self._whole:
                batch = self._accept(self._whole)
            self._finish()
        elif self._decoder is not None:
            while not batch and (decoded := self._decoder.next_batch()) is not None:
                batch = self._accept(decoded)
            if self._answer.ended and (not batch or self._decoder.done):
                self._decoder.finish()
                if held := self.resume.finish():
                    batch = held
                    self.stats.events += len(held)
                    self._attempt_events += len(held)
                self._finish()
        return batch

    def _accept(self, decoded: list[T]) -> list[T]:
        if batch := self.resume.accept(decoded):
            self.failures = self._nonsense = self._stale = 0
            self.stats.events += len(batch)
            self._attempt_events += len(batch)
            self._since_turn += len(batch)
        return batch

    def _finish(self) -> None:
        runtime = self._runtime
        self.complete = True
        if self._answered:
            runtime.budget.succeed()
        self._end_attempt(None)
        if self._observed:
            self._tell_end(None)
            if self.contact is not None:
                events, requests = self.stats.events, self.stats.requests
                self._outcome = ContactDone(self.path, events, requests, self.contact, self._number)

    def _end_attempt(self, error: NP6Error | None) -> None:
        answer = self._answer
        if answer is not None:
            answer.close()
            self._answer = self._decoder = self._whole = None
        started_at, self._started_at = self._started_at, 0.0  # before a hook may close the stream
        if started_at and self._observed:
            seconds = self._runtime.policy.clock() - started_at
            self._runtime.observers(
                RequestFinished(
                    self.path,
                    self._attempt,
                    seconds,
                    self._attempt_bytes,
                    self._attempt_events,
                    error,
                    self.contact,
                    self._number,
                    None if answer is None else answer.status,
                )
            )
        if self._has_slot and self._slots is not None:
            self._has_slot = False
            self._slots.release(reading=self._busy)

    def _tell_end(self, error: NP6Error | None) -> None:
        """Tell the hooks, once, that nothing more is fetched."""
        if self._begun_at is None:
            return
        seconds, stats = self._runtime.policy.clock() - self._begun_at, self.stats
        self._begun_at = None
        self._runtime.lifetime.ended(self._client_closes)
        self._runtime.observers(
            FetchFinished(
                self.path,
                seconds,
                stats.events,
                stats.requests,
                stats.retries,
                stats.waited,
                error,
                self.contact,
                self._number,
            )
        )

    async def _recover(self, error: NP6Error) -> None:
        """Wait before another attempt, or raise `error` where none is worth it."""
        runtime, policy = self._runtime, self._runtime.policy
        forget(error)  # hooks may keep it
        if runtime.lifetime.closed and not isinstance(error, ClientClosed):
            error = ClientClosed("this NP6Client was closed while a call was waiting")
        if isinstance(error, ClientClosed):
            self.close(error=error)
            forget(error)
            raise error
        stale = isinstance(error, ConnectError) and error.stale
        if stale and self._stale < _STALE_ALLOWED and runtime.budget.forgive():
            self._stale += 1
            self._end_attempt(error)
            self._retry(self.failures + 1, 0.0, error)
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
        self._retry(self.failures, delay, error)
        began = policy.clock()
        ended = None
        try:
            await self._waiting(lambda: policy.sleep(delay))
        except NP6Error as why:
            ended = why
        finally:
            self.stats.waited += policy.clock() - began
        if ended is not None:
            self._fail(ended, "")

    def _retry(self, attempt: int, delay: float, error: NP6Error) -> None:
        self.stats.retries += 1
        if self._observed:
            self._runtime.observers(RetryScheduled(self.path, attempt, delay, error, self.contact, self._number))

    def _fail(self, error: NP6Error, reason: str) -> None:
        """Raise `error`, its message completed with what it is about and what was tried."""
        self.close("the stream has failed", error)
        error.contact = self.contact
        error.attempts = self.failures
        message = str(error.args[0]) if error.args else type(error).__name__
        error.args = (f"{self.query.label(self.contact)}: {message}{f', {reason}' if reason else ''}",)
        if self._observed and self.contact is not None:
            events, requests = self.stats.events, self.stats.requests
            self._outcome = ContactFailed(self.path, events, requests, error, self.contact, self._number)
        forget(error)
        raise error


def _deadline() -> TimeoutExceeded:
    return TimeoutExceeded("it took longer than Timeout.deadline", limit="deadline")
