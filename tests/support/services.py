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


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def redis_server(
    directory: Path, *options: str, port: int | None = None, program: str = "redis-server"
) -> Iterator[str]:
    """A Redis on a port of the loopback interface, which stores nothing on disk; yields its URL."""
    port = port or free_port()
    listen = ["--bind", "127.0.0.1", "--port", str(port)]
    quiet = ["--save", "", "--loglevel", "warning", "--logfile", str(directory / "redis.log")]
    with process(program, *listen, "--dir", str(directory), *quiet, *options) as running:
        with redis.Redis(port=port) as connection:
            until(lambda: running.poll() is not None or answers(connection))
            assert running.poll() is None
        yield f"redis://127.0.0.1:{port}"


def answers(connection: redis.Redis) -> bool:
    try:
        return bool(connection.ping())
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False
