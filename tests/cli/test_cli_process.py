"""`np6` as a process: pipes, signals, and what is left of the output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from np6_async.testing import FakeNP6

if sys.platform == "win32":
    pytest.skip("signals and pipes of POSIX", allow_module_level=True)

import fcntl
import termios

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[FakeNP6]:
    """One with more to say than any of the tests waits for."""
    with FakeNP6(5_000, 20, latency=0.02) as running:
        yield running


def start(server: FakeNP6, *arguments: str, stdin: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "np6_async.cli", "events", "--base-url", server.url, *arguments],
        env={**os.environ, "NP6_API_KEY": server.api_key, "PYTHONUNBUFFERED": ""},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # or `communicate` would not see what `readline` read ahead
    )


@pytest.fixture
def ids(server: FakeNP6, tmp_path: Path) -> str:
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(server.contact_ids))
    return str(file)


def wait_until_full(pipe: IO[bytes]) -> None:
    """Return when the writer of this pipe can write no more."""
    unread, before = -1, -2
    while unread != before or unread < 4096:
        time.sleep(0.1)
        before, unread = unread, int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4), sys.byteorder)


def all_whole(output: bytes) -> bool:
    return output.endswith(b"\n") and all(json.loads(line)["event"] for line in output.splitlines())


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
def test_a_signal_ends_the_output_at_a_whole_line(
    number: signal.Signals, code: int, word: str, server: FakeNP6, ids: str
) -> None:
    """The exit code is the shell's for that signal, and the summary says how far it got."""
    with start(server, "--ids-from", ids) as process:
        assert process.stdout
        first = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == code
    lines = (first + out).splitlines()
    assert all_whole(first + out)
    said, summary, *_ = err.decode().splitlines()
    assert said == f"np6 events: {word}"
    assert re.match(r"np6 events: [\d,]+ of 5,000 contacts done, ", summary)
    assert f"{len(lines):,} events in" in summary


def test_nohup_is_heeded(server: FakeNP6) -> None:
    """Where SIGHUP is ignored, as under nohup, a closed terminal ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(server, *server.contact_ids[:200])
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        assert process.stdout
        first = process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert len((first + out).splitlines()) == 4_000


def interrupt_into(file: Path, server: FakeNP6, *arguments: str) -> str:
    """Interrupt a run when it has written something; returns what it said."""
    hidden = f".{file.name}.*.tmp"
    with start(server, *arguments, "-o", str(file)) as process:
        deadline = time.monotonic() + 10
        while not any(each.stat().st_size for each in file.parent.glob(hidden)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, b"")
    return err.decode()


def test_an_interrupted_file_is_kept_as_partial(server: FakeNP6, ids: str, tmp_path: Path) -> None:
    """Whole lines are in FILE.partial, the contacts not done in FILE.remaining, and FILE itself does not exist."""
    directory = tmp_path / "out"
    directory.mkdir()
    err = interrupt_into(directory / "events.ndjson", server, "--ids-from", ids)
    partial, remaining = directory / "events.ndjson.partial", directory / "events.ndjson.remaining"
    assert set(directory.iterdir()) == {partial, remaining}
    assert all_whole(partial.read_bytes())
    left = remaining.read_text().splitlines()
    assert f"{5_000 - len(left):,} of 5,000 contacts done" in err
    assert f"the events fetched so far are in {partial}\n" in err
    assert f"the {len(left):,} contacts that are not done are in {remaining}" in err
    fetched = Counter(json.loads(line)["contact"] for line in partial.read_bytes().splitlines())
    done = set(server.contact_ids) - set(left)
    assert len(done) == 5_000 - len(left)
    assert all(fetched[contact] == 20 for contact in done)


def test_a_second_interrupted_run_replaces_nothing(server: FakeNP6, ids: str, tmp_path: Path) -> None:
    """Its files get a number, and it says their names."""
    directory = tmp_path / "out"
    directory.mkdir()
    interrupt_into(directory / "e", server, "--ids-from", ids)
    before = {file: file.read_bytes() for file in directory.iterdir()}
    err = interrupt_into(directory / "e", server, "--ids-from", ids)
    assert {file: file.read_bytes() for file in before} == before
    assert {file.name for file in directory.iterdir()} == {"e.partial", "e.remaining", "e.partial.1", "e.remaining.1"}
    assert "e.partial.1\n" in err
    assert "e.remaining.1" in err


def test_a_pipe_without_an_end_is_not_waited_for(server: FakeNP6, tmp_path: Path) -> None:
    """After Ctrl-C: the list has what was read, and what may be missing from it is said."""
    file = tmp_path / "e"
    with start(server, "--ids-from", "-", "-o", str(file), stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write("".join(f"{contact}\n" for contact in server.contact_ids[:2_000]).encode())
        process.stdin.flush()
        while not any(each.stat().st_size for each in tmp_path.glob(".e.*.tmp")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        assert process.stderr
        err = process.stderr.read().decode()
    left = (tmp_path / "e.remaining").read_text().splitlines()
    assert f"{2_000 - len(left):,} contacts done" in err
    assert "not read to their end" in err


def test_a_reader_that_goes_away_is_no_error(server: FakeNP6, ids: str) -> None:
    """As in `| head -1`: not a word on standard error, and the exit code of a broken pipe."""
    with start(server, "--ids-from", ids) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(timeout=10) == 141
        assert process.stderr.read() == b""


def test_a_reader_that_pauses_loses_nothing(server: FakeNP6) -> None:
    """The pipe is full long before the end; whatever waits for it arrives, and nothing times out."""
    contacts = server.contact_ids[:200]
    with start(server, *contacts, "--timeout", "0.5") as process:
        assert process.stdout
        wait_until_full(process.stdout)
        time.sleep(1.0)  # twice the time-out
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert all_whole(out)
    assert len(out.splitlines()) == 4_000
    assert b"retr" not in err


def test_contacts_are_read_as_they_come(server: FakeNP6) -> None:
    """Events of the first contact are out while standard input is still open."""
    first, second = server.contact_ids[:2]
    with start(server, "--ids-from", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{first}\n".encode())
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(20)]
        assert {json.loads(line)["contact"] for line in lines} == {first}
        out, _ = process.communicate(second.encode(), timeout=10)
    assert process.returncode == 0
    assert {json.loads(line)["contact"] for line in out.splitlines()} == {second}


def test_an_input_that_never_ends_does_not_hold_up_ctrl_c(server: FakeNP6) -> None:
    with start(server, "--ids-from", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{server.contact_ids[0]}\n".encode())
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130


def test_a_second_signal_ends_what_cannot_finish(server: FakeNP6, ids: str) -> None:
    """Nobody reads the pipe, so the last lines cannot be written; a second Ctrl-C gives them up."""
    with start(server, "--ids-from", ids) as process:
        assert process.stdout
        wait_until_full(process.stdout)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()


def test_a_closed_standard_output_is_said(server: FakeNP6) -> None:
    command = f"{sys.executable} -m np6_async.cli events --base-url {server.url} A >&-"
    environment = {**os.environ, "NP6_API_KEY": server.api_key}
    done = subprocess.run(["sh", "-c", command], env=environment, stderr=subprocess.PIPE, check=False)  # noqa: S607
    assert done.returncode == 2
    assert b"error: standard output is closed (" in done.stderr
