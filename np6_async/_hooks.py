"""What the client tells about itself: observation records for hooks and for the log.

No record's text names a contact, a query or a body; paths are templates such as ``/targets/{id}/events``.
The `contact` member is there for hooks that need it, and is left out of repr and str; it is None for
requests that are about no contact, such as those for segments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from attrs import field, frozen

from ._errors import NP6Error

if TYPE_CHECKING:
    from ._contacts import Contact

logger: Final = logging.getLogger("np6_async")
logger.addHandler(logging.NullHandler())


class ApiKey:
    """An API key that does not show itself: not in a repr, a format, a pickle or a traceback with locals."""

    __slots__ = ("_reveal",)

    def __init__(self, value: str) -> None:
        # A closure and not an attribute: what prints an object's members finds a function.
        self._reveal: Callable[[], str] = lambda: value

    def reveal(self) -> str:
        """The key itself."""
        return self._reveal()

    def __repr__(self) -> str:
        return "ApiKey('***')"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an API key is not pickled: give the other process its own")


@frozen
class RequestStarted:
    """A request goes out. `attempt` counts from 1 since the contact last made progress."""

    path: str
    attempt: int
    contact: Contact | None = field(repr=False)

    def __str__(self) -> str:
        return f"GET {self.path}, attempt {self.attempt}"


@frozen
class RequestFinished:
    """A request ended: its whole answer was read, or it failed, or nobody wants the rest.

    `seconds` is the time from request to end, the consumer's included; `received` counts bytes of the body
    after decompression, and `events` what was given out: events, or ids or records where the path is that of
    such. `error` is None for a complete answer.
    """

    path: str
    attempt: int
    seconds: float
    received: int
    events: int
    error: NP6Error | None = field(repr=False)
    contact: Contact | None = field(repr=False)

    def __str__(self) -> str:
        outcome = type(self.error).__name__ if self.error else "complete"
        items = _items(self.path, self.events)
        return f"GET {self.path}: {outcome}, {items}, {self.received} bytes in {self.seconds:.3f} s"


@frozen
class RetryScheduled:
    """A request failed and is repeated after `delay` seconds, from where its answer broke off."""

    path: str
    attempt: int
    delay: float
    error: NP6Error = field(repr=False)
    contact: Contact | None = field(repr=False)

    def __str__(self) -> str:
        return f"GET {self.path}: {type(self.error).__name__} at attempt {self.attempt}, again in {self.delay:.2f} s"


@frozen
class RateLimitWait:
    """The server answered 429: no request of this client goes out for `seconds`."""

    path: str
    seconds: float
    contact: Contact | None = field(repr=False)

    def __str__(self) -> str:
        return f"rate limited: every request waits {self.seconds:.2f} s"


@frozen
class Resumed:
    """A broken answer is taken up again; `delivered` events, or ids, were delivered before."""

    path: str
    delivered: int
    contact: Contact | None = field(repr=False)

    def __str__(self) -> str:
        return f"GET {self.path}: resumes after {_items(self.path, self.delivered)}"


@frozen
class ContactDone:
    """Every event of a contact was delivered, and its answer is known to be complete."""

    path: str
    events: int
    requests: int
    contact: Contact = field(repr=False)

    def __str__(self) -> str:
        return f"contact done: {self.events} events in {self.requests} requests"


@frozen
class ContactFailed:
    """A contact failed for good; `events` of it were delivered before."""

    path: str
    events: int
    requests: int
    error: NP6Error = field(repr=False)
    contact: Contact = field(repr=False)

    def __str__(self) -> str:
        return f"contact failed after {self.events} events in {self.requests} requests: {type(self.error).__name__}"


Observation: TypeAlias = (
    RequestStarted | RequestFinished | RetryScheduled | RateLimitWait | Resumed | ContactDone | ContactFailed
)

_LEVELS: Final[dict[type, int]] = {
    RetryScheduled: logging.INFO,
    RateLimitWait: logging.INFO,
    ContactFailed: logging.INFO,
}


def _items(path: str, count: int) -> str:
    return f"{count} {'events' if '/events' in path else 'items'}"


class Hook(Protocol):
    """Called with each observation, on the event loop: be quick. What it raises is logged and dropped."""

    def __call__(self, observation: Observation, /) -> None: ...


class Observers:
    """Hands observations to the log and to the hooks. False while nobody listens."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._hooks = tuple(hooks)

    def __bool__(self) -> bool:
        return bool(self._hooks) or logger.isEnabledFor(logging.INFO)

    def __call__(self, observation: Observation) -> None:
        """Tell everybody."""
        logger.log(_LEVELS.get(type(observation), logging.DEBUG), "%s", observation)
        for hook in self._hooks:
            try:
                hook(observation)
            except Exception as error:
                # Its text is not ours to log: it may quote the contact.
                logger.error("a hook raised %s", type(error).__name__)
