"""Ctrl-C, SIGTERM and SIGHUP as a cancellation that a command can tidy up after."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from ._exit import HUNG_UP, INTERRUPTED, TERMINATED

# By name, because Windows has no SIGHUP.
_MEANINGS: Final = {
    "SIGINT": (INTERRUPTED, "interrupted"),
    "SIGTERM": (TERMINATED, "terminated"),
    "SIGHUP": (HUNG_UP, "hung up"),
}


class Interrupts:
    """Cancels the task it was made in at the first signal, unless `at_first` says what to do instead; a second one
    ends the event loop at once."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.cause = ""  # what to tell the user
        self._task = asyncio.current_task()
        self._installed: list[signal.Signals] = []
        self._stop: Callable[[], object] | None = None

    def at_first(self, stop: Callable[[], object]) -> None:
        """Call `stop` at the first signal, in place of the cancellation."""
        self._stop = stop

    def listen(self) -> None:
        """Take over the signals, where the platform and the thread allow it."""
        loop = asyncio.get_running_loop()
        for name in _MEANINGS:
            number = getattr(signal, name, None)
            if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                continue  # nohup ignores it, and means it
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._received, number)
                self._installed.append(number)

    def leave(self) -> None:
        """Give the signals back."""
        loop = asyncio.get_running_loop()
        for number in self._installed:
            loop.remove_signal_handler(number)

    def _received(self, number: signal.Signals) -> None:
        if self.code is not None:
            # Tidying up hangs, or takes too long for whoever waits.
            raise KeyboardInterrupt
        self.code, self.cause = _MEANINGS[number.name]
        if self._stop is not None:
            self._stop()
        elif self._task is not None:
            self._task.cancel()


def run(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run `work` on a new event loop; at a signal it is cancelled and `Interrupts.code` says by which."""

    async def guarded() -> int:
        interrupts = Interrupts()
        interrupts.listen()
        try:
            return await work(interrupts)
        except asyncio.CancelledError:
            # The signal came when `work` had nothing left to tidy up.
            if interrupts.code is None:
                raise
            return interrupts.code
        finally:
            interrupts.leave()

    return asyncio.run(guarded())
