"""The event loop of a blocking client: in a daemon thread of its own, from the first call to `close`."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from .._client import NP6Client, runtime_of
from .._errors import ClientClosed, ConnectError, UsageError

# Seconds between two looks at a thread that may have ended.
GLANCE: Final = 1.0

_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


class Loop:
    """Runs `client`. The thread refers to the client and not to this object, whose end is the end of the thread."""

    def __init__(self, client: NP6Client) -> None:
        self.closed: bool = False
        self._client = client
        self._starting = threading.Lock()
        self._thread: _Thread | None = None

    def submit(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function on the loop, after those submitted before; the first call starts the thread.

        Raises `ClientClosed` after `close` and in a process forked since, `UsageError` on the loop's own thread.
        """
        if self.closed:
            raise ClientClosed("this NP6Client is closed; create a new one")
        thread = self._thread or self._start()
        self.check()
        if not thread.submit(function, *arguments):
            raise ClientClosed("the event loop of this NP6Client has ended; create a new one")

    def check(self) -> None:
        """Raise unless the calling thread may wait for the loop; takes no lock, which a fork may have left locked."""
        if self._thread is not None:
            self._thread.check()

    def submit_quietly(self, function: Callable[..., object], *arguments: Any) -> None:
        """The same, where there is a loop to submit it to; from any thread, such as the garbage collector's."""
        if self._thread is not None and self._thread.of_this_process:
            self._thread.submit(function, *arguments)

    @property
    def running(self) -> bool:
        """Whether what was submitted will be called."""
        return self._thread is not None and self._thread.of_this_process and self._thread.is_alive()

    def close(self) -> None:
        """Close the client and end the thread. Returns when it has ended; safe to call twice, from any thread."""
        self.closed = True
        with self._starting:
            thread = self._thread
        if thread is None:
            runtime_of(self._client).lifetime.close()  # it was never on a loop
        elif thread.of_this_process:
            thread.stop()
            # A hook that closes its client does so on the thread itself, which cannot wait for its own end.
            while thread.is_alive() and thread is not threading.current_thread():
                thread.join(GLANCE)

    def _start(self) -> _Thread:
        with self._starting:
            if self._thread is None:
                thread = _Thread(self._client)
                thread.begin()
                self._thread = thread
                _loops.add(self)
            return self._thread

    def __del__(self) -> None:
        thread = self.__dict__.get("_thread")
        if thread is not None and thread.of_this_process:
            thread.stop()  # without waiting: the garbage collector runs anywhere


class _Thread(threading.Thread):
    """The thread, which closes the client at its end."""

    def __init__(self, client: NP6Client) -> None:
        super().__init__(name="np6_async", daemon=True)
        self._client = client
        self._process = os.getpid()
        self._begun = threading.Event()
        self._failure: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def of_this_process(self) -> bool:
        return self._process == os.getpid()

    def begin(self) -> None:
        """Start it, and return when it has an event loop; raises `ConnectError` where there can be none."""
        try:
            self.start()
        except RuntimeError as error:
            self._failure = str(error)
        else:
            self._begun.wait()
        if self._failure is not None:
            problem = ConnectError(f"this NP6Client cannot have a thread with an event loop: {self._failure}")
            problem.local = True
            raise problem

    def check(self) -> None:
        """Raise unless the calling thread may wait for this one."""
        if not self.of_this_process:
            raise ClientClosed(
                "this NP6Client was used before this process was forked, and its thread and its connections are in the "
                "process that forked it; create one client in each process: see docs/how-to/scripts.md"
            )
        if self is threading.current_thread():
            raise UsageError(
                "this NP6Client is called on its own thread, by a hook or in a coroutine, where it would wait for "
                "itself; hand what has to be done to another thread"
            )

    def submit(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Whether the loop has not ended."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True

    def stop(self) -> None:
        """End it soon."""
        if self._stopping is not None:
            self.submit(self._stopping.set)

    def run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except OSError as error:
            self._failure = type(error).__name__ + (f": {error.strerror}" if error.strerror else "")
        finally:
            self._begun.set()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._begun.set()
        try:
            await self._stopping.wait()
        finally:
            await self._client.close()


@atexit.register
def _close_all() -> None:
    """What was not closed: a daemon thread that is stopped by the end of the process would close no connection."""
    for loop in tuple(_loops):
        loop.close()
