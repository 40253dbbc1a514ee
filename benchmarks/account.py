"""A sync of a whole account by one request, side by side with one request for each contact.

python -m benchmarks.account [--contacts 200000] [--rounds 3] [--limit 500]

The server is in this process, with five events a contact, made by sends to thousands of contacts at a time; `np6 sync`
runs in another one, into NDJSON. Each round syncs everything both ways, and then what is new: an event of every
thousandth contact. Afterwards both once more under a limit of requests a second (0: not). Lost and doubled
events are counted after each run; the exit code is 1 where there are any.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from np6_async.testing import FakeNP6, RateLimit, make_hit

from .processes import Spread, interleaved, ratios

WAYS = ("account", "contacts")


class Run(NamedTuple):
    """One run of `np6 sync`: KiB of memory at most, and the events that it got wrong."""

    seconds: float
    requests: int
    peak: int
    wrong: int


class _Line(msgspec.Struct):
    event: _Event


class _Event(msgspec.Struct):
    id: str


class Bench:
    """Syncs of `server`, each way with its own state and files in `folder`."""

    def __init__(self, server: FakeNP6, folder: Path) -> None:
        self._server = server
        self._folder = folder
        (folder / "ids.txt").write_text("\n".join(server.contact_ids))
        self._seen: dict[str, Counter[str]] = {}

    def sync(self, way: str) -> Run:
        """What is new since the last call of this way; checked against what the server has."""
        ids = ["--ids-from", str(self._folder / "ids.txt"), "--concurrency", "50"]
        run = self._run(way, *["--account"] if way == "account" else ids)
        seen = self._seen.setdefault(way, Counter())
        decode = msgspec.json.Decoder(_Line).decode
        for file in (self._folder / way).glob("*.ndjson"):
            with file.open("rb") as lines:
                seen.update(decode(line).event.id for line in lines)
            file.unlink()
        truth = {event["id"] for event in self._server.account_events()}
        lost, doubled = len(truth - seen.keys()), sum(seen.values()) - len(seen)
        return run._replace(wrong=lost + doubled)

    def sync_everything(self, way: str) -> Run:
        """As the first call of this way."""
        self._seen.pop(way, None)
        shutil.rmtree(self._folder / way, ignore_errors=True)
        (self._folder / f"{way}.db").unlink(missing_ok=True)
        return self.sync(way)

    def idle(self) -> int:
        """The memory of a run that fetches nothing, in KiB."""
        return self._run("idle", "--action", "NONE", "--missing", "empty").peak

    def publish(self) -> None:
        """New events, older than what a sync leaves to the next."""
        at = int(time.time() * 1000) - 180_000
        for contact in self._server.contact_ids[::1000]:
            self._server.add_events(contact, [make_hit(at=at, contact=contact)])

    def _run(self, way: str, *options: str) -> Run:
        command = [sys.executable, "-m", "np6_async.cli", "sync", "--base-url", self._server.url]
        command += ["--state", str(self._folder / f"{way}.db"), "--output", str(self._folder / way), *options]
        before, peak, began = self._server.request_count, 0, time.monotonic()
        environment = {**os.environ, "NP6_API_KEY": self._server.api_key}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                peak = _peak(process.pid) or peak
                time.sleep(0.02)
        seconds = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"the sync ended with {process.returncode}")
        return Run(seconds, self._server.request_count - before, peak, 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.account", description=__doc__)
    parser.add_argument("--contacts", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=500, help="requests a second in the last part; 0: leave it out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FakeNP6(options.contacts, 5, sends=40) as server:
        events = sum(1 for _ in server.account_events())
        print(f"{events:,} events of {options.contacts:,} contacts; median of {options.rounds} (least-most)")
        bench = Bench(server, Path(folder))
        idle = bench.idle()
        everything = {way: _job(bench.sync_everything, way) for way in WAYS}
        wrong = _compare("everything", interleaved(options.rounds, everything), idle)
        wrong += _compare("what is new", _nightly(bench, options.rounds), idle)
        if options.limit:
            server.rate_limit = RateLimit(limit=options.limit)
            limit = f"{options.limit} requests a second"
            wrong += _compare(f"everything, {limit}", interleaved(1, everything), idle)
            wrong += _compare(f"what is new, {limit}", _nightly(bench, 1), idle)
    print(f"lost or doubled: {wrong:,}")
    return 1 if wrong else 0


def _nightly(bench: Bench, rounds: int) -> dict[str, list[Run]]:
    """Both ways, after new events each time."""
    results: dict[str, list[Run]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        bench.publish()
        for way, runs in interleaved(1, {way: _job(bench.sync, way) for way in WAYS}).items():
            results[way] += runs
    return results


def _job(sync: Callable[[str], Run], way: str) -> Callable[[], Run]:
    return lambda: sync(way)


def _compare(title: str, runs: dict[str, list[Run]], idle: int) -> int:
    """Print both ways; returns how many events were wrong."""
    seconds = {way: [run.seconds for run in each] for way, each in runs.items()}
    print(f"\n{title}: {ratios(seconds['contacts'], seconds['account']).show(1)} times as fast by account")
    for way, each in runs.items():
        requests = max(run.requests for run in each)
        growth = Spread.of([(run.peak - idle) / 1024 for run in each]).show(1, " MiB")
        print(f"  {way:8}  {Spread.of(seconds[way]).show(1, ' s')}, {requests:,} requests, {growth} more")
    return sum(run.wrong for each in runs.values() for run in each)


def _peak(pid: int) -> int:
    """KiB of memory at most; 0 if the process has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    sys.exit(main())
