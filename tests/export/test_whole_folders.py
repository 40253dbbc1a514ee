"""What reads a folder of Parquet files as a whole reads that of an export or a sync, at any moment of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support import exported

from np6_async import NP6Client
from np6_async.export import Counts, Export, SyncWriter, read_report
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6, Fault

pq = pytest.importorskip("pyarrow.parquet")

CONTACTS = 20

# Each gives the number of rows in a folder.
READERS: dict[str, Callable[[Any, Path], int]] = {
    "pyarrow.parquet": lambda module, folder: int(module.read_table(folder).num_rows),
    "pandas": lambda module, folder: len(module.read_parquet(folder)),
    "polars": lambda module, folder: int(module.read_parquet(folder).height),
    "duckdb": lambda module, folder: int(
        module.connect().sql(f"from '{folder}/**/*.parquet' select count(*)").fetchall()[0][0]
    ),
}


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(CONTACTS, 5) as running:
        yield running


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client() as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
async def test_a_folder_is_read_whole_while_the_export_goes_on(
    reader: str, server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    """From the first part on: the events that are written are in it, but for those of the part in progress. A contact
    that fails, and one whose events wait on the disk, are in nobody's way."""
    module = pytest.importorskip(reader)
    out = tmp_path / "out"
    server.script(Fault.status(400), contact=server.contact_ids[3], times=None)
    seen = []

    def read(_: Counts) -> None:
        report = read_report(out)
        if report is not None and report.parts:
            rows = READERS[reader](module, out)
            assert rows == report.events
            seen.append(rows)

    report = await Export(np6, out, server.contact_ids, format="parquet", part_bytes=1, on_progress=read).run()
    assert (report.failed, report.failures[0].file) == (1, tmp_path / "out.np6" / "failures.txt")
    assert len(set(seen)) > CONTACTS // 2
    assert READERS[reader](module, out) == report.events == (CONTACTS - 1) * 5
    exported.check_whole(out)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
async def test_a_folder_is_read_whole_while_a_sync_goes_on(
    reader: str, server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    module = pytest.importorskip(reader)
    out = tmp_path / "out"
    seen = []

    def read(_: Counts) -> None:
        if writer.files:
            seen.append(READERS[reader](module, out))

    writer = SyncWriter(out, format="parquet", part_bytes=1, on_progress=read)
    async with Sync(np6, SQLiteStore(tmp_path / "state.db"), server.contact_ids).run(autocommit=False) as run:
        await writer.write(run)
    assert len(set(seen)) > CONTACTS // 2
    assert READERS[reader](module, out) == CONTACTS * 5
