"""An event loop whose clock jumps to the next timer, so that nothing sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
START = 1000.0


class _NoWait(selectors.DefaultSelector):
    """A selector that lets the loop's clock jump where it would wait."""

    now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._selector = _NoWait()
        super().__init__(self._selector)

    def time(self) -> float:
        return self._selector.now


def now() -> float:
    return asyncio.get_running_loop().time()


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


async def settle() -> None:
    """Let every task go as far as it gets without waiting."""
    for _ in range(20):
        await asyncio.sleep(0)
