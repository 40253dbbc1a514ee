"""What it costs to bring events into files and tables, beside an older build, by hand, and duckdb.

python -m benchmarks.lake [--against COMMIT] [--contacts 2000] [--rounds 5] [--write]

Each job has a fresh process (`lake_worker.py`), which takes turns with the others; its processor time, user and system,
is counted from after its imports on, also that of its threads. A server of prepared bytes, in a process of its own,
has 100 events for each contact. `--against` makes a worktree of that commit of this repository in a temporary folder,
and runs the same jobs on it. Ratios are taken within a round, and above 1 where this tree is cheaper. At last each
export of this tree runs once with four times as many contacts: its memory is not to grow.

The lines with a target say whether the median reaches it. `--write` writes LAKE.md beside this file, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq

from .lake_worker import ABSENT, JOBS
from .processes import Server, Spread, client_core, interleaved, ratios, server_core
from .report import table

HERE: Final = Path(__file__).parent
EVENTS: Final = 100  # of a contact
BODIES: Final = 2_000
OURS: Final = ("stream", "ndjson", "parquet", "csv", "table")
EXPORTS: Final = ("ndjson", "parquet", "csv")
# This tree's job; what it is compared with, on the older build or as a peer; how many times as cheap it is to be.
TARGETS: Final = (
    ("stream", "stream", None),
    ("ndjson", "ndjson", 2.2),
    ("parquet", "parquet", 3.5),
    ("table", "parquet", 3.5),
    ("csv", "csv", 4.0),
)
PEERS: Final = (
    ("parquet", "by hand", 3.0),
    ("table", "by hand, table", 3.0),
    ("parquet", "duckdb", None),
)
MEMORY: Final = 160.0  # MiB


class Result(NamedTuple):
    """Microseconds of processor time an event, and MiB of memory at most."""

    cost: float
    peak: float


_TITLE: Final = "# Files and tables"
_HOW: Final = (
    "Processor time for each event, user and system, of a process that exports or fetches: median (least-most).\n"
    "`by hand` is aiohttp, orjson, `pyarrow.Table.from_pylist` and a `ParquetWriter`, with the same columns; `duckdb` "
    "reads the NDJSON that was exported, without fetching anything, into Parquet with the same columns.\n"
    "`benchmarks/lake.py` says how it is measured."
)


class Bench:
    """Runs jobs, each in a process of its own, on the processor that the server leaves free."""

    def __init__(self, url: str, folder: Path, contacts: int) -> None:
        self._url = url
        self._folder = folder
        self._contacts = contacts
        self._ndjson = folder / "events.ndjson"

    def check(self) -> None:
        """Raise SystemExit unless the peers write what this tree does: the same cells, but for `rest` by duckdb."""
        written = {job: self._written(job) for job in ("parquet", "by hand", "duckdb")}
        ours = written.pop("parquet")
        for job, theirs in written.items():
            for name in ours.drop_columns("rest" if job == "duckdb" else []).column_names:
                if name not in theirs.column_names or not ours[name].equals(theirs[name].cast(ours[name].type)):
                    raise SystemExit(f"{job} has another column {name} than np6_async")

    def _written(self, job: str) -> Any:
        """Its rows, in an order of their own, without the contact: the server gives one body after the other."""
        self.run(HERE.parent, job, keep=True)
        read = pq.read_table([str(file) for file in (self._folder / "out").rglob("*.parquet")])
        self._clean()
        return read.drop_columns("contact").sort_by("id")

    def prepare(self) -> None:
        """Write what duckdb reads."""
        self.run(HERE.parent, "ndjson", keep=True)
        parts = sorted((self._folder / "out").rglob("*.ndjson"))
        with self._ndjson.open("wb") as whole:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)
        self._clean()

    def run(self, tree: Path, job: str, times: int = 1, *, keep: bool = False) -> Result | None:
        """Of `times` as many contacts; None where the tree does not have this job."""
        contacts = self._contacts * times
        command = [sys.executable, "-P", str(HERE / "lake_worker.py"), job, "--url", self._url]
        command += ["--contacts", str(contacts), "--folder", str(self._folder / "out"), "--ndjson", str(self._ndjson)]
        if (core := client_core()) is not None:
            command += ["--core", str(core)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tree)}, stdout=subprocess.PIPE, text=True)
        if not keep:
            self._clean()
        if done.returncode == ABSENT:
            return None
        if done.returncode:
            raise SystemExit(f"{job}, on {tree}, ended with {done.returncode}")
        result = json.loads(done.stdout)
        if result["events"] != contacts * EVENTS:
            raise SystemExit(f"{job}, on {tree}, got {result['events']:,} of {contacts * EVENTS:,} events")
        return Result(result["seconds"] / result["events"] * 1e6, result["peak"] / 1024)

    def _clean(self) -> None:
        for made in self._folder.glob("out*"):  # an export may have a second folder beside its own
            shutil.rmtree(made)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lake", description=__doc__)
    parser.add_argument("--against", metavar="COMMIT", help="an older build to compare with")
    parser.add_argument("--contacts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write LAKE.md beside this file, too")
    options = parser.parse_args()
    # As many bodies as fill several row groups with distinct events: a few would be a dictionary, and cheap.
    with (
        tempfile.TemporaryDirectory() as folder,
        worktree(options.against) as older,
        Server(core=server_core(), medium=min(options.contacts, BODIES)) as server,
    ):
        bench = Bench(server.url, Path(folder), options.contacts)
        bench.prepare()
        if options.contacts <= BODIES:  # else several contacts have the same events
            bench.check()
        trees = {"this": HERE.parent} | ({"older": older} if older else {})
        jobs = {(tree, job): _job(bench, path, job) for tree, path in trees.items() for job in OURS}
        jobs |= {("peer", job): _job(bench, HERE.parent, job) for job in JOBS if job not in OURS}
        names = {f"{tree}: {job}": (tree, job) for tree, job in jobs}
        rounds = interleaved(options.rounds, {name: jobs[key] for name, key in names.items()})
        results = {names[name]: [each for each in found if each] for name, found in rounds.items()}
        head = f"{options.contacts * EVENTS:,} events of {options.contacts:,} contacts, {options.rounds} rounds."
        tables = [costs(results, options.against), comparison(results, options.against)]
        tables.append(memory(results, bench, options.contacts))
        print("\n\n".join([head, *tables]))
        if options.write:
            text = [_TITLE, head, _HOW, *tables]
            (HERE / "LAKE.md").write_text("\n\n".join(text) + "\n")


@contextmanager
def worktree(commit: str | None) -> Iterator[Path | None]:
    """A worktree of that commit; None for none."""
    if commit is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(HERE.parent), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


Results = dict[tuple[str, str], list[Result]]


def costs(results: Results, against: str | None) -> str:
    """Microseconds an event, and memory, of every job."""
    who = {"this": "this tree", "older": against or "", "peer": "without np6_async"}
    rows = []
    for (tree, job), found in results.items():
        cells = ["does not have it", ""]
        if found:
            cells = [Spread.of([each.cost for each in found]).show(), f"{max(each.peak for each in found):,.0f}"]
        rows.append([job, who[tree], *cells])
    return table(["job", "build", "CPU us per event", "MiB at most"], rows)


def comparison(results: Results, against: str | None) -> str:
    """How many times as cheap this tree is."""
    pairs = [(job, ("older", other), f"{other}, {against}", target) for job, other, target in TARGETS if against]
    pairs += [(job, ("peer", other), other, target) for job, other, target in PEERS]
    rows = []
    for job, other, name, target in pairs:
        if (ours := results["this", job]) and (theirs := results[other]):
            ratio = ratios([each.cost for each in theirs], [each.cost for each in ours])
            verdict = "" if target is None else f">= {target} {'met' if ratio.median >= target else 'missed'}"
            rows.append([job, name, ratio.show(), verdict])
    return table(["this tree's", "beside", "times as cheap", "target"], rows)


def memory(results: Results, bench: Bench, contacts: int) -> str:
    """Of each export, also with four times as many contacts."""
    rows = []
    for job in EXPORTS:
        small = max(each.peak for each in results["this", job])
        large = bench.run(HERE.parent, job, 4)
        assert large
        verdict = f"<= {MEMORY:.0f} {'met' if max(small, large.peak) <= MEMORY else 'missed'}"
        rows.append([job, f"{small:,.0f}", f"{large.peak:,.0f}", verdict])
    return table(["export", f"MiB at {contacts:,} contacts", f"MiB at {contacts * 4:,}", "target"], rows)


def _job(bench: Bench, tree: Path, job: str) -> Callable[[], Result | None]:
    return lambda: bench.run(tree, job)


if __name__ == "__main__":
    main()
