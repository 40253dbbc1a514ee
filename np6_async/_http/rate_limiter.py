"""One rate limiter for all requests of a client: the pause that a server asks for, and the pace.

A 429 stops every request of the client, not only the one that received it, and so does a ``Retry-After`` on any other
status. Afterwards requests go out one by one, at the rate that the server's headers allow or, where they do not say, at
the rate that it was seen to sustain: see `Pace`.

First volley: before the first response, at most 16 requests are sent, because that response may report a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, runtime_checkable

from attrs import frozen

from .._config import RetryPolicy
from .._errors import NP6Error, RateLimited, ServerError, service_unavailable
from .._protocol.rate_headers import RateState
from .lifetime import CancelScope
from .pace import Pace

# Requests sent before the first response, which may report a limit: no herd of a thousand at the start.
FIRST_VOLLEY: Final = 16


@frozen
class RateLimitStatus:
    """What the server last reported of the account's rate limit, and whether the client is paused.

    - `limit`: how many requests a window allows; `remaining`: how many are left in it; `reset`: in how many seconds
      after `said_at` the next one begins. None is what the server did not report.
    - `said_at`: when it last reported anything; None if it never did.
    - `paused_until`: no request goes out before this time, because the server asked for that or refused one (429);
      None unless the client is paused.

    Times are aware datetimes in UTC.
    """

    limit: int | None
    remaining: int | None
    reset: float | None
    said_at: datetime | None
    paused_until: datetime | None

    @property
    def reset_at(self) -> datetime | None:
        """When the next window begins; None where the server did not report it."""
        if self.said_at is None or self.reset is None:
            return None
        return self.said_at + timedelta(seconds=self.reset)

    @property
    def paused(self) -> bool:
        """Whether the client was paused when this was read."""
        return self.paused_until is not None


class RateLimiter(Pace):
    """See the module. All times are in seconds of `policy.clock`.

    A request calls `acquire`, and then reports exactly one of `responded`, `failed` and `limited`. `requests` returns
    how many there may be at once: the pace is measured against it. `rate_limiter` is one of the application's own,
    entered before each request.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        requests: Callable[[], int],
        rate_limiter: AbstractAsyncContextManager[Any] | None = None,
    ) -> None:
        super().__init__(policy.clock, requests=requests, max_wait=policy.max_wait)
        self._policy = policy
        self._own = rate_limiter
        self._queue = asyncio.Lock()  # first come, first served, while requests are held back
        self._queued: dict[CancelScope, RetryPolicy] = {}  # what each of those who wait allows
        self._first_response = asyncio.Event()

    async def acquire(self, policy: RetryPolicy | None = None) -> float:
        """Wait until a request may be sent; return that time.

        Raises `RateLimited` if a pause exceeds `max_wait`, and `ServiceUnavailable` if one that was not for a 429
        exceeds `outage`, those of `policy` or of the client.
        """
        if (sent_at := self.acquire_nowait()) is not None:
            return sent_at
        policy = policy or self._policy
        self.check_pause(policy)  # before those who wait for longer
        with CancelScope(set()) as scope:
            self._queued[scope] = policy
            try:
                await self._wait_in_queue(policy)
            finally:
                del self._queued[scope]
        return self._acquired(self._clock())

    async def acquire_first(self, policy: RetryPolicy | None = None) -> float:
        """`acquire`, before all others that wait."""
        await self._wait_for_turn(policy or self._policy)
        return self._acquired(self._clock())

    def acquire_nowait(self) -> float | None:
        """`acquire`, where there is nothing to wait for; otherwise None."""
        if (
            self._own is not None
            or self._queue.locked()
            or not (self._any_response or self._pending < FIRST_VOLLEY)
            or (max(self.paused_until, self._next_at) if self._window is None else self._send_at())
            > (now := self._clock())
        ):
            return None
        return self._acquired(now)

    async def _wait_in_queue(self, policy: RetryPolicy) -> None:
        async with self._queue:
            while not self._any_response and self._pending >= FIRST_VOLLEY:
                self._first_response.clear()
                await self._first_response.wait()
            await self._wait_for_turn(policy)

    async def _wait_for_turn(self, policy: RetryPolicy) -> None:
        await self._wait_for_pace(policy)
        if self._own is not None:  # not during a pause: those that it lets through would gather
            async with self._own:
                pass
            await self._wait_for_pace(policy)

    async def _wait_for_pace(self, policy: RetryPolicy) -> None:
        began, slept = self._clock(), 0.0
        # The longer of what the clock says and what was slept: a `sleep` of a test may take no time.
        while (wait := self._send_at() - max(self._clock(), began + slept)) > 0:
            self.check_pause(policy)
            await policy.sleep(wait)
            slept += wait

    def limited(self, sent_at: float, wait: float | None, rate: RateState | None) -> tuple[float, float]:
        """See `Pace`."""
        result = super().limited(sent_at, wait, rate)
        self._tell_queued()
        return result

    def pause(self, wait: float, status: int) -> None:
        """See `Pace`."""
        super().pause(wait, status)
        self._tell_queued()

    def check_pause(self, policy: RetryPolicy) -> None:
        """Raise what `acquire` does where the pause is too long."""
        if (error := self._too_long(policy)) is not None:
            raise error

    def _tell_queued(self) -> None:
        """There may be another pause: those for whom it is too long need not come to their turn."""
        for scope, policy in tuple(self._queued.items()):
            if (error := self._too_long(policy)) is not None:
                scope.cancel(error)

    def _too_long(self, policy: RetryPolicy) -> NP6Error | None:
        pause = self.paused_until - self._clock()
        if self._asked_by == 429:
            if pause <= policy.max_wait:
                return None
            error = RateLimited("429: the account's rate limit is used up", status=429)
            error.retry_after = pause
            return error
        if pause <= policy.outage:
            return None
        refused = ServerError(f"{self._asked_by}: the server failed", status=self._asked_by)
        now = datetime.fromtimestamp(policy.wall_clock(), UTC)
        return service_unavailable(now, refused, str(self._asked_by), policy.too_long(pause), pause)

    def _no_longer_pending(self) -> None:
        self._pending -= 1
        if not self._any_response:
            self._any_response = True
            self._first_response.set()

    def status(self) -> RateLimitStatus | None:
        """What is known of the rate limit; None while the server has reported nothing and paused nobody."""
        now, wall_now = self._clock(), self._policy.wall_clock()
        paused = self.paused_until > now
        if self._reported is None and not paused:
            return None

        def moment(at: float) -> datetime:
            return datetime.fromtimestamp(wall_now + at - now, UTC)

        rate, said_at = self._reported or (RateState(None, None, None), None)
        return RateLimitStatus(
            limit=rate.limit,
            remaining=rate.remaining,
            reset=rate.reset,
            said_at=None if said_at is None else moment(said_at),
            paused_until=moment(self.paused_until) if paused else None,
        )

    def outage_began(self) -> None:
        """The server is known to be away."""

    def outage_ended(self) -> None:
        """It answers again."""
        self.ease_in()

    async def close(self) -> None:
        """Nothing is open."""


class SharingLimiter(RateLimiter):
    """One that knows of others; `suspect` is to be called where they find that the server does not answer."""

    suspect: Callable[[], None]


@runtime_checkable
class AccountLimit(Protocol):
    """A rate limit of an account, which clients share with all others that use the same API key."""

    def limiter(self, policy: RetryPolicy, *, requests: Callable[[], int], account: str) -> SharingLimiter:
        """That of one client, whose requests count for `account`: a name that tells nobody its API key."""
        ...
