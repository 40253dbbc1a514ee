"""From the first use of a client to its close: one event loop, and an end to everything that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from weakref import WeakSet

from .._errors import ClientClosed, NP6Error

T = TypeVar("T")

# A timeout is counted in this many steps, each of which counts only once however late it ends. So the time in which
# something blocked the event loop, and nothing that arrived was read, counts for one of them at most.
_STEPS: Final = 8


class Lifetime:
    """Whether a client may be used here and now. `close` ends everything that waits with `ClientClosed`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_first_use: Callable[[], None] | None = None
        self._scopes: set[CancelScope] = set()
        self._on_close: set[Callable[[], None]] = set()
        self._timeouts: WeakSet[SharedTimeout] = WeakSet()
        self.closed: bool = False

    def check(self) -> None:
        """Raise `ClientClosed` after close, and on another event loop than that of the first use."""
        loop = asyncio.get_running_loop()
        if self.closed:
            raise ClientClosed("this NP6Client is closed; create a new one")
        if self._loop is None:
            self._loop = loop
            if self._on_first_use is not None:
                self._on_first_use()
        elif self._loop is not loop:
            raise ClientClosed(
                "this NP6Client belongs to another event loop; create one client in each loop, or use "
                "np6_async.blocking, which needs none: see docs/how-to/scripts.md"
            )

    def on_first_use(self, call: Callable[[], None]) -> None:
        """Make `call` on the event loop of the first use, at that moment."""
        self._on_first_use = call

    def scope(self) -> CancelScope:
        """A scope that is cancelled when the client closes."""
        return CancelScope(self._scopes)

    def shared_timeout(self, seconds: float, error: Callable[[], NP6Error]) -> SharedTimeout:
        """A timeout for many scopes."""
        timeout = SharedTimeout(seconds, error)
        self._timeouts.add(timeout)
        return timeout

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Every shared timeout, for the current task, while the context lasts: it does not wait for the server."""
        with ExitStack() as stack:
            for timeout in tuple(self._timeouts):
                stack.enter_context(timeout.suspended())
            yield

    def on_close(self, call: Callable[[], None]) -> None:
        """Make `call` when the client closes, unless it is discarded first."""
        self._on_close.add(call)

    def discard(self, call: Callable[[], None]) -> None:
        """Forget a call that was added by `on_close`."""
        self._on_close.discard(call)

    @contextmanager
    def calling_on_close(self, call: Callable[[], None]) -> Iterator[None]:
        """`on_close`, while the context lasts."""
        self.on_close(call)
        try:
            yield
        finally:
            self.discard(call)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Make `call` on the event loop, from any thread (the garbage collector's); not once the loop is closed."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """End everything that is open or waits, and let nothing new start."""
        if self._loop is not None and not self.closed and self._loop is not asyncio.get_running_loop():
            raise ClientClosed("this NP6Client belongs to another event loop; close it there")
        self.closed = True
        for call in tuple(self._on_close):
            call()
        for timeout in tuple(self._timeouts):
            timeout.close()
        for scope in tuple(self._scopes):
            scope.cancel(ClientClosed("this NP6Client was closed while a call was waiting"))


class CancelScope:
    """A context in which one task waits, and which others may end with an error.

    Like `asyncio.timeout`, it cancels the task and then turns that very cancellation, and no other, into an error. It
    costs a third as much, and several parties may cancel it, each with its own error.
    """

    __slots__ = ("_cancelled", "_cancelling", "_error", "_exited", "_scopes", "_timer", "task", "timeout")

    def __init__(self, scopes: set[CancelScope]) -> None:
        self._scopes = scopes

    def __enter__(self) -> Self:
        self._error: NP6Error | None = None
        self._cancelled = self._exited = False
        self._timer: asyncio.TimerHandle | None = None
        self.timeout: SharedTimeout | None = None
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("np6_async is used inside tasks")
        self.task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._scopes.add(self)
        return self

    def cancel_after(self, seconds: float, error: Callable[[], NP6Error]) -> None:
        """Cancel this scope after `seconds`, if it lasts. Time in which the event loop is blocked hardly counts."""
        self._count(seconds / _STEPS, _STEPS, error)

    def _count(self, seconds: float, steps: int, error: Callable[[], NP6Error]) -> None:
        loop = self.task.get_loop()
        if steps:
            self._timer = loop.call_later(seconds, self._count, seconds, steps - 1, error)
        else:  # not at once, as in `SharedTimeout`
            loop.call_soon(lambda: self.cancel(error()))

    def cancel(self, error: NP6Error) -> None:
        """Make the scope raise `error`."""
        if self._error is None and not self._exited:
            self._error = error
            # The task itself, calling this from a hook, need not be woken: it is on its way to `__exit__`.
            if asyncio.current_task(self.task.get_loop()) is not self.task:
                self._cancelled = True
                self.task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._scopes.discard(self)
        self._exited = True
        if self._timer is not None:
            self._timer.cancel()
        if self.timeout is not None:
            self.timeout.stop(self)
        if self._error is None:
            return
        if self._cancelled and self.task.uncancel() > self._cancelling:
            return  # somebody else has cancelled the task, too
        if kind is None or issubclass(kind, Exception | asyncio.CancelledError):
            raise self._error from None


class SharedTimeout:
    """Cancels each of many scopes `seconds` after it was started, with `error`.

    One timer serves them all: starting and cancelling one for each would cost more than all the rest of a scope. It
    looks at the clock several times before the first scope ends, and what it is late by does not count.
    """

    def __init__(self, seconds: float, error: Callable[[], NP6Error]) -> None:
        self._seconds = seconds
        self._error = error
        # In this order, since all last equally long. By a clock that stands while the event loop is blocked.
        self._ends: dict[CancelScope, float] = {}
        self._blocked = 0.0  # the time by which that clock is behind
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, scope: CancelScope) -> None:
        """Cancel `scope` when the timeout, counted from now, is over, unless it was left before."""
        scope.timeout = self
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._ends.pop(scope, None)  # it counts anew, and from the end of the order
        self._ends[scope] = now - self._blocked + self._seconds
        if self._timer is None:
            self._due = now + self._seconds / _STEPS
            self._timer = loop.call_at(self._due, self._expire)

    def stop(self, scope: CancelScope) -> None:
        """`scope` was left."""
        self._ends.pop(scope, None)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """For the current task, while the context lasts: it does not wait for the server. Then the timeout restarts."""
        task = asyncio.current_task()
        scopes = [scope for scope in self._ends if scope.task is task]
        for scope in scopes:
            self.stop(scope)
        try:
            yield
        finally:
            for scope in scopes:
                self.start(scope)

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._blocked += max(0.0, now - self._due)
        counted = now - self._blocked
        self._timer = None
        for scope, end in self._ends.items():
            if end > counted:
                self._due = now + min(end - counted, self._seconds / _STEPS)
                self._timer = loop.call_at(self._due, self._expire)
                break
            # Not at once: what the scope waits for may have arrived just now.
            loop.call_soon(self._end, scope, end)

    def _end(self, scope: CancelScope, end: float) -> None:
        if self._ends.get(scope) == end:  # otherwise something arrived, and it was started again
            scope.cancel(self._error())


async def ended(future: asyncio.Future[T]) -> T:
    """The result of `future`, which must not be left half-way: a cancellation, or several, are raised when it has
    ended.

    If it is a task, the end of the event loop cancels it as well, so that a disk that hangs does not keep the process.
    """
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # retrieved
        raise cancelled
    return future.result()
