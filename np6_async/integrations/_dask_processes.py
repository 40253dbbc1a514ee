"""The processes of a cluster of Dask on this machine, and its silence."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any, Final

import dask.config
from distributed import LocalCluster, Nanny, Security, Status

from ..export._errors import WorkersLost

_START: Final = 10.0  # seconds in which a worker has started

_CONFIG: Final = {
    # No pages of HTTP: anybody on this machine could read them.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # What nobody looks at costs nothing.
    "distributed.worker.profile.enabled": False,
    # Not Dask's own: its MALLOC_TRIM_THRESHOLD_ makes memory go back and forth, which takes a fifth of a worker's time.
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1,
        "DASK_LOGGING__DISTRIBUTED": "critical",  # what a worker prints from its first instant to its last
    },
}


@asynccontextmanager
async def processes(count: int) -> AsyncIterator[LocalCluster]:
    """So many workers with one thread each. Raises WorkersLost where they cannot be started."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise WorkersLost(
            "a process of Dask runs the main module again, and that starts processes in turn: put what it does below "
            'if __name__ == "__main__":'
        )
    async with AsyncExitStack() as stack:
        stack.enter_context(silence())
        stack.enter_context(dask.config.set(_CONFIG))
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            worker_class=_DeafNanny,
            host="127.0.0.1",
            protocol="tls://",
            security=Security.temporary(),
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=None,
            silence_logs=logging.CRITICAL,
            asynchronous=True,
        )
        stack.push_async_exit(cluster)
        try:
            await _start(cluster)
        except (OSError, RuntimeError) as error:
            raise WorkersLost(f"no processes of Dask can be started: {error}") from None
        stack.push_async_callback(_started, cluster)
        yield cluster


async def _start(cluster: Any) -> None:
    """Start it whole, even where this is cancelled meanwhile: only so can all of it be closed."""
    starting = asyncio.ensure_future(cluster.__aenter__())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting}, timeout=_START)
        if starting.done() and not starting.cancelled():
            starting.exception()
        raise


async def _started(cluster: LocalCluster) -> None:
    """Wait for those that start in place of another: a worker that is told to end meanwhile prints a traceback."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_START):
            while not all(_is_running(nanny) for nanny in cluster.workers.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def _is_running(nanny: Any) -> bool:
    return nanny.process is not None and bool(nanny.process.status == Status.running)


@contextmanager
def silence() -> Iterator[None]:
    """What Dask prints of its own accord about workers that come and go is not printed."""
    handlers = [handler for handler in logging.getLogger("distributed").handlers if _is_terminal(handler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__)


class _DeafNanny(Nanny):  # type: ignore[misc]
    """Starts a worker, again where it dies, in a process that Ctrl-C in the terminal does not reach.

    The signal is blocked in this thread meanwhile: what it starts inherits that, from its first instant on. If it
    comes to this process now, it is delivered a moment later.
    """

    starting = 0  # how many do at this moment
    heard = False  # whether the signal was not blocked before

    async def instantiate(self) -> Any:
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return await super().instantiate()
        cls = _DeafNanny
        # Started in here, that process would unblock the signal.
        resource_tracker.ensure_running()
        if not cls.starting:
            cls.heard = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        cls.starting += 1
        try:
            return await super().instantiate()
        finally:
            cls.starting -= 1
            if not cls.starting and cls.heard:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
