"""The processes of a benchmark, the processors they stay on, and rounds of jobs that can be compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Any, Self, TypeVar

from .server import MEDIUM

T = TypeVar("T")


def cores() -> list[int]:
    """The processors that this process may use; empty if the OS does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def server_core() -> int | None:
    """A processor for the server alone; None if there is only one."""
    return cores()[0] if len(cores()) > 1 else None


def client_core() -> int | None:
    """A processor for the working client."""
    return cores()[1] if len(cores()) > 1 else None


class _Process:
    def __init__(self, module: str, core: int | None, *options: str) -> None:
        pinned = [] if core is None else ["--core", str(core)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *pinned, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended early, with status {self._process.wait()}")
        return line

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Server(_Process):
    """The server of `benchmarks.server`; `url` is its address, `authority` certifies it over TLS."""

    def __init__(self, *, core: int | None, huge_mb: int = 0, medium: int = MEDIUM, tls: bool = False) -> None:
        super().__init__("server", core, "--huge", str(huge_mb), "--medium", str(medium), *["--tls"] * tls)
        started = json.loads(self._read())
        self.port: int = started["port"]
        self.authority: str | None = started["authority"]
        self.url = f"http{'s' * tls}://127.0.0.1:{self.port}"

    def cpu(self) -> float | None:
        """Seconds of processor time used up to now; None if the OS does not say."""
        try:
            with open(f"/proc/{self._process.pid}/stat") as stat:
                parts = stat.read().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


class Worker(_Process):
    """A client process of `benchmarks.worker`."""

    def __init__(self, *, core: int | None) -> None:
        super().__init__("worker", core)

    def start(self, job: str, **options: Any) -> None:
        """Start a job; `result` waits for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, **options}) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """The result of the job that was started."""
        result: dict[str, Any] = json.loads(self._read())
        return result

    def run(self, job: str, **options: Any) -> dict[str, Any]:
        """Do a job."""
        self.start(job, **options)
        return self.result()


def once(job: str, **options: Any) -> dict[str, Any]:
    """Do a job in its own fresh process."""
    with Worker(core=client_core()) as worker:
        return worker.run(job, **options)


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, with the minimum and the maximum."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def show(self, digits: int = 2, unit: str = "") -> str:
        """For a table."""
        middle, least, most = (f"{value:,.{digits}f}" for value in (self.median, self.least, self.most))
        return f"{middle}{unit} ({least}-{most})"


def ratios(above: list[float], below: list[float]) -> Spread:
    """Round by round, so that what slows down a whole round does not count."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def interleaved(rounds: int, runs: dict[str, Callable[[], T]]) -> dict[str, list[T]]:
    """The results of each of `runs` in each round; every other round runs them in reverse order."""
    results: dict[str, list[T]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            results[name].append(runs[name]())
    return results
