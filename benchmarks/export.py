"""A large export, its memory, and a comparison of what it wrote with what the server holds.

python -m benchmarks.export [--contacts 100000] [--format parquet]

The server is in this process and the export in another one, whose resident memory is printed at 10 %, 50 % and 100 %
of the contacts. Then the parts are read back (Parquet with pyarrow) and compared, as multisets of contact, id,
timestamp and type. Exits with 1 where they differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from np6_async.testing import FakeNP6

Key = tuple[str, str, int, str]
_MARKS = (10, 50, 100)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--format", choices=("ndjson", "csv", "parquet"), default="parquet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FakeNP6(options.contacts, (0, 20)) as server:
        ids, out = Path(folder, "ids.txt"), Path(folder, "out")
        ids.write_text("\n".join(server.contact_ids))
        began = time.monotonic()
        sizes = _export(server, options, ids, out)
        seconds = time.monotonic() - began
        manifest = json.loads(Path(folder, "out.np6", "manifest.json").read_text())
        rows, parts = manifest["rows"], manifest["parts"]
        size = sum(part["bytes"] for part in parts) / 1e6
        print(f"{options.contacts:,} contacts, {rows:,} events in {len(parts)} parts of {size:,.1f} MB in all")
        print(f"{seconds:.1f} s, {options.contacts / seconds:,.0f} contacts/s, {rows / seconds:,.0f} events/s")
        for mark in _MARKS:
            print(f"resident at {mark:3} %: {sizes[mark] / 1024:,.1f} MiB")
        print(f"resident at most: {sizes[0] / 1024:,.1f} MiB")
        lost, surplus = _compare(server, out, [part["file"] for part in parts])
    print(f"lost: {lost:,}, doubled or foreign: {surplus:,}")
    return 1 if lost or surplus else 0


def _export(server: FakeNP6, options: argparse.Namespace, ids: Path, out: Path) -> dict[int, int]:
    """Run the command; returns the KiB of its memory at each mark, and the maximum at 0."""
    command = [sys.executable, "-m", "np6_async.cli", "export", "--base-url", server.url, "--ids-from", str(ids)]
    command += ["--output", str(out), "--format", options.format, "--concurrency", "32"]
    sizes = dict.fromkeys((0, *_MARKS), 0)
    with subprocess.Popen(command, env={**os.environ, "NP6_API_KEY": server.api_key}) as process:
        while process.poll() is None:
            now = _memory(process.pid)
            percent = server.request_count * 100 // options.contacts
            for mark in _MARKS:
                if percent <= mark or mark == 100:  # the last reading before the mark
                    sizes[mark] = now.get("VmRSS", sizes[mark])
            sizes[0] = now.get("VmHWM", sizes[0])
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the export ended with {process.returncode}")
    return sizes


def _memory(pid: int) -> dict[str, int]:
    """KiB by name, on Linux; empty if the process has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Vm")}


def _compare(server: FakeNP6, out: Path, files: list[str]) -> tuple[int, int]:
    got: dict[str, list[Key]] = {}
    for file in files:
        for key in _keys(out / file):
            got.setdefault(key[0], []).append(key)
    lost = surplus = 0
    for contact in server.contact_ids:
        truth = Counter((contact, event["id"], event["timestamp"], event["type"]) for event in server.events(contact))
        found = Counter(got.pop(contact, []))
        lost += (truth - found).total()
        surplus += (found - truth).total()
    return lost, surplus + sum(map(len, got.values()))


def _keys(file: Path) -> Iterator[Key]:
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(file, columns=["contact", "id", "timestamp", "type"])
        columns: list[list[Any]] = [table.column(name).to_pylist() for name in ("contact", "id")]
        columns += [table.column("timestamp").cast(pa.int64()).to_pylist(), table.column("type").to_pylist()]
        yield from zip(*columns, strict=True)
        return
    with open(file, newline="", encoding="utf-8") as lines:
        if file.suffix == ".csv":
            for row in csv.DictReader(lines):
                at = datetime.fromisoformat(row["timestamp"]).timestamp()
                yield row["contact"], row["id"], round(at * 1000), row["type"]
        else:
            for line in map(json.loads, lines):
                event = line["event"]
                yield line["contact"], event["id"], event["timestamp"], event["type"]


if __name__ == "__main__":
    sys.exit(main())
