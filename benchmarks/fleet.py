"""Exports by many processes: how much faster two are than one, and whether a million contacts are exact in flat memory.

python -m benchmarks.fleet speed [--contacts 40000] [--events 100] [--rounds 3]
    In turn one process, ``--workers 2``, and two commands that each fetch half of the contacts, which is the most that
    two processes of this machine can do; into Parquet. The server of prepared bytes shares the
    processors: what each side took of them is printed.

python -m benchmarks.fleet exact [--contacts 1000000] [--workers 2]
    ``np6 export --workers`` of as many contacts from a fake server; then the files are compared with what it holds. The
    memory of each process is printed at 10 %, 50 % and 100 %.

python -m benchmarks.fleet lazy [--contacts 10000000]
    Ids from a file for workers that fetch nothing: the memory of this process, which is client and scheduler.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil

from np6_async import NP6Client
from np6_async.export import Counts, Export, Job, _fleet
from np6_async.export._shard import Fetched, Shard
from np6_async.integrations.dask import LocalWorkers
from np6_async.testing import FakeNP6

from .processes import Server

_MARKS = (10, 50, 100)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", formatter_class=argparse.RawTextHelpFormatter)
    parser.description = __doc__
    parser.add_argument("what", choices=("speed", "exact", "lazy"))
    parser.add_argument("--contacts", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--events", type=int, choices=(5, 100), default=100, help="of each contact, for speed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        match options.what:
            case "speed":
                return speed(options.contacts or 40_000, options.events, options.rounds, Path(folder))
            case "exact":
                return exact(options.contacts or 1_000_000, options.workers, Path(folder))
            case _:
                return asyncio.run(lazy(options.contacts or 10_000_000, options.workers, Path(folder)))


def export(url: str, ids: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "np6_async.cli", "export", "--base-url", url, "--ids-from", str(ids)]
    words += ["--output", str(out), "--format", "parquet", *more]
    return subprocess.Popen(words, env={**os.environ, "NP6_API_KEY": "key"}, stderr=subprocess.PIPE)


# One process and two


def speed(contacts: int, events: int, rounds: int, folder: Path) -> int:
    names = [f"{'M' if events == 100 else 'S'}{number}\n" for number in range(contacts)]
    files = {"all": names, "first": names[: contacts // 2], "second": names[contacts // 2 :]}
    for name, lines in files.items():
        (folder / name).write_text("".join(lines))
    more = ["--workers", "2", "--shard-size", str(max(1, contacts // 40))]
    ways: dict[str, list[tuple[str, list[str]]]] = {
        "one process": [("all", [])],
        "--workers 2": [("all", more)],
        "two commands": [("first", []), ("second", [])],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    used: dict[str, list[float]] = {way: [] for way in ways}
    served: dict[str, list[float]] = {way: [] for way in ways}
    with Server(core=None, medium=100) as server:
        for _ in range(rounds):
            for way, commands in ways.items():
                before, own = server.cpu() or 0.0, _processor()
                began = time.monotonic()
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    running = [export(server.url, folder / ids, Path(out, ids), *words) for ids, words in commands]
                    for process in running:
                        _, said = process.communicate()
                        if process.returncode:
                            raise SystemExit(said.decode())
                seconds[way].append(time.monotonic() - began)
                used[way].append(_processor() - own)
                served[way].append((server.cpu() or 0.0) - before)
    one = median(seconds["one process"])
    print(f"{contacts:,} contacts with {events} events each, into Parquet; medians of {rounds}, starts included")
    for way, times in seconds.items():
        middle = median(times)
        shares = f"{median(used[way]) / middle:4.2f} of the client, {median(served[way]) / middle:4.2f} of the server"
        print(
            f"{way:12} {contacts / middle:6,.0f} contacts/s  {middle:6.1f} s  {one / middle:4.2f}  processors: {shares}"
        )
    return 0


def _processor() -> float:
    """Seconds of processor time of processes that have ended."""
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime


# A million contacts


def exact(contacts: int, workers: int, folder: Path) -> int:
    import pyarrow.parquet as pq

    with FakeNP6(contacts, (0, 4), api_key="key") as server:
        ids, out = folder / "ids.txt", folder / "out"
        ids.write_text("\n".join(server.contact_ids))
        began = time.monotonic()
        memory: dict[str, dict[int, float]] = {}
        with export(server.url, ids, out, "--workers", str(workers)) as process:
            for mark in _MARKS:
                while process.poll() is None and server.request_count * 100 < contacts * mark - (mark == 100) * 5_000:
                    time.sleep(0.05)
                for name, size in _sizes(process):
                    memory.setdefault(name, {})[mark] = size
            _, said = process.communicate()
        seconds = time.monotonic() - began
        sys.stderr.write(said.decode())
        for name, sizes in memory.items():
            print(f"{name:10} MiB at " + ", ".join(f"{mark} %: {size:.0f}" for mark, size in sizes.items()))
        print(f"{contacts:,} contacts in {seconds:.0f} s, {contacts / seconds:,.0f} a second")
        held: dict[str, int] = {}
        for part in json.loads((folder / "out.np6" / "manifest.json").read_text())["parts"]:
            table = pq.read_table(out / part["file"], columns=["contact", "id"]).group_by("contact")
            for row in table.aggregate([("id", "count_distinct"), ("id", "count")]).to_pylist():
                if row["id_count"] != row["id_count_distinct"] or row["contact"] in held:
                    held[row["contact"]] = -1
                else:
                    held[row["contact"]] = row["id_count"]
        wrong = sum(held.get(contact, 0) != len(server.events(contact)) for contact in server.contact_ids)
    print(f"contacts with events that are lost or twice: {wrong:,}")
    return 1 if wrong or process.returncode else 0


def _sizes(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, float]]:
    try:
        parent = psutil.Process(process.pid)
        children = [each for each in parent.children(recursive=True) if "spawn_main" in " ".join(each.cmdline())]
        yield "client", parent.memory_info().rss / 2**20
        for number, child in enumerate(sorted(children, key=lambda each: each.pid)):
            yield f"worker {number + 1}", child.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return


# Ten million ids


def pretend(shard: Shard, job: Job) -> Fetched:
    """What `fetch_shard` returns where no contact has events."""
    count = len(shard.contacts)
    return Fetched([], [(0, count - 1)], [], Counts(count, 0, 0), None)


async def lazy(contacts: int, workers: int, folder: Path) -> int:
    ids = folder / "ids.txt"
    with ids.open("w") as file:
        file.writelines(f"{number:08X}\n" for number in range(contacts))

    def lines() -> Iterator[str]:
        with ids.open() as file:
            for line in file:
                yield line.strip()

    _fleet.fetch_shard = pretend  # type: ignore[attr-defined]
    me = psutil.Process()
    sizes: dict[int, float] = {}
    began = time.monotonic()

    def progress(counts: Counts) -> None:
        percent = counts.done * 100 // contacts
        if percent % 10 == 0 and percent not in sizes:
            sizes[percent] = me.memory_info().rss / 2**20

    async with NP6Client("key", base_url="http://127.0.0.1:1") as np6:
        made = Export(
            np6, folder / "out", lines(), end="2027-01-01", executor=LocalWorkers(workers), on_progress=progress
        )
        report = await made.run()
    print("MiB of client and scheduler at " + ", ".join(f"{mark} %: {size:.0f}" for mark, size in sizes.items()))
    print(f"{report.done:,} contacts handed out in {time.monotonic() - began:.0f} s")
    return 0 if report.complete and report.done == contacts else 1


if __name__ == "__main__":
    sys.exit(main())
