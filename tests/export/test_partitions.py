"""Parts in folders of kinds and days: what is where, what reads it, and what a kill leaves."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support import exported

from np6_async import Event, InvalidInput, NP6Client, structure
from np6_async.export import COLUMNS, Export, OtherQuery, SyncWriter, _part, read_report
from np6_async.export._part import Partition, PartitionedPart, folder_of
from np6_async.export._writers import FileFormat
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6

DAY = 86_400_000
NONE = "__HIVE_DEFAULT_PARTITION__"


def event(number: int, type: str | None = "hit", day: int = 20_000) -> Event:
    return structure({"id": str(number), "timestamp": day * DAY + number, "type": type})


@pytest.fixture
def server() -> Any:
    with FakeNP6(30, (0, 12)) as running:
        yield running


@pytest.fixture
async def np6(server: FakeNP6) -> Any:
    async with server.client() as client:
        yield client


def places(folder: Path) -> Counter[tuple[str, str]]:
    """The kind and day of each event, by the folder it is in; raises where it is in that of another."""
    found: Counter[tuple[str, str]] = Counter()
    for file in (file for file in folder.rglob("*") if file.is_file()):
        kind, day = file.parts[-3:-1]
        for row in exported.rows(file):
            at = row["timestamp"]
            assert kind == f"kind={row['type']}"
            assert day == f"day={at if isinstance(at, str) else at.isoformat()}"[:14]
            found[kind, day] += 1
    return found


@pytest.mark.parametrize("format", ["csv", "parquet"])
async def test_every_event_is_in_the_folder_of_its_kind_and_day(
    format: Any, np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export = Export(
        np6, out, server.contact_ids, format=format, partition_by=("kind", "day"), part_bytes=20_000, by="id"
    )
    report = await export.run()
    truth = exported.truth(server, server.contact_ids)
    assert places(out).total() == truth.total() == report.events
    assert exported.events(out) == truth
    assert len(set(report.parts)) == len(report.parts) > len(places(out))
    assert sorted(file for file in out.rglob("*") if file.is_file()) == sorted(report.parts)


async def test_a_sync_has_them_too(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    writer = SyncWriter(tmp_path / "new", format="csv", partition_by=("kind", "day"), part_bytes=20_000)
    async with Sync(np6, SQLiteStore(tmp_path / "state.db"), server.contact_ids).run(autocommit=False) as run:
        await writer.write(run)
    assert places(tmp_path / "new").total() == exported.truth(server, server.contact_ids).total()
    assert sorted(file for file in (tmp_path / "new").rglob("*") if file.is_file()) == sorted(writer.files)


@pytest.mark.parametrize("format", ["ndjson", "csv", "parquet"])
async def test_an_export_without_events_has_one_empty_file_of_no_kind_and_day(
    format: Any, np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    server.add_contact("EMPTY", [])
    report = await Export(np6, tmp_path / "out", ["EMPTY"], format=format, partition_by=("day", "kind")).run()
    (part,) = report.parts
    assert Path(part).relative_to(tmp_path) == Path(f"out/day={NONE}/kind={NONE}/part-000001.{format}")
    assert exported.rows(Path(part)) == []


async def test_the_partitions_are_those_that_the_export_was_begun_with(
    np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    await Export(np6, tmp_path / "out", server.contact_ids, partition_by=("day",)).run()
    with pytest.raises(OtherQuery, match=r"partition_by=\('day',\), not \(\)"):
        await Export(np6, tmp_path / "out", server.contact_ids).run()


@pytest.mark.parametrize("by", ["kind", ("month",), ("day", "day"), ("kind", "type")])
async def test_other_partitions_are_refused(by: Any, np6: NP6Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="partition_by="):
        Export(np6, tmp_path / "out", ["A"], partition_by=by)
    with pytest.raises(InvalidInput, match="partition_by="):
        SyncWriter(tmp_path / "out", partition_by=by)
    assert os.listdir(tmp_path) == []


ODD = {
    None: NONE,
    "": NONE,
    "x" * 61: NONE,
    "hit": "hit",
    "a/b": "a%2Fb",
    "..": "..",
    "50 % = é": "50%20%25%20%3D%20%C3%A9",
    "a\0b": "a%00b",
}


@pytest.mark.parametrize("type", ODD, ids=repr)
def test_odd_types_are_one_folder_each(type: str | None) -> None:
    assert folder_of(("kind", "day"), type, 20_000) == f"kind={ODD[type]}/day=2024-10-04"


def test_no_column_is_called_as_a_partition_is() -> None:
    assert not {"kind", "day"} & {column.name for column in COLUMNS}


# Readers

ODD_TYPES: list[str | None] = ["hit", "a/b", "50 % = é", None]


def by_pyarrow(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(folder).to_pylist()
    return rows


def by_pandas(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pytest.importorskip("pandas").read_parquet(folder).to_dict("records")
    return rows


def by_pandas_with_no_kinds(folder: Path) -> list[dict[str, Any]]:
    """Without a schema, pyarrow makes dictionaries of the columns, and cannot put together those with a null."""
    pa, ds = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.dataset")
    schema = pa.schema([("kind", pa.string()), ("day", pa.date32())])
    frame = pytest.importorskip("pandas").read_parquet(folder, partitioning=ds.partitioning(schema, flavor="hive"))
    rows: list[dict[str, Any]] = frame.to_dict("records")
    return rows


def by_polars(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pytest.importorskip("polars").read_parquet(folder, hive_partitioning=True).to_dicts()
    return rows


def by_duckdb(folder: Path) -> list[dict[str, Any]]:
    with pytest.importorskip("duckdb").connect() as database:
        query = f"select id, kind, day from read_parquet('{folder}/**/*.parquet', hive_partitioning=true)"  # noqa: S608
        relation = database.sql(query)
        return [dict(zip(("id", "kind", "day"), row, strict=True)) for row in relation.fetchall()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "types"),
    [
        (by_pandas, ODD_TYPES[:-1]),
        *((read, ODD_TYPES) for read in (by_pyarrow, by_pandas_with_no_kinds, by_polars, by_duckdb)),
    ],
)
def test_readers_take_the_folders_for_columns(read: Any, types: Sequence[str | None], tmp_path: Path) -> None:
    """Those of no kind for no value; and none of the columns in the files is called kind or day."""
    pytest.importorskip("pyarrow")
    part = partitioned(tmp_path, "parquet", ("kind", "day"))
    part.add("A", [event(number, each, 20_000 + number % 2) for number, each in enumerate(types)])
    for each in part.seal():
        target = tmp_path / "out" / each.name
        target.parent.mkdir(parents=True)
        each.file.rename(target)
    found = {row["id"]: (row["kind"], row["day"]) for row in read(tmp_path / "out")}
    days = [date(2024, 10, 4), date(2024, 10, 5)]
    assert len(found) == len(types)
    for number, each in enumerate(types):
        kind, day = found[str(number)]
        assert (kind if isinstance(kind, str) else None) == each
        assert str(day)[:10] == str(days[number % 2])


# Bounds


def partitioned(scratch: Path, format: Any, by: Sequence[Partition]) -> PartitionedPart:
    (scratch / "scratch").mkdir()

    def make(folder: str) -> _part.PartFile:
        name = f"{folder}/part.{format}"
        temporary = _part.temporary_name(name)
        return _part.PartFile(scratch / "scratch", name, FileFormat(format), temporary=temporary)

    return PartitionedPart(scratch / "scratch", by, make)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc has of open files")
@pytest.mark.parametrize("limit", [0, 10**9])
def test_however_many_days_there_are_two_files_are_open(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And every event is in its file, in the order in which it came, whether it waited in memory or on the disk."""
    monkeypatch.setattr(_part, "_IN_MEMORY", limit)
    part = partitioned(tmp_path, "ndjson", ("day",))
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    add = _part.PartFile.add

    def counted(self: _part.PartFile, contact: str | None, events: Sequence[Event]) -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
        add(self, contact, events)

    monkeypatch.setattr(_part.PartFile, "add", counted)
    for contact in ("A", "B"):
        for batch in range(10):
            part.add(contact, [event(batch, day=day) for day in range(500)])
    sealed = part.seal()
    assert most <= 2
    assert (len(sealed), {each.rows for each in sealed}, {each.contacts for each in sealed}) == (500, {20}, {2})
    for each in sealed:
        rows = [(row["contact"], row["event"]["id"]) for row in exported.rows(each.file)]
        assert rows == [(contact, str(batch)) for contact in ("A", "B") for batch in range(10)]


def test_a_part_that_is_given_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is complete, and where a file of many cannot be written."""
    monkeypatch.setattr(_part, "_IN_MEMORY", 0)
    part = partitioned(tmp_path, "ndjson", ("day",))
    part.add("A", [event(1, day=day) for day in range(5)])
    part.discard()
    part.add("A", [event(1, day=day) for day in range(5)])
    seal = _part.PartFile.seal

    def full(self: _part.PartFile) -> list[_part.Sealed]:
        if "1970-01-04" in self.name:
            self.discard()
            raise OSError("full")
        return seal(self)

    monkeypatch.setattr(_part.PartFile, "seal", full)
    with pytest.raises(OSError, match="full"):
        part.seal()
    assert os.listdir(tmp_path / "scratch") == []


# Kills


async def test_files_of_a_part_that_does_not_count_are_removed_with_their_folders(
    np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    """As a kill leaves them between the first file and the manifest."""
    out = tmp_path / "out"
    arguments: dict[str, Any] = {"partition_by": ("kind", "day"), "part_bytes": 1}
    export = Export(np6, out, server.contact_ids, on_progress=lambda _: export.stop(), concurrency=1, **arguments)
    report = await export.run()
    assert len(report.parts) > 0
    stale = out / "kind=stale" / "day=2020-01-01" / "part-000099.ndjson"
    stale.parent.mkdir(parents=True)
    stale.write_text("torn")
    (tmp_path / "out.np6" / _part.temporary_name("kind=a%2Fb/day=2020-01-01/part-000099.ndjson")).write_text("torn")
    foreign = out / "kind=mine" / "notes.txt"
    foreign.parent.mkdir()
    foreign.write_text("of somebody")
    report = await Export(np6, out, server.contact_ids, **arguments).run()
    assert report == read_report(out)
    assert {file for file in out.rglob("*") if file.is_file()} == {*report.parts, foreign}
    assert not (out / "kind=stale").exists()
    assert os.listdir(tmp_path / "out.np6") == ["manifest.json"]
    assert exported.events(out) == exported.truth(server, server.contact_ids)
