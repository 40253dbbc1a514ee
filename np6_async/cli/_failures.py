"""The contacts that failed: counted, and the first few kept to be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from .. import BulkError, Failure, NP6Error, ServerError, TransportError
from ._messages import words

_KEPT: Final = 5
# A run in which so many contacts failed for want of a server, and none succeeded, is not worth going on.
_HOPELESS: Final = 20


class Unreachable(Exception):
    """The server fails every contact: the run is over."""


class Failures:
    """Failed contacts under the policy of `--on-error`, in bounded memory however many they are."""

    def __init__(self, policy: Literal["raise", "collect", "skip"]) -> None:
        self.count = 0
        self._policy = policy
        self._first: list[str] = []
        self._hints: dict[str, None] = {}  # in order, each once
        self._unreachable = 0

    def add(self, failure: Failure, *, done: int) -> Literal["raise", "skip"]:
        """Note a failure, of a run in which `done` contacts succeeded; says how the run goes on."""
        if self._policy == "raise":
            return "raise"  # it comes back in the BulkError
        self._note(failure.error)
        if done == 0 and self.count == self._unreachable >= _HOPELESS:
            raise Unreachable
        return "skip"

    def add_all(self, error: BulkError) -> None:
        """Note the failures that ended the run."""
        for each in error.exceptions:
            if isinstance(each, NP6Error):
                self._note(each)

    def add_text(self, message: str, hint: str | None = None) -> None:
        """Note a failure that is no error of the client; a `hint` is told once, however many have it."""
        self.count += 1
        if hint is not None:
            self._hints[hint] = None
        if len(self._first) < _KEPT:
            self._first.append(message)

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

    def _note(self, error: NP6Error) -> None:
        self._unreachable += isinstance(error, TransportError | ServerError)
        self.add_text(words(error))
