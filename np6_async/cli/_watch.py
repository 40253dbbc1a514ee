"""What happens during a run, counted from the client's observations."""

from __future__ import annotations

import time
from collections.abc import Callable

from .. import (
    ConnectError,
    ContactDone,
    ContactFailed,
    NP6Error,
    Observation,
    RateLimitWait,
    RequestFinished,
    Resumed,
    RetryScheduled,
    TimeoutExceeded,
    TransportError,
)


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
