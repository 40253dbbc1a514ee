"""Every error this package raises. Catch `NP6Error` to catch them all.

::

    NP6Error
    ├── ConfigError                 the client was set up wrongly (also ValueError)
    ├── InvalidInput                an argument of a call is wrong (also ValueError)
    │   ├── InvalidBound            ... a start or end
    │   └── InvalidContact          ... a contact
    ├── TransportError              no complete response came over the wire
    │   ├── ConnectError            ... no connection could be made
    │   │   └── ProxyError          ... because of the proxy
    │   ├── TLSError                ... the server's certificate was not accepted
    │   ├── TimeoutExceeded         ... too slow (also TimeoutError)
    │   └── StreamInterrupted       ... the response broke off before its end
    ├── ProtocolError               a response came and is not what the API promises
    │   ├── DecodeError             ... an event, or another element, cannot be read
    │   ├── OrderError              ... events are not in the order asked for, or ids differ from those of before
    │   └── LimitExceeded           ... larger or deeper than the limits allow
    ├── APIError                    the server responded with an error status
    │   ├── AuthError               ... 401, 403
    │   ├── NotFound                ... 404, 410
    │   │   └── EndpointNotFound    ... 404 for each of the first contacts of a run
    │   ├── RateLimited             ... 429 with a wait above the cap
    │   ├── BadRequest              ... any other 4xx
    │   ├── ServerError             ... 408, 425, 5xx
    │   └── UnexpectedRedirect      ... 3xx
    ├── ServiceUnavailable          an outage lasted for longer than `RetryPolicy.outage`; no contact has failed
    ├── StoreError                  the state of a sync cannot be read or written
    ├── UsageError                  a stream was used in a way that it does not allow (also RuntimeError)
    ├── ClientClosed                the client or stream was closed, or belongs to another event loop
    └── BulkError                   contacts of a bulk fetch failed (also ExceptionGroup)

No message quotes an API key, a response's body, a query or an exception of aiohttp: any of these can hold a secret or a
person's e-mail address. Errors are raised `from None` for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self


class NP6Error(Exception):
    """The root of every error raised by this package, except `asyncio.CancelledError`.

    Where the error belongs to a contact, `contact` is that contact and `attempts` the number of requests made for it
    since it last made progress; otherwise they are None and 0. With calls about actions, the id of the action takes the
    contact's place. `request_id` is the ``x-request-id`` header of the response that the error is about, which NP6's
    support asks for; None where there was none.
    """

    contact: Any = None
    attempts: int = 0
    request_id: str | None = None

    _described = "NP6Error"  # the class of this module that describes it

    def __init_subclass__(cls) -> None:
        if cls.__module__ == __name__:
            cls._described = cls.__name__

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        name = self._described
        self.add_note(f"For what to do, see docs/guide/errors.md#{name.lower()} or help(np6_async.{name})")

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} [request id {self.request_id}]" if self.request_id else text


class ConfigError(NP6Error, ValueError):
    """The client cannot work as configured; raised before any I/O."""


class InvalidInput(NP6Error, ValueError):
    """An argument cannot be used; raised before any I/O."""


class InvalidBound(InvalidInput):
    """A `start` or `end` that is not a point in time, is ambiguous, or is out of range."""


class InvalidContact(InvalidInput):
    """A contact reference that cannot be sent safely."""


class TransportError(NP6Error):
    """The response did not arrive, or not completely."""


class ConnectError(TransportError):
    """No connection: refused, unreachable, reset before a response, or the name did not resolve."""

    # Whether the server closed an idle connection just as it was being used again, which is nobody's fault.
    stale = False
    # Whether this machine has run out of something, such as descriptors, which is not the server's fault.
    local = False


class ProxyError(ConnectError):
    """A proxy cannot be reached, or refuses to connect to the server.

    `status` is the HTTP status of its refusal, or None where it did not respond. Retried as a `ConnectError` is, but
    for a 3xx or 4xx such as 407 (the proxy wants other credentials) or 403: these concern every contact, are never
    retried, and end a bulk fetch. 408, 425 and 429 are retried.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def permanent(self) -> bool:
        """Whether asking again cannot help."""
        return self.status is not None and 300 <= self.status < 500 and self.status not in (408, 425, 429)


class TLSError(TransportError):
    """The server's certificate was not accepted. Never retried."""


class TimeoutExceeded(TransportError, TimeoutError):
    """Something took longer than `Timeout` allows; `limit` names the field that ran out."""

    def __init__(self, message: str, *, limit: Literal["connect", "read", "pool", "deadline"] = "read") -> None:
        super().__init__(message)
        self.limit = limit


class StreamInterrupted(TransportError):
    """The response broke off before its closing bracket and could not be resumed."""


class ProtocolError(NP6Error):
    """A response arrived that is not the JSON that the API promises: for events, an array of them.

    Also one in a coding that was not asked for and cannot be decoded, such as zstd, which is never retried.
    """

    # Whether asking again cannot help.
    permanent = False

    # Whether it is something else altogether, such as a page or an object: it may not come from NP6.
    foreign = False

    @classmethod
    def from_elsewhere(cls, message: str) -> Self:
        """The error of a response that is something else altogether."""
        error = cls(message)
        error.foreign = True
        return error


class DecodeError(ProtocolError):
    """One element cannot be read. `position` is its zero-based place in the response, None if unknown."""

    position: int | None = None


class OrderError(ProtocolError):
    """The server did not keep the order it was asked for, so resuming would lose events.

    For a segment's contacts and the red list, which have no order: a broken response was different when it was read
    again.
    """


class LimitExceeded(ProtocolError):
    """A response exceeded a limit on size, depth or ties."""


class APIError(NP6Error):
    """The server refused the request.

    `status` is the HTTP status; `retry_after` is the wait that the server asked for, in seconds, or None.
    """

    retry_after: float | None = None

    def __init__(self, message: str, *, status: int, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class AuthError(APIError):
    """401 (the key is unknown) or 403 (the key has no permission). Ends a bulk fetch."""


class NotFound(APIError):
    """404 or 410: no such contact, action, campaign or segment."""


class EndpointNotFound(NotFound):
    """404 for each of the first contacts of a bulk fetch: the address is wrong, not the contacts."""


class RateLimited(APIError):
    """429, and the server asks for a longer wait than `RetryPolicy.max_wait` allows."""


class BadRequest(APIError):
    """400, 405, 409, 411, 414, 415, 422 or another 4xx: repeating the request cannot help."""


class ServerError(APIError):
    """408, 425 or 5xx through every attempt that `RetryPolicy` allows, or a 2xx other than 200."""


class UnexpectedRedirect(APIError):
    """3xx. Redirects are never followed, because the API key would go along."""


class ServiceUnavailable(NP6Error):
    """NP6 does not answer, whoever is asked for: an outage that lasted for longer than `RetryPolicy.outage`, or one
    that the server says will. Or a run began in which no contact was ever answered, and 20 of them, or all, failed.
    Or the Redis of a `SharedLimit` without `share` is away.

    It ends a bulk fetch. The contacts that were not done have not failed: run it again, from where it got to. `since`
    is when the server was first seen to fail (aware, in UTC); `retry_after` is the wait that it asked for, in seconds,
    or None; `error` is the last thing that came from it, and None where it is Redis that is away.
    """

    since: datetime | None = None
    retry_after: float | None = None
    error: NP6Error | None = None


class StoreError(NP6Error):
    """The state of a sync is in use by another run, is something else, is damaged, or cannot be read or written."""


class UsageError(NP6Error, RuntimeError):
    """A stream was read by two tasks at once, or a bulk stream without ``async with`` or entered twice."""


class ClientClosed(NP6Error):
    """The client or stream was closed, or is used on a different event loop than the one it began on, or in a process
    that was forked since."""


class BulkError(NP6Error, ExceptionGroup[NP6Error]):
    """One or more contacts of a bulk fetch failed; `exceptions` holds one error per failed contact.

    Each of them names its contact in `contact`.
    """

    def __new__(cls, message: str, exceptions: Sequence[NP6Error]) -> BulkError:
        return super().__new__(cls, message, exceptions)

    def derive(self, excs: Sequence[Exception], /) -> BulkError:  # type: ignore[override]
        return BulkError(self.message, [e for e in excs if isinstance(e, NP6Error)])


def service_unavailable(
    since: datetime, last: NP6Error, said: str, problem: str, retry_after: float | None = None
) -> ServiceUnavailable:
    """The error that says since when, what the server `said`, and how to go on."""
    error = ServiceUnavailable(
        f"NP6 has not answered since {since:%Y-%m-%d %H:%M:%S} UTC ({said}), {problem}; contacts that are not done "
        "have not failed: continue with them later"
    )
    error.since, error.retry_after, error.error, error.request_id = since, retry_after, last, last.request_id
    return error


def said(error: NP6Error) -> str:
    """What the server said, or what came in its place, in a few words."""
    if isinstance(error, APIError):
        return str(error.status)
    message = str(error.args[0]) if error.args else type(error).__name__
    return message.partition(";")[0].partition(": check")[0]


def forget(error: NP6Error) -> None:
    """Drop what led to the error: other errors and frames, which hold requests and responses."""
    error.__cause__ = error.__context__ = None
    error.__suppress_context__ = True
    error.__traceback__ = None


def _rebuild(cls: type[APIError], args: tuple[str], state: dict[str, Any]) -> APIError:
    """Unpickle an `APIError`, whose keyword arguments `Exception.__reduce__` would drop."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
