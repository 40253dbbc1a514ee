"""Exports by the processes of a Dask cluster."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from distributed import Client, LocalCluster
from support import exported

from np6_async import InvalidInput, NP6Client
from np6_async.cli import main
from np6_async.export import Export, FolderError
from np6_async.integrations.dask import ExportSpec, LocalWorkers, export
from np6_async.testing import FakeNP6

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNP6]:
    with FakeNP6(200, (0, 12)) as running:
        monkeypatch.setenv("NP6_API_KEY", running.api_key)
        yield running


def spec(server: FakeNP6, folder: Path) -> ExportSpec:
    return ExportSpec(str(folder), options={"shard_size": 30, "format": "parquet"}, client={"base_url": server.url})


def test_an_export_by_the_client_of_a_notebook(server: FakeNP6, tmp_path: Path) -> None:
    """It blocks, as whatever else such a client does; once more, it finds nothing to do."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        report = export(client, iter(server.contact_ids), spec(server, tmp_path / "out"))
        assert (report.complete, report.done) == (True, 200)
        assert exported.events(tmp_path / "out") == exported.truth(server, server.contact_ids)
        asked = server.request_count
        assert export(client, server.contact_ids, spec(server, tmp_path / "out")) == report
        assert server.request_count == asked
        (tmp_path / "file").touch()
        with pytest.raises(FolderError, match="is not a folder"):
            export(client, server.contact_ids, spec(server, tmp_path / "file" / "out"))


async def test_an_export_by_an_asynchronous_client(server: FakeNP6, tmp_path: Path) -> None:
    async with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", asynchronous=True
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        report = await export(client, server.contact_ids, spec(server, tmp_path / "out"))
        assert (report.complete, report.done) == (True, 200)
    assert exported.events(tmp_path / "out") == exported.truth(server, server.contact_ids)


async def test_an_export_by_processes_of_this_machine(server: FakeNP6, tmp_path: Path) -> None:
    async with NP6Client(base_url=server.url) as np6:
        made = Export(np6, tmp_path / "out", server.contact_ids, executor=LocalWorkers(2), shard_size=30)
        report = await made.run()
    assert (report.complete, report.done) == (True, 200)
    assert exported.events(tmp_path / "out") == exported.truth(server, server.contact_ids)


def test_the_command_takes_contacts_from_files_and_segments(server: FakeNP6, tmp_path: Path) -> None:
    ids = list(server.contact_ids)
    server.add_segment(41, contacts=ids[120:])
    for number, part in enumerate((ids[:50], ids[50:120])):
        (tmp_path / f"ids{number}").write_text("\n".join(part))
    files = [word for number in range(2) for word in ("--ids-from", str(tmp_path / f"ids{number}"))]
    words = ["export", *files, "--segment", "41", "--workers", "2", "--shard-size", "30", "--base-url", server.url]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    assert exported.events(tmp_path / "out") == exported.truth(server, ids)


def test_the_api_key_is_not_sent_to_workers() -> None:
    np6 = NP6Client("canary-key", base_url="http://127.0.0.1:1")
    made = Export(np6, "out", ["A"], executor=LocalWorkers(2))
    fleet = made._fleets(LocalWorkers(2), made._query, "")(None)  # type: ignore[arg-type]
    assert b"canary" not in pickle.dumps(fleet.shard)
    with pytest.raises(InvalidInput, match="the API key is not sent to workers"):
        ExportSpec("out", client={"api_key": "canary-key"})
    with pytest.raises(InvalidInput, match="must not hold 'executor'"):
        ExportSpec("out", options={"executor": None})
