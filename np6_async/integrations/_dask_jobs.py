"""What runs in a worker of Dask: a call in its thread and, on the loop of the worker, a watch over the calls.

Dask cannot end a thread. So the watch looks whether the scheduler still wants what is being made here, which it says
when a run was cancelled and when the process of the run is gone, and asks whether the run is to stop.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs
from distributed import Status, Worker, get_worker

from .._errors import NP6Error
from .._version import __version__
from ..export._errors import WorkersLost
from ..export._executor import Job

# Of reports. One for all runs: of each topic, the scheduler keeps the last thousand messages for ever.
TOPIC: Final = "np6-progress"

_TICK: Final = 0.2  # seconds between two looks at whether a call is still wanted
_ASK: Final = 0.5  # seconds between two questions whether a run is to stop
_REPORT: Final = 1.0  # seconds between two reports of one call


@attrs.frozen
class Call:
    """What a worker gets: the number of a call in its run, and the pickled function and task."""

    run: str
    number: int
    version: str
    payload: bytes = attrs.field(repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """To load it is to make it, so that `packed` can be sent with the standard library alone."""
        return make_call, (self.run, self.number, self.version, self.payload)


def packed(call: Call) -> io.BytesIO:
    """What ``pickle.load`` makes the call of.

    Dask logs what a process cannot read, and what a function is given that raises. This it can read where there is no
    np6_async, as in a scheduler, and it shows nothing in a log.
    """
    return io.BytesIO(pickle.dumps(call))


@attrs.frozen
class Outcome:
    """What came of a call: what it returned or raised, and its last report."""

    returned: Any = None
    raised: BaseException | None = None
    reported: tuple[Any, ...] = ()


def make_call(run: str, number: int, version: str, payload: bytes) -> bytes:
    """The pickled `Outcome` of a call. Nothing is raised: Dask would log it, and take some errors for its own."""
    worker = get_worker()
    if version != __version__:
        return pickle.dumps(Outcome(raised=WorkersLost(other_version(worker.address, __version__, version))))
    running = _Running(run, number, worker.get_current_task())
    watch = _watch(worker)
    watch.add(running)
    try:
        function, task = pickle.loads(payload)  # noqa: S301
        returned = function(task, running.job)
        return pickle.dumps(Outcome(returned=returned, reported=running.take()))
    except BaseException as error:
        return pickle.dumps(Outcome(raised=_portable(error), reported=running.take()))
    finally:
        watch.remove(running)


def other_version(address: str, found: str | None, wanted: str) -> str:
    """The words for a worker that has another version of this package."""
    has = f"np6_async {found}" if found else "no np6_async"
    return f"{address} has {has}, this process {wanted}: install np6_async {wanted} in all workers of Dask"


def _portable(error: BaseException) -> BaseException:
    """The error itself where it can be pickled, and knows where in the worker it was raised."""
    if not isinstance(error, NP6Error):
        error.add_note("In the worker:\n" + "".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(f"{type(error).__qualname__}: {error}")
    return error


class _Running:
    """A call that is being made."""

    def __init__(self, run: str, number: int, key: Any) -> None:
        self.run, self.number, self.key = run, number, key
        self.job = Job(self._report)
        self.stopped = self.cancelled = False
        self.sent = -_REPORT
        self._lock = threading.Lock()
        self._reported: tuple[Any, ...] = ()

    def _report(self, progress: Any) -> None:
        with self._lock:
            self._reported = (progress,)

    def take(self) -> tuple[Any, ...]:
        """The last report, once."""
        with self._lock:
            reported, self._reported = self._reported, ()
        return reported


class _Watch:
    """The calls that are being made in one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._calls: set[_Running] = set()
        self._watching = False
        self._asked = 0.0

    def add(self, running: _Running) -> None:
        with self._lock:
            self._calls.add(running)
            begin, self._watching = not self._watching, True
        if begin:
            loop: Any = self._worker.loop
            asyncio.run_coroutine_threadsafe(self._go(), loop.asyncio_loop)

    def remove(self, running: _Running) -> None:
        with self._lock:
            self._calls.discard(running)

    async def _go(self) -> None:
        """Watch for as long as there are calls. On the loop of the worker, so that its state does not change here."""
        try:
            while True:
                await asyncio.sleep(_TICK)
                with self._lock:
                    calls = list(self._calls)
                    if not calls:
                        self._watching = False
                        return
                for running in calls:
                    self._report(running)
                    if not running.cancelled and not self._wanted(running):
                        running.cancelled = True
                        _tell(running.job.cancel)
                await self._ask(calls)
        except BaseException:
            with self._lock:
                calls, self._watching = list(self._calls), False
            for running in calls:
                _tell(running.job.cancel)
            raise

    def _wanted(self, running: _Running) -> bool:
        if self._worker.status in (Status.closing, Status.closed, Status.failed):
            return False
        task = self._worker.state.tasks.get(running.key)
        return task is not None and task.state in ("executing", "long-running")

    def _report(self, running: _Running) -> None:
        if time.monotonic() - running.sent >= _REPORT and (reported := running.take()):
            running.sent = time.monotonic()
            message = {"run": running.run, "call": running.number, "progress": pickle.dumps(reported[0])}
            self._worker.log_event(TOPIC, message)

    async def _ask(self, calls: list[_Running]) -> None:
        if time.monotonic() - self._asked < _ASK:
            return
        self._asked = time.monotonic()
        for run in {running.run for running in calls if not running.stopped}:
            stop = False
            # A scheduler that is gone is noticed by the worker itself, which closes.
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    stop = await self._worker.scheduler.event_is_set(name=run)
            for running in calls:
                if stop and running.run == run:
                    running.stopped = True
                    _tell(running.job.stop)


def _tell(what: Callable[[], object]) -> None:
    """Let a call hear of it, which may be just ending: its loop would be closed."""
    with suppress(RuntimeError):
        what()


def _watch(worker: Worker) -> _Watch:
    watch: _Watch = vars(worker).setdefault("np6_watch", _Watch(worker))
    return watch
