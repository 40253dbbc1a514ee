"""One fetch: requests, retries, decoding and resuming, behind one coroutine, `next_batch`.

A fetch delivers each item of an endpoint once, most often the events of one contact, over as many requests as it
takes. It is always in one of these states, and each step of `next_batch` acts on the state:

    NEW         nothing was requested yet
    REQUESTING  no response is open: wait for a slot, for the rate limiter and for the response, which opens
                (200), pauses the client (429) or is an error
    READING     a response is open: deliver a batch of what has arrived, or else wait for more
    COMPLETE    all items were delivered or are about to be, and the response is known to be complete
    CLOSED      nothing more will come, though it is not complete

NEW becomes REQUESTING, or COMPLETE where the endpoint is known to be empty. REQUESTING and READING alternate: after a
fault of a response that is worth another request, `_recover` waits and goes back to REQUESTING, and `Progress` sees to
it that the next response adds only what is missing. COMPLETE and CLOSED are final. Only the end of a complete response
leads to COMPLETE: whatever else happens, the consumer gets an error and never a silent end.

Three things can end a wait from outside: the client's close, `close` by another task, and a timeout. They cancel the
`CancelScope` that is entered around every wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from enum import Enum, auto
from typing import Final, Generic, NoReturn, TypeAlias, TypeVar

from .._errors import (
    APIError,
    ClientClosed,
    ConnectError,
    NotFound,
    NP6Error,
    ProtocolError,
    ServiceUnavailable,
    TimeoutExceeded,
    UnexpectedRedirect,
    UsageError,
    forget,
)
from .._http.availability import Probe, concerns_server
from .._http.concurrency import Slots
from .._http.lifetime import CancelScope
from .._http.response import Response, request_id
from .._models.actions import Action
from .._models.contacts import Contact
from .._protocol.endpoint import Decoder, Endpoint, Progress
from .._protocol.rate_headers import RateState, parse_rate, parse_retry_after
from .reporter import SILENT, HookReporter, Reporter
from .runtime import Runtime
from .stats import StreamStats

S = TypeVar("S", bound=Contact | Action | None)
T = TypeVar("T")
R = TypeVar("R")

# Events after which other tasks get their turn on the event loop, where so much is there that nothing has to wait.
_EVENTS_PER_TURN: Final = 500
# Stale connections that a contact may meet, in a row, before they count as failures; and 503s of a limiter.
_STALE_ALLOWED: Final = 3
_REFUSALS_ALLOWED: Final = 10


class BodyResponse:
    """A response that was read before: its whole body, or what came of it before an error."""

    status = 200

    def __init__(self, body: bytes, error: NP6Error | None = None, headers: Mapping[str, str] | None = None) -> None:
        self._body = body
        self._error = error
        self.headers: Mapping[str, str] = {} if headers is None else headers

    @property
    def ended(self) -> bool:
        """Whether all of the body was read."""
        return not self._body and self._error is None

    def read_nowait(self) -> bytes:
        """The body."""
        body, self._body = self._body, b""
        return body

    async def read(self) -> bytes:
        """Nothing more comes, but the error."""
        if self._error is not None:
            raise self._error
        return b""

    async def error(self) -> APIError:
        """It has none."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


AnyResponse: TypeAlias = Response | BodyResponse


class State(Enum):
    """See the module."""

    NEW = auto()
    REQUESTING = auto()
    READING = auto()
    COMPLETE = auto()
    CLOSED = auto()


class Fetch(Generic[S, T]):
    """Fetches the items of an endpoint, for one contact or action or for none.

    `slots` is None where the caller bounds the requests in flight by itself, as a bulk run does with its workers.
    `progress` is where to begin, other than at the beginning.
    """

    def __init__(
        self,
        runtime: Runtime,
        subject: S,
        endpoint: Endpoint[S, T],
        slots: Slots | None = None,
        progress: Progress[T] | None = None,
    ) -> None:
        self._runtime = runtime
        self.subject = subject
        self._endpoint = endpoint
        self._progress: Progress[T] = progress or endpoint.progress()
        self.stats: StreamStats = StreamStats()
        self._report: Reporter = SILENT
        if runtime.observers:
            contact = subject if isinstance(subject, Contact) else None
            method = "GET" if endpoint.body is None else "POST"
            self._report = HookReporter(runtime, contact, endpoint.template(subject), self.stats, method)

        self._state = State.NEW
        self._closed_because = ""  # in the words of an error
        self._busy = False  # a task is in `next_batch`
        self._scope: CancelScope | None = None  # the wait that it is in
        self._slots = slots
        self._has_slot = False
        self._since_turn = 0  # events delivered without a wait
        self._time_left = runtime.timeout.deadline  # seconds of waiting

        # The attempts since the last progress.
        self.failures: int = 0
        self._protocol_errors = 0  # of the failures
        self._failing_since = 0.0  # when the first of them was sent
        self._stale = 0  # attempts that do not count: the connection was closed while idle
        self._refusals = 0  # neither do these: a limiter answered 503

        # The open response.
        self._response: AnyResponse | None = None
        self._adopted: AnyResponse | NP6Error | None = None  # of a request that was sent elsewhere
        self._sent_at = 0.0
        self._began_at = 0.0  # the response
        self._decoder: Decoder[T] | None = None
        self._whole: list[T] | None = None  # all of a response that needed no decoder
        self._exists = False  # there was a response with status 200

    def __str__(self) -> str:
        state = self._state.name.lower()
        return f"{self._endpoint.template(self.subject)}, {state}, {self.stats.events:,} items so far"

    @property
    def complete(self) -> bool:
        """Whether all was delivered or is about to be, and the response is known to be complete."""
        return self._state is State.COMPLETE

    @property
    def delivered_to(self) -> int | None:
        """The timestamp of the last event delivered, in epoch milliseconds; None before the first."""
        return self._progress.delivered_to

    async def next_batch(self) -> list[T]:
        """The next items, in order; empty at the end of a response that is known to be complete.

        Takes care of slots, pauses, retries and resuming. Raises what could not be retried. A stream that was closed,
        or whose reading was cancelled, raises `ClientClosed`: an end would look like completeness.
        """
        if self._busy:
            raise UsageError("the stream is being read by another task; give each task its own stream")
        self._busy = True
        if self._has_slot and self._slots is not None:
            self._slots.start_reading()
        try:
            if self._state is State.NEW:
                self._begin()
            if self._since_turn >= _EVENTS_PER_TURN:
                self._since_turn = 0
                await asyncio.sleep(0)
            while self._state is not State.COMPLETE:
                if self._state is State.CLOSED:
                    raise ClientClosed(self._closed_because)
                fault = None
                try:
                    if self._response is None:
                        await self._wait(self._request)
                    elif batch := self._take():
                        return batch
                    elif self._state is State.READING:
                        await self._receive(self._response)
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
                self._slots.stop_reading()

    def adopt(self, result: Response | BodyResponse | NP6Error, sent_at: float, *, responded: bool) -> None:
        """Go on with what a request came to that was sent elsewhere, at `sent_at`.

        `responded`: it is a response with status 200, of which the rate limiter knows.
        """
        self._adopted, self._sent_at, self._exists = result, sent_at, responded
        self.stats.requests = 1

    def close(self, reason: str = "the stream is closed", error: NP6Error | None = None) -> None:
        """Let go of the response and of the slot. Safe to call at any time, from any task of the event loop."""
        if self._state is not State.COMPLETE:
            if self._state is not State.CLOSED:
                self._state = State.CLOSED
                self._closed_because = reason
            if self._scope is not None:  # the task that reads lets go, on its way out
                self._scope.cancel(ClientClosed(self._closed_because))
                return
            error = error or ClientClosed(self._closed_because)
        self._end_attempt(error)
        self._report.fetch_finished(error)

    def report_outcome(self) -> None:
        """Tell the hooks how the contact ended, once: when its last event was taken and not only fetched."""
        self._report.report_outcome()

    def abandon(self) -> None:
        """`close` as soon as the event loop gets to it: for a stream that nobody refers to any more."""
        if self._has_slot:
            self._runtime.lifetime.call_soon(self.close)

    # -- steps ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._runtime.lifetime.check()
        self._state = State.REQUESTING
        self._report.fetch_started(self._client_closes)
        if self._endpoint.empty:
            self._finish()

    def _client_closes(self) -> None:
        self.close("this NP6Client was closed before the end of the stream")

    async def _wait(self, step: Callable[[], Awaitable[R]]) -> R:
        """`step`, in a scope that ends with the client, with this stream or with the contact's deadline."""
        began = self._runtime.policy.clock()
        try:
            with self._runtime.lifetime.scope() as self._scope:
                if self._time_left is not None:
                    self._scope.cancel_after(self._time_left, _deadline)
                return await step()
        finally:
            self._scope = None
            if self._time_left is not None:
                self._time_left -= self._runtime.policy.clock() - began

    async def _request(self) -> None:
        """Send the next request; its response is then open, unless it was a 429 or says that there is nothing."""
        adopted, self._adopted = self._adopted, None
        if isinstance(adopted, NP6Error):
            self._runtime.rate_limiter.failed()
            raise adopted
        response = self._response = adopted or await self._send()
        if self._exists and adopted is not None:
            self._open_response()
            return
        await self._look_at(response)

    async def _send(self) -> Response:
        runtime = self._runtime
        if self._slots is not None and not self._has_slot:
            await self._slots.acquire(runtime.timeout.pool)
            self._has_slot = True
        began = runtime.policy.clock()
        try:
            while True:
                if runtime.availability.holding:
                    await runtime.availability.wait(self, policy=runtime.policy)
                self._sent_at = await runtime.rate_limiter.acquire(runtime.policy)
                if not runtime.availability.holding:
                    break
                runtime.rate_limiter.failed()  # an outage began meanwhile
        finally:
            self.stats.waited += runtime.policy.clock() - began
        self.stats.requests += 1
        self._report.request_started(self.failures + 1)
        path, query = self._endpoint.target(self.subject, self._progress)
        assert self._scope is not None
        runtime.read_timeout.start(self._scope)
        try:
            return await runtime.transport.request(path, query, self._endpoint.body, connect=runtime.timeout.connect)
        except BaseException:
            runtime.rate_limiter.failed()
            raise

    async def _look_at(self, response: AnyResponse) -> None:
        """By its status code."""
        runtime = self._runtime
        runtime.server_clock.observe(response.headers, self._sent_at)
        rate = parse_rate(response.headers, runtime.policy.wall_clock)
        if response.status == 200:
            runtime.rate_limiter.responded(self._sent_at, rate)
            self._exists = True
            self._open_response()
            return
        wait = parse_retry_after(response.headers, runtime.policy.wall_clock)
        if response.status == 429 or (response.status == 503 and wait is None and self._refused_by_limiter()):
            await self._rate_limited(response, rate, wait)
            return
        runtime.rate_limiter.responded(self._sent_at, rate)
        if wait is not None:
            runtime.rate_limiter.pause(wait, response.status)
        error = await response.error()
        error.retry_after = wait
        # For a contact that had a response before, a 404 is no proof that there is nothing more.
        if isinstance(error, NotFound) and not self._exists and self._endpoint.empty_if_missing(self.subject):
            self._finish()
            return
        raise error

    def _open_response(self) -> None:
        self._began_at = self._runtime.policy.clock()
        self._progress.restart()
        self._report.resumed()
        if self._state is State.REQUESTING:  # a hook may have closed the stream
            self._state = State.READING

    def _refused_by_limiter(self) -> bool:
        """Whether a 503 is to be taken for a 429."""
        if self._refusals >= _REFUSALS_ALLOWED:
            return False
        new = not self.failures and not self._refusals
        if not self._runtime.availability.is_limit(self._sent_at, new=new):
            return False
        self._refusals += 1
        return True

    async def _rate_limited(self, response: AnyResponse, rate: RateState | None, wait: float | None) -> None:
        """A 429: no attempt is spent and nothing is slept here; the rate limiter delays the next request."""
        runtime = self._runtime
        if wait is None and rate is not None:
            wait = rate.reset
        delay, refused_for = runtime.rate_limiter.limited(self._sent_at, wait, rate)
        error = await response.error()
        error.retry_after = delay
        if refused_for > runtime.policy.max_wait and response.status == 429:
            raise error
        self._end_attempt(error)
        self._report.rate_limited(delay)

    async def _receive(self, response: AnyResponse) -> None:
        """Give more of the body to the decoder, and wait for it where nothing has arrived."""
        data = response.read_nowait()
        if not data and not response.ended:
            data = await self._wait(self._read)
        self.stats.bytes += len(data)
        if self._decoder is None:
            if response.ended:
                self._whole = self._endpoint.whole(data, self._runtime.limits)
                if self._whole is not None:
                    return
            self._decoder = self._endpoint.decoder(self._runtime.limits)
        self._decoder.feed(data)

    async def _read(self) -> bytes:
        assert self._scope is not None
        assert self._response is not None
        self._runtime.read_timeout.start(self._scope)
        return await self._response.read()

    def _take(self) -> list[T]:
        """A batch of what has been received, in order; empty: `_receive` more, unless the fetch is complete."""
        assert self._response is not None
        batch: list[T] = []
        if self._whole is not None:
            if self._whole:
                batch = self._accept(self._whole)
            self._finish()
        elif self._decoder is not None:
            while not batch and (decoded := self._decoder.next_batch()) is not None:
                batch = self._accept(decoded)
            if self._response.ended and (not batch or self._decoder.done):
                if last := self._decoder.finish():
                    batch += self._accept(last)
                self._progress.finish()
                self._finish()
        return batch

    def _accept(self, decoded: list[T]) -> list[T]:
        if batch := self._progress.accept(decoded):
            self.failures = self._protocol_errors = self._stale = self._refusals = 0
            self.stats.events += len(batch)
            self._since_turn += len(batch)
        return batch

    def _finish(self) -> None:
        self._state = State.COMPLETE
        if self._exists:
            endpoint = None if self._endpoint.probe_target(self.subject, 0) is None else self._endpoint
            self._runtime.availability.succeed(self._sent_at, endpoint, self.subject, self._began_at)
        self._end_attempt(None)
        self._report.fetch_finished(None)
        self._report.outcome(None)

    def _end_attempt(self, error: NP6Error | None) -> None:
        """Let go of the response, if there is one, and of the slot."""
        response, self._response = self._response, None
        if response is not None:
            response.close()
            self._decoder = self._whole = None
        if self._state is State.READING:
            self._state = State.REQUESTING
        self._report.request_finished(error, response)
        if self._has_slot and self._slots is not None:
            self._has_slot = False
            self._slots.release(reading=self._busy)

    # -- failures ------------------------------------------------------------------------------

    async def _recover(self, error: NP6Error) -> None:
        """Wait before another attempt, or raise `error` where none is worth it."""
        runtime, policy = self._runtime, self._runtime.policy
        forget(error)  # hooks may keep it
        if self._response is not None and error.request_id is None:
            error.request_id = request_id(self._response.headers)
        if runtime.lifetime.closed and not isinstance(error, ClientClosed):
            error = ClientClosed("this NP6Client was closed while a call was waiting")
        if isinstance(error, ClientClosed):
            self.close(error=error)
            forget(error)
            raise error
        stale = isinstance(error, ConnectError) and error.stale
        if stale and self._stale < _STALE_ALLOWED and runtime.availability.forgive():
            self._stale += 1
            self._end_attempt(error)
            self.stats.retries += 1
            self._report.retry_scheduled(self.failures + 1, 0.0, error)
            return
        self._end_attempt(error)
        if not self.failures:
            self._failing_since = self._sent_at
        self.failures += 1
        self._protocol_errors += isinstance(error, ProtocolError)
        attempts = policy.attempts(error)
        if isinstance(error, UnexpectedRedirect) and runtime.availability.answered is not None:
            attempts = min(policy.max_protocol_attempts, policy.max_attempts)  # base_url is not what is wrong
        failed = self._protocol_errors if isinstance(error, ProtocolError) else self.failures
        left = min(attempts - failed, policy.max_attempts - self.failures)
        # Before the last attempt, and not only after it: an outage that ends between the two would be the contact's.
        doubtful = left <= 1 or not runtime.availability.may_retry
        alone = not runtime.availability.answered_since(self._failing_since)
        if concerns_server(error) and await self._met_outage(error, doubtful=doubtful):
            if alone:  # so the failures before this one are those of the outage, too
                self.failures = self._protocol_errors = 0
            else:
                self.failures -= 1
                self._protocol_errors -= isinstance(error, ProtocolError)
            self.stats.retries += 1
            return
        if left <= 0:
            self._fail(error, f"after {self.failures} attempts" if attempts > 1 else "")
        if not runtime.availability.spend():
            self._fail(error, "and the client's retry budget (RetryPolicy.budget) is used up")
        known = alone and runtime.availability.answered_since(self._failing_since)  # the server is there now
        delay = 0.0 if known else policy.backoff(self.failures)
        if isinstance(error, APIError) and error.retry_after is not None:  # which all requests wait for
            delay = max(delay, error.retry_after)
        self.stats.retries += 1
        self._report.retry_scheduled(self.failures, delay, error)
        await self._wait_or_fail(lambda: policy.sleep(delay))

    async def _met_outage(self, error: NP6Error, *, doubtful: bool) -> bool:
        """Whether `error` is that of an outage, which is over now, and not the contact's own.

        `doubtful`: otherwise the contact is about to fail.
        """
        availability = self._runtime.availability
        availability.failed(self._sent_at, error)
        too_long: NP6Error | None = None
        try:
            self._runtime.rate_limiter.check_pause(self._runtime.policy)
        except NP6Error as why:
            too_long = why
        if too_long is not None:
            self._fail(too_long, "")
        if availability.was_out(self._sent_at):
            return True
        if availability.answered is None:
            return False
        if not availability.holding and (not doubtful or availability.answered_since(self._failing_since)):
            return False
        return await self._wait_or_fail(lambda: availability.wait(self, error, self._runtime.policy))

    async def _wait_or_fail(self, step: Callable[[], Awaitable[R]]) -> R:
        """`step`, counted as waiting; its errors are final."""
        began = self._runtime.policy.clock()
        try:
            return await self._wait(step)
        except NP6Error as why:
            ended = why
        finally:
            self.stats.waited += self._runtime.policy.clock() - began
        return self._fail(ended, "")

    # -- a `Prober` in an outage ---------------------------------------------------------------------

    async def probe(self, probe: Probe) -> NP6Error | None:
        """What the request comes to; None if it is answered."""
        runtime = self._runtime
        probe.sent_at = await runtime.rate_limiter.acquire_first(runtime.policy)
        self.stats.requests += 1
        self._report.request_started(1)
        response: Response | None = None
        failure: NP6Error | None = None
        try:
            async with asyncio.timeout(probe.seconds):
                target = probe.endpoint.probe_target(probe.contact, probe.number)
                assert target is not None
                response = await runtime.transport.request(
                    *target, probe.endpoint.body, connect=runtime.timeout.connect
                )
                await self._read_probe(probe, response)
        except NP6Error as error:
            failure = error
        except TimeoutError:
            failure = TimeoutExceeded(f"no response within {probe.seconds:.3g} s")
        except BaseException:
            failure = ClientClosed(self._closed_because or "the probe was cancelled")
            raise
        finally:
            if response is None:
                runtime.rate_limiter.failed()
            else:
                response.close()
            self._report.request_finished(failure, response)
        tells_nothing = isinstance(failure, ConnectError) and failure.local  # this machine is short of something
        return failure if failure is not None and (tells_nothing or concerns_server(failure)) else None

    async def _read_probe(self, probe: Probe, response: Response) -> None:
        """Raises what is wrong with the response to a probe."""
        runtime = self._runtime
        rate = parse_rate(response.headers, runtime.policy.wall_clock)
        if response.status == 200:
            runtime.rate_limiter.responded(probe.sent_at, rate)
            decoder = probe.endpoint.decoder(runtime.limits)
            while not response.ended:
                decoder.feed(response.read_nowait() or await response.read())
                while decoder.next_batch() is not None:
                    pass
            decoder.finish()
            return
        wait = parse_retry_after(response.headers, runtime.policy.wall_clock)
        if response.status == 429:
            runtime.rate_limiter.limited(probe.sent_at, wait, rate)
        else:
            runtime.rate_limiter.responded(probe.sent_at, rate)
            if wait is not None:
                runtime.rate_limiter.pause(wait, response.status)
        error = await response.error()
        error.retry_after = wait
        raise error

    def outage_waits(self, since: datetime, delay: float, error: NP6Error) -> None:
        """The next probe is sent in `delay` seconds."""
        self._report.outage_waits(since, delay, error)

    def outage_ended(self, seconds: float) -> None:
        """The server answers again, after so many seconds."""
        self._report.outage_ended(seconds)

    def _fail(self, error: NP6Error, reason: str) -> NoReturn:
        """Raise `error`, its message completed with what it is about and what was tried."""
        self.close("the stream has failed", error)
        if isinstance(error, ServiceUnavailable):  # it is not about the contact
            self._report.outcome(error)
            forget(error)
            raise error
        error.contact = self.subject.id if isinstance(self.subject, Action) else self.subject
        error.attempts = self.failures
        message = str(error.args[0]) if error.args else type(error).__name__
        error.args = (f"{self._endpoint.label(self.subject)}: {message}{f', {reason}' if reason else ''}",)
        self._report.outcome(error)
        forget(error)
        raise error


def _deadline() -> TimeoutExceeded:
    return TimeoutExceeded("it took longer than Timeout.deadline", limit="deadline")
