"""Clusters of Dask that are elsewhere: schedulers that die, workers that come and go, and what runs of nobody do."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

from distributed import Client
from support import dask_calls
from support.dask_cluster import process, scheduler, worker
from support.waiting import until

from np6_async import __version__
from np6_async.export._errors import WorkersLost
from np6_async.integrations.dask import DaskExecutor, RemoteWorkers

pytestmark = pytest.mark.fleet

PROGRAM = """
import asyncio
import sys

from np6_async.integrations.dask import RemoteWorkers
from support import dask_calls


async def main(address, told):
    async with RemoteWorkers(address) as workers:
        await workers.run("wait", dask_calls.until_told, told, print)


asyncio.run(main(*sys.argv[1:]))
"""


def ignore(progress: object) -> None:
    pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with scheduler(tmp_path) as (_, address):
        yield address


async def there(path: Path) -> None:
    async with asyncio.timeout(30):
        while not path.exists():
            await asyncio.sleep(0.02)


async def test_a_scheduler_that_is_killed_is_said(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with scheduler(tmp_path) as (running, address), worker(address, tmp_path):
        async with RemoteWorkers(address, timeout=2) as workers, asyncio.timeout(30):
            calls = [
                asyncio.create_task(workers.run("wait", dask_calls.until_told, str(told), ignore)) for _ in range(3)
            ]
            await there(told)
            running.kill()
            for call in calls:
                with pytest.raises(WorkersLost, match=f"the connection to Dask's scheduler at {address} broke"):
                    await call
            with pytest.raises(WorkersLost, match="broke; run again to resume"):
                await workers.run("double", dask_calls.double, 1, ignore)
            await workers.stop()
            # The worker is alone too, and its call hears it.
            until(lambda: told.read_text() == "cancel", 30)


async def test_a_scheduler_that_says_nothing_any_more_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("np6_async.integrations._dask_calls._SILENCE", 0.3)
    with scheduler(tmp_path) as (running, address):
        async with asyncio.timeout(30), RemoteWorkers(address) as workers:
            call = asyncio.create_task(workers.run("double", dask_calls.double, 1, ignore))
            running.send_signal(signal.SIGSTOP)
            with pytest.raises(WorkersLost, match="does not answer; run again to resume"):
                await call
            running.kill()


async def test_a_scheduler_that_is_not_there_is_said(unused_tcp_port: int) -> None:
    with pytest.raises(WorkersLost, match=f"no scheduler of Dask can be reached at tcp://127.0.0.1:{unused_tcp_port}"):
        async with RemoteWorkers(f"tcp://127.0.0.1:{unused_tcp_port}", timeout=0.5):
            pass


async def test_certificates_that_are_missing_are_said(unused_tcp_port: int) -> None:
    with pytest.raises(WorkersLost, match="no scheduler of Dask can be reached"):
        async with RemoteWorkers(f"tls://127.0.0.1:{unused_tcp_port}", timeout=0.5):
            pass


async def test_without_a_worker_it_waits_for_one_and_says_so_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("np6_async.integrations._dask_calls._NOBODY", 0.1)
    monkeypatch.setattr("np6_async.integrations._dask_calls._LOOK", 0.05)
    with caplog.at_level(logging.WARNING, "np6_async"):
        async with asyncio.timeout(60), RemoteWorkers(address) as workers:
            assert workers.width == 2
            call = asyncio.create_task(workers.run("double", dask_calls.double, 21, ignore))
            while not caplog.messages:
                await asyncio.sleep(0.02)
            with worker(address, tmp_path):
                assert await call == 42
                while workers.width == 2:
                    await asyncio.sleep(0.02)
                assert workers.width == 3
    [message] = caplog.messages
    assert re.fullmatch("no worker of Dask has been there for [0-9]+ s; waiting for one", message)


async def test_a_stop_is_heard_by_a_worker_that_comes_later(address: str, tmp_path: Path) -> None:
    async with asyncio.timeout(60), RemoteWorkers(address) as workers:
        call = asyncio.create_task(workers.run("wait", dask_calls.until_told, str(tmp_path / "told"), ignore))
        await workers.stop()
        with worker(address, tmp_path):
            assert await call == "stop"


async def test_a_call_hears_a_cancel_when_the_process_of_its_run_is_killed(address: str, tmp_path: Path) -> None:
    told, program = tmp_path / "told", tmp_path / "program.py"
    program.write_text(PROGRAM)
    with worker(address, tmp_path), process(str(program), address, str(told)) as running:
        until(lambda: told.exists() or running.poll() is not None)
        pid = told.read_text()
        running.kill()
        until(lambda: told.read_text() != pid, 30)
        assert told.read_text() == "cancel"


async def test_a_worker_with_another_version_is_said_on_connecting(address: str, tmp_path: Path) -> None:
    other = tmp_path / "other" / "np6_async-0.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: np6_async\nVersion: 0.9\n")
    words = f"has np6_async 0.9, this process {__version__}: install np6_async {__version__} in all workers of Dask"
    with worker(address, tmp_path, PYTHONPATH=str(other.parent)):
        await a_worker_at(address)
        with pytest.raises(WorkersLost, match=f"worker tcp://127.0.0.1:[0-9]+ {words}"):
            async with RemoteWorkers(address):
                pass


async def test_a_worker_without_the_package_is_said_and_logs_nothing_of_the_call(address: str, tmp_path: Path) -> None:
    words = f"Dask cannot make call 'x': ImportError: not here; np6_async {__version__} is to be installed in all"
    with worker(address, tmp_path, PYTHONPATH=hidden(tmp_path), DASK_LOGGING__DISTRIBUTED="debug") as running:
        async with RemoteWorkers(address) as workers, asyncio.timeout(30):
            with pytest.raises(WorkersLost, match=words):
                await workers.run("x", dask_calls.report_twice, "the secret", ignore)
        running.terminate()
        out, _ = running.communicate(timeout=30)
    assert b"Compute Failed" in out
    assert b"secret" not in out
    assert b"report_twice" not in out


async def test_the_scheduler_needs_no_package(tmp_path: Path) -> None:
    with scheduler(tmp_path, PYTHONPATH=hidden(tmp_path)) as (_, address), worker(address, tmp_path):
        async with RemoteWorkers(address) as workers, asyncio.timeout(30):
            assert await workers.run("double", dask_calls.double, 21, ignore) == 42


def hidden(folder: Path) -> str:
    """A folder for PYTHONPATH that makes np6_async one that cannot be imported."""
    package = folder / "hidden" / "np6_async"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not here')")
    return str(package.parent)


async def test_the_memory_of_the_scheduler_is_flat_over_thousands_of_calls(tmp_path: Path) -> None:
    # Without the profile that Dask makes of its own loop, of which it keeps the last hours.
    quiet = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    with scheduler(tmp_path, **quiet) as (running, address), worker(address, tmp_path), worker(address, tmp_path):
        async with RemoteWorkers(address) as workers, asyncio.timeout(100):
            sizes = []
            for first in range(0, 5000, 20):
                batch = range(first, first + 20)
                task = b"x" * 10_000
                await asyncio.gather(*(workers.run(f"part {n}", dask_calls.report_twice, task, ignore) for n in batch))
                if first % 1000 == 980:
                    sizes.append(psutil.Process(running.pid).memory_info().rss >> 20)
    # The first two thousand fill the logs that Dask keeps of the last events. The tasks of the others are 30 MB.
    assert sizes[-1] - sizes[1] <= 12, sizes


async def test_a_call_that_computes_for_long_makes_no_worker_miss_its_heartbeat(tmp_path: Path) -> None:
    with (
        scheduler(tmp_path, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="1s") as (_, address),
        worker(address, tmp_path),
    ):
        async with (
            Client(address, asynchronous=True, set_as_default=False) as client,
            DaskExecutor(client) as workers,
            asyncio.timeout(60),
        ):
            await a_worker_at(address)
            # Five seconds without a heartbeat are what Dask allows at the least.
            assert await workers.run("compute", dask_calls.hold_the_lock, 8, ignore) > 0
            assert not await missed(client)
            # As a coroutine, the same makes it miss it: the scheduler takes the worker for dead.
            lost = client.submit(dask_calls.hold_the_loop, 8, pure=False)
            while not await missed(client):
                await asyncio.sleep(0.1)
            lost.release()


async def missed(client: Client) -> bool:
    """Whether a worker has said nothing for so long that the scheduler took it for dead."""
    return any(message["action"] == "worker-ttl-timed-out" for _, message in await client.get_events("scheduler"))


async def a_worker_at(address: str) -> None:
    async with Client(address, asynchronous=True, set_as_default=False) as client, asyncio.timeout(30):
        await client.wait_for_workers(1)
