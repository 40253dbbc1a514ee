"""NP6Client: configuration and lifecycle."""

from __future__ import annotations

import copy
import os
import ssl
import sys
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import tzinfo
from inspect import iscoroutinefunction, signature
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Never, Self

from attrs import evolve, fields, frozen

from ._api.account import Contacts, Segments
from ._api.actions import Actions, Reactivities
from ._api.campaigns import Campaigns
from ._api.events import Events
from ._api.red_list import RedList
from ._config import DecodeLimits, RetryPolicy, Timeout, check_concurrency
from ._errors import ConfigError, TimeoutExceeded
from ._http.availability import Availability
from ._http.base_url import parse_base_url
from ._http.concurrency import Slots
from ._http.credentials import find_key
from ._http.lifetime import Lifetime, SharedTimeout
from ._http.observations import Hook, Observers
from ._http.proxies import ENVIRONMENT, Proxy, find_proxy, parse_proxy
from ._http.rate_limiter import AccountLimit, RateLimiter, RateLimitStatus, SharingLimiter
from ._http.transport import Transport, verifies
from ._streams.runtime import Runtime
from ._version import __version__

if TYPE_CHECKING:
    from aiohttp import ClientSession, TraceConfig
    from yarl import URL

BASE_URL: Final = "https://api-cm.np6.com"
# How other libraries call what is an option here.
_ELSEWHERE: Final = {
    **dict.fromkeys(("key", "token", "apikey", "x_key"), "api_key="),
    **dict.fromkeys(("endpoint", "host", "server", "url"), "base_url="),
    **dict.fromkeys(("client", "http_client", "connector"), "session=, which takes an aiohttp.ClientSession"),
    **dict.fromkeys(("limit", "max_concurrency", "max_connections", "max_workers", "workers"), "concurrency="),
    **dict.fromkeys(
        ("max_retries", "max_attempts", "retries"),
        "retry=RetryPolicy(max_attempts=N), which counts the first attempt too",
    ),
    **dict.fromkeys(("read_timeout", "connect_timeout"), "timeout=Timeout(read=..., connect=...)"),
    **dict.fromkeys(("mounts", "proxies", "trust_env"), "proxy="),
    **dict.fromkeys(("ca_bundle", "cert", "ssl", "verify"), "ssl_context="),
    **dict.fromkeys(("timezone", "zone"), "tz="),
}


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
    proxy: str | None
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
    - `timeout`: see `Timeout`; a number of seconds is that for `read` and for `connect`.
    - `retry`: see `RetryPolicy`.
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
    - `ssl_context`: for a private certificate authority, which the environment variable ``SSL_CERT_FILE`` may name as
      well. Verification cannot be turned off.
    - `proxy`: the URL of an HTTP proxy, with its user name and password if it wants them; None is none. By default it
      is that of the environment, as for curl: ``HTTPS_PROXY``, else ``ALL_PROXY``, but neither for the hosts in
      ``NO_PROXY`` nor for loopback addresses. TLS goes through it to NP6. A borrowed session has its own.
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
        timeout: Timeout | float | None = None,
        retry: RetryPolicy | None = None,
        tz: tzinfo | None = None,
        rate_limiter: AbstractAsyncContextManager[Any] | AccountLimit | None = None,
        hooks: Iterable[Hook] = (),
        trace_configs: Iterable[TraceConfig] = (),
        user_agent: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: URL | str | Literal["environment"] | None = ENVIRONMENT,
        limits: DecodeLimits | None = None,
        **unknown: Never,
    ) -> None:
        key = find_key(api_key)
        parsed_proxy = parse_proxy(proxy)
        names = [*unknown]
        # A traceback with locals would show them: this frame raises nothing before.
        del api_key, proxy, unknown
        _check_names(names)
        if isinstance(key, ConfigError):
            raise key
        timeout = _as_timeout(timeout) or Timeout()
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
        retry = retry or RetryPolicy()
        lifetime = Lifetime()
        read_timeout = _read_timeout(lifetime, timeout)
        origin = _find_base_url(base_url)
        transport = Transport(
            key=key,
            base_url=origin,
            timeout=timeout,
            user_agent=_user_agent(user_agent),
            session=session,
            ssl_context=ssl_context,
            trace_configs=trace_configs,
            lifetime=lifetime,
            proxy=find_proxy(parsed_proxy, origin[0], borrowed=session is not None),
        )
        slots = Slots(check_concurrency(concurrency, ConfigError), retry.clock, most=transport.most_connections)
        if shared is None:
            limiter = RateLimiter(retry, requests=lambda: slots.requests, rate_limiter=own)
        else:
            limiter = shared.limiter(retry, requests=lambda: slots.requests, account=transport.account())
        availability = Availability(retry, limiter, timeout.read)
        if isinstance(limiter, SharingLimiter):
            limiter.suspect = availability.suspect
        runtime = Runtime(
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
        settings = ClientSettings(
            base_url=transport.base_url,
            concurrency=concurrency,
            timeout=timeout,
            retry=retry,
            tz=tz,
            rate_limiter=rate_limiter,
            user_agent=user_agent,
            ssl_context=ssl_context,
            proxy=_proxy_setting(parsed_proxy),
            limits=runtime.limits,
        )
        self._set_up(runtime, settings, owner=True)

    def _set_up(self, runtime: Runtime, settings: ClientSettings, *, owner: bool) -> None:
        self._runtime, self._settings, self._owner = runtime, settings, owner
        self.events: Events = Events(runtime)
        self.actions: Actions = Actions(runtime)
        self.reactivities: Reactivities = Reactivities(runtime)
        self.segments: Segments = Segments(runtime)
        self.contacts: Contacts = Contacts(runtime)
        self.campaigns: Campaigns = Campaigns(runtime)
        self.redlist: RedList = RedList(runtime)

    def with_options(
        self,
        *,
        timeout: Timeout | float | None = None,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
        **unknown: Never,
    ) -> Self:
        """This client with other options for the calls that are made by what is returned; None is as it is here.

        It shares all else: the connections, the slots, the rate limit and its pauses, the retry budget, what is known
        of an outage, the hooks. So it costs next to nothing, such as in each request of a web app::

            quick = np6.with_options(timeout=2, retry=RetryPolicy(max_attempts=2, max_wait=1, outage=0))

        - `timeout`: see `NP6Client`.
        - `retry`: of this, `budget` and `refund` stay those of the client, and so do its clocks.
        - `concurrency`: of each `stream_many` and of the pages; single calls take the slots of the client.

        It may be made at any time, and lives as long as the client: to close it, close that. Raises `ConfigError`.
        """
        _check_names([*unknown], of_all=" here; it is an option of NP6Client, for all calls")
        runtime, settings = self._runtime, self._settings
        _check_type("retry", retry, RetryPolicy, "RetryPolicy(...)")
        timeout = _as_timeout(timeout) or settings.timeout
        policy = runtime.policy
        if retry is not None:
            policy = evolve(
                retry,
                budget=policy.budget,
                refund=policy.refund,
                random=policy.random,
                clock=policy.clock,
                wall_clock=policy.wall_clock,
                sleep=policy.sleep,
            )
        concurrency = settings.concurrency if concurrency is None else check_concurrency(concurrency, ConfigError)
        read_timeout = runtime.read_timeout
        if timeout.read != settings.timeout.read:
            read_timeout = _read_timeout(runtime.lifetime, timeout)
        view = copy.copy(self)
        view._set_up(  # noqa: SLF001 - another of this class
            evolve(runtime, timeout=timeout, policy=policy, concurrency=concurrency, read_timeout=read_timeout),
            evolve(settings, timeout=timeout, retry=policy, concurrency=concurrency),
            owner=False,
        )
        return view

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
        """End every call in flight with `ClientClosed` and release all connections. Safe to call twice.

        That of `with_options` does nothing: the client itself is to be closed.
        """
        if not self._owner:
            return
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
        origin, concurrency = str(self._runtime.transport.origin), self._settings.concurrency
        paused = ", paused" if (limit := self._runtime.rate_limiter.status()) is not None and limit.paused else ""
        return f"NP6Client(base_url={origin!r}, concurrency={concurrency}{paused}, closed={self.closed})"


def runtime_of(client: NP6Client) -> Runtime:
    """The parts of a client: the one door for what else in this package works with them."""
    return client._runtime  # noqa: SLF001 - the door itself


def settings_of(client: NP6Client) -> ClientSettings:
    """What makes a client like this one in another process."""
    return client._settings  # noqa: SLF001 - the door itself


def _read_timeout(lifetime: Lifetime, timeout: Timeout) -> SharedTimeout:
    return lifetime.shared_timeout(
        timeout.read,
        lambda: TimeoutExceeded(f"no byte of the response came for {timeout.read:g} s (Timeout.read)"),
    )


def _as_timeout(timeout: Timeout | float | None) -> Timeout | None:
    if isinstance(timeout, int | float) and not isinstance(timeout, bool):
        return Timeout(read=timeout, connect=timeout)
    if timeout is None or isinstance(timeout, Timeout):
        return timeout
    raise ConfigError(f"timeout must be Timeout(...) or a number of seconds, not {type(timeout).__name__}")


def _proxy_setting(parsed: Proxy | ConfigError | Literal["environment"] | None) -> str | None:
    """What names the proxy in another process."""
    return str(parsed.url) if isinstance(parsed, Proxy) else ENVIRONMENT if parsed == ENVIRONMENT else None


def _check_names(names: list[str], of_all: str = "") -> None:
    """Refuse options that there are not, and name those that other libraries call so."""
    for name in names:
        known = [*signature(NP6Client).parameters]
        raise ConfigError(f"there is no option {name}={of_all if name in known else _instead(name, known)}")


def _instead(name: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only here: it takes a while

    options = _ELSEWHERE.get(name) or next((f"{close}=" for close in get_close_matches(name, known, 1)), None)
    return f"; use {options}" if options else ""


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
