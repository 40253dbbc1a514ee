"""What `np6 demo` shows, and that its figures are true."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from np6_async.cli import main
from np6_async.cli._demo import Found, Truth, _compare
from np6_async.cli._observing import Watch
from np6_async.testing import FakeNP6

pytestmark = pytest.mark.slow

DEMO = [sys.executable, "-W", "error", "-m", "np6_async.cli", "demo"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("NP6_", "PYTHON"))}


def test_the_demo_in_a_pipe(tmp_path: Path) -> None:
    """Plain lines of progress, then all that was promised; no escape sequence, no key needed, no file left."""
    done = subprocess.run(
        [*DEMO, "--contacts", "80"],
        capture_output=True,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "utf-8"},
        cwd=tmp_path,
        timeout=30,
        check=False,
    )
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\x1b" not in text
    assert re.search(r"^ 50 %  \d+ of 80 contacts, [\d,]+ events", text, re.MULTILINE)
    assert re.search(r"^100 %  80 of 80 contacts", text, re.MULTILINE)
    assert re.search(r"^  activation +\d+ +[\d.]+%   [▁▂▃▄▅▆▇█ ]+$", text, re.MULTILINE)
    assert re.search(r"^  2025-11-03 +\d+   █+", text, re.MULTILINE)
    assert re.search(r"requests +\d+, [\d.]+ MB", text)
    assert re.search(r"rate limit +[1-9]\d* requests refused with 429; the client paused", text)
    assert re.search(r"retries +[1-9]", text)
    assert "8 injected, 8 recovered from" in text
    assert re.search(r"every event arrived exactly once: yes \(([\d,]+) of \1\)", text)
    snippet = text[text.index("    import asyncio") : text.index("or on the command line")]
    assert "async with NP6Client() as np6:" in snippet
    compile("\n".join(line[4:] for line in snippet.splitlines()), "snippet", "exec")
    assert list(tmp_path.iterdir()) == []


def test_the_pictures_need_no_unicode() -> None:
    """Where the terminal cannot show blocks there are signs of ASCII."""
    done = subprocess.run(
        [*DEMO, "--contacts", "9", "--rate-limit", "0"],
        capture_output=True,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(rb"^  2025-11-03 +\d+   #+", done.stdout, re.MULTILINE)


def test_the_demo_works_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal as well: plain lines in place of the bar."""
    monkeypatch.setattr("np6_async.cli._demo.has_rich", lambda: False)
    monkeypatch.setattr("np6_async.cli._demo.is_terminal", lambda stream: True)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["demo", "--contacts", "9", "--rate-limit", "0"]) == 0
    assert "100 %  9 of 9 contacts" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_the_demo_with_one_line() -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout
        while b"10 %" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err == b"np6 demo: interrupted; the fake server is closed, nothing is left running\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_goes_away_ends_the_demo_quietly() -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=10) == 141
        assert process.stderr.read() == b""


def test_the_comparison_sees_loss_repetition_and_disorder() -> None:
    """The check of the demo can fail: it counts each thing that can go wrong."""

    async def compare() -> Truth:
        async with FakeNP6(4, 5) as server:
            found = Found(watch=Watch())
            lost, twice, mixed, _ = server.contact_ids
            for contact in server.contact_ids:
                found.arrived[contact] = [(event["id"], event["timestamp"]) for event in server.events(contact)]
            found.arrived[lost].pop()
            found.arrived[twice].append(found.arrived[twice][-1])
            found.arrived[mixed].reverse()
            return await _compare(server, found)

    truth = asyncio.run(compare())
    assert truth == Truth(injected=Counter(), expected=20, missing=1, surplus=1, disordered=1)
    assert not truth.complete
