"""Calls that are made by the workers of a client of Dask: what an export asks of an executor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import pickle
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary

from distributed import Client, Event, Future, KilledWorker

from .._errors import UsageError
from .._version import __version__
from ..export._errors import WorkersLost
from ..export._executor import Job
from ._dask_jobs import TOPIC, Call, Outcome, other_version, packed

T = TypeVar("T")
R = TypeVar("R")

_LOOK: Final = 1.0  # seconds between two looks at which workers there are
_SILENCE: Final = 10.0  # seconds that one answer of the scheduler may take
_SILENCES: Final = 3  # answers that may be missing in a row; more than one, for this process may have been busy itself
_NOBODY: Final = 5.0  # seconds without a worker before it is said
_CANCELLED: Final = (asyncio.CancelledError, concurrent.futures.CancelledError)

_logger = logging.getLogger("np6_async")


class Calls(ABC):
    """Makes calls in the workers of the client that `_connect` opens."""

    def __init__(self) -> None:
        self._stack: AsyncExitStack | None = None
        self._width = 1
        self._stopped = False

    @abstractmethod
    def _connect(self) -> AbstractAsyncContextManager[Client]:
        """A client that is connected, for as long as this is entered."""

    @property
    def width(self) -> int:
        """How many calls keep the workers busy: one for each of their threads, and 2 or a few more."""
        return self._width

    async def __aenter__(self) -> Self:
        """Connect. Raises `WorkersLost` where there is no way to workers, or they have another np6_async."""
        if self._stack is not None:
            raise UsageError("these workers are in use: make another object")
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(self._connect())
            self._name = f"np6-{secrets.token_hex(4)}"
            self._numbers = count(1)
            self._futures: set[Future[bytes]] = set()
            self._reports: dict[int, Callable[[Any], object]] = {}
            self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._stopped = False
            await self._check_versions()
            await self._look()
            _subscribe(self._client, self._name, self._reported)
            stack.callback(_unsubscribe, self._client, self._name)
            follower = asyncio.create_task(self._follow(), name="np6 workers of Dask")
            stack.push_async_callback(_end, follower)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel what is left, and release what was begun here."""
        stack, self._stack = self._stack, None
        assert stack is not None
        self._lose("the workers were released")
        for future in self._futures:
            future.release()
        async with stack:
            if self._stopped and self._client.status == "running":
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_SILENCE):
                        await Event(self._name, client=self._client).clear()

    async def run(self, name: str, call: Callable[[T, Job], R], task: T, report: Callable[[Any], object]) -> R:
        """What ``call(task, job)`` returns in a worker, as `Executor.run` says.

        `name` is in the key of the call, which Dask's pages and logs show. A call is given up, with `WorkersLost`, once
        more workers have died of it than Dask's ``distributed.scheduler.allowed-failures``, which is 3. Without any
        worker it is waited for one, and a warning is logged.
        """
        if self._stack is None:
            raise UsageError("these workers are not entered with `async with`")
        self._check()
        number = next(self._numbers)
        sent = packed(Call(self._name, number, __version__, pickle.dumps((call, task))))
        # Dask remembers for ever what a key begins with, up to its first dash, and for as long as there are calls its
        # first part.
        future = self._client.submit(pickle.load, sent, key=(self._name, name, number), pure=False)
        self._futures.add(future)
        self._reports[number] = report
        try:
            outcome = await self._outcome(future, name)
        finally:
            self._futures.discard(future)
            del self._reports[number]
            future.release()
        for progress in outcome.reported:
            report(progress)
        if outcome.raised is None:
            return outcome.returned  # type: ignore[no-any-return]
        if isinstance(outcome.raised, Exception):
            raise outcome.raised
        # A CancelledError here would be taken for one of this task, and a SystemExit would end the loop.
        raise WorkersLost(f"call {name!r} ended in its worker with {type(outcome.raised).__name__}")

    async def stop(self) -> None:
        """Let the calls that are being made, and those that follow, end soon, each with what it has."""
        if self._stack is None:
            return
        self._stopped = True
        with suppress(OSError):  # A scheduler that is gone: `run` says so.
            await Event(self._name, client=self._client).set()

    async def _outcome(self, future: Future[bytes], name: str) -> Outcome:
        """What came of the call. A cancellation of this task is its own; all others mean that the call is lost."""
        result = asyncio.ensure_future(_result(future))
        try:
            ended: set[asyncio.Future[Any]] = {result, self._lost}
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not result.done():
                result.cancel()
                result.add_done_callback(_forget)
        if not result.done():
            raise WorkersLost(self._lost.result())
        error = result.exception()
        if error is None:
            return pickle.loads(result.result())  # type: ignore[no-any-return]  # noqa: S301
        if isinstance(error, _Cancelled):
            if error.reason == "scheduler-connection-lost" or self._client.status != "running":
                raise self._broken()
            raise WorkersLost(
                f"call {name!r} was cancelled by somebody in Dask, or the cluster restarted; run again to resume"
            )
        if isinstance(error, KilledWorker):
            raise WorkersLost(
                f"{error.allowed_failures + 1} workers died while they made call {name!r}, the last of them "
                f"{error.last_worker.address}: see whether they had memory enough, and run again to resume"
            )
        raise WorkersLost(
            f"Dask cannot make call {name!r}: {type(error).__name__}: {error}; np6_async {__version__} is to be "
            "installed in all workers of Dask"
        )

    def _broken(self) -> WorkersLost:
        return WorkersLost(f"the connection to Dask's scheduler at {self._where} broke; run again to resume")

    @property
    def _where(self) -> str:
        scheduler = self._client.scheduler
        return str(scheduler.address) if scheduler is not None else "its address"

    def _check(self) -> None:
        """Raise if the workers are lost for good."""
        if not self._lost.done() and self._client.status != "running":
            self._lose(str(self._broken()))
        if self._lost.done():
            raise WorkersLost(self._lost.result())

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)

    async def _check_versions(self) -> None:
        """Raises WorkersLost unless all workers have the np6_async of this process. Those that come later look too."""
        try:
            async with asyncio.timeout(_SILENCE * _SILENCES):
                asked: Any = self._client.get_versions(packages=["np6_async"])
                found = await asked
        except (OSError, TimeoutError) as error:
            raise WorkersLost(f"Dask's scheduler at {self._where} does not answer: {error}") from None
        own = found["client"]["packages"]["np6_async"]
        for address, versions in found["workers"].items():
            version = versions["packages"].get("np6_async")
            if version != own:
                raise WorkersLost(other_version(f"worker {address}", version, __version__))

    async def _follow(self) -> None:
        """Follow which workers there are, and notice where the scheduler is gone without a word."""
        silences, nobody_since, said = 0, time.monotonic(), False
        while True:
            try:
                async with asyncio.timeout(_SILENCE):
                    threads = await self._look()
            except (OSError, TimeoutError):
                silences += 1
                if self._client.status != "running":
                    self._lose(str(self._broken()))
                    return
                if silences >= _SILENCES:
                    self._lose(f"Dask's scheduler at {self._where} does not answer; run again to resume")
                    return
            else:
                silences = 0
                if threads or not self._futures:
                    nobody_since, said = time.monotonic(), False
                elif not said and (seconds := time.monotonic() - nobody_since) >= _NOBODY:
                    said = True
                    _logger.warning("no worker of Dask has been there for %.0f s; waiting for one", seconds)
            await asyncio.sleep(_LOOK)

    async def _look(self) -> int:
        """How many threads the workers have. Raises OSError where the scheduler is gone."""
        scheduler: Any = self._client.scheduler
        if scheduler is None or self._client.status != "running":
            raise OSError("not connected")
        threads: int = sum((await scheduler.ncores()).values())
        self._width = threads + max(2, threads // 8)
        return threads

    def _reported(self, number: int, progress: bytes) -> None:
        report = self._reports.get(number)
        if report is not None:
            report(pickle.loads(progress))  # noqa: S301


class _Cancelled(Exception):
    """Dask has cancelled a call, for a reason in its words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


async def _result(future: Future[bytes]) -> bytes:
    """The result of a future. What Dask raises as a CancelledError is `_Cancelled`: it cancels no task of ours."""
    try:
        awaited: Any = future.result()
        result: bytes = await awaited
    except _CANCELLED as error:
        raise _Cancelled(getattr(error, "reason", "")) from None
    return result


def _forget(result: asyncio.Future[Any]) -> None:
    """Look at how it ended, or asyncio would complain."""
    if not result.cancelled():
        result.exception()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


# Dask has one handler for each topic of a client, and several exports may share a client.
_subscribed: WeakKeyDictionary[Client, dict[str, Callable[[int, bytes], object]]] = WeakKeyDictionary()


def _subscribe(client: Client, run: str, reported: Callable[[int, bytes], object]) -> None:
    runs = _subscribed.setdefault(client, {})
    runs[run] = reported

    def handle(event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        if message["run"] in runs:
            runs[message["run"]](message["call"], message["progress"])

    if len(runs) == 1:
        client.subscribe_topic(TOPIC, handle)


def _unsubscribe(client: Client, run: str) -> None:
    runs = _subscribed[client]
    del runs[run]
    if not runs and client.status == "running":
        client.unsubscribe_topic(TOPIC)
