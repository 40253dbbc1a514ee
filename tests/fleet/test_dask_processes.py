"""Processes of Dask on this machine: one that dies, Ctrl-C, and what is left behind, which is nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

from support import dask_calls
from support.dask_cluster import TESTS, process
from support.waiting import until

from np6_async.export._errors import WorkersLost
from np6_async.integrations.dask import LocalWorkers

pytestmark = pytest.mark.fleet

# A program that prints a line once its call goes on, and how that ends once it is interrupted.
PROGRAM = """
import asyncio
import sys
from pathlib import Path

from np6_async.integrations.dask import LocalWorkers
from support import dask_calls


async def main(told):
    async with LocalWorkers(2) as workers:
        running = asyncio.create_task(workers.run("wait", dask_calls.until_told, told, print))
        try:
            await running
        except asyncio.CancelledError:
            print("interrupted", await workers.run("double", dask_calls.double, 21, print), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


def ignore(progress: object) -> None:
    pass


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes that it has started, and those have."""
    return psutil.Process(pid).children(recursive=True)


def is_worker(running: psutil.Process) -> bool:
    """Not the one that multiprocessing starts for every program that uses it, and that ends with this one."""
    try:
        return "resource_tracker" not in " ".join(running.cmdline())
    except psutil.Error:
        return False


def listening(running: psutil.Process) -> set[str]:
    return {each.laddr.ip for each in running.net_connections("tcp") if each.status == psutil.CONN_LISTEN}


async def test_nothing_is_left_of_the_processes() -> None:
    async with LocalWorkers(2) as workers:
        assert await workers.run("double", dask_calls.double, 21, ignore) == 42
        begun = [each for each in workers_of(os.getpid()) if is_worker(each)]
    assert len(begun) == 2
    _, alive = psutil.wait_procs(begun, timeout=30)
    assert not alive


async def test_nothing_is_left_of_processes_whose_start_is_cancelled() -> None:
    async def enter() -> None:
        async with LocalWorkers(2):
            raise AssertionError("entered")

    before = {each.pid for each in workers_of(os.getpid())}
    starting = asyncio.create_task(enter())
    async with asyncio.timeout(60):
        while not (begun := [each for each in workers_of(os.getpid()) if each.pid not in before and is_worker(each)]):
            await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    _, alive = psutil.wait_procs(begun, timeout=30)
    assert not alive
    assert not [each for each in workers_of(os.getpid()) if is_worker(each)]


async def test_they_listen_on_the_loopback_interface_alone() -> None:
    async with LocalWorkers(1):
        addresses = [listening(each) for each in (psutil.Process(), *workers_of(os.getpid()))]
    assert set().union(*addresses) == {"127.0.0.1"}


async def test_a_call_whose_process_dies_is_made_again(tmp_path: Path) -> None:
    async with LocalWorkers(2) as workers, asyncio.timeout(60):
        for n in range(3):
            assert await workers.run("die", dask_calls.die_once, str(tmp_path / str(n)), ignore) != os.getpid()


async def test_a_call_of_which_processes_die_is_given_up_in_words() -> None:
    async with LocalWorkers(2) as workers, asyncio.timeout(60):
        with pytest.raises(WorkersLost, match="4 workers died while they made call 'die', the last of them tls://"):
            await workers.run("die", dask_calls.die, None, ignore)
        assert await workers.run("double", dask_calls.double, 21, ignore) == 42


async def test_what_other_processes_hold_is_made_again_where_it_is_still_wanted(tmp_path: Path) -> None:
    """All processes are killed at once, in the middle of what they do."""
    async with LocalWorkers(2) as workers, asyncio.timeout(60):
        paths = [tmp_path / str(n) for n in range(4)]
        running = [asyncio.create_task(workers.run("wait", dask_calls.until_told, str(path), ignore)) for path in paths]
        while sum(path.exists() for path in paths) < 2:
            await asyncio.sleep(0.02)
        killed = {int(path.read_text()) for path in paths if path.exists()}
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        await workers.stop()
        assert await asyncio.gather(*running) == ["stop"] * 4


async def test_no_process_hears_ctrl_c_not_even_one_that_replaces_another() -> None:
    async with LocalWorkers(1) as workers, asyncio.timeout(60):
        assert await workers.run("signals", dask_calls.handled_signals, None, ignore) == {signal.SIGINT}
        with pytest.raises(WorkersLost):
            await workers.run("die", dask_calls.die, None, ignore)
        assert await workers.run("signals", dask_calls.handled_signals, None, ignore) == {signal.SIGINT}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "np6"  # as the script of a command: no .py
    path.write_text(PROGRAM)
    return path


def test_ctrl_c_in_a_terminal_ends_a_program_without_a_word_of_its_workers(program: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    with process(str(program), str(told)) as running:
        until(lambda: told.exists() or running.poll() is not None)
        worker = told.read_text()
        os.killpg(running.pid, signal.SIGINT)  # what a terminal does: to the program and all its workers
        out, _ = running.communicate(timeout=30)
        assert out.decode() == "interrupted 42\n"
        assert running.returncode == 0
        until(lambda: told.read_text() == "cancel")
        assert not psutil.pid_exists(int(worker))


def test_no_process_outlives_a_program_that_is_killed(program: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    with process(str(program), str(told)) as running:
        until(lambda: told.exists() or running.poll() is not None)
        begun = workers_of(running.pid)
        assert len(begun) >= 2
        running.kill()
        _, alive = psutil.wait_procs(begun, timeout=30)
        assert not alive


def test_a_program_that_does_not_ask_for_its_name_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace('if __name__ == "__main__":', "if True:"))
    ended = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "told")],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert 'put what it does below if __name__ == "__main__"' in ended.stderr
    assert "WorkersLost: no processes of Dask can be started" in ended.stderr
