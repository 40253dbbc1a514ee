"""From the first use of a client to its close: one event loop, and an end for whatever waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from .._errors import ClientClosed, NP6Error


class Lifetime:
    """Whether a client may be used here and now. `close` ends every wait at once with `ClientClosed`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begins: Callable[[], None] | None = None
        self._waits: set[Wait] = set()
        self._open: set[Callable[[], None]] = set()
        self._patiences: list[Patience] = []
        self.closed: bool = False

    def check(self) -> None:
        """Raise `ClientClosed` after close and on another event loop than that of the first use."""
        loop = asyncio.get_running_loop()
        if self.closed:
            raise ClientClosed("this NP6Client is closed; create a new one")
        if self._loop is None:
            self._loop = loop
            if self._begins is not None:
                self._begins()
        elif self._loop is not loop:
            raise ClientClosed("this NP6Client belongs to another event loop; create one client in each loop")

    def begins(self, call: Callable[[], None]) -> None:
        """`call` on the loop of the first use, when that comes."""
        self._begins = call

    def wait(self) -> Wait:
        """A context to wait in, which ends when the client closes."""
        return Wait(self._waits)

    def patience(self, seconds: float, error: Callable[[], NP6Error]) -> Patience:
        """A bound for many waits; see `Patience`."""
        patience = Patience(seconds, error)
        self._patiences.append(patience)
        return patience

    def opened(self, end: Callable[[], None]) -> None:
        """`end` is called when the client closes, unless `ended` was told before."""
        self._open.add(end)

    def ended(self, end: Callable[[], None]) -> None:
        """What was `opened` has ended by itself."""
        self._open.discard(end)

    @contextmanager
    def ends(self, end: Callable[[], None]) -> Iterator[None]:
        """`end` is called when the client closes while the context lasts."""
        self.opened(end)
        try:
            yield
        finally:
            self.ended(end)

    def soon(self, call: Callable[[], None]) -> None:
        """`call` on the loop, from wherever the garbage collector runs; nothing once the loop is closed."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """End all that is open and every wait, and let nothing new begin."""
        if self._loop is not None and not self.closed and self._loop is not asyncio.get_running_loop():
            raise ClientClosed("this NP6Client belongs to another event loop; close it there")
        self.closed = True
        for end in tuple(self._open):
            end()
        for patience in self._patiences:
            patience.close()
        for wait in tuple(self._waits):
            wait.end(ClientClosed("this NP6Client was closed while a call was waiting"))


class Wait:
    """A context in which one task waits, and which others may end with an error.

    As `asyncio.timeout`, it cancels the task and then turns that very cancellation, and no other, into the
    error; at a third of its cost, with a reason of its own, and with several who may end it.
    """

    __slots__ = ("_cancelled", "_cancelling", "_error", "_over", "_patience", "_task", "_timer", "_waits")

    def __init__(self, waits: set[Wait]) -> None:
        self._waits = waits
        self._error: NP6Error | None = None
        self._cancelled = self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._patience: Patience | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("np6_async is used inside tasks")
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._waits.add(self)
        return self

    def end_in(self, seconds: float, error: Callable[[], NP6Error]) -> None:
        """End this wait after so many seconds, if it still lasts."""
        loop = self._task.get_loop()
        # In two steps, as in `Patience`.
        self._timer = loop.call_later(seconds, lambda: loop.call_soon(lambda: self.end(error())))

    def bound(self, patience: Patience) -> None:
        """End this wait when `patience` is over."""
        self._patience = patience
        patience.begin(self)

    def end(self, error: NP6Error) -> None:
        """The wait raises `error`."""
        if self._error is None and not self._over:
            self._error = error
            # The task itself, calling this from a hook, need not be woken: it is on its way to `__exit__`.
            if asyncio.current_task(self._task.get_loop()) is not self._task:
                self._cancelled = True
                self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waits.discard(self)
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._patience is not None:
            self._patience.forget(self)
        if self._error is None:
            return
        if self._cancelled and self._task.uncancel() > self._cancelling:
            return  # somebody else wants the task to end, too
        if kind is None or issubclass(kind, Exception | asyncio.CancelledError):
            raise self._error from None


class Patience:
    """How long many waits may last: `seconds` each, then they end with `error`.

    One timer looks after them all. A timer for each, made and cancelled, takes longer than all else about a wait.
    """

    def __init__(self, seconds: float, error: Callable[[], NP6Error]) -> None:
        self._seconds = seconds
        self._error = error
        self._ends: dict[Wait, float] = {}  # in the order of the times, since all get the same
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, wait: Wait) -> None:
        """Count for `wait` from now."""
        loop = asyncio.get_running_loop()
        end = self._ends[wait] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)

    def forget(self, wait: Wait) -> None:
        """`wait` is over."""
        self._ends.pop(wait, None)

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        for wait, end in self._ends.items():
            if end > now:
                self._timer = loop.call_at(end, self._look)
                break
            # Not at once: where something held up the event loop, what the wait is for may have come just now.
            loop.call_soon(wait.end, self._error())
