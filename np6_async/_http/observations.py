"""What the client reports about itself: observation records for hooks and for the log.

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
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from attrs import field, frozen

from .._errors import NP6Error

if TYPE_CHECKING:
    from .._models.contacts import Contact

# One hook may serve several clients, so no two fetches of a process have the same number.
fetch_numbers: Final = itertools.count(1)


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

    def __str__(self) -> str:
        return f"GET {self.path}, attempt {self.attempt}"


@frozen
class RequestFinished:
    """A request ended: its whole response was read, or it failed, or the rest is no longer wanted.

    `seconds` is the time from request to end, the consumer's included; `received` counts bytes of the body after
    decompression, and `events` what was delivered: events, or ids or records where the path is one of those. `error` is
    None for a complete response, and a `ClientClosed` where the rest is no longer wanted. `status` is the HTTP status;
    None where no response began.
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

    def __str__(self) -> str:
        items = _items(self.path, self.events)
        return f"GET {self.path}: {_outcome(self.error)}, {items}, {self.received} bytes in {self.seconds:.3f} s"


@frozen
class RetryScheduled:
    """A request failed and is repeated after `delay` seconds, from where its response broke off."""

    path: str
    attempt: int
    delay: float
    error: NP6Error = field(repr=False)
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"GET {self.path}: {type(self.error).__name__} at attempt {self.attempt}, again in {self.delay:.2f} s"


@frozen
class RateLimitWait:
    """The server responded with 429: no request of this client goes out for `seconds`."""

    path: str
    seconds: float
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"rate limited: every request waits {self.seconds:.2f} s"


@frozen
class Resumed:
    """A broken response is resumed; `delivered` events, or ids, were delivered before."""

    path: str
    delivered: int
    contact: Contact | None = field(repr=False)
    fetch: int = 0

    def __str__(self) -> str:
        return f"GET {self.path}: resumes after {_items(self.path, self.delivered)}"


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
