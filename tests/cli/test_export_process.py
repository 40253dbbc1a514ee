"""`np6 export` as a process: killed, terminated, and on a disk that is full."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import exported, killing

from np6_async.testing import FakeNP6, Fault

pytestmark = pytest.mark.slow

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)


@pytest.fixture(scope="module")
def running() -> Iterator[FakeNP6]:
    with FakeNP6(300, (0, 12)) as server:
        yield server


@pytest.fixture
def server(running: FakeNP6) -> FakeNP6:
    running.reset()
    return running


@pytest.fixture
def command(server: FakeNP6, tmp_path: Path) -> list[str]:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(server.contact_ids))
    return ["export", "--ids-from", str(ids), "--output", str(tmp_path / "out"), "--resume"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def check_committed(out: Path) -> None:
    """At any instant: what the manifest names is whole, and no event is in it twice."""
    if exported.begun(out):
        found = exported.events(out)
        assert not found or max(found.values()) == 1


@pytest.mark.parametrize(
    ("seed", "form"), [(1, "ndjson --gzip"), (2, "csv"), (3, "parquet"), (4, "csv --partition-by kind,day")]
)
def test_killed_at_any_moment_it_completes(
    seed: int, form: str, server: FakeNP6, command: list[str], out: Path
) -> None:
    """Nothing is missing, nothing is there twice, no file is torn or left over."""
    command += ["--format", *form.split(), "--part-size", "20K", "--part-time", "0.05", "--concurrency", "4"]
    killing.kill(
        server,
        command,
        [signal.SIGKILL] * 3,
        requests=200,
        seed=seed,
        check=lambda: check_committed(out),
    )
    assert killing.finish(server, command) == 0
    assert exported.events(out) == exported.truth(server, server.contact_ids)
    exported.check_whole(out)


def test_sigterm_ends_it_within_seconds(server: FakeNP6, command: list[str], out: Path) -> None:
    """Although one contact is stalled, with everything that is done; what is not goes on later."""
    server.script(Fault.stall(after=10), contact=server.contact_ids[50], times=None)
    with killing.start(server, [*command, "--concurrency", "3"]) as process:
        assert killing.until(process, lambda: server.request_count > 100)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 143
    exported.check_whole(out)
    done = server.request_count - 1
    assert exported.manifest(out)["contacts"] == done
    server.reset()
    assert killing.finish(server, command) == 0
    assert server.request_count == 300 - done
    assert exported.events(out) == exported.truth(server, server.contact_ids)


def test_a_second_signal_ends_it_at_once(server: FakeNP6, command: list[str], out: Path) -> None:
    """Only commits count, so the folder is as right as after any kill."""
    for contact in server.contact_ids[50:52]:
        server.script(Fault.hang(), contact=contact, times=None)
    with killing.start(server, [*command, "--concurrency", "3", "--part-time", "0.05"]) as process:
        assert killing.until(process, lambda: server.in_flight == 2 and server.request_count == 300)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode in (130, 143)
    assert b"Traceback" not in err
    check_committed(out)
    server.reset()
    assert killing.finish(server, command) == 0
    assert exported.events(out) == exported.truth(server, server.contact_ids)
    exported.check_whole(out)


def test_what_has_arrived_is_committed_while_nothing_more_comes(server: FakeNP6, command: list[str], out: Path) -> None:
    """A kill during a long stall costs no more than --part-time allows."""
    server.script(Fault.hang(), contact=server.contact_ids[299], times=None)
    with killing.start(server, [*command, "--part-time", "0.2"]) as process:
        assert killing.until(process, lambda: exported.begun(out) and exported.manifest(out)["contacts"] == 299)
        process.kill()
        process.communicate()
    server.reset()
    assert killing.finish(server, command) == 0
    assert server.request_count == 1
    assert exported.events(out) == exported.truth(server, server.contact_ids)


@pytest.mark.parametrize("form", ["ndjson", "ndjson --gzip", "csv", "parquet"])
def test_a_disk_that_is_full_is_one_line(form: str, server: FakeNP6, command: list[str], out: Path) -> None:
    """Exit code 4, and the folder is as it was at the last commit; with room again the export goes on."""
    command += ["--format", *form.split(), "--concurrency", "1"]
    server.script(Fault.status(403), contact=server.contact_ids[50])
    assert killing.finish(server, command) == 3
    before = exported.contents(out)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))"
    with killing.start(server, command, limit) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 4
    assert err.decode().splitlines()[0] == f"np6 export: {out} cannot be written to: File too large"
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    assert exported.contents(out) == before
    assert killing.finish(server, command) == 0
    assert exported.events(out) == exported.truth(server, server.contact_ids)
    exported.check_whole(out)
