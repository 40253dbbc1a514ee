"""Commands that are killed at random moments of their work, and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

from np6_async.cli import main
from np6_async.testing import FakeNP6


def start(server: FakeNP6, command: Sequence[str], prelude: str = "") -> subprocess.Popen[bytes]:
    """`np6` with this command line, as a process; `prelude` is Python that runs before it."""
    code = f"{prelude}\nimport sys\nfrom np6_async.cli import main\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *command, "--base-url", server.url],
        env={**os.environ, "NP6_API_KEY": server.api_key},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def until(process: subprocess.Popen[bytes], ready: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until `ready`, for so many seconds at most; False where the process has ended before."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return True


def kill(
    server: FakeNP6,
    command: Sequence[str],
    numbers: Sequence[signal.Signals],
    *,
    requests: int,
    seed: int,
    check: Callable[[], object],
) -> list[tuple[int, float]]:
    """Run the command once for each of these signals, sent after up to so many requests; `check` after each.

    Gives back the exit code and the seconds from the signal to the end, of the runs that were still going on.
    """
    draw = random.Random(seed)
    ended = []
    for number in numbers:
        goal = server.request_count + draw.randint(0, requests)
        with start(server, command) as process:
            alive = until(process, lambda goal=goal: server.request_count >= goal)  # type: ignore[misc]
            time.sleep(draw.uniform(0, 0.02))
            began = time.monotonic()
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
            assert b"Traceback" not in err, err.decode()
            if alive:
                ended.append((process.returncode, time.monotonic() - began))
        check()
    return ended


def finish(server: FakeNP6, command: Sequence[str]) -> int:
    """Run the command to its end, in this process; gives back the exit code."""
    with patch.dict(os.environ, NP6_API_KEY=server.api_key):
        return main([*command, "--base-url", server.url])
