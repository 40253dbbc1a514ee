"""Whether the server is available: tells an outage from contacts that fail by themselves, and bounds retries.

Refused connections, timeouts, status codes from 500 on, redirects and pages in place of events may meet every contact.
What tells is a *probe*: a request for a contact that was answered before, for one millisecond of its events.

    AVAILABLE   requests go out; failures in a row are counted, and a success forgets them
    IN DOUBT    a contact has one attempt left, and nothing was answered since it first failed: a probe is sent
    HOLDING     eight failures in a row, or a probe failed: nothing goes out but one probe at a time

A probe that is answered ends doubt and hold. If it was the first one, there was no outage, and the failures are those
of the contacts. Otherwise they are the server's: no attempt is spent, and the contacts are requested again, slowly at
first. Failures of requests that were sent before that, and come later, are the server's, too.

Those who wait take turns: the first one sends the probes, with its own stats and hooks, and the next takes over where
that one is cancelled. Nothing runs when nobody waits, and that time is not part of a hold: whoever comes then sends a
probe at once. A hold that lasts for `RetryPolicy.outage` is given up, with an error for each of those who wait; whoever
comes later begins anew.

While no contact was ever answered there is nothing to probe with, and neither doubt nor hold: a contact spends its
attempts, and a bulk run ends when 20 contacts have (see `Workers`).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from attrs import Factory, define

from .._config import RetryPolicy
from .._errors import (
    ConnectError,
    NP6Error,
    ProtocolError,
    ProxyError,
    ServerError,
    ServiceUnavailable,
    TimeoutExceeded,
    TLSError,
    TransportError,
    UnexpectedRedirect,
    forget,
    said,
    service_unavailable,
)
from .._protocol.endpoint import Endpoint
from .rate_limiter import RateLimiter

# Retries that are free after a server closed idle connections, at most.
_MOST_FORGIVEN: Final = 1_000
# Failures in a row, without a success in between, that begin a hold.
_HOLD_AFTER: Final = 8
# Seconds between two probes: this at first, then doubled up to that, each less a random part of up to a half.
_FIRST_WAIT: Final = 0.25
_LONGEST_WAIT: Final = 3.0
# Seconds that a probe may take at least, and how many times as long as the slowest of the latest responses.
_PROBE: Final = 2.0
_SLOWER: Final = 4.0
# In an outage longer than this, in seconds, or than a quarter of what `RetryPolicy.outage` allows, each probe that runs
# out of time allows the next one twice as much: a server that comes back may be slow.
_LONG: Final = 60.0
# Of the last 16 contacts that were requested for the first time, so many got a 503: it is how a limiter refuses.
_REFUSED: Final = 4
_RECENT: Final = (1 << 16) - 1


@define(eq=False)
class Probe:
    """A request for next to nothing of a `contact` that was answered before; another one for each `number`.

    It may take so many `seconds`. Who sends it says when it was sent.
    """

    endpoint: Endpoint[Any, Any]
    contact: Any
    number: int
    seconds: float
    sent_at: float


class Prober(Protocol):
    """Sends probes for those who wait, and tells the hooks."""

    async def probe(self, probe: Probe) -> NP6Error | None:
        """What the request comes to; None if it is answered."""

    def outage_waits(self, since: datetime, delay: float, error: NP6Error) -> None:
        """The next probe is sent in `delay` seconds."""

    def outage_ended(self, seconds: float) -> None:
        """The server answers again, after so many seconds."""


@define(eq=False)
class _Doubt:
    """From `began` on it is to be found out whether the server is available; `real`: it was not, since `since`."""

    began: float
    since: float
    last: NP6Error
    real: bool = False
    over: bool = False
    given_up: bool = False
    probes: int = 0
    slept: float = 0.0
    patience: float = 0.0  # seconds for a probe
    outages: list[float] = Factory(list)  # what each of those who wait allows


def concerns_server(error: NP6Error) -> bool:
    """Whether `error` may meet every contact, because no server is there that would know them."""
    match error:
        case TimeoutExceeded():
            return error.limit in ("connect", "read")
        case TLSError() | ProxyError(permanent=True) | ConnectError(local=True):
            return False  # the run ends, or this machine is short of something
        case TransportError() | ServerError() | UnexpectedRedirect():
            return True
        case ProtocolError():
            return error.foreign
    return False


class Availability:
    """See the module. All times are in seconds of `policy.clock`."""

    def __init__(self, policy: RetryPolicy, limiter: RateLimiter, read_timeout: float) -> None:
        self._policy = policy
        self._clock = policy.clock
        self._limiter = limiter
        self._read_timeout = read_timeout
        # The retry budget
        self._tokens = policy.budget
        self._forgivable = 0
        # What was seen
        self.answered: tuple[Endpoint[Any, Any], Any] | None = None  # the last one, and its contact
        self._answered_at = 0.0  # when the latest request was sent that was answered
        self._slowest = 0.0  # seconds from request to answer, of late
        self._failures = 0  # in a row
        self._failing_since = 0.0
        self._said = ""  # by the last failure
        self._out_until = -1.0  # requests that were sent before this met an outage
        self._recent = 0  # one bit for each new contact: 1 for a 503
        self._limited_at: float | None = None  # since 503s are those of a limiter: when the last one came
        # What is done about it
        self.holding: bool = False
        self._doubt: _Doubt | None = None
        self._turns = asyncio.Lock()
        self._left_at = 0.0  # when somebody waited last

    # -- what was seen ---------------------------------------------------------------------------

    def succeed(
        self,
        sent_at: float,
        endpoint: Endpoint[Any, Any] | None = None,
        contact: Any = None,
        began_at: float | None = None,
    ) -> None:
        """The request sent at `sent_at` was answered; `endpoint` and `contact` will do for a probe.

        `began_at`: when its response began, where it has been read since at the pace of a consumer.
        """
        if endpoint is not None:
            self.answered = endpoint, contact
        if sent_at > self._answered_at:
            self._answered_at = sent_at
        slowest = self._slowest * 0.99
        answered_at = self._clock() if began_at is None else began_at
        self._slowest = max(slowest, answered_at - sent_at) if sent_at else slowest
        self._failures = 0
        self._recent = self._recent << 1 & _RECENT
        policy = self._policy
        self._tokens = min(policy.budget, self._tokens + policy.refund)
        self._forgivable = min(_MOST_FORGIVEN, self._forgivable + 1)

    def failed(self, sent_at: float, error: NP6Error) -> None:
        """The request sent at `sent_at` failed with an error that concerns the server."""
        if self.was_out(sent_at):
            return
        if not self._failures:
            self._failing_since = self._clock()
        self._failures += 1
        self._said = said(error)
        if self._failures >= _HOLD_AFTER and self.answered is not None and not self.holding:
            self._begin(error)
            self.holding = True

    def was_out(self, sent_at: float) -> bool:
        """Whether a request that was sent at `sent_at` met an outage that has ended."""
        return sent_at <= self._out_until

    def answered_since(self, at: float) -> bool:
        """Whether a request was answered that was sent at this time or later."""
        return self._answered_at >= at

    def is_limit(self, sent_at: float, *, new: bool) -> bool:
        """Whether a 503 without ``Retry-After`` is the refusal of a limiter, as nginx's are by default.

        Then many contacts get one, while others are answered: it is, from the fourth among the last 16 new contacts
        on, and for as long as somebody is answered after each pause; after a minute without one it is found out anew.
        `new`: the contact was requested for the first time.
        """
        now = self._clock()
        if self._limited_at is not None and now - self._limited_at > _LONG:
            self._limited_at = None
        if self._limited_at is not None and sent_at < self._limiter.paused_until:
            return True  # of the volley that was refused
        if new:
            self._recent = (self._recent << 1 | 1) & _RECENT
        if self._limited_at is None:
            limited = self.answered is not None and self._recent.bit_count() >= _REFUSED and self._recent != _RECENT
        else:
            limited = self._answered_at >= self._limited_at
            if not limited:  # the pause did not help anybody
                self._recent = 0
        self._limited_at = now if limited else None
        return limited

    def suspect(self) -> None:
        """Somebody else finds that the server does not answer: send one probe before any other request.

        Where no contact was answered before there is nothing to probe with, and requests go on.
        """
        if self.answered is not None and self._doubt is None:
            self._begin(ConnectError("another process with this API key found that the server does not answer"))
            self.holding = True

    # -- retries -----------------------------------------------------------------------------------

    @property
    def may_retry(self) -> bool:
        """Whether there is a retry left in the budget."""
        return self._tokens >= 1

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def forgive(self) -> bool:
        """Whether a retry is free after the server closed an idle connection.

        Healthy servers do that, too, but they also respond: each success earns one free retry, up to as many as there
        may be connections.
        """
        if not self._forgivable:
            return False
        self._forgivable -= 1
        return True

    # -- an outage ---------------------------------------------------------------------------------

    async def wait(self, prober: Prober, error: NP6Error | None = None, policy: RetryPolicy | None = None) -> bool:
        """Return when the server is known to be available; whether it was not, and all failures were its own.

        `error` is what casts doubt on it. Raises `ServiceUnavailable` at the end of `outage`, that of `policy` or of
        the client, and at once where the server asks for a longer wait.
        """
        policy = policy or self._policy
        doubt = self._doubt
        if doubt is None:
            assert error is not None
            doubt = self._begin(error)
        elif not self._turns.locked() and self._clock() - self._left_at > _LONGEST_WAIT:
            doubt.began, doubt.probes, doubt.slept = self._clock(), 0, 0.0
        if error is not None:
            doubt.last = error
        doubt.outages.append(policy.outage)
        try:
            await self._wait_for_turn(doubt, policy)
            try:
                while not doubt.over:
                    await self._probe(doubt, prober, policy)
            finally:
                self._turns.release()
        finally:
            doubt.outages.remove(policy.outage)
            self._left_at = self._clock()
        if doubt.given_up:
            raise self._unavailable(doubt, None, policy)
        return doubt.real

    async def _wait_for_turn(self, doubt: _Doubt, policy: RetryPolicy) -> None:
        """Not for longer than `policy` allows, where somebody is ahead who waits for longer."""
        if policy.outage >= max(doubt.outages):
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(max(self._left(doubt, policy), doubt.patience)):
                await self._turns.acquire()
        except TimeoutError:
            raise self._unavailable(doubt, None, policy) from None

    def _left(self, doubt: _Doubt, policy: RetryPolicy) -> float:
        """Seconds of the outage that `policy` allows."""
        return policy.outage - max(self._clock() - doubt.began, doubt.slept)

    def never_answered(self, last: NP6Error, contacts: int) -> ServiceUnavailable:
        """The error of a run in which so many contacts failed, and none was answered."""
        since = self._at(self._failing_since if self._failures else self._clock())
        forget(last)
        problem = f"and has answered for no contact yet ({contacts} tried)"
        return service_unavailable(since, last, self._said, problem)

    def _at(self, time: float) -> datetime:
        return datetime.fromtimestamp(self._policy.wall_clock() - (self._clock() - time), UTC)

    def _begin(self, error: NP6Error) -> _Doubt:
        if self._doubt is None:
            now = self._clock()
            since = self._failing_since if self._failures else now
            self._doubt = _Doubt(now, since, error, patience=max(_PROBE, _SLOWER * self._slowest))
        return self._doubt

    async def _probe(self, doubt: _Doubt, prober: Prober, policy: RetryPolicy) -> None:
        left = self._left(doubt, policy)
        wait = 0.0
        if doubt.probes:
            longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(doubt.probes - 1, 10))
            wait = longest * (1 - self._policy.random() / 2)
        asked = self._limiter.failure_pause  # by the server: never cut short
        too_long = asked > max(left, 0.0)
        if (left <= 0 and doubt.probes) or too_long:
            if policy.outage >= max(doubt.outages):  # others may wait for longer
                self._end(doubt)
                doubt.given_up = True
            raise self._unavailable(doubt, asked if too_long else None, policy)
        wait = max(min(wait, left), asked, 0.0)
        if doubt.real or wait > _FIRST_WAIT:
            prober.outage_waits(self._at(doubt.since), wait, doubt.last)
        if wait > 0:
            doubt.slept += wait
            await self._policy.sleep(wait)
        assert self.answered is not None
        seconds = min(doubt.patience, self._read_timeout)
        if doubt.probes:  # the end is not put off by a probe that hangs
            seconds = min(seconds, max(_PROBE / 2, left - wait))
        probe = Probe(*self.answered, doubt.probes, seconds, self._clock())
        error = await prober.probe(probe)
        doubt.probes += 1
        if error is None:
            self.succeed(probe.sent_at)
            if doubt.real:
                self._out_until = self._clock()
                self._limiter.outage_ended()
                prober.outage_ended(self._clock() - doubt.since)
            self._end(doubt)
            return
        forget(error)
        doubt.last = error
        if not doubt.real:
            self._limiter.outage_began()
        doubt.real = self.holding = True
        long = min(_LONG, policy.outage / 4)
        if isinstance(error, TimeoutExceeded) and max(self._clock() - doubt.began, doubt.slept) > long:
            doubt.patience *= 2

    def _end(self, doubt: _Doubt) -> None:
        doubt.over = True
        self._doubt = None
        self._failures = 0
        self.holding = False

    def _unavailable(self, doubt: _Doubt, asked: float | None, policy: RetryPolicy) -> ServiceUnavailable:
        problem = policy.too_long(asked)
        return service_unavailable(self._at(doubt.since), doubt.last, said(doubt.last), problem, asked)
