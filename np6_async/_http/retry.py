"""Which failures are worth another request, when, and how many. Nothing here does I/O or waits."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import field, frozen

from .._config import count, not_negative
from .._errors import (
    LimitExceeded,
    NP6Error,
    OrderError,
    ProtocolError,
    ServerError,
    TimeoutExceeded,
    TLSError,
    TransportError,
)

_MOST_FORGIVEN: Final = 1_000
# A longer wait is a broken header; a shorter one, however long, is one that the server may mean.
_DECADE: Final = 10 * 365 * 86_400.0
# Statuses of 5xx and 4xx that are known to pass. The others of 5xx (501 and its like) say that it never will.
RETRIED_STATUSES: Final = frozenset({408, 425, 500, 502, 503, 504})


@frozen
class RetryPolicy:
    """How failures are retried. Times are in seconds.

    A contact fails after `max_attempts` requests in a row that brought nothing new (default 5); a request that
    delivers an event begins the count anew, as the first of it where it then breaks off. Of these,
    `max_protocol_attempts` (3) may have brought an answer that is no array of events: it rarely gets better. The
    n-th retry waits a random time up to ``base_delay * 2**(n - 1)`` (0.25), never more than `max_delay` (20).
    `max_wait` (default 300) is the longest that the client waits for a rate limit, in one wait or in several
    without an answer between them: more raises `RateLimited`, because asking sooner than the server allows helps
    nobody. `budget` (100) is how many retries the client may spend beyond its successes, each of which gives back
    `refund` (0.1): in an outage it ends the retries of ten thousand contacts early.

    `random` (0 to 1), `clock` (monotonic), `wall_clock` (epoch seconds) and `sleep` are replaced in tests.
    Raises `ConfigError` for a value out of range.
    """

    max_attempts: int = field(default=5, validator=count)
    max_protocol_attempts: int = field(default=3, validator=count)
    base_delay: float = field(default=0.25, validator=not_negative)
    max_delay: float = field(default=20.0, validator=not_negative)
    max_wait: float = field(default=300.0, validator=not_negative)
    budget: float = field(default=100.0, validator=not_negative)
    refund: float = field(default=0.1, validator=not_negative)
    random: Callable[[], float] = field(default=random.random, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall_clock: Callable[[], float] = field(default=time.time, repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    def attempts(self, error: NP6Error) -> int:
        """How many requests in a row may fail with errors such as `error`; 1 means no retry."""
        match error:
            case TimeoutExceeded(limit="pool" | "deadline"):
                return 1
            case TLSError() | OrderError() | LimitExceeded():
                return 1
            case ProtocolError():
                return min(self.max_protocol_attempts, self.max_attempts)
            case ServerError() if error.status not in RETRIED_STATUSES:
                return 1
            case TransportError() | ServerError():
                return self.max_attempts
            case _:
                return 1

    def backoff(self, failures: int) -> float:
        """Seconds to wait after `failures` (from 1) failed attempts in a row: exponential, full jitter."""
        return self.random() * min(self.max_delay, self.base_delay * 2.0 ** min(failures - 1, 60))


class RetryBudget:
    """The retries that all calls of one client share."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._capacity = self._tokens = policy.budget
        self._refund = policy.refund
        self._forgivable = 0

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def forgive(self) -> bool:
        """Whether a retry is free, because the server closed a connection that had been idle.

        Nothing is wrong with a server that does, unless it has answered nothing since: there is one for each
        success, up to as many as there may be connections.
        """
        if not self._forgivable:
            return False
        self._forgivable -= 1
        return True

    def succeed(self) -> None:
        """A request succeeded."""
        self._tokens = min(self._capacity, self._tokens + self._refund)
        self._forgivable = min(_MOST_FORGIVEN, self._forgivable + 1)


@frozen
class RateState:
    """What an answer says of the account's rate limit. `reset` is in seconds from now; None is unknown."""

    limit: int | None
    remaining: int | None
    reset: float | None


def parse_retry_after(headers: Mapping[str, str], wall_clock: Callable[[], float]) -> float | None:
    """The wait in seconds that ``Retry-After`` asks for, as seconds or an HTTP date; None if unusable."""
    return _seconds_from_now(headers, "Retry-After", wall_clock)


def parse_rate(headers: Mapping[str, str], wall_clock: Callable[[], float]) -> RateState | None:
    """The ``X-RateLimit-*`` headers, None where there are none.

    The unit of ``X-RateLimit-Reset`` is not published: seconds from now, epoch seconds, epoch milliseconds
    and HTTP dates are told apart by their size, and the server's own ``Date`` corrects for skewed clocks.
    """
    limit = _number(headers.get("X-RateLimit-Limit"))
    remaining = _number(headers.get("X-RateLimit-Remaining"))
    reset = _seconds_from_now(headers, "X-RateLimit-Reset", wall_clock)
    if limit is None and remaining is None and reset is None:
        return None
    return RateState(None if limit is None else int(limit), None if remaining is None else int(remaining), reset)


def _seconds_from_now(headers: Mapping[str, str], name: str, wall_clock: Callable[[], float]) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    wait = _number(text)
    moment = _http_date(text) if wait is None else wait / 1000 if wait >= 1e11 else wait if wait >= 1e9 else None
    if moment is not None:
        now = _http_date(headers.get("Date", ""))
        wait = max(0.0, moment - (wall_clock() if now is None else now))
    return wait if wait is not None and wait < _DECADE else None


def _number(text: str | None) -> float | None:
    """A header as a number from 0; a negative or NaN counts as 0, anything else unusable as None."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value == math.inf else value if value > 0 else 0.0


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, IndexError, OverflowError, TypeError):
        return None
