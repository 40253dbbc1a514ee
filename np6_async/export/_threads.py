"""Blocking calls that do not stop the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """The result of `call`, which runs in its own thread.

    It is a daemon thread, unlike those of `asyncio.to_thread`: a read from a terminal, a write to a pipe that nobody
    reads or a disk that hangs must not keep the process from ending.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # no cancellation reaches the thread

    def target() -> None:
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=target, name="np6 i/o", daemon=True).start()
    return asyncio.wrap_future(future)
