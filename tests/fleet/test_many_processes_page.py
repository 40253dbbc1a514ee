"""The programs of docs/how-to/many-processes.md, run as they stand but for addresses and names of folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytest.importorskip("redis")

from support import dask_cluster, exported, services

from examples import killed_fleet
from np6_async.testing import FakeNP6

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[2] / "docs/how-to/many-processes.md"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNP6]:
    with FakeNP6(0) as running:
        for contact in ("000MLGPR", "0013KDC0"):
            running.add_contact(contact)
        monkeypatch.setenv("NP6_API_KEY", running.api_key)
        monkeypatch.setenv("NP6_BASE_URL", running.url)
        yield running


def program(language: str, first: str) -> str:
    found = re.findall(rf"^```{language}\n({re.escape(first)}.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def run(code: str, folder: Path) -> str:
    file = folder / "program.py"
    file.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", file], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_for_one_machine(server: FakeNP6, tmp_path: Path) -> None:
    assert "done=2" in run(program("python", "import asyncio"), tmp_path)
    assert exported.manifest(tmp_path / "january")["complete"]


def test_the_program_for_a_cluster(server: FakeNP6, tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    (tmp_path / "ids.txt").write_text("000MLGPR\n0013KDC0\n")
    code = program("text", "from distributed import Client")
    with (
        services.redis_server(folder) as redis,
        dask_cluster.scheduler(folder) as (_, address),
        dask_cluster.worker(address, folder, **os.environ),
    ):
        code = code.replace("tcp://10.0.0.7:8786", address).replace("redis://10.0.0.8:6379", redis)
        run(code.replace("s3://bucket/january", str(tmp_path / "january")), tmp_path)
    assert exported.manifest(tmp_path / "january")["complete"]


def test_the_example_that_is_killed_and_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    killed_fleet.main(1_500)
    said = capsys.readouterr().out
    assert "events, each once" in said
