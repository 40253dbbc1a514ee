"""What happens during a run, counted and reported: retries, waits, contacts that failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

from attrs import Factory, define, field

from .. import (
    BulkError,
    ConnectError,
    ContactDone,
    ContactFailed,
    Failure,
    NP6Error,
    Observation,
    OutageEnded,
    OutageWait,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryScheduled,
    TimeoutExceeded,
    TransportError,
)
from ._messages import outage, reason, words

_KEPT: Final = 5


class FirstFailure(Exception):
    """A line is not a contact, under the policy that ends the run at the first failure."""


@define(eq=False, repr=False)
class Failures:
    """Failed contacts under the policy of `--on-error`, in bounded memory however many they are."""

    policy: Literal["raise", "collect", "skip"]
    count: int = 0
    refused: int = 0  # lines of the input that are not contacts; they count as failures as well
    _first: list[str] = Factory(list)
    _hints: dict[str, None] = Factory(dict)  # in order, each once

    def add(self, failure: Failure) -> Literal["raise", "skip"]:
        """Count a failure; says how the run continues."""
        if self.policy == "raise":
            return "raise"  # it comes back in the BulkError
        self._keep(words(failure.error))
        return "skip"

    def add_all(self, error: BulkError) -> None:
        """Count the failures that ended the run."""
        for each in error.exceptions:
            if isinstance(each, NP6Error):
                self._keep(words(each))

    def refuse_line(self, message: str, hint: str) -> None:
        """Count a line that is not a contact; the `hint` is given once, however many have it. Raises `FirstFailure`."""
        self.refused += 1
        self._hints[hint] = None
        self._keep(message)
        if self.policy == "raise":
            raise FirstFailure

    def report(self) -> Iterator[str]:
        """One line for each of the first failures, one for the others, and the hints."""
        if self.policy == "skip":
            return
        yield from self._first
        if self.count > len(self._first):
            yield f"... and {self.count - len(self._first):,} more"
        yield from self._hints

    def _keep(self, message: str) -> None:
        self.count += 1
        if len(self._first) < _KEPT:
            self._first.append(message)


@define(eq=False, repr=False)
class Watch:
    """A hook that counts.

    `on_pause` is called with the seconds of each wait for the rate limit, `on_outage` with what to say of each wait in
    an outage and its seconds, `on_no_connection` once, when the first attempts of a run get no connection and are
    repeated.
    """

    on_pause: Callable[[float], None] | None = None
    on_outage: Callable[[str, float], None] | None = None
    on_no_connection: Callable[[], None] | None = None
    contacts: int = 0  # done and failed
    retries: int = 0
    resumed: int = 0
    pauses: int = 0
    paused: float = 0.0
    outages: float = 0.0  # seconds
    _paused_until: float = 0.0

    def summary(self) -> list[str]:
        """What a summary says of retries and waits, where there were any."""
        said = []
        if self.retries:
            said.append(f"{self.retries:,} retr{'ies' if self.retries != 1 else 'y'}")
        if self.pauses:
            said.append(f"{self.paused:.1f} s of waiting for the rate limit")
        if self.outages:
            said.append(f"{self.outages:.1f} s without an answer from NP6")
        return said

    def __call__(self, observation: Observation, /) -> None:
        match observation:
            case ContactDone() | ContactFailed():
                self.contacts += 1
            case RequestFinished():
                if not isinstance(observation.error, TransportError):
                    self.on_no_connection = None  # there was one
            case RetryScheduled():
                self.retries += 1
                if _is_no_connection(observation.error) and self.on_no_connection is not None:
                    say, self.on_no_connection = self.on_no_connection, None
                    say()
            case Resumed():
                self.resumed += 1
            case RateLimitWait():
                self._pause(observation.seconds)
            case OutageWait():
                if self.on_outage is not None:
                    self.on_outage(outage(observation), observation.delay)
            case OutageEnded():
                self.outages += observation.seconds

    def _pause(self, seconds: float) -> None:
        # One pause of the client, although each request that was in flight is refused and reports a wait.
        now = time.monotonic()
        until = now + seconds
        if now >= self._paused_until:
            self.pauses += 1
            self.paused += seconds
            if self.on_pause is not None:
                self.on_pause(seconds)
        elif until > self._paused_until:
            self.paused += until - self._paused_until
        self._paused_until = max(self._paused_until, until)


def _is_no_connection(error: NP6Error) -> bool:
    return isinstance(error, ConnectError) or (isinstance(error, TimeoutExceeded) and error.limit == "connect")


@define(eq=False, repr=False)
class Verbose:
    """The hook of `-v`: says retries, resumes and failures, and with `requests` (`-vv`) each request, as they happen.

    Contacts go by their labels, which hide addresses. Waits for the rate limit and in an outage concern all contacts,
    and are reported by the progress."""

    say: Callable[[str], None]
    requests: bool = field(kw_only=True)

    def __call__(self, observation: Observation, /) -> None:
        label = observation.path if observation.contact is None else observation.contact.label
        match observation:
            case RetryScheduled():
                when = f"in {observation.delay:.1f} s" if observation.delay >= 0.05 else "at once"
                self.say(f"{label}: {reason(observation.error)}, again {when}")
            case Resumed():
                plural = "s" * (observation.delivered != 1)
                self.say(f"{label}: resumes after {observation.delivered:,} event{plural}")
            case OutageEnded():
                self.say(str(observation))
            case ContactFailed():
                self.say(words(observation.error))
            case RequestStarted() | RequestFinished() | ContactDone() if self.requests:
                self.say(f"{label}: {observation}")
