"""What `-v` and `-vv` tell: one line for each thing that happens, when it happens."""

from __future__ import annotations

from collections.abc import Callable

from .. import (
    ContactDone,
    ContactFailed,
    Observation,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryScheduled,
)
from ._messages import reason, words


class Verbose:
    """A hook that says retries, resumes and failures, and with `requests` each request. Contacts go by their labels,
    which hide addresses. Waits for the rate limit concern all contacts, and are the progress's to tell."""

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
                self._say(f"{label}: goes on after {observation.delivered:,} event{plural}")
            case ContactFailed():
                self._say(words(observation.error))
            case RequestStarted() | RequestFinished() | ContactDone() if self._requests:
                self._say(f"{label}: {observation}")
