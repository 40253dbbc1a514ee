"""What hooks are told of one fetch. Every observation of a fetch is made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from .._errors import NP6Error
from .._http.observations import (
    ContactDone,
    ContactFailed,
    FetchFinished,
    FetchStarted,
    OutageEnded,
    OutageWait,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryScheduled,
    fetch_numbers,
)
from .._http.response import request_id
from .._models.contacts import Contact
from .runtime import Runtime
from .stats import StreamStats


class Answer(Protocol):
    """What is told of a response."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Reporter:
    """Reports nothing: for a client whose hooks and log do not listen."""

    def fetch_started(self, close: Callable[[], None]) -> None:
        """The fetch begins; `close` ends it, for when the client closes."""

    def request_started(self, attempt: int) -> None:
        """A request is sent."""

    def resumed(self) -> None:
        """A response continues where an earlier one broke off."""

    def rate_limited(self, seconds: float) -> None:
        """A 429 pauses the client."""

    def retry_scheduled(self, attempt: int, delay: float, error: NP6Error) -> None:
        """The request will be repeated."""

    def outage_waits(self, since: datetime, delay: float, error: NP6Error) -> None:
        """Nobody is answered, and nothing but a probe is sent, after `delay` seconds."""

    def outage_ended(self, seconds: float) -> None:
        """The server answers again."""

    def request_finished(self, error: NP6Error | None, response: Answer | None) -> None:
        """The request has ended, if one had started."""

    def fetch_finished(self, error: NP6Error | None) -> None:
        """Nothing more is fetched. Only the first call reports."""

    def outcome(self, error: NP6Error | None) -> None:
        """Keep how the contact ended, until `report_outcome`."""

    def report_outcome(self) -> None:
        """The last event was taken, and not only fetched. Only the first call reports."""


SILENT = Reporter()


class HookReporter(Reporter):
    """Reports to the client's hooks and log. For each start it reports one end, whatever happens."""

    def __init__(self, runtime: Runtime, contact: Contact | None, path: str, stats: StreamStats, method: str) -> None:
        self._runtime = runtime
        self._notify = runtime.observers
        self._clock = runtime.policy.clock
        self._contact = contact
        self._path = path
        self._method = method
        self._stats = stats
        self._number = 0  # of the fetch, among those of the process
        self._started_at: float | None = None  # of the fetch, until its end is reported
        self._request_at: float | None = None  # of the request, until its end is reported
        self._attempt = 0
        self._before = (0, 0)  # bytes and events when the request started
        self._outcome: ContactDone | ContactFailed | None = None

    def fetch_started(self, close: Callable[[], None]) -> None:
        self._number = next(fetch_numbers)
        self._started_at = self._clock()
        # Nobody may ever read on, and yet hooks are to see an end.
        self._close = close
        self._runtime.lifetime.on_close(close)
        origin = str(self._runtime.transport.origin)
        self._notify(FetchStarted(self._path, origin, self._contact, self._number))

    def request_started(self, attempt: int) -> None:
        self._request_at = self._clock()
        self._attempt = attempt
        self._before = self._stats.bytes, self._stats.events
        self._notify(RequestStarted(self._path, attempt, self._contact, self._number, self._method))

    def resumed(self) -> None:
        if self._stats.events:
            self._notify(Resumed(self._path, self._stats.events, self._contact, self._number, self._method))

    def rate_limited(self, seconds: float) -> None:
        self._notify(RateLimitWait(self._path, seconds, self._contact, self._number))

    def retry_scheduled(self, attempt: int, delay: float, error: NP6Error) -> None:
        self._notify(RetryScheduled(self._path, attempt, delay, error, self._contact, self._number, self._method))

    def outage_waits(self, since: datetime, delay: float, error: NP6Error) -> None:
        self._notify(OutageWait(self._path, since, delay, error, self._contact, self._number))

    def outage_ended(self, seconds: float) -> None:
        self._notify(OutageEnded(self._path, seconds, self._contact, self._number))

    def request_finished(self, error: NP6Error | None, response: Answer | None) -> None:
        started_at, self._request_at = self._request_at, None  # before a hook may close the stream
        if started_at is None:
            return
        seconds = self._clock() - started_at
        received, events = self._stats.bytes - self._before[0], self._stats.events - self._before[1]
        self._notify(
            RequestFinished(
                self._path,
                self._attempt,
                seconds,
                received,
                events,
                error,
                self._contact,
                self._number,
                None if response is None else response.status,
                self._method,
                None if response is None else request_id(response.headers),
            )
        )

    def fetch_finished(self, error: NP6Error | None) -> None:
        started_at, self._started_at = self._started_at, None
        if started_at is None:
            return
        seconds, stats = self._clock() - started_at, self._stats
        self._runtime.lifetime.discard(self._close)
        self._notify(
            FetchFinished(
                self._path,
                seconds,
                stats.events,
                stats.requests,
                stats.retries,
                stats.waited,
                error,
                self._contact,
                self._number,
            )
        )

    def outcome(self, error: NP6Error | None) -> None:
        if self._contact is None:
            return
        events, requests = self._stats.events, self._stats.requests
        if error is None:
            self._outcome = ContactDone(self._path, events, requests, self._contact, self._number)
        else:
            self._outcome = ContactFailed(self._path, events, requests, error, self._contact, self._number)

    def report_outcome(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._notify(outcome)
