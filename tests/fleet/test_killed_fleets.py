"""Goal L2: exports and syncs by many processes, of which any is killed at any moment: nothing is lost, nothing twice.

`NP6_FLEET_KILLS` is how many kills there are of each way to run one (default 4).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("distributed")
pytest.importorskip("redis")
psutil: Any = pytest.importorskip("psutil")
if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

from support import dask_cluster, exported, killing, services, synced
from support.waiting import until

from np6_async.testing import FakeNP6

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1_200)]

KILLS: Final = int(os.environ.get("NP6_FLEET_KILLS", "4"))
CONTACTS: Final = 400
_LATENCY: Final = 0.05  # seconds: so that a run takes long enough to be killed


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNP6]:
    with FakeNP6(CONTACTS, (0, 12), latency=_LATENCY) as running:
        monkeypatch.setenv("NP6_API_KEY", running.api_key)  # that of workers
        yield running


class Redis:
    """A Redis that can be killed, and comes back empty at the same port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = services.free_port()
        self._stack = ExitStack()
        self.url = self._start()

    def _start(self) -> str:
        return self._stack.enter_context(services.redis_server(self._directory, port=self._port))

    def restart(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    (tmp_path / "redis").mkdir()
    made = Redis(tmp_path / "redis")
    yield made
    made.close()


def command(verb: str, server: FakeNP6, tmp_path: Path, *more: str) -> list[str]:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(server.contact_ids))
    words = [verb, "--ids-from", str(ids), "--output", str(tmp_path / "out"), "--concurrency", "4"]
    words += ["--shard-size", "12", *more]
    return words + (["--resume"] if verb == "export" else ["--state", str(tmp_path / "state.db"), "--safety", "0"])


def check(verb: str, server: FakeNP6, tmp_path: Path) -> None:
    """Each event is once in the files of the folder, and nothing is left beside them."""
    out, truth = tmp_path / "out", exported.truth(server, server.contact_ids)
    if verb == "export":
        assert exported.manifest(out)["complete"]
        assert {file for file in out.iterdir() if file.is_file()} == set(exported.files(out))
        assert exported.events(out) == truth
        assert os.listdir(exported.beside(out)) == ["manifest.json"]
    else:
        assert synced.events(out) == truth
        assert os.listdir(exported.beside(out)) == []


def clear(tmp_path: Path) -> None:
    """Remove the result, so that the next run begins anew."""
    for name in ("out", "out.np6"):
        shutil.rmtree(tmp_path / name)
    for file in tmp_path.glob("state.db*"):
        file.unlink()


def finish(server: FakeNP6, words: list[str]) -> None:
    with killing.start(server, words) as process:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()


def workers_of(process: subprocess.Popen[bytes]) -> list[Any]:
    """The processes of its workers, those of the cluster if there is one."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def kill_a_worker(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    workers = workers_of(process)
    if workers:
        draw.choice(workers).kill()


Victim = Callable[[], object]


def killed_again_and_again(
    server: FakeNP6,
    words: Callable[[], list[str]],
    victims: Callable[[subprocess.Popen[bytes]], dict[str, Victim]],
    whole: Callable[[], object],
    seed: int,
) -> None:
    """Run the command until `KILLS` victims were killed, each in turn after so many requests; each time that it comes
    to its end, `whole` looks at the result, and clears it away."""
    draw = random.Random(seed)
    kills = 0
    while kills < KILLS:
        goal = server.request_count + draw.randint(1, CONTACTS // 2)
        with killing.start(server, words()) as process:
            try:
                if killing.until(process, lambda goal=goal: server.request_count >= goal, 90):  # type: ignore[misc]
                    names = victims(process)
                    names[list(names)[kills % len(names)]]()
                    kills += 1
                _, err = process.communicate(timeout=120)
            finally:
                process.kill()
            assert b"Traceback" not in err, err.decode()
            assert process.returncode in (0, 4, 130, -signal.SIGKILL), err.decode()
        if process.returncode == 0:
            whole()
    finish(server, words())
    whole()


@pytest.mark.parametrize("verb", ["export", "sync"])
def test_L2_nothing_is_lost_or_twice_where_processes_of_one_machine_are_killed(
    verb: str, server: FakeNP6, redis: Redis, tmp_path: Path
) -> None:
    """A worker, Redis, the whole run by SIGKILL, and the run by Ctrl-C."""
    words = command(verb, server, tmp_path, "--workers", "2", "--shared-limit", redis.url)

    def victims(process: subprocess.Popen[bytes]) -> dict[str, Victim]:
        draw = random.Random(process.pid)
        return {
            "the run": process.kill,
            "a worker": lambda: kill_a_worker(process, draw),
            "redis": redis.restart,
            "Ctrl-C": lambda: process.send_signal(signal.SIGINT),
        }

    def whole() -> None:
        check(verb, server, tmp_path)
        clear(tmp_path)

    killed_again_and_again(server, lambda: words, victims, whole, seed=1)
    until(lambda: not _left_behind(str(tmp_path)), 30)


def test_L2_nothing_is_lost_or_twice_where_processes_of_a_cluster_are_killed(server: FakeNP6, tmp_path: Path) -> None:
    """The client, a worker, and the scheduler; whoever was killed is started again."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with ExitStack() as stack:
        schedulers = [stack.enter_context(dask_cluster.scheduler(folder))]

        def start_worker() -> subprocess.Popen[bytes]:
            return stack.enter_context(dask_cluster.worker(schedulers[-1][1], folder))

        workers = [start_worker(), start_worker()]

        def kill_a_worker() -> None:
            workers[0].kill()
            workers[0] = start_worker()

        def kill_the_scheduler() -> None:
            for process in (schedulers[-1][0], *workers):
                process.kill()

        def start_again() -> None:
            schedulers.append(stack.enter_context(dask_cluster.scheduler(folder)))
            workers[:] = [start_worker(), start_worker()]

        def words() -> list[str]:
            if schedulers[-1][0].poll() is not None:
                start_again()
            return command("export", server, tmp_path, "--scheduler", schedulers[-1][1])

        def victims(process: subprocess.Popen[bytes]) -> dict[str, Victim]:
            return {"the client": process.kill, "a worker": kill_a_worker, "the scheduler": kill_the_scheduler}

        def whole() -> None:
            check("export", server, tmp_path)
            clear(tmp_path)

        killed_again_and_again(server, words, victims, whole, seed=2)


def _left_behind(mark: str) -> list[Any]:
    """Processes of a run that has ended."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if mark in line and "redis-server" not in line and process.pid != os.getpid():
            found.append(process)
    return found
