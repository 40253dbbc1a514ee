"""Processes that the tests of workers start: their own Redis, and the workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from support.waiting import until


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in its own session, which is killed at the end with all its children."""
    running = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        yield running
    finally:
        kill(running)


def kill(running: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to the process and its children, as if the machine had crashed."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """A Redis on a free port of the loopback interface, which stores nothing on disk; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listen = ["--bind", "127.0.0.1", "--port", str(port)]
    with process("redis-server", *listen, "--dir", str(directory), "--save", "", "--loglevel", "warning") as running:
        with redis.Redis(port=port) as connection:
            until(lambda: running.poll() is not None or answers(connection))
            assert running.poll() is None
        yield f"redis://127.0.0.1:{port}"


def answers(connection: redis.Redis) -> bool:
    try:
        return bool(connection.ping())
    except redis.ConnectionError:
        return False
