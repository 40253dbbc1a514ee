"""One rate limit for all processes with one API key, kept in Redis or Valkey. Extra: ``np6_async[redis]``.

::

    from np6_async import NP6Client
    from np6_async.integrations.redis import SharedLimit

    async with NP6Client(rate_limiter=SharedLimit("redis://127.0.0.1:6379")) as np6: ...

Redis holds one value of 200 to 600 bytes under ``np6:limit:`` and a keyed hash of API key and server, for a day after
it was changed last. It holds no API key, no contact and no response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from attrs import frozen

from .. import ConfigError, RetryPolicy
from .._http.rate_limiter import SharingLimiter
from ._sharing_limiter import Answer, Away, PaceSharingLimiter

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SCHEMES: Final = ("redis", "rediss", "unix")
# Seconds: to connect, for a reply, and for both.
_CONNECT: Final = 1.0
_REPLY: Final = 1.5
_BOTH: Final = 3.0
# A value that nobody has changed for so many milliseconds is forgotten.
_DAY: Final = 86_400_000
# Compare and set, with the time of the one clock that all processes share.
_EXCHANGE: Final = """
local time = redis.call('TIME')
local present = redis.call('GET', KEYS[1]) or ''
if present ~= ARGV[1] then
  return {time[1], time[2], 0, present}
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {time[1], time[2], 1, ''}
"""


@frozen(init=False, repr=False)
class SharedLimit:
    """A `rate_limiter` of `NP6Client` that all clients with the same API key and the same `url` share.

    They share the pace that was learnt, the windows that headers report, the pause after a 429 or a ``Retry-After``,
    and what is known of an outage: where one process finds that NP6 does not answer, each of the others finds out with
    one request whether that is so for itself.

    - `url`: of a Redis (6 or newer) or a Valkey, one server and not a cluster: ``redis://user:password@host:6379/0``,
      ``rediss://`` for TLS, or ``unix:///path``.
    - `share`: what happens while Redis is away. With a number above 0 and up to 1, this process goes on alone at this
      share of the rate that was known, and comes back when Redis does; give each of four processes 0.25. While no rate
      is known, it goes on as a client without a `SharedLimit` does. Without it, requests wait for up to 10 s, and then
      the calls end with `ServiceUnavailable`: no contact has failed, and the run can be continued.

    Creating one does no I/O. It may be pickled, also when clients use it, and serve any number of clients. Its repr
    shows neither user nor password. Raises `ConfigError` for a `url` or `share` that cannot be used, and where the
    extra is not installed.
    """

    _url: str
    _share: float | None

    def __init__(self, url: str, *, share: float | None = None) -> None:
        problem = _problem(url, share)
        if problem is None:
            object.__setattr__(self, "_url", url)
            object.__setattr__(self, "_share", share)
        del url, share  # a traceback with locals would show a password
        if problem is not None:
            raise ConfigError(problem)

    def limiter(self, policy: RetryPolicy, *, requests: Callable[[], int], account: str) -> SharingLimiter:
        """What an `NP6Client` calls, once."""
        keeper = _RedisKeeper(self._url, f"np6:limit:{account}")
        return PaceSharingLimiter(policy, requests=requests, keeper=keeper, share=self._share)

    def __repr__(self) -> str:
        if not hasattr(self, "_share"):  # a traceback with locals shows one whose construction failed
            return "SharedLimit(<not set up>)"
        share = "" if self._share is None else f", share={self._share:g}"
        return f"SharedLimit({_without_credentials(self._url)!r}{share})"


def _problem(url: object, share: object) -> str | None:
    """What is wrong, without quoting the URL, which may hold a password."""
    if find_spec("redis") is None:
        return "SharedLimit needs the package redis: pip install np6_async[redis]"
    expected = "a URL such as redis://127.0.0.1:6379, rediss://user:password@host:6379/0 or unix:///run/redis.sock"
    if not isinstance(url, str):
        return f"SharedLimit(url) must be {expected}, not {type(url).__name__}"
    try:
        parts = urlsplit(url)
        scheme, place = parts.scheme, parts.path if parts.scheme == "unix" else parts.hostname
        _options(url)
    except ValueError:
        scheme = place = ""
    if scheme not in _SCHEMES or not place:
        return f"SharedLimit(url) must be {expected}"
    is_share = isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= 1
    if share is not None and not is_share:
        return f"SharedLimit(share) must be a number above 0 and up to 1, or None, not {share!r}"
    return None


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _options(url: str) -> dict[str, Any]:
    """The options of a connection: those of the URL, and ours."""
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options = dict(parse_url(url))
    # The patience is ours: by its own retries, redis-py takes 3.7 s to say that nobody is there.
    options.update(retry=Retry(NoBackoff(), 0), socket_connect_timeout=_CONNECT, socket_timeout=_REPLY)
    options.update(decode_responses=False, max_connections=2)
    return options


class _RedisKeeper:
    """Keeps the value in Redis, over a connection of the event loop that uses it first."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._redis: Redis | None = None
        self._script: Any = None

    async def exchange(self, expected: bytes, new: bytes) -> Answer:
        """Keep `new` if the present value is `expected`."""
        why: Away | None = None
        try:
            async with asyncio.timeout(_BOTH):
                seconds, micros, kept, present = await self._call(expected, new)
                return Answer(int(seconds) + int(micros) / 1e6, bool(kept), present)
        except Exception as error:  # whatever redis-py raises; it may quote what was sent
            why = _away(error)
        raise why

    async def close(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            await self._redis.aclose(close_connection_pool=True)

    async def _call(self, expected: bytes, new: bytes) -> Any:
        if self._redis is None:
            from redis.asyncio import ConnectionPool, Redis

            self._redis = Redis(connection_pool=ConnectionPool(**_options(self._url)))
            self._script = self._redis.register_script(_EXCHANGE)
        return await self._script(keys=[self._name], args=[expected, new, _DAY])


def _away(error: Exception) -> Away:
    """What is the matter with Redis, in words that quote nothing."""
    from redis import exceptions

    match error:
        case exceptions.AuthenticationError() | exceptions.AuthenticationWrongNumberOfArgsError():
            return Away("Redis does not accept the user and password of the URL", lasting=True)
        case exceptions.NoPermissionError():
            return Away("this user of Redis may not run EVALSHA, GET, SET and TIME", lasting=True)
        case exceptions.TimeoutError() | TimeoutError():
            return Away("Redis does not answer")
        case exceptions.BusyLoadingError():
            return Away("Redis is loading its data")
        case exceptions.ConnectionError() | OSError():
            return Away("no connection to Redis")
        case exceptions.OutOfMemoryError():
            return Away("the memory of Redis is full")
        case exceptions.ReadOnlyError():
            return Away("this Redis is a replica, which cannot be written to")
    return Away(f"Redis refuses the call ({type(error).__name__})")
