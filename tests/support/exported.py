"""What an export has written, read back with other means than those it was written with."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from np6_async.testing import FakeNP6

Key = tuple[str, str, int]


def beside(folder: Path) -> Path:
    """The folder of what belongs to this one and is no part."""
    return folder.with_name(f"{folder.name}.np6")


def begun(folder: Path) -> bool:
    """Whether there is a manifest."""
    return (beside(folder) / "manifest.json").exists()


def contents(folder: Path) -> dict[Path, bytes]:
    """All files, of the parts and beside them."""
    return {file: file.read_bytes() for place in (folder, beside(folder)) for file in place.iterdir()}


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((beside(folder) / "manifest.json").read_text())
    return content


def files(folder: Path) -> list[Path]:
    """The parts that count."""
    return [folder / part["file"] for part in manifest(folder)["parts"]]


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of one part, whatever its format; raises where anything of it is torn, or not for strict readers."""
    if file.suffix == ".parquet":
        return strict(pq.ParquetFile(file).read().to_pylist())
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if ".ndjson" in file.name:
        assert content.endswith(b"\n") or not content
        return [msgspec.json.decode(line) for line in content.splitlines()]
    assert content.endswith(b"\r\n")
    return strict(list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)))


def strict(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Its rows; raises unless all that is in the column `rest` is JSON to a strict reader."""
    for row in table:
        if row["rest"]:
            msgspec.json.decode(row["rest"])
    return table


def events(folder: Path) -> Counter[Key]:
    """Every event of the parts as contact, id and timestamp (milliseconds)."""
    return Counter(key(row) for file in files(folder) for row in rows(file))


def key(row: dict[str, Any]) -> Key:
    if "event" in row:
        return row["contact"], row["event"]["id"], row["event"]["timestamp"]
    at = row["timestamp"]
    if isinstance(at, str):
        from datetime import datetime

        at = datetime.fromisoformat(at)
    return row["contact"], row["id"], round(at.timestamp() * 1000)


def truth(server: FakeNP6, contacts: Iterable[str], kind: str = "all") -> Counter[Key]:
    """What the server holds."""
    return Counter(
        (contact, event["id"], event["timestamp"]) for contact in contacts for event in server.events(contact, kind)
    )


def check_whole(folder: Path) -> None:
    """Every file is one that counts, as large as the manifest says, and each contact is in one part only."""
    found = manifest(folder)
    parts = {part["file"]: part["bytes"] for part in found["parts"]}
    failures = {failed["file"]: failed["bytes"] for failed in found["failures"]}
    manifest_file = {"manifest.json": (beside(folder) / "manifest.json").stat().st_size}
    for place, listed in ((folder, parts), (beside(folder), failures | manifest_file)):
        files = [file for file in place.rglob("*") if not (file.is_dir() and any(file.iterdir()))]
        assert {file.relative_to(place).as_posix(): file.stat().st_size for file in files} == listed
    seen: set[tuple[str, str]] = set()
    for part in found["parts"]:
        content = rows(folder / part["file"])
        contacts = {(str(part["window"]), row["contact"]) for row in content}
        assert len(content) == part["rows"]
        assert len(contacts) == part["contacts"]
        assert found["query"]["partition_by"] or not seen & contacts
        seen |= contacts
