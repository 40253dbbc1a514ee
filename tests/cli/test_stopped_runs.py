"""What is left of a run that was stopped: the events, and the list of what is to be done yet."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from np6_async.cli import main
from np6_async.testing import FakeNP6, Fault

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

Run = Callable[..., int]


def interrupt_when(server: FakeNP6, ready: Callable[[], bool]) -> None:
    """Ctrl-C for this process, some time after the server is `ready`."""

    def wait() -> None:
        deadline = time.monotonic() + 10
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


@pytest.fixture
def stalled(server: FakeNP6) -> list[str]:
    """The contacts of the server, of which the third and fourth break off and the fifth never answers."""
    ids = list(server.contact_ids)
    for contact in ids[2:4]:
        server.script(Fault.stall(after=3000), contact=contact, times=None)
    server.script(Fault.hang(), contact=ids[4], times=None)
    interrupt_when(server, lambda: server.in_flight == 3)
    return ids


def test_what_is_not_done_is_listed_and_counted(
    run: Run, stalled: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Done are those whose last event is in the output; failed, torn and unasked ones are to be done yet."""
    file, target = tmp_path / "ids", tmp_path / "out"
    file.write_text("# the others\n" + "\n".join(stalled[2:]) + "\n\nBAD LINE\n")
    arguments = ["NOBODY", *stalled[:2], "--ids-from", str(file), "--concurrency", "3", "-o", str(target)]
    assert run(*arguments) == 130
    err = capfd.readouterr().err
    assert "np6 events: interrupted\nnp6 events: 2 of 8 contacts done, 1 failed, " in err
    assert "the last events of 2 contacts in progress are missing\n" in err
    assert f"the 6 contacts that are not done are in {target}.remaining (those in progress start again)\n" in err
    left = (tmp_path / "out.remaining").read_text().splitlines()
    assert left[0] == "NOBODY"
    assert set(left[1:4]) == set(stalled[2:5])
    assert left[4:] == [stalled[5], "BAD LINE"]


def test_the_list_goes_on_where_the_run_was_stopped(
    run: Run, server: FakeNP6, stalled: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is a file for --ids-from, addresses included; a complete run leaves the old files alone."""
    target = tmp_path / "out"
    addresses = [server.unicity(contact) for contact in stalled]
    assert run("--by", "unicity", *addresses, "--concurrency", "3", "-o", str(target)) == 130
    server.reset()
    left = {file: file.read_bytes() for file in tmp_path.iterdir()}
    capfd.readouterr()
    assert run("--by", "unicity", "--ids-from", f"{target}.remaining", "-o", str(target)) == 0
    assert {request.contact for request in server.requests} == set(stalled[2:])
    assert {file: file.read_bytes() for file in left} == left
    assert set(tmp_path.iterdir()) == {*left, target}
    assert "partial" not in capfd.readouterr().err


def test_on_standard_output_the_summary_is_all(
    run: Run, stalled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """How many of how many, and whether the last lines are of contacts in progress; no file is made."""
    monkeypatch.chdir(tmp_path)
    assert run(*stalled, "--concurrency", "3") == 130
    err = capfd.readouterr().err
    assert "2 of 6 contacts done" in err
    assert "the last events of 2 contacts in progress are missing\n" in err
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_partial_file_is_not_replaced(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor an earlier list: both get the first number that is free for both."""
    target = tmp_path / "out"
    for name in ("out.partial", "out.remaining.1"):
        (tmp_path / name).write_text("of yesterday")
    arguments = [server.contact_ids[0], "NOBODY", "--on-error", "raise", "--concurrency", "1", "-o", str(target)]
    assert run(*arguments) == 1
    err = capfd.readouterr().err
    assert f"are in {target}.partial.2\n" in err
    assert f"are in {target}.remaining.2\n" in err
    assert (tmp_path / "out.remaining.2").read_text() == "NOBODY\n"
    assert (tmp_path / "out.partial").read_text() == (tmp_path / "out.remaining.1").read_text() == "of yesterday"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_run_that_never_began_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done and nothing is written: the contacts are where they were."""
    monkeypatch.setenv("NP6_API_KEY", "wr0ng")
    assert run("A", "B", "-o", str(tmp_path / "out")) == 3
    assert list(tmp_path.iterdir()) == []


def test_one_pause_for_the_rate_limit_is_one_line(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """With -v, although each request that was in flight was refused."""
    for contact in server.contact_ids:
        server.script(Fault.rate_limited(), contact=contact)
    assert run(*server.contact_ids, "-v") == 0
    err = capfd.readouterr().err
    assert err.count("every request waits") == 1
    assert "rate limited" not in err


def test_ctrl_c_while_the_command_is_loaded_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("np6_async.cli._parser.build_parser", interrupted)
    assert main([]) == 130
    assert capfd.readouterr().err == "\nnp6: interrupted\n"
