"""Calls that workers of Dask make: results, errors, reports, and how they are ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

pytest.importorskip("distributed")

from distributed import Client
from support import dask_calls

from np6_async import ConfigError, InvalidContact, NotFound, UsageError
from np6_async.export._errors import WorkersLost
from np6_async.export._executor import Executor
from np6_async.integrations._dask_jobs import Call, packed
from np6_async.integrations._dask_processes import processes
from np6_async.integrations.dask import DaskExecutor, LocalWorkers, RemoteWorkers

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client() -> AsyncIterator[Client]:
    async with processes(2) as cluster, Client(cluster, asynchronous=True, set_as_default=False) as client:
        yield client


def ignore(progress: object) -> None:
    pass


async def content(path: Path, *, but: str = "") -> str:
    """What is in the file, once there is something else than `but`."""
    async with asyncio.timeout(30):
        while not path.exists() or path.read_text() == but:
            await asyncio.sleep(0.02)
        return path.read_text()


async def test_each_call_gets_its_own_result(client: Client) -> None:
    async with DaskExecutor(client) as workers:
        results = await asyncio.gather(*(workers.run("double", dask_calls.double, n, ignore) for n in range(20)))
    assert results == [2 * n for n in range(20)]


async def test_it_is_an_executor(client: Client) -> None:
    assert isinstance(DaskExecutor(client), Executor)
    assert isinstance(LocalWorkers(1), Executor)
    assert isinstance(RemoteWorkers("tcp://127.0.0.1:8786"), Executor)


async def test_the_last_report_arrives_before_the_result(client: Client) -> None:
    reports: list[Any] = []
    async with DaskExecutor(client) as workers:
        assert await workers.run("report", dask_calls.report_twice, 7, reports.append) == 7
    assert reports[-1] == ("last of", 7)


async def test_reports_arrive_while_the_call_goes_on_even_with_two_executors_on_a_client(
    client: Client, tmp_path: Path
) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    async with DaskExecutor(client) as one, DaskExecutor(client) as other, asyncio.timeout(30):
        path = tmp_path / "end"
        runs = [
            asyncio.create_task(
                workers.run("report", dask_calls.report_until, str(path), lambda _, seen=seen: seen.set())
            )
            for workers, seen in ((one, first), (other, second))
        ]
        await first.wait()
        await second.wait()
        assert not any(run.done() for run in runs)
        path.touch()
        await asyncio.gather(*runs)


async def test_an_error_arrives_as_it_was_raised(client: Client) -> None:
    async with DaskExecutor(client) as workers:
        with pytest.raises(NotFound, match=r"no such contact \[request id r-1\]") as raised:
            await workers.run("raise", dask_calls.raise_not_found, "1", ignore)
        assert (raised.value.contact, raised.value.attempts, raised.value.status) == ("1", 3, 404)
        with pytest.raises(InvalidContact, match="this one"):
            await workers.run("raise", dask_calls.raise_it, InvalidContact("this one"), ignore)
        with pytest.raises(ZeroDivisionError) as other:
            await workers.run("raise", dask_calls.raise_it, ZeroDivisionError("by 0"), ignore)
        assert "raise error" in other.value.__notes__[0]


async def test_a_cancelled_error_of_a_call_is_not_one_of_the_run(client: Client) -> None:
    async with DaskExecutor(client) as workers:
        for error in (asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()):
            with pytest.raises(WorkersLost, match=f"call 'end' ended in its worker with {type(error).__name__}"):
                await workers.run("end", dask_calls.raise_it, error, ignore)


async def test_a_worker_that_came_with_another_version_is_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async with DaskExecutor(client) as workers:
        monkeypatch.setattr("np6_async.integrations._dask_calls.__version__", "0.9")
        with pytest.raises(WorkersLost, match=r"has np6_async \S+, this process 0.9: install np6_async 0.9 in all"):
            await workers.run("double", dask_calls.double, 21, ignore)


async def test_what_cannot_be_pickled_is_said(client: Client) -> None:
    async with DaskExecutor(client) as workers:
        with pytest.raises(TypeError, match="cannot pickle"):
            await workers.run("lock", dask_calls.give_lock, None, ignore)
        with pytest.raises(RuntimeError, match="ValueError: that cannot be pickled"):
            await workers.run("lock", dask_calls.raise_lock, None, ignore)


async def test_a_stop_is_heard_by_what_goes_on_and_by_what_follows(client: Client, tmp_path: Path) -> None:
    async with DaskExecutor(client) as workers, asyncio.timeout(30):
        running = asyncio.create_task(workers.run("wait", dask_calls.until_told, str(tmp_path / "first"), ignore))
        await content(tmp_path / "first")
        await workers.stop()
        assert await running == "stop"
        assert await workers.run("wait", dask_calls.until_told, str(tmp_path / "second"), ignore) == "stop"


async def test_a_stop_is_not_heard_by_the_calls_of_others(client: Client, tmp_path: Path) -> None:
    async with DaskExecutor(client) as stopped, DaskExecutor(client) as other, asyncio.timeout(30):
        running = [
            asyncio.create_task(workers.run("wait", dask_calls.until_told, str(tmp_path / name), ignore))
            for name, workers in (("stopped", stopped), ("other", other))
        ]
        await content(tmp_path / "stopped")
        own = await content(tmp_path / "other")
        await stopped.stop()
        assert await running[0] == "stop"
        assert (tmp_path / "other").read_text() == own
        await other.stop()
        assert await running[1] == "stop"


async def test_a_cancelled_run_cancels_its_call(client: Client, tmp_path: Path) -> None:
    async with DaskExecutor(client) as workers, asyncio.timeout(30):
        running = asyncio.create_task(workers.run("wait", dask_calls.until_told, str(tmp_path / "told"), ignore))
        process = await content(tmp_path / "told")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await content(tmp_path / "told", but=process) == "cancel"


async def test_leaving_cancels_what_is_left(client: Client, tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        async with DaskExecutor(client) as workers:
            running = asyncio.create_task(workers.run("wait", dask_calls.until_told, str(tmp_path / "told"), ignore))
            process = await content(tmp_path / "told")
        with pytest.raises(WorkersLost, match="released"):
            await running
        assert await content(tmp_path / "told", but=process) == "cancel"


async def test_a_call_that_somebody_else_cancels_is_lost_in_words(client: Client, tmp_path: Path) -> None:
    async with DaskExecutor(client) as workers, asyncio.timeout(30):
        running = asyncio.create_task(workers.run("wait", dask_calls.until_told, str(tmp_path / "told"), ignore))
        process = await content(tmp_path / "told")
        await client.cancel(list(workers._futures), force=True)
        with pytest.raises(WorkersLost, match="call 'wait' was cancelled by somebody"):
            await running
        assert await content(tmp_path / "told", but=process) == "cancel"


async def test_the_width_is_the_threads_and_a_few(client: Client) -> None:
    async with DaskExecutor(client) as workers:
        assert workers.width == 4


async def test_the_scheduler_keeps_nothing_of_a_call(client: Client) -> None:
    scheduler = client.cluster.scheduler
    async with DaskExecutor(client) as workers, asyncio.timeout(30):
        for n in range(3):
            await workers.run(f"call {n}", dask_calls.report_twice, n, ignore)
        await workers.stop()
        while scheduler.tasks:
            await asyncio.sleep(0.02)
        assert "np6" in scheduler.task_prefixes
        assert not [name for name in scheduler.task_prefixes if name.startswith(("call", "np6-"))]
        assert not [group for group in scheduler.task_groups if str(group).startswith("np6")]
    assert not scheduler.extensions["events"]._events


async def test_what_is_sent_to_a_worker_shows_nothing_in_its_log() -> None:
    call = Call("np6-1", 1, "1.0", b"secret")
    assert "secret" not in repr(call)
    assert "secret" not in repr(packed(call))


async def test_workers_are_entered_once_and_before_use(client: Client) -> None:
    workers = DaskExecutor(client)
    with pytest.raises(UsageError, match="not entered"):
        await workers.run("double", dask_calls.double, 1, ignore)
    async with workers:
        with pytest.raises(UsageError, match="in use"):
            await workers.__aenter__()
    with pytest.raises(UsageError, match="not entered"):
        await workers.run("double", dask_calls.double, 1, ignore)


async def test_what_is_no_client_count_or_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"takes a distributed\.Client, not str"):
        DaskExecutor("tcp://127.0.0.1:8786")  # type: ignore[arg-type]
    for count in (0, -1, 1.5, True, "2", 1025):
        with pytest.raises(ConfigError, match="from 1 to 1024"):
            LocalWorkers(count)  # type: ignore[arg-type]
    for address in ("", "localhost:8786", "http://a:1", "tcp://a", "tcp://a:b", "tcp://u:p@a:1", "tcp://a:1/x", None):
        with pytest.raises(ConfigError, match="tcp://host:port or tls://host:port") as raised:
            RemoteWorkers(address)  # type: ignore[arg-type]
        assert "u:p" not in str(raised.value)
