"""NP6Client without asyncio: configuration and lifecycle."""

from __future__ import annotations

import copy
import ssl
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import tzinfo
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypedDict, Unpack

from .. import _client
from .._config import DecodeLimits, RetryPolicy, Timeout
from .._errors import ClientClosed, ConfigError
from .._http.credentials import find_key
from .._http.observations import Hook
from .._http.rate_limiter import AccountLimit, RateLimitStatus
from ._account import Campaigns, Contacts, RedList, Segments
from ._actions import Actions, Reactivities
from ._events import Events
from ._loop import Loop
from ._mirror import mirrors_init

if TYPE_CHECKING:
    from aiohttp import TraceConfig
    from yarl import URL


class ClientOptions(TypedDict, total=False):
    """Options of a blocking client: those of `np6_async.NP6Client` but for `session`."""

    base_url: str | None
    concurrency: int
    timeout: Timeout | float | None
    retry: RetryPolicy | None
    tz: tzinfo | None
    rate_limiter: AbstractAsyncContextManager[Any] | AccountLimit | None
    hooks: Iterable[Hook]
    trace_configs: Iterable[TraceConfig]
    user_agent: str | None
    ssl_context: ssl.SSLContext | None
    proxy: URL | str | Literal["environment"] | None
    limits: DecodeLimits | None


class NP6Client:
    """A client of the NP6 events API for code that is not async. Use it in a ``with``, or `close` it.

    It has the calls of `np6_async.NP6Client`, with the same arguments and errors: where those are awaited, these return
    when they are done, and where those are async iterators, these are iterators. Behind it is one of those, on an event
    loop in a thread of its own, so it works wherever threads do: in a script, a notebook whose cell runs in an event
    loop, a sync view of Django or Flask, a task of Celery.

    One client serves any number of threads, and should: they share its connections, its slots, its pause after a 429
    and its retry budget. Each stream is read by one thread at a time. An iterable of contacts is read, and `on_error`
    called, in the thread that reads the stream, up to 512 contacts ahead; hooks, traces and a `rate_limiter` are called
    on the client's thread, where they must not call the client, which raises `UsageError`.

    Creating one does no I/O and starts no thread; its first call does. So one that was made before a process forks may
    be used after it, in each of the processes; once it was used, its thread is in the process that used it, and in
    others it raises `ClientClosed`.

    An interrupt of a call, such as Ctrl-C, ends what the call was fetching and then passes. What is still open when the
    process ends is closed then.

    The parameters are those of `np6_async.NP6Client`, but for `session`: a session belongs to the event loop on which
    it was made. Raises `ConfigError` for anything that cannot work.
    """

    @mirrors_init(_client.NP6Client, without=("session",))
    def __init__(self, api_key: str | None = None, **options: Unpack[ClientOptions]) -> None:
        key = find_key(api_key)
        del api_key  # a traceback with locals would show it: this frame raises nothing before
        if isinstance(key, ConfigError):
            raise key
        if "session" in options:
            raise ConfigError(
                "session= cannot be lent to a blocking client: a session belongs to the event loop on which it was "
                "made, and this client has a loop of its own"
            )
        try:
            client = _client.NP6Client(key, **options)  # type: ignore[arg-type]
        finally:
            del options  # the URL of a proxy may hold a password
        self._set_up(Loop(client), client, owner=True)

    def _set_up(self, loop: Loop, client: _client.NP6Client, *, owner: bool) -> None:
        self._loop, self._client, self._owner = loop, client, owner
        self.events: Events = Events(loop, client.events)
        self.actions: Actions = Actions(loop, client.actions)
        self.reactivities: Reactivities = Reactivities(loop, client.reactivities)
        self.segments: Segments = Segments(loop, client.segments)
        self.contacts: Contacts = Contacts(loop, client.contacts)
        self.campaigns: Campaigns = Campaigns(loop, client.campaigns)
        self.redlist: RedList = RedList(loop, client.redlist)

    def with_options(
        self,
        *,
        timeout: Timeout | float | None = None,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
        **unknown: Never,
    ) -> Self:
        """As `np6_async.NP6Client.with_options`: this client, with its thread, and other options for some calls."""
        view = copy.copy(self)
        client = self._client.with_options(timeout=timeout, retry=retry, concurrency=concurrency, **unknown)
        view._set_up(self._loop, client, owner=False)  # noqa: SLF001 - another of this class
        return view

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._loop.closed

    @property
    def rate_limit(self) -> RateLimitStatus | None:
        """As `np6_async.NP6Client.rate_limit`."""
        return self._client.rate_limit

    def close(self) -> None:
        """End every call in flight, in any thread, with `ClientClosed`, release all connections and end the thread.

        Safe to call twice. That of `with_options` does nothing: the client itself is to be closed.
        """
        if self._owner:
            self._loop.close()

    def __enter__(self) -> Self:
        if self.closed:
            raise ClientClosed("this NP6Client is closed; create a new one")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_loop"):  # a traceback with locals shows a client whose construction failed
            return "blocking.NP6Client(<not set up>)"
        return f"blocking.{self._client!r}"
