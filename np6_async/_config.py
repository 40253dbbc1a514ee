"""What a client may be told: timeouts, retries, limits. Each setting is checked when it is made."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
from attrs import field, frozen

from ._errors import (
    ConfigError,
    InvalidInput,
    LimitExceeded,
    NP6Error,
    OrderError,
    ProtocolError,
    ProxyError,
    ServerError,
    TimeoutExceeded,
    TLSError,
    TransportError,
)

_MAX_CONCURRENCY: Final = 1_000
# Status codes known to be temporary. The other 5xx (501 and the like) are permanent.
RETRIED_STATUSES: Final = frozenset({408, 425, 500, 502, 503, 504})


def _is_number(value: Any, kind: Any = int | float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _at_least_zero(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ConfigError(f"{type(instance).__name__}.{attribute.name} must be a number from 0, not {value!r}")


def _count(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _is_number(value, int) or value < 1:
        raise ConfigError(f"{type(instance).__name__}.{attribute.name} must be a whole number from 1, not {value!r}")


def _seconds(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _is_number(value) or not 0 < value < math.inf:
        name = f"{type(instance).__name__}.{attribute.name}"
        raise ConfigError(f"{name} must be a number of seconds above 0, not {value!r}")


def check_concurrency(value: int, error: type[ConfigError] | type[InvalidInput]) -> int:
    """`value`, if it is a valid number of concurrent requests; otherwise raises `error`."""
    if not _is_number(value, int) or not 1 <= value <= _MAX_CONCURRENCY:
        raise error(f"concurrency must be a whole number from 1 to {_MAX_CONCURRENCY}, not {value!r}")
    return value


@frozen
class Timeout:
    """How long to wait, in seconds.

    - `connect`: for a connection to be established (default 10).
    - `read`: for the next bytes of a response (30); for the first ones, counted from the start of the request.
    - `pool`: for a slot while none comes free and nobody reads (60).
    - `deadline`: for all the waiting of one contact, or of another call, including retries and excluding the time
      that the consumer takes; None (the default) is no deadline.

    Whatever runs out raises `TimeoutExceeded`; `connect` and `read` are retried. Raises `ConfigError` for a value not
    above 0.
    """

    connect: float = field(default=10.0, validator=_seconds)
    read: float = field(default=30.0, validator=_seconds)
    pool: float = field(default=60.0, validator=_seconds)
    deadline: float | None = field(default=None, validator=attrs.validators.optional(_seconds))


def _random() -> float:
    """That of the process: pickled, `random.random` itself would take its state along, the same for many workers."""
    return random.random()


@frozen
class RetryPolicy:
    """How failures are retried. Times are in seconds.

    - `max_attempts`: a contact fails after this many requests in a row that brought nothing new (default 5). A request
      that delivers an event restarts the count, and counts as the first failure if it then breaks off.
    - `max_protocol_attempts`: how many of these may have returned something other than an array of events (3), which
      rarely gets better.
    - `base_delay`, `max_delay`: the n-th retry waits a random time up to ``base_delay * 2**(n - 1)`` (0.25), at most
      `max_delay` (20).
    - `max_wait`: the longest that the client waits for a rate limit (300), in one wait or in several without a response
      in between. More raises `RateLimited`: asking sooner than the server allows helps nobody.
    - `outage`: how long an outage may last (300), in which nobody is answered. Meanwhile no attempts are spent, and one
      request at a time finds out when it is over. After it, or at once where the server asks for a longer wait, the
      call ends with `ServiceUnavailable`, and no contact has failed. With 0, the first such request decides.
    - `budget`, `refund`: how many retries the client may spend beyond its successes (100), each of which gives back
      `refund` (0.1). It bounds what contacts that fail by themselves, while others are answered, cost the server.

    `random` (0 to 1), `clock` (monotonic), `wall_clock` (epoch seconds) and `sleep` are replaced in tests.
    Raises `ConfigError` for a value out of range.
    """

    max_attempts: int = field(default=5, validator=_count)
    max_protocol_attempts: int = field(default=3, validator=_count)
    base_delay: float = field(default=0.25, validator=_at_least_zero)
    max_delay: float = field(default=20.0, validator=_at_least_zero)
    max_wait: float = field(default=300.0, validator=_at_least_zero)
    outage: float = field(default=300.0, validator=_at_least_zero)
    budget: float = field(default=100.0, validator=_at_least_zero)
    refund: float = field(default=0.1, validator=_at_least_zero)
    random: Callable[[], float] = field(default=_random, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    wall_clock: Callable[[], float] = field(default=time.time, repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    def attempts(self, error: NP6Error) -> int:
        """How many requests in a row may fail with errors such as `error`; 1 means no retry."""
        match error:
            case TimeoutExceeded(limit="pool" | "deadline"):
                return 1
            case (
                TLSError() | OrderError() | LimitExceeded() | ProtocolError(permanent=True) | ProxyError(permanent=True)
            ):
                return 1
            case ProtocolError():
                return min(self.max_protocol_attempts, self.max_attempts)
            case ServerError() if error.status not in RETRIED_STATUSES:
                return 1
            case TransportError() | ServerError():
                return self.max_attempts
            case _:
                return 1

    def too_long(self, asked: float | None) -> str:
        """Why an outage is not waited for, in the words of an error; `asked` by the server, in seconds."""
        why = f"longer than RetryPolicy.outage ({self.outage:g} s) allows"
        return why if asked is None else f"and asks to wait {asked:.0f} s, {why}"

    def backoff(self, failures: int) -> float:
        """Seconds to wait after `failures` (from 1) failed attempts in a row: exponential, full jitter."""
        return self.random() * min(self.max_delay, self.base_delay * 2.0 ** min(failures - 1, 60))


@frozen
class DecodeLimits:
    """What a response may cost.

    - `event_bytes`: the size of one event (default 2 MiB), and of a whole response that is not an array of events or
      ids.
    - `depth`: how deep an event may be nested (128).
    - `answer_bytes`: the size of one response after decompression (8 GiB).
    - `slice_bytes` (32 KiB) and `batch_events` (256): the work done before other tasks get their turn on the event
      loop; they do not limit the response.

    A response that exceeds a limit raises `LimitExceeded`. `event_bytes` and `depth` are checked where an event is not
    decoded on the fast path, so an event that is larger by a slice, or nested deeper by what Python's recursion limit
    allows, may pass; one of an undocumented shape may hold 100,000 values. Above 32 MiB, a compressed response may
    expand at most 200-fold. Raises `ConfigError` for anything but whole numbers from 1.
    """

    event_bytes: int = field(default=2 * 1024 * 1024, validator=_count)
    depth: int = field(default=128, validator=_count)
    answer_bytes: int = field(default=8 * 1024**3, validator=_count)
    slice_bytes: int = field(default=32 * 1024, validator=_count)
    batch_events: int = field(default=256, validator=_count)
