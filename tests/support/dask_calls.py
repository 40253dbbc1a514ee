"""Calls for the workers of Dask: each gets a task and its `Job`."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from np6_async import NotFound
from np6_async.export._executor import Job
from support.waiting import until


def double(number: int, job: Job) -> int:
    return 2 * number


def report_twice(number: int, job: Job) -> int:
    job.report(("first of", number))
    job.report(("last of", number))
    return number


def report_until(path: str, job: Job) -> str:
    """Report once, and end when the file is there."""
    job.report(os.getpid())
    until(Path(path).exists)
    return path


def raise_it(error: BaseException, job: Job) -> None:
    raise error


def raise_not_found(contact: str, job: Job) -> None:
    error = NotFound("no such contact", status=404, request_id="r-1")
    error.contact, error.attempts = contact, 3
    raise error


def give_lock(task: object, job: Job) -> object:
    """What cannot be pickled."""
    return threading.Lock()


def raise_lock(task: object, job: Job) -> None:
    error = ValueError("that cannot be pickled")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def until_told(path: str, job: Job) -> str:
    """Write to the file what was heard: "stop" or "cancel"; before that, the id of the process."""
    heard: list[str] = []
    told = threading.Event()

    def hear(word: str) -> None:
        heard.append(word)
        told.set()

    write(Path(path), str(os.getpid()))
    job.listen(lambda: hear("stop"), lambda: hear("cancel"))
    assert told.wait(60)
    write(Path(path), heard[0])
    return heard[0]


def write(path: Path, text: str) -> None:
    """Write it so that nobody sees half of it."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def die_once(path: str, job: Job) -> int:
    """Die as if killed, but for the second time."""
    with suppress(FileExistsError):
        Path(path).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die(task: object, job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hold_the_lock(seconds: float, job: Job) -> int:
    """Compute in pure Python for so long."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += sum(range(1000))
    return number


async def hold_the_loop(seconds: float) -> None:
    """The same in a coroutine, which is not what calls are."""
    hold_the_lock(seconds, Job(lambda progress: None))


def handled_signals(task: object, job: Job) -> Any:
    """The process, and the signals that its threads do not hear."""
    status = Path("/proc/self/status").read_text()
    blocked = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")), 16)
    return {number for number in signal.Signals if blocked & (1 << (number - 1))}
