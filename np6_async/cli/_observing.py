"""What happens during a run, counted and reported: retries, waits, contacts that failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

from .. import (
    BulkError,
    ConnectError,
    ContactDone,
    ContactFailed,
    Failure,
    NP6Error,
    Observation,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryScheduled,
    ServerError,
    TimeoutExceeded,
    TransportError,
)
from ..export import Outage
from ._messages import reason, words

_KEPT: Final = 5
# A run in which this many contacts failed because no server was reached, and none succeeded, is given up.
_HOPELESS: Final = 20


class FirstFailure(Exception):
    """A line is not a contact, under the policy that ends the run at the first failure."""


class Failures:
    """Failed contacts under the policy of `--on-error`, in bounded memory however many they are."""

    def __init__(self, policy: Literal["raise", "collect", "skip"]) -> None:
        self.count = 0
        self.refused = 0  # lines of the input that are not contacts; they count as failures as well
        self._policy = policy
        self._first: list[str] = []
        self._hints: dict[str, None] = {}  # in order, each once
        self._unreachable = 0

    def add(self, failure: Failure, *, done: int) -> Literal["raise", "skip"]:
        """Count a failure of a run in which `done` contacts succeeded; says how the run continues. Raises `Outage`."""
        if self._policy == "raise":
            return "raise"  # it comes back in the BulkError
        self._count(failure.error)
        if done == 0 and self.count == self._unreachable >= _HOPELESS:
            raise Outage("no server was reached")
        return "skip"

    def add_all(self, error: BulkError) -> None:
        """Count the failures that ended the run."""
        for each in error.exceptions:
            if isinstance(each, NP6Error):
                self._count(each)

    def refuse_line(self, message: str, hint: str) -> None:
        """Count a line that is not a contact; the `hint` is given once, however many have it. Raises `FirstFailure`."""
        self.refused += 1
        self._hints[hint] = None
        self._keep(message)
        if self._policy == "raise":
            raise FirstFailure

    def server_unreachable(self, done: int) -> bool:
        """Whether nothing but the network or the server failed, and that each time."""
        return done == 0 and 0 < self.count == self._unreachable

    def report(self) -> Iterator[str]:
        """One line for each of the first failures, one for the others, and the hints."""
        if self._policy == "skip":
            return
        yield from self._first
        if self.count > len(self._first):
            yield f"... and {self.count - len(self._first):,} more"
        yield from self._hints

    def _count(self, error: NP6Error) -> None:
        self._unreachable += isinstance(error, TransportError | ServerError)
        self._keep(words(error))

    def _keep(self, message: str) -> None:
        self.count += 1
        if len(self._first) < _KEPT:
            self._first.append(message)


class Watch:
    """A hook that counts.

    `on_pause` is called with the seconds of each wait for the rate limit, `on_no_connection` once, when the
    first attempts of a run get no connection and are repeated.
    """

    def __init__(
        self,
        on_pause: Callable[[float], None] | None = None,
        on_no_connection: Callable[[], None] | None = None,
    ) -> None:
        self.contacts = 0  # done and failed
        self.retries = 0
        self.resumed = 0
        self.pauses = 0
        self.paused = 0.0
        self._on_pause = on_pause
        self._on_no_connection = on_no_connection
        self._paused_until = 0.0

    def summary(self) -> list[str]:
        """What a summary says of retries and waits, where there were any."""
        said = []
        if self.retries:
            said.append(f"{self.retries:,} retr{'ies' if self.retries != 1 else 'y'}")
        if self.pauses:
            said.append(f"{self.paused:.1f} s of waiting for the rate limit")
        return said

    def __call__(self, observation: Observation, /) -> None:
        match observation:
            case ContactDone() | ContactFailed():
                self.contacts += 1
            case RequestFinished():
                if not isinstance(observation.error, TransportError):
                    self._on_no_connection = None  # there was one
            case RetryScheduled():
                self.retries += 1
                if _is_no_connection(observation.error) and self._on_no_connection is not None:
                    say, self._on_no_connection = self._on_no_connection, None
                    say()
            case Resumed():
                self.resumed += 1
            case RateLimitWait():
                self._pause(observation.seconds)

    def _pause(self, seconds: float) -> None:
        # One pause of the client, although each request that was in flight is refused and reports a wait.
        now = time.monotonic()
        until = now + seconds
        if now >= self._paused_until:
            self.pauses += 1
            self.paused += seconds
            if self._on_pause is not None:
                self._on_pause(seconds)
        elif until > self._paused_until:
            self.paused += until - self._paused_until
        self._paused_until = max(self._paused_until, until)


def _is_no_connection(error: NP6Error) -> bool:
    return isinstance(error, ConnectError) or (isinstance(error, TimeoutExceeded) and error.limit == "connect")


class Verbose:
    """The hook of `-v`: says retries, resumes and failures, and with `requests` (`-vv`) each request, as they happen.

    Contacts go by their labels, which hide addresses. Waits for the rate limit concern all contacts, and are reported
    by the progress."""

    def __init__(self, say: Callable[[str], None], *, requests: bool) -> None:
        self._say = say
        self._requests = requests

    def __call__(self, observation: Observation, /) -> None:
        label = observation.path if observation.contact is None else observation.contact.label
        match observation:
            case RetryScheduled():
                when = f"in {observation.delay:.1f} s" if observation.delay >= 0.05 else "at once"
                self._say(f"{label}: {reason(observation.error)}, again {when}")
            case Resumed():
                plural = "s" * (observation.delivered != 1)
                self._say(f"{label}: resumes after {observation.delivered:,} event{plural}")
            case ContactFailed():
                self._say(words(observation.error))
            case RequestStarted() | RequestFinished() | ContactDone() if self._requests:
                self._say(f"{label}: {observation}")
