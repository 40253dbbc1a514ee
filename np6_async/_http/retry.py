"""The retries that all calls of one client share."""

from __future__ import annotations

from typing import Final

from .._config import RetryPolicy

_MOST_FORGIVEN: Final = 1_000


class RetryBudget:
    """The retries that all calls of one client share."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._capacity = self._tokens = policy.budget
        self._refund = policy.refund
        self._forgivable = 0

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def forgive(self) -> bool:
        """Whether a retry is free after the server closed an idle connection.

        Healthy servers do that, too, but they also respond: each success earns one free retry, up to as many as there
        may be connections.
        """
        if not self._forgivable:
            return False
        self._forgivable -= 1
        return True

    def succeed(self) -> None:
        """A request succeeded."""
        self._tokens = min(self._capacity, self._tokens + self._refund)
        self._forgivable = min(_MOST_FORGIVEN, self._forgivable + 1)
