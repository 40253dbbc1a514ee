"""What tests of the dlt source share: a program that can be killed, and what is in the destination.

This file is also that program.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt

from np6_async import NP6Client, RetryPolicy
from np6_async.integrations import _extraction
from np6_async.integrations.dlt import account_events, contact_events
from np6_async.testing import FakeNP6

Row = tuple[str, int]  # id, timestamp in epoch milliseconds
OVERLAP = timedelta(days=1)


def pipeline(folder: Path, destination: str, name: str = "np6") -> dlt.Pipeline:
    """A pipeline into a duckdb file, or into Parquet files, in the folder."""
    where: Any = (
        dlt.destinations.duckdb(str(folder / "lake.duckdb"))
        if destination == "duckdb"
        else dlt.destinations.filesystem((folder / "lake").as_uri())
    )
    return dlt.pipeline(name, destination=where, dataset_name="events", pipelines_dir=str(folder / "pipelines"))


def loaded(folder: Path, destination: str, table: str = "events") -> Counter[Row]:
    """Every row of the destination, read without dlt."""
    if destination == "duckdb":
        import duckdb

        with duckdb.connect(str(folder / "lake.duckdb"), read_only=True) as database:
            query = f"SELECT id, epoch_ms(timestamp) FROM events.{table}"  # noqa: S608
            return Counter(database.execute(query).fetchall())
    import pyarrow.dataset as ds

    found = ds.dataset(folder / "lake" / "events" / table, format="parquet").to_table().to_pylist()
    return Counter((row["id"], round(row["timestamp"].timestamp() * 1000)) for row in found)


def truth(server: FakeNP6, kind: str = "all") -> Counter[Row]:
    """Every event of the server."""
    return Counter(
        (event["id"], event["timestamp"]) for contact in server.contact_ids for event in server.events(contact, kind)
    )


def new_rows(pipeline: dlt.Pipeline, table: str = "events") -> int:
    """How many rows the last run has extracted."""
    trace = pipeline.last_trace.last_normalize_info
    return int(trace.row_counts.get(table, 0))


# -- the program ------------------------------------------------------------------------------------


def run(folder: Path, destination: str, url: str, of: str, contacts: list[str], now: int) -> None:
    """What a program of a user does, again and again."""

    def client() -> NP6Client:
        return NP6Client(base_url=url, retry=RetryPolicy(wall_clock=lambda: now / 1000))

    source = (
        account_events(client=client, overlap=OVERLAP)
        if of == "account"
        else contact_events(contacts, client=client, overlap=OVERLAP)
    )
    pipeline(folder, destination).run(source, loader_file_format="parquet")


def run_until(kill: str, *arguments: Any) -> int:
    """`run` in a process that kills itself; returns its exit code.

    `kill` is ``module:name:number``: before that call of a function, or after it where the number has a ``+``.
    """
    program = subprocess.run([sys.executable, __file__, json.dumps([kill, *map(str, arguments)])], check=False)
    return program.returncode


def main() -> None:
    kill, folder, destination, url, of, contacts, now = json.loads(sys.argv[1])
    _extraction.ROWS = 40  # type: ignore[misc]
    _kill_at(kill)
    run(Path(folder), destination, url, of, contacts.split(), int(now))


def _kill_at(point: str) -> None:
    module, name, number = point.split(":")
    *path, attribute = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, attribute)
    calls = 0

    def patched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        last = calls == int(number.removesuffix("+"))
        if last and not number.endswith("+"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, patched)


if __name__ == "__main__":
    main()
