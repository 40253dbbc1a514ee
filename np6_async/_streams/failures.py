"""What becomes of a run when a contact fails: the argument `on_error` of all calls for many contacts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Final, Literal, TypeAlias

from .._errors import BulkError, InvalidInput
from .buffer import Failure

Action: TypeAlias = Literal["raise", "collect", "skip"]
ErrorPolicy: TypeAlias = Action | Callable[[Failure], Action | Awaitable[Action | None] | None]
_ACTIONS: Final[tuple[Action, ...]] = ("raise", "collect", "skip")


class Failures:
    """Those of one run; raises `InvalidInput`. `kept` are all but the skipped ones, `count` is how many there were."""

    def __init__(self, on_error: ErrorPolicy) -> None:
        if not callable(on_error) and on_error not in _ACTIONS:
            raise InvalidInput(f"on_error={on_error!r} is not known; use 'raise', 'collect', 'skip' or a callable")
        self._on_error: ErrorPolicy = on_error
        self.kept: list[Failure[Any]] = []
        self.count: int = 0

    async def settle(self, failure: Failure) -> None:
        """Do what the policy says; raises `BulkError`, and whatever `on_error` raises."""
        action = await self._decide(failure)
        self.count += 1
        if action != "skip":
            self.kept.append(failure)
        if action == "raise":
            errors = [each.error for each in self.kept]
            plural = "s" * (len(errors) > 1)
            raise BulkError(f"{len(errors)} contact{plural} failed; the last: {errors[-1]}", errors)

    async def _decide(self, failure: Failure) -> Action:
        if not callable(self._on_error):
            return self._on_error
        try:
            decision = self._on_error(failure)
            action = (await decision if isawaitable(decision) else decision) or "skip"
        except (StopIteration, StopAsyncIteration) as error:
            raise RuntimeError(f"on_error raised {type(error).__name__}") from error
        for known in _ACTIONS:
            if action == known:
                return known
        raise InvalidInput(f"on_error returned {action!r}; expected 'raise', 'collect', 'skip' or None")
