"""NP6Client: configuration, lifecycle, and the `events` namespace."""

from __future__ import annotations

import builtins  # `Events.list` hides the builtin inside its class
import os
import re
import ssl
import sys
from collections.abc import AsyncIterable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, tzinfo
from inspect import iscoroutinefunction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, overload

from ._bounds import Bound, window
from ._bulk import BulkStream, ErrorPolicy
from ._contacts import Contact, parse
from ._decode import DecodeLimits
from ._errors import ConfigError, InvalidInput, TimeoutExceeded
from ._events import Activation, Bounce, Event, EventKind, Hit, Optout
from ._fetch import Fetch, Query, Runtime
from ._gate import Gate
from ._hooks import ApiKey, Hook, Observers
from ._lifetime import Lifetime
from ._retry import RetryBudget, RetryPolicy
from ._slots import Slots
from ._stream import EventStream
from ._transport import Timeout, Transport
from ._version import __version__

if TYPE_CHECKING:
    from aiohttp import ClientSession

BASE_URL: Final = "https://api-cm.np6.com"

_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")
_CLASSIFICATION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_CONCURRENCY: Final = 1_000

_All: TypeAlias = Literal["all", EventKind.ALL]
_Activations: TypeAlias = Literal["activations", EventKind.ACTIVATIONS]
_Bounces: TypeAlias = Literal["bounces", EventKind.BOUNCES]
_Stops: TypeAlias = Literal["stops", EventKind.STOPS]
_Hits: TypeAlias = Literal[
    "hits",
    "hits/open",
    "hits/redirection",
    "hits/unsubscribe",
    "hits/mirror",
    "hits/form",
    EventKind.HITS,
    EventKind.HITS_OPEN,
    EventKind.HITS_REDIRECTION,
    EventKind.HITS_UNSUBSCRIBE,
    EventKind.HITS_MIRROR,
    EventKind.HITS_FORM,
]
_Missing: TypeAlias = Literal["error", "empty"]
_Contacts: TypeAlias = Iterable[str | Contact] | AsyncIterable[str | Contact]


class NP6Client:
    """A client of the NP6 contact-events API. Use it under ``async with``, or `close` it.

    Creating one does no I/O and needs no event loop; from its first use on it belongs to the loop it was
    used on. One client serves any number of concurrent calls, and should: its slots, its pause after a 429
    and its retry budget are shared by all of them.

    - `api_key`: the value of the ``X-Key`` header. Without it, the environment variable ``NP6_API_KEY``, or the
      file that ``NP6_API_KEY_FILE`` names. It is never shown: not in a repr, a log, an error or a pickle.
    - `base_url`: default ``https://api-cm.np6.com``. ``http://`` is accepted for loopback addresses alone.
    - `session`: an `aiohttp.ClientSession` to borrow; it is never closed and never reconfigured.
    - `concurrency`: how many requests of `stream` and `list` may be in flight, 1 to 1,000, default 16, and as many
      again for each `stream_many`. A borrowed session's own limit of connections is not exceeded.
    - `timeout`, `retry`: see `Timeout` and `RetryPolicy`.
    - `tz`: the time zone in which naive datetimes, dates and texts without an offset are read. Without it
      they are read in UTC, and naive datetimes are refused.
    - `rate_limiter`: any async context manager, entered before each request, such as
      ``aiolimiter.AsyncLimiter(50, 1)``.
    - `hooks`: called with each observation, such as `RetryScheduled`; see `Hook`.
    - `user_agent`: put in front of the SDK's own ``User-Agent``.
    - `ssl_context`: for a private certificate authority. Verification cannot be turned off.
    - `limits`: what an answer may cost; see `DecodeLimits`.

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
        rate_limiter: AbstractAsyncContextManager[Any] | None = None,
        hooks: Iterable[Hook] = (),
        user_agent: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        limits: DecodeLimits | None = None,
    ) -> None:
        key = _find_key(api_key)
        del api_key  # a traceback with locals would show it: this frame raises nothing before
        if isinstance(key, ConfigError):
            raise key
        _check_type("timeout", timeout, Timeout, "Timeout(...)")
        _check_type("retry", retry, RetryPolicy, "RetryPolicy(...)")
        _check_type("limits", limits, DecodeLimits, "DecodeLimits(...)")
        _check_type("ssl_context", ssl_context, ssl.SSLContext, "an ssl.SSLContext")
        if ssl_context is not None and not (
            ssl_context.check_hostname and ssl_context.verify_mode is ssl.CERT_REQUIRED
        ):
            raise ConfigError("ssl_context must verify certificates and host names: see ssl.create_default_context")
        _check_type("rate_limiter", rate_limiter, AbstractAsyncContextManager, "an async context manager")
        _check_tz(tz)
        timeout = timeout or Timeout()
        retry = retry or RetryPolicy()
        transport = Transport(
            key=key,
            base_url=BASE_URL if base_url is None else base_url,
            timeout=timeout,
            user_agent=_user_agent(user_agent),
            session=session,
            ssl_context=ssl_context,
        )
        lifetime = Lifetime()
        slots = Slots(_check_concurrency(concurrency, ConfigError), retry.clock, most=transport.most_connections)
        self._runtime = Runtime(
            transport=transport,
            slots=slots,
            gate=Gate(retry, requests=lambda: slots.requests, rate_limiter=rate_limiter),
            policy=retry,
            budget=RetryBudget(retry),
            timeout=timeout,
            limits=limits or DecodeLimits(),
            observers=Observers(_check_hooks(hooks)),
            lifetime=lifetime,
            patience=lifetime.patience(
                timeout.read,
                lambda: TimeoutExceeded(f"no byte of the answer came for {timeout.read:g} s (Timeout.read)"),
            ),
        )
        self.events: Events = Events(self._runtime, tz, concurrency)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._runtime.lifetime.closed

    async def close(self) -> None:
        """End every call in flight with `ClientClosed` and give all connections back. Safe to call twice."""
        self._runtime.lifetime.close()
        await self._runtime.transport.close()

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


class Events:
    """The events of contacts; reached as `NP6Client.events`.

    Common to all methods:

    - a contact is an id as `str`, or a `Contact` made by `Contact.by_id`, `by_unicity` or `by_hash`;
    - `kind` is an `EventKind` or its value; the type of the events follows from it;
    - `start` (inclusive) and `end` (exclusive) bound the events' `timestamp`: an aware datetime, a date (its
      midnight), an ISO 8601 text, epoch seconds or milliseconds, or a timedelta (that long before now).
      None is no bound. A relative bound is fixed when the call is made. Equal bounds ask nothing;
    - `classification` adds hits made by robots to the ``hits`` kinds: ``genericrobot``, ``mpp`` and ``gsr``, as
      an iterable or separated by commas;
    - `newest_first` turns the order around;
    - `missing` says whether a contact that the account does not have (404) is an error, `NotFound`
      (``"error"``, the default), or has no events (``"empty"``).

    Bad arguments raise `InvalidInput` (also a ValueError), before any I/O.
    """

    def __init__(self, runtime: Runtime, tz: tzinfo | None, concurrency: int) -> None:
        self._runtime = runtime
        self._tz = tz
        self._concurrency = concurrency

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: _Activations,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> EventStream[Activation]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: _Bounces,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> EventStream[Bounce]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: _Stops,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> EventStream[Optout]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: _Hits,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> EventStream[Hit]: ...

    @overload
    def stream(
        self,
        contact: str | Contact,
        kind: str = ...,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> EventStream[Event]: ...

    def stream(
        self,
        contact: str | Contact,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: _Missing = "error",
    ) -> EventStream[Any]:
        """The events of one contact as an async iterator. No request goes out before it is iterated."""
        query = self._query(kind, start, end, classification, newest_first, missing)
        return EventStream(Fetch(self._runtime, parse(contact), query, self._runtime.slots))

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: _Activations,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Literal["completion"] = ...,
    ) -> BulkStream[Activation]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: _Bounces,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Literal["completion"] = ...,
    ) -> BulkStream[Bounce]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: _Stops,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Literal["completion"] = ...,
    ) -> BulkStream[Optout]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: _Hits,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Literal["completion"] = ...,
    ) -> BulkStream[Hit]: ...

    @overload
    def stream_many(
        self,
        contacts: _Contacts,
        kind: str = ...,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
        concurrency: int | None = ...,
        on_error: ErrorPolicy = ...,
        order: Literal["completion"] = ...,
    ) -> BulkStream[Event]: ...

    def stream_many(
        self,
        contacts: _Contacts,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        newest_first: bool = False,
        missing: _Missing = "error",
        concurrency: int | None = None,
        on_error: ErrorPolicy = "raise",
        order: Literal["completion"] = "completion",
    ) -> BulkStream[Any]:
        """The events of many contacts, fetched concurrently, as an async iterator of ``(contact, event)``.

        `contacts` is any iterable or async iterable; it is read as workers come free, so ten million ids may
        come from a file. A contact that it names twice is fetched twice. `concurrency` (default: the
        client's, 1 to 1,000) is how many requests of this run are in flight at most, and how many tasks it has;
        they come on top of the client's own, so that other calls, also from inside the loop, need not wait for
        it. Of a borrowed session with a limit of connections, a run takes what others have left, but for one.
        A slow consumer stops the reading: 256 KiB of events, and for each request in flight a batch of them and
        what the socket gave in one go (up to 256 KiB) wait in memory. `order` is that of the answers' arrival,
        ``"completion"``.

        `on_error` says what becomes of a contact that failed for good: ``"raise"`` (the default) ends the run
        with a `BulkError`; ``"collect"`` lists it in `BulkStream.failures` and goes on; ``"skip"`` only counts it;
        a callable gets the `Failure`, after the contact's events, and answers with one of these words (None is
        ``"skip"``), also as a coroutine. `AuthError` ends the run under each of them, and so do `RateLimited` (the
        server asks for a longer wait than `RetryPolicy.max_wait`) and, unless ``missing="empty"``,
        `EndpointNotFound`: the first 20 contacts all answered 404.
        """
        query = self._query(kind, start, end, classification, newest_first, missing)
        slots = self._concurrency if concurrency is None else _check_concurrency(concurrency, InvalidInput)
        return BulkStream(
            contacts,
            lambda contact: Fetch(self._runtime, contact, query),
            slots=self._runtime.slots.lend(slots),
            on_error=on_error,
            order=order,
            lifetime=self._runtime.lifetime,
        )

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: _Activations,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> builtins.list[Activation]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: _Bounces,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> builtins.list[Bounce]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: _Stops,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> builtins.list[Optout]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: _Hits,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> builtins.list[Hit]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: _All = ...,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> builtins.list[Event]: ...

    @overload
    async def list(
        self,
        contact: str | Contact,
        kind: str,
        *,
        start: Bound | None = ...,
        end: Bound | None = ...,
        classification: str | Iterable[str] | None = ...,
        limit: int | None = ...,
        newest_first: bool = ...,
        missing: _Missing = ...,
    ) -> builtins.list[Any]: ...

    async def list(
        self,
        contact: str | Contact,
        kind: str = EventKind.ALL,
        *,
        start: Bound | None = None,
        end: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        missing: _Missing = "error",
    ) -> builtins.list[Any]:
        """The events of one contact, at most `limit` of them (a whole number from 0; None is all).

        Reading stops at `limit`: with `newest_first`, the latest 50 events of a contact with a million cost
        little more than 50.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InvalidInput(f"limit must be a whole number from 0 or None, not {limit!r}")
        self._runtime.lifetime.check()
        query = self._query(kind, start, end, classification, newest_first, missing)
        events: builtins.list[Any] = []
        async with EventStream(Fetch[Any](self._runtime, parse(contact), query, self._runtime.slots)) as stream:
            if limit != 0:
                async for batch in stream.batches():
                    events += batch
                    if limit is not None and len(events) >= limit:
                        break
        return events[:limit]

    def _query(
        self,
        kind: str,
        start: Bound | None,
        end: Bound | None,
        classification: str | Iterable[str] | None,
        newest_first: bool,
        missing: str,
    ) -> Query:
        parsed = EventKind.parse(kind)
        if missing not in ("error", "empty"):
            raise InvalidInput(f"missing={missing!r} is not known; use 'error' or 'empty'")
        return Query(
            kind=parsed,
            window=window(start, end, now=datetime.now(UTC), tz=self._tz),
            newest_first=bool(newest_first),
            classification=_parse_classification(classification, parsed),
            missing_is_empty=missing == "empty",
        )


def _parse_classification(classification: str | Iterable[str] | None, kind: EventKind) -> str | None:
    if classification is None:
        return None
    if not kind.is_hits:
        raise InvalidInput(f"classification goes with the kinds of hits, not with kind={kind.value!r}")
    if isinstance(classification, str):
        classification = classification.split(",")
    names = list(classification) if isinstance(classification, Iterable) else []
    if not names or not all(isinstance(name, str) and _CLASSIFICATION.fullmatch(name) for name in names):
        raise InvalidInput("classification must be names such as 'genericrobot', 'mpp' or 'gsr'")
    return ",".join(names)


def _check_concurrency(value: int, error: type[ConfigError] | type[InvalidInput]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_CONCURRENCY:
        raise error(f"concurrency must be a whole number from 1 to {_MAX_CONCURRENCY}, not {value!r}")
    return value


def _check_type(name: str, value: object, wanted: type, description: str) -> None:
    if value is not None and not isinstance(value, wanted):
        raise ConfigError(f"{name} must be {description}, not {type(value).__name__}")


def _check_tz(tz: tzinfo | None) -> None:
    _check_type("tz", tz, tzinfo, 'a time zone such as zoneinfo.ZoneInfo("Europe/Paris")')
    # Given to a datetime as its tzinfo, a zone of pytz is the town's mean time of the 19th century.
    if hasattr(tz, "localize"):
        raise ConfigError('tz must not be a zone of pytz; use zoneinfo, such as zoneinfo.ZoneInfo("Europe/Paris")')


def _check_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    checked = tuple(hooks) if isinstance(hooks, Iterable) else None
    if checked is None or not all(callable(hook) for hook in checked):
        raise ConfigError("hooks must be an iterable of callables that take one observation")
    if any(iscoroutinefunction(hook) or iscoroutinefunction(type(hook).__call__) for hook in checked):
        raise ConfigError("hooks are plain functions: a coroutine would never be awaited")
    return checked


def _find_key(api_key: str | None) -> ApiKey | ConfigError:
    """The key from the argument or the environment, or what is wrong with it, which never quotes it.

    The error is not raised here: the caller's frame still holds the key.
    """
    source = "api_key"
    if api_key is None and (api_key := os.environ.get("NP6_API_KEY")) is not None:
        source = "NP6_API_KEY"
    if api_key is None and (path := os.environ.get("NP6_API_KEY_FILE")) is not None:
        source = "the file that NP6_API_KEY_FILE names"
        try:
            api_key = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            return ConfigError(f"{source} cannot be read: {type(error).__name__}")
    if api_key is None:
        return ConfigError(
            "no API key: pass NP6Client(api_key), or set NP6_API_KEY to the key or NP6_API_KEY_FILE to a file with it"
        )
    if not isinstance(api_key, str) or not _KEY.fullmatch(api_key):
        return ConfigError(f"{source} is no API key: 1 to 512 printable ASCII characters without spaces are expected")
    return ApiKey(api_key)


def _user_agent(prefix: str | None) -> str:
    own = f"np6_async/{__version__} python/{sys.version_info.major}.{sys.version_info.minor}"
    if prefix is None:
        return own
    if not isinstance(prefix, str) or not prefix.isascii() or not prefix.isprintable() or not prefix.strip():
        raise ConfigError("user_agent must be printable ASCII text")
    return f"{prefix.strip()} {own}"
