"""The processes of a cluster of Dask on this machine, and its silence."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import dask.config
from distributed import LocalCluster, Nanny, Security

from ..export._errors import WorkersLost

_CONFIG: Final = {
    # No pages of HTTP: anybody on this machine could read them.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # What nobody looks at costs nothing.
    "distributed.worker.profile.enabled": False,
}


@asynccontextmanager
async def processes(count: int) -> AsyncIterator[LocalCluster]:
    """So many workers with one thread each. Raises WorkersLost where they cannot be started."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise WorkersLost(
            "a process of Dask runs the main module again, and that starts processes in turn: put what it does below "
            'if __name__ == "__main__":'
        )
    with silence(), dask.config.set(_CONFIG):
        try:
            cluster = await LocalCluster(
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
        except (OSError, RuntimeError, TimeoutError) as error:
            raise WorkersLost(f"no processes of Dask can be started: {error}") from None
        async with cluster:
            yield cluster


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


class _DeafNanny(Nanny):
    """Starts a worker, again where it dies, in a process that Ctrl-C in the terminal does not reach.

    The signal is blocked in this thread meanwhile: what it starts inherits that, from its first instant on. If it
    comes to this process now, it is delivered a moment later.
    """

    _starting = 0

    async def instantiate(self) -> Any:
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return await super().instantiate()
        if not _DeafNanny._starting:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        _DeafNanny._starting += 1
        try:
            return await super().instantiate()
        finally:
            _DeafNanny._starting -= 1
            if not _DeafNanny._starting:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
