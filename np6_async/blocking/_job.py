"""A task on the loop of a client, for which a thread waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from .._errors import ClientClosed
from ._handover import End, Handover
from ._loop import GLANCE, Loop

T = TypeVar("T")
R = TypeVar("R")


class Job(Generic[T]):
    """Begins `work` on the loop, in the caller's context; what it puts into `handover` and how it ends is received."""

    def __init__(self, loop: Loop, work: Callable[[], Coroutine[Any, Any, Any]], handover: Handover[T]) -> None:
        self._loop = loop
        self._handover = handover
        self._ended = threading.Event()
        self._task: asyncio.Task[None] | None = None
        loop.submit(self._begin, work)

    def receive(self) -> T | End:
        """The next item or the end. An interrupt, such as Ctrl-C, ends the task first."""
        try:
            return self._handover.receive()
        except BaseException:
            self.stop()
            self._handover.clear()
            raise

    def stop(self) -> None:
        """Cancel the task, and return when it has ended."""
        self.abandon()
        while self._loop.running and not self._ended.wait(GLANCE):
            pass

    def abandon(self) -> None:
        """Cancel the task without waiting for its end, from any thread."""
        if not self._ended.is_set():
            self._loop.submit_quietly(self._cancel)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(work), name="np6_async call")
        self._task.add_done_callback(self._check_ended)

    def _check_ended(self, task: asyncio.Task[None]) -> None:
        if not self._ended.is_set():  # it was cancelled before its first step, so nothing of it ran
            self._handover.end(End(error=ClientClosed("this NP6Client was closed during the call")))
            self._ended.set()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            self._handover.end(End(await work()))
        except asyncio.CancelledError:
            self._handover.end(End(error=ClientClosed("this NP6Client was closed during the call")))
            raise
        except BaseException as error:
            self._handover.end(End(error=error))
            if not isinstance(error, Exception):
                raise
        finally:
            self._ended.set()


def call(loop: Loop, work: Callable[[], Coroutine[Any, Any, R]], handover: Handover[Any] | None = None) -> R:
    """What `work` returns or raises."""
    handover = handover or Handover(loop)
    end = Job(loop, work, handover).receive()
    handover.clear()  # questions that came too late
    result: R = result_of(end)
    return result


def result_of(end: End) -> Any:
    """The value of a task, or its error, raised."""
    try:
        if end.error is not None:
            raise end.error
        return end.value
    finally:
        del end  # the traceback of the error has this frame
