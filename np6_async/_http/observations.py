"""What the client reports about itself, and to whom: observation records, hooks and the log.

A fetch, most often of a contact's events, is reported from FetchStarted to FetchFinished, and in between each request
from RequestStarted to RequestFinished: for each start there is one end, whatever happens. ContactDone or ContactFailed
follows when the consumer has taken the last event; there is none for a stream that was left early.

No record's text names a contact, a query or a body; paths are templates such as ``/targets/{id}/events``. The `contact`
member is there for hooks that need it, and is left out of repr and str; it is None where what is fetched does not
belong to a contact, such as segments. `fetch` is the number of the fetch in this process, the same in all its records:
a contact may be fetched twice at the same time.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, get_args

import attrs
from attrs import field, frozen

from .._errors import ConfigError, NP6Error, said

if TYPE_CHECKING:
    from .._models.contacts import Contact

# One hook may serve several clients, so no two fetches of a process have the same number.
fetch_numbers: Final = itertools.count(1)

logger: Final = logging.getLogger("np6_async")
logger.addHandler(logging.NullHandler())


@frozen
class FetchStarted:
    """A fetch begins, in the task that will run it: its context variables are those of the code that began to read the
    stream or entered the bulk stream. `origin` is the server, such as ``https://api-cm.np6.com``.
    """

    path: str
    origin: str
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"fetch of {self.path} begins"


@frozen
class FetchFinished:
    """A fetch ended. `error` is None where everything was fetched, a `ClientClosed` where the stream was left early.

    `seconds` is the time since FetchStarted, the consumer's included; `waited` is the part of it that was spent on
    backoff, rate limits and pacing, in seconds. `events` counts those that were delivered or are about to be.
    """

    path: str
    seconds: float
    events: int
    requests: int
    retries: int
    waited: float
    error: NP6Error | None = field(repr=False)
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        items = _items(self.path, self.events)
        return (
            f"fetch of {self.path}: {_outcome(self.error)}, {items} in {self.requests} requests, {self.seconds:.3f} s"
        )


@frozen
class RequestStarted:
    """A request goes out. `attempt` counts from 1 since the contact last made progress."""

    path: str
    attempt: int
    contact: Contact | None = field(repr=False)
    fetch: int = 0
    method: str = "GET"

    def __str__(self) -> str:
        return f"{self.method} {self.path}, attempt {self.attempt}"


@frozen
class RequestFinished:
    """A request ended: its whole response was read, or it failed, or the rest is no longer wanted.

    `seconds` is the time from request to end, the consumer's included; `received` counts bytes of the body after
    decompression, and `events` what was delivered: events, or ids or records where the path is one of those. `error` is
    None for a complete response, and a `ClientClosed` where the rest is no longer wanted. `status` is the HTTP status
    and `request_id` the ``x-request-id`` header; None where no response began.
    """

    path: str
    attempt: int
    seconds: float
    received: int
    events: int
    error: NP6Error | None = field(repr=False)
    contact: Contact | None = field(repr=False)
    fetch: int = 0
    status: int | None = None
    method: str = "GET"
    request_id: str | None = None

    def __str__(self) -> str:
        came = f"{_items(self.path, self.events)}, {self.received} bytes in {self.seconds:.3f} s"
        return f"{self.method} {self.path}: {_outcome(self.error)}, {came}"


@frozen
class RetryScheduled:
    """A request failed and is repeated after `delay` seconds, from where its response broke off."""

    path: str
    attempt: int
    delay: float
    error: NP6Error = field(repr=False)
    contact: Contact | None = field(repr=False)
    fetch: int = 0
    method: str = "GET"

    def __str__(self) -> str:
        failed = f"{type(self.error).__name__} at attempt {self.attempt}"
        return f"{self.method} {self.path}: {failed}, again in {self.delay:.2f} s"


@frozen
class RateLimitWait:
    """The server responded with 429, or with a 503 that is its limiter's: no request of this client goes out for
    `seconds`."""

    path: str
    seconds: float
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"rate limited: every request waits {self.seconds:.2f} s"


@frozen
class OutageWait:
    """NP6 answers nobody since `since` (aware, in UTC); the next request, a probe, goes out in `delay` seconds.

    `error` is what came last. A probe is a request like others, with its RequestStarted and RequestFinished, in the
    fetch that is the first of those that wait.
    """

    path: str
    since: datetime
    delay: float
    error: NP6Error = field(repr=False)
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return (
            f"NP6 has not answered since {self.since:%H:%M:%S} UTC ({said(self.error)}); "
            f"next try in {self.delay:.{0 if self.delay >= 10 else 1}f} s"
        )


@frozen
class OutageEnded:
    """NP6 answers again, `seconds` after it was first seen not to."""

    path: str
    seconds: float
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"NP6 answers again, after {self.seconds:.1f} s"


@frozen
class Resumed:
    """A broken response is resumed; `delivered` events, or ids, were delivered before."""

    path: str
    delivered: int
    contact: Contact | None = field(repr=False)
    fetch: int = 0
    method: str = "GET"

    def __str__(self) -> str:
        return f"{self.method} {self.path}: resumes after {_items(self.path, self.delivered)}"


@frozen
class ContactDone:
    """Every event of a contact was delivered, and its response is known to be complete."""

    path: str
    events: int
    requests: int
    contact: Contact = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"contact done: {self.events} events in {self.requests} requests"


@frozen
class ContactFailed:
    """A contact failed permanently; `events` of it were delivered before."""

    path: str
    events: int
    requests: int
    error: NP6Error = field(repr=False)
    contact: Contact = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"contact failed after {self.events} events in {self.requests} requests: {type(self.error).__name__}"


Observation: TypeAlias = (
    FetchStarted
    | FetchFinished
    | RequestStarted
    | RequestFinished
    | RetryScheduled
    | RateLimitWait
    | OutageWait
    | OutageEnded
    | Resumed
    | ContactDone
    | ContactFailed
)


def _items(path: str, count: int) -> str:
    return f"{count} {'events' if '/events' in path else 'items'}"


class Hook(Protocol):
    """Called with each observation, on the event loop: be quick. What it raises is logged and dropped."""

    def __call__(self, observation: Observation, /) -> None: ...


def _outcome(error: NP6Error | None) -> str:
    return "complete" if error is None else type(error).__name__


_TYPES: Final[tuple[type[Observation], ...]] = get_args(Observation)
_LEVELS: Final[dict[type[Observation], int | None]] = {
    **dict.fromkeys(_TYPES, logging.DEBUG),
    RetryScheduled: logging.INFO,
    RateLimitWait: logging.INFO,
    OutageWait: logging.INFO,
    OutageEnded: logging.INFO,
    ContactFailed: logging.INFO,
}


class LoggingHook:
    """Logs each observation. A client adds one, unless its `hooks` already include one.

    `logger` is a logger or the name of one, by default ``np6_async``. `levels` maps types of observations to the level
    at which they are logged, or to None to not log them: by default `RetryScheduled`, `RateLimitWait`,
    `OutageWait`, `OutageEnded` and `ContactFailed` are INFO, the others DEBUG.

    The message is the text of the observation. For structured logs, its members are in `extra` with the prefix ``np6_``
    (``np6_path``, ``np6_attempt``, ``np6_delay``, ...); ``np6_observation`` is its type, ``np6_error`` the type of its
    error and ``np6_request_id`` the server's id of the failed request. They include no contact, no query and no text of
    an error. Raises `ConfigError` for anything else than a logger, observations and levels.
    """

    def __init__(
        self,
        logger: logging.Logger | str = "np6_async",
        *,
        levels: Mapping[type[Observation], int | None] | None = None,
    ) -> None:
        if not isinstance(logger, logging.Logger | str):
            raise ConfigError(f"logger must be a logging.Logger or the name of one, not {type(logger).__name__}")
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        for observed, level in (levels or {}).items():
            if observed not in _LEVELS or isinstance(level, bool) or not isinstance(level, int | None):
                raise ConfigError("levels must map types of observations, such as RetryScheduled, to levels or None")
        self._levels = {
            observed: level for observed, level in {**_LEVELS, **(levels or {})}.items() if level is not None
        }
        self._highest = max(self._levels.values(), default=None)

    def listens(self) -> bool:
        """Whether anything would be logged."""
        return self._highest is not None and self._logger.isEnabledFor(self._highest)

    def __call__(self, observation: Observation, /) -> None:
        """Log it, where its level is enabled."""
        level = self._levels.get(type(observation))
        if level is not None and self._logger.isEnabledFor(level):
            # As text: kept log records must not keep contacts and errors alive.
            self._logger.log(level, str(observation), extra=_members(observation))


def _members(observation: Observation) -> dict[str, Any]:
    extra: dict[str, Any] = {"np6_observation": type(observation).__name__}
    for member in attrs.fields(type(observation)):
        if member.name not in ("contact", "error"):
            extra[f"np6_{member.name}"] = getattr(observation, member.name)
    error = getattr(observation, "error", None)
    if error is not None:
        extra["np6_error"] = type(error).__name__
        if error.request_id:
            extra["np6_request_id"] = error.request_id
    return extra


class Observers:
    """Passes observations to the log and to the hooks. False while nobody listens."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        hooks = tuple(hooks)
        logging_hooks = [hook for hook in hooks if isinstance(hook, LoggingHook)]
        if not logging_hooks:
            logging_hooks = [LoggingHook()]
            hooks = (*logging_hooks, *hooks)
        self._hooks = hooks
        self._listens = [hook.listens for hook in logging_hooks]
        self._always = len(hooks) > len(logging_hooks)

    def __bool__(self) -> bool:
        if self._always:
            return True
        try:
            for listens in self._listens:  # not `any`: this runs for each contact, and `any` takes twice as long
                if listens():
                    return True
        except Exception as error:
            _log(error)
            return True  # the others may listen
        return False

    def __call__(self, observation: Observation) -> None:
        """Notify every hook."""
        for hook in self._hooks:
            try:
                hook(observation)
            except Exception as error:
                _log(error)


def _log(error: Exception) -> None:
    # Its text is not ours to log: it may quote the contact.
    logger.error("a hook raised %s", type(error).__name__)
