"""How the command ends: its exit codes, as `np6 events --help` documents them, and signals as a cancellation."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

DONE: Final = 0
SOME_FAILED: Final = 1
USAGE: Final = 2
CONFIGURATION: Final = 3
STOPPED: Final = 4
# As the shell reports a program that a signal ended: 128 and the signal's number.
HUNG_UP: Final = 129
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
TERMINATED: Final = 143

# By name, because Windows has no SIGHUP.
_MEANINGS: Final = {
    "SIGINT": (INTERRUPTED, "interrupted"),
    "SIGTERM": (TERMINATED, "terminated"),
    "SIGHUP": (HUNG_UP, "hung up"),
}


class Interrupts:
    """Cancels the task it was made in at the first signal, or after a time to drain; a second signal ends the event
    loop at once. `code` and `cause` are the exit code and the word for the first signal, None and empty before."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.cause = ""
        self._task = asyncio.current_task()
        self._installed: list[signal.Signals] = []
        self._stop: Callable[[], object] | None = None
        self._drain = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    def drain(self, stop: Callable[[], object], seconds: float) -> None:
        """At the first signal call `stop`, and cancel the task only if it has not ended this many seconds later."""
        self._stop, self._drain = stop, seconds

    def drained(self) -> None:
        """What was to drain has ended: it is not cancelled any more."""
        self._stop = None
        if self._deadline is not None:
            self._deadline.cancel()

    def listen(self) -> None:
        """Handle the signals, where the platform and the thread allow it."""
        loop = asyncio.get_running_loop()
        for name in _MEANINGS:
            number = getattr(signal, name, None)
            if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                continue  # nohup ignores it on purpose
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._received, number)
                self._installed.append(number)

    def leave(self) -> None:
        """Handle the signals no longer."""
        loop = asyncio.get_running_loop()
        for number in self._installed:
            loop.remove_signal_handler(number)

    def _received(self, number: signal.Signals) -> None:
        if self.code is not None:
            raise KeyboardInterrupt  # tidying up hangs, or takes too long for the user
        self.code, self.cause = _MEANINGS[number.name]
        if self._task is None:
            return
        if self._stop is None:
            self._task.cancel()
        else:
            self._stop()
            self._deadline = asyncio.get_running_loop().call_later(self._drain, self._task.cancel)


def run_until_signal(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run `work` on a new event loop; at a signal it is cancelled, and `Interrupts.code` says by which."""

    async def guarded() -> int:
        interrupts = Interrupts()
        interrupts.listen()
        try:
            return await work(interrupts)
        except asyncio.CancelledError:
            if interrupts.code is None:
                raise
            return interrupts.code  # the signal came when `work` had nothing left to tidy up
        finally:
            interrupts.leave()

    return asyncio.run(guarded())
