"""`np6 export` and `np6 sync` into a real S3 server on loopback: killed, behind a network that fails, and read back."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto")
pytest.importorskip("s3fs")
if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

from support import exported, killing
from support.lake import BUCKET, KEY, SECRET, Lake, failing

from np6_async.export import read_report
from np6_async.testing import FakeNP6

pytestmark = [pytest.mark.lake, pytest.mark.timeout(600)]

_KILLS = 5
_RUNS = 40  # at most, until the network lets one end
VERBS = ["export", "sync"]


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    made = Lake()
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    with FakeNP6(150, (0, 12)) as running:
        yield running


@pytest.fixture(autouse=True)
def settings(lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in lake.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))


def command(verb: str, form: str, folder: str, server: FakeNP6, tmp_path: Path) -> list[str]:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(server.contact_ids))
    words = [verb, "--ids-from", str(ids), "--output", f"s3://{BUCKET}/{folder}", "--concurrency", "8"]
    words += ["--format", *form.split(), "--part-size", "30K", "--part-time", "0.3"]
    return words + (["--resume"] if verb == "export" else ["--state", str(tmp_path / "state.db")])


def check(verb: str, lake: Lake, folder: str, server: FakeNP6, tmp_path: Path) -> None:
    """Each event once in the files that are in the folder, and nothing else; one manifest; nothing on this machine."""
    assert lake.events(folder, tmp_path) == exported.truth(server, server.contact_ids)
    beside = lake.names(f"{folder}.np6")
    if verb == "export":
        report = read_report(f"s3://{BUCKET}/{folder}")
        assert report is not None
        assert report.complete
        assert sorted(report.parts) == [f"s3://{BUCKET}/{folder}/{name}" for name in lake.names(folder)]
        assert [name[:9] for name in beside] == ["manifest-"]
    else:
        assert beside == []
    assert os.listdir(tmp_path / "scratch") == []


@pytest.mark.parametrize("form", ["ndjson --gzip", "parquet", "csv --partition-by kind"])
@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_any_moment_nothing_is_lost_and_nothing_there_twice(
    verb: str, form: str, lake: Lake, server: FakeNP6, tmp_path: Path
) -> None:
    folder = f"killed/{verb}-{form.replace(' ', '')}"
    words = command(verb, form, folder, server, tmp_path)
    truth = exported.truth(server, server.contact_ids)

    def no_file_is_torn() -> None:
        assert set(lake.events(folder, tmp_path)) <= set(truth)

    server.latency = 0.02
    killing.kill(server, words, [signal.SIGKILL] * _KILLS, requests=70, seed=len(folder), check=no_file_is_torn)
    server.latency = 0
    assert killing.finish(server, words) == 0
    check(verb, lake, folder, server, tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_a_network_that_fails_costs_runs_and_no_events(
    verb: str, lake: Lake, server: FakeNP6, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections to the store are reset before, in and after a request, and it answers 500 and 503: a run goes on or
    ends with one line. No line of it, however verbose, holds a secret."""
    folder = f"faults/{verb}"
    words = [*command(verb, "csv", folder, server, tmp_path), "-vv"]
    words[words.index("--part-size") + 1] = "8K"
    codes: Counter[int] = Counter()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # or nothing would be left to see
    with failing(lake, 0.15, 3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        for _ in range(_RUNS):
            with killing.start(server, words) as process:
                said = process.communicate(timeout=120)[1].decode()
            codes[process.returncode] += 1
            assert not {KEY, SECRET, server.api_key} & set(said.split())
            assert SECRET not in said
            assert "Traceback" not in said
            if process.returncode == 0:
                break
            assert process.returncode == 4, said
            assert f"s3://{BUCKET}/{folder} cannot be written to: the object store failed (" in said
        assert len(proxy.failed) == len(proxy.KINDS)
    assert codes[0] == 1
    assert codes[4] > 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{lake.port}")
    check(verb, lake, folder, server, tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_faults_are_outlived_where_the_library_may_try_again(
    verb: str, lake: Lake, server: FakeNP6, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = f"outlived/{verb}"
    with failing(lake, 0.05, 4) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        with killing.start(server, command(verb, "ndjson", folder, server, tmp_path)) as process:
            process.communicate(timeout=300)
        assert process.returncode == 0
        assert proxy.failed.total() > 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{lake.port}")
    check(verb, lake, folder, server, tmp_path)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("without", "words"),
    [
        ("bucket", "there is no such bucket or container; create it first"),
        ("credentials", "no usable credentials (NoCredentialsError): set AWS_ACCESS_KEY_ID"),
        ("profile", "no usable credentials (ProfileNotFound): set AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_requested(
    verb: str, without: str, words: str, server: FakeNP6, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = command(verb, "ndjson", "missing", server, tmp_path)
    match without:
        case "bucket":
            arguments[arguments.index("--output") + 1] = "s3://nowhere/january"
        case "credentials":
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        case "profile":
            monkeypatch.setenv("AWS_PROFILE", "nobody")
    with killing.start(server, arguments) as process:
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 2
    assert words in said
    assert "Traceback" not in said
    assert server.request_count == 0


def test_readers_take_the_folder_whole(lake: Lake, server: FakeNP6, tmp_path: Path) -> None:
    folder = "readers/january"
    arguments = command("export", "parquet --partition-by kind", folder, server, tmp_path)
    assert killing.finish(server, arguments) == 0
    rows = exported.truth(server, server.contact_ids).total()
    pq: Any = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(f"{BUCKET}/{folder}", filesystem=lake.files)
    assert table.num_rows == rows
    assert "kind" in table.column_names
