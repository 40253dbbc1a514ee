"""Where the partitions of an export or a sync are fetched: in other processes, that something like Dask hands them to.

An `Executor` runs calls in its workers, each under a name. A call gets a `Job`, by which it reports what it has done
and hears that it is to end. What a call and its result are is not the executor's business, but that both are pickled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar, runtime_checkable

from .._errors import InvalidInput

SHARD_SIZE: Final = 5_000  # contacts
_MOST_CONTACTS: Final = 1_000_000
T = TypeVar("T")
R = TypeVar("R")


class Job:
    """What a call has of the run that it belongs to, in the process of a worker. Every method may be called from any
    thread."""

    def __init__(self, send: Callable[[Any], object]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._stopped = self._cancelled = False
        self._stop: Callable[[], object] | None = None
        self._cancel: Callable[[], object] | None = None

    def report(self, progress: Any) -> None:
        """Tell the run what is done; it may see the last of many reports only."""
        self._send(progress)

    def listen(self, stop: Callable[[], object], cancel: Callable[[], object]) -> None:
        """Call one of these once the call is to end: `stop`, soon and with what it has, or `cancel`, at once.

        It happens in whatever thread hears of it, and in this one where it was heard of before.
        """
        with self._lock:
            self._stop, self._cancel = stop, cancel
            stopped, cancelled = self._stopped, self._cancelled
        if stopped:
            stop()
        if cancelled:
            cancel()

    def stop(self) -> None:
        """The call is to end soon, with what it has."""
        with self._lock:
            self._stopped, call = True, self._stop
        if call is not None:
            call()

    def cancel(self) -> None:
        """Nobody wants its result any more."""
        with self._lock:
            self._cancelled, call = True, self._cancel
        if call is not None:
            call()


@runtime_checkable
class Executor(Protocol):
    """Runs calls in workers; to be entered with ``async with``."""

    @property
    def width(self) -> int:
        """How many calls there should be at once to keep the workers busy, from 1. It may change at any time."""
        ...

    async def run(self, name: str, call: Callable[[T, Job], R], task: T, report: Callable[[Any], object]) -> R:
        """What ``call(task, job)`` returns in a worker. `call` is a function of a module, to be run in a thread.

        A call whose worker dies is made again, in another one, and the result of a worker that died may be asked for
        once more: it is to be safe to make the same call twice, even at the same time. `report` is called with what
        the job has reported. Cancelled, it cancels the call.

        Raises what `call` raises; and `WorkersLost` where the call cannot be made, in words.
        """
        ...

    async def stop(self) -> None:
        """Let the calls that are being made end soon, each with what it has. Those that follow are to do the same."""

    async def __aenter__(self) -> Self:
        """Begin. Raises `WorkersLost` where there is no way to workers."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel what is left, and release what was begun here."""


def check_executor(executor: Executor | None, shard_size: int) -> Executor | None:
    """`executor`, if there is one; raises `InvalidInput`, also for a shard that cannot be of so many contacts."""
    if not isinstance(shard_size, int) or not 1 <= shard_size <= _MOST_CONTACTS:
        raise InvalidInput(f"shard_size must be a whole number of contacts from 1 to {_MOST_CONTACTS:,}")
    if executor is not None and (isinstance(executor, type) or not isinstance(executor, Executor)):
        raise InvalidInput("executor must be an Executor, such as np6_async.integrations.dask.DaskExecutor(client)")
    return executor
