"""NP6Client: configuration and lifecycle."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import tzinfo
from inspect import iscoroutinefunction
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from attrs import fields, frozen

from ._api.account import Contacts, Segments
from ._api.actions import Actions, Reactivities
from ._api.campaigns import Campaigns
from ._api.events import Events
from ._api.red_list import RedList
from ._config import DecodeLimits, RetryPolicy, Timeout, check_concurrency
from ._errors import ConfigError, TimeoutExceeded
from ._http.availability import Availability
from ._http.concurrency import Slots
from ._http.credentials import find_key
from ._http.lifetime import Lifetime
from ._http.observations import Hook, Observers
from ._http.rate_limiter import AccountLimit, RateLimiter, RateLimitStatus, SharingLimiter
from ._http.transport import Transport, parse_base_url, verifies
from ._streams.runtime import Runtime
from ._version import __version__

if TYPE_CHECKING:
    from aiohttp import ClientSession, TraceConfig
    from yarl import URL

BASE_URL: Final = "https://api-cm.np6.com"


@frozen
class ClientSettings:
    """What makes an `NP6Client` in another process, but for the API key, which each process has in its environment."""

    base_url: str
    concurrency: int
    timeout: Timeout
    retry: RetryPolicy
    tz: tzinfo | None
    rate_limiter: AbstractAsyncContextManager[Any] | AccountLimit | None
    user_agent: str | None
    ssl_context: ssl.SSLContext | None
    limits: DecodeLimits

    def make(self) -> NP6Client:
        """A client; raises `ConfigError`."""
        return NP6Client(**{each.name: getattr(self, each.name) for each in fields(ClientSettings)})


class NP6Client:
    """A client of the NP6 events API. Use it under ``async with``, or `close` it.

    `events` has the calls for the events of contacts, `actions` and `reactivities` those that answer for all contacts
    of the account at once, and `campaigns` those for the events of campaigns; `segments`, `contacts` and `redlist` have
    those for what else the account holds.

    Creating one does no I/O and needs no event loop; from its first use on it belongs to the loop on which it was used.
    One client serves any number of concurrent calls, and should: its slots, its pause after a 429, its retry budget and
    what it knows of an outage are shared by all of them.

    - `api_key`: the value of the ``X-Key`` header. Defaults to the environment variable ``NP6_API_KEY``, or to the
      content of the file that ``NP6_API_KEY_FILE`` names. It is never shown: not in a repr, log, error or pickle.
    - `base_url`: defaults to the environment variable ``NP6_BASE_URL``, or to ``https://api-cm.np6.com``. ``http://``
      is accepted for loopback addresses only.
    - `session`: an `aiohttp.ClientSession` to borrow; it is never closed and never reconfigured.
    - `concurrency`: how many requests may be in flight, 1 to 1,000, default 16, and as many again for each
      `stream_many`. A borrowed session's own limit of connections is not exceeded.
    - `timeout`, `retry`: see `Timeout` and `RetryPolicy`.
    - `tz`: the time zone for naive datetimes, dates and texts without an offset. Without it, dates and texts are taken
      as UTC, and naive datetimes are refused.
    - `rate_limiter`: any async context manager, entered before each request, such as
      ``aiolimiter.AsyncLimiter(50, 1)``; or `np6_async.integrations.redis.SharedLimit`, by which any number of
      processes with this API key share one limit.
    - `hooks`: called with each observation, such as `RetryScheduled`; see `Hook`. A `LoggingHook` among them replaces
      the default one, which logs to the logger ``np6_async``.
    - `trace_configs`: `aiohttp.TraceConfig` objects for the client's own session; a borrowed one has its own. The API
      key is removed from the headers they receive. URLs are left as they are: they contain contacts, and for contacts
      by unicity e-mail addresses. An exception that a trace raises fails the request.
    - `user_agent`: prepended to the SDK's own ``User-Agent``.
    - `ssl_context`: for a private certificate authority. Verification cannot be turned off.
    - `limits`: what a response may cost; see `DecodeLimits`.

    Raises `ConfigError` for anything that cannot work.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        session: ClientSession | None = None,
        concurrency: int = 16,
        timeout: Timeout | None = None,
        retry: RetryPolicy | None = None,
        tz: tzinfo | None = None,
        rate_limiter: AbstractAsyncContextManager[Any] | AccountLimit | None = None,
        hooks: Iterable[Hook] = (),
        trace_configs: Iterable[TraceConfig] = (),
        user_agent: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        limits: DecodeLimits | None = None,
    ) -> None:
        key = find_key(api_key)
        del api_key  # a traceback with locals would show it: this frame raises nothing before
        if isinstance(key, ConfigError):
            raise key
        _check_type("timeout", timeout, Timeout, "Timeout(...)")
        _check_type("retry", retry, RetryPolicy, "RetryPolicy(...)")
        _check_type("limits", limits, DecodeLimits, "DecodeLimits(...)")
        _check_type("ssl_context", ssl_context, ssl.SSLContext, "an ssl.SSLContext")
        if ssl_context is not None and not verifies(ssl_context):
            raise ConfigError("ssl_context must verify certificates and host names: see ssl.create_default_context")
        shared = own = None
        if isinstance(rate_limiter, AccountLimit):
            shared = rate_limiter
        else:
            own = rate_limiter
        _check_type("rate_limiter", own, AbstractAsyncContextManager, "an async context manager")
        _check_tz(tz)
        timeout = timeout or Timeout()
        retry = retry or RetryPolicy()
        lifetime = Lifetime()
        read_timeout = lifetime.shared_timeout(
            timeout.read,
            lambda: TimeoutExceeded(f"no byte of the response came for {timeout.read:g} s (Timeout.read)"),
        )
        transport = Transport(
            key=key,
            base_url=_find_base_url(base_url),
            timeout=timeout,
            user_agent=_user_agent(user_agent),
            session=session,
            ssl_context=ssl_context,
            trace_configs=trace_configs,
            read_timeout=read_timeout,
        )
        slots = Slots(check_concurrency(concurrency, ConfigError), retry.clock, most=transport.most_connections)
        if shared is None:
            limiter = RateLimiter(retry, requests=lambda: slots.requests, rate_limiter=own)
        else:
            limiter = shared.limiter(retry, requests=lambda: slots.requests, account=transport.account())
        availability = Availability(retry, limiter, timeout.read)
        if isinstance(limiter, SharingLimiter):
            limiter.suspect = availability.suspect
        self._runtime = Runtime(
            transport=transport,
            slots=slots,
            concurrency=concurrency,
            rate_limiter=limiter,
            policy=retry,
            availability=availability,
            timeout=timeout,
            limits=limits or DecodeLimits(),
            observers=Observers(_check_hooks(hooks)),
            lifetime=lifetime,
            read_timeout=read_timeout,
            tz=tz,
        )
        self._settings = ClientSettings(
            base_url=transport.base_url,
            concurrency=concurrency,
            timeout=timeout,
            retry=retry,
            tz=tz,
            rate_limiter=rate_limiter,
            user_agent=user_agent,
            ssl_context=ssl_context,
            limits=self._runtime.limits,
        )
        self.events: Events = Events(self._runtime)
        self.actions: Actions = Actions(self._runtime)
        self.reactivities: Reactivities = Reactivities(self._runtime)
        self.segments: Segments = Segments(self._runtime)
        self.contacts: Contacts = Contacts(self._runtime)
        self.campaigns: Campaigns = Campaigns(self._runtime)
        self.redlist: RedList = RedList(self._runtime)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._runtime.lifetime.closed

    @property
    def rate_limit(self) -> RateLimitStatus | None:
        """What the server last reported of the account's rate limit, and whether the client is paused.

        None while it has reported nothing: NP6 may, but need not, send the headers.
        """
        return self._runtime.rate_limiter.status()

    async def close(self) -> None:
        """End every call in flight with `ClientClosed` and release all connections. Safe to call twice."""
        self._runtime.lifetime.close()
        await self._runtime.transport.close()
        await self._runtime.rate_limiter.close()

    async def __aenter__(self) -> Self:
        self._runtime.lifetime.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_runtime"):  # a traceback with locals shows a client whose construction failed
            return "NP6Client(<not set up>)"
        return f"NP6Client(base_url={str(self._runtime.transport.origin)!r}, closed={self.closed})"


def runtime_of(client: NP6Client) -> Runtime:
    """The parts of a client: the one door for what else in this package works with them."""
    return client._runtime  # noqa: SLF001 - the door itself


def settings_of(client: NP6Client) -> ClientSettings:
    """What makes a client like this one in another process."""
    return client._settings  # noqa: SLF001 - the door itself


def _check_type(name: str, value: object, wanted: type, description: str) -> None:
    if value is not None and not isinstance(value, wanted):
        raise ConfigError(f"{name} must be {description}, not {type(value).__name__}")


def _check_tz(tz: tzinfo | None) -> None:
    _check_type("tz", tz, tzinfo, 'a time zone such as zoneinfo.ZoneInfo("Europe/Paris")')
    # As the tzinfo of a datetime, a pytz zone is the local mean time of the 19th century.
    if hasattr(tz, "localize"):
        raise ConfigError('tz must not be a pytz zone; use zoneinfo, such as zoneinfo.ZoneInfo("Europe/Paris")')


def _check_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    checked = tuple(hooks) if isinstance(hooks, Iterable) else None
    if checked is None or not all(callable(hook) for hook in checked):
        raise ConfigError("hooks must be an iterable of callables that take one observation")
    for hook in checked:
        if isinstance(hook, type):  # it would make an object of each observation
            raise ConfigError(f"hooks must not contain the class {hook.__name__}: pass an instance, {hook.__name__}()")
    if any(iscoroutinefunction(hook) or iscoroutinefunction(type(hook).__call__) for hook in checked):
        raise ConfigError("hooks must be plain functions: a coroutine would never be awaited")
    return checked


def _find_base_url(base_url: str | None) -> tuple[URL, str]:
    """That of the argument, the environment or NP6, as `parse_base_url` has it."""
    if base_url is not None:
        return parse_base_url(base_url, "base_url")
    return parse_base_url(os.environ.get("NP6_BASE_URL", BASE_URL), "NP6_BASE_URL")


def _user_agent(prefix: str | None) -> str:
    own = f"np6_async/{__version__} python/{sys.version_info.major}.{sys.version_info.minor}"
    if prefix is None:
        return own
    if not isinstance(prefix, str) or not prefix.isascii() or not prefix.isprintable() or not prefix.strip():
        raise ConfigError("user_agent must be printable ASCII text")
    return f"{prefix.strip()} {own}"
