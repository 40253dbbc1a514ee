"""Processes of a cluster of Dask that the tests start and kill: a scheduler, and workers without a nanny."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.waiting import until

TESTS = Path(__file__).parents[1]


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these arguments, which is killed at the end with all its children."""
    path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(TESTS)]))
    running = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "DASK_LOGGING__DISTRIBUTED": "critical", **environment},
        cwd=os.sep,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


@contextmanager
def scheduler(directory: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A scheduler and its address. Settings of Dask go into the environment, such as ``DASK_DISTRIBUTED__…``."""
    about = directory / "scheduler.json"
    about.unlink(missing_ok=True)
    where = ["--host", "tcp://127.0.0.1", "--port", "0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    command = ["-m", "distributed.cli.dask_scheduler", *where, "--scheduler-file", str(about)]
    with process(*command, **environment) as running:
        until(lambda: running.poll() is not None or _address(about) is not None, 30)
        address = _address(about)
        assert address is not None
        yield running, address


@contextmanager
def worker(address: str, directory: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with one thread."""
    where = ["--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(directory)]
    command = ["-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1", "--memory-limit", "0"]
    with process(*command, *where, **environment) as running:
        yield running


def _address(about: Path) -> str | None:
    try:
        return str(json.loads(about.read_text())["address"])
    except (OSError, ValueError):
        return None
