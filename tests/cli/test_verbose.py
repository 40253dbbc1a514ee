"""`np6 events -v`: waits, retries and failures on standard error, as they happen."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from np6_async.testing import FakeNP6, Fault

Run = Callable[..., int]


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error, without the name of the command, numbers of seconds as N."""
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("np6 events: ") for line in lines)
    return [re.sub(r"\d+\.\d+ s", "N s", line.removeprefix("np6 events: ")) for line in lines]


def test_retries_and_resumes_name_the_contact_and_the_cause(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line each, between those of the progress; without -v there is nothing but the summary."""
    contact = server.contact_ids[0]
    server.script(Fault.status(503), Fault.cut(after=6_000, how="length"), Fault.object())
    assert run(contact, "-v") == 0
    lines = said(capfd)
    events = next(line for line in lines if "resumes" in line)
    assert [re.sub(r"again .*", "again", line) for line in lines if line.startswith("contact")] == [
        f"contact {contact}: 503: the server failed, again",
        f"contact {contact}: the connection broke before the end of the response, again",
        events,
        f"contact {contact}: the response is a JSON object, not a JSON array of events, again",
        events,
    ]
    assert re.fullmatch(rf"contact {contact}: resumes after \d+ events", events)
    server.script(Fault.status(503))
    assert run(contact) == 0
    assert said(capfd) == ["1 contact done, 12 events in N s, 1 retry"]


def test_failures_are_told_when_they_happen(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """Before the summary, which lists but the first few."""
    nobody = [f"NOBODY{number}" for number in range(8)]
    assert run(*nobody, *server.contact_ids, "-v", "--concurrency", "1") == 1
    lines = said(capfd)
    summary = next(number for number, line in enumerate(lines) if line.startswith("6 contacts done"))
    told = [line.partition(" [request id ")[0] for line in lines[:summary] if line.startswith("contact")]
    assert told == [f"contact {each}: 404: not found in this account" for each in nobody]


def test_twice_it_shows_every_request(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    contact = server.contact_ids[0]
    assert run(contact, "-vv") == 0
    lines = [re.sub(r"\d+ bytes", "N bytes", line) for line in said(capfd)]
    assert lines[:2] == [
        f"contact {contact}: GET /targets/{{id}}/events, attempt 1",
        f"contact {contact}: GET /targets/{{id}}/events: complete, 12 events, N bytes in N s",
    ]
    assert f"contact {contact}: contact done: 12 events in 1 requests" in lines


def test_addresses_and_keys_stay_hidden(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """Also with -vv, over a retry, a wait and a failure; a hash is cut short."""
    contact, other = server.contact_ids[:2]
    address, digest = server.unicity(contact), server.hash(other)
    server.script(Fault.status(503), Fault.rate_limited(0.01))
    assert run("--by", "unicity", address, "nobody@example.com", "-vv") == 1
    server.script(Fault.status(503))
    assert run("--by", "hash", digest, "-vv") == 0
    lines = said(capfd)
    assert any(line.startswith("contact by unicity (hidden): 503: the server failed, again") for line in lines)
    for secret in (address, "nobody", "@", "%40", digest, server.api_key):
        assert secret not in "\n".join(lines)


def test_the_log_is_left_alone(run: Run, server: FakeNP6, caplog: pytest.LogCaptureFixture) -> None:
    """What the command shows does not come out of the log, which it does not set up."""
    logger = logging.getLogger("np6_async")
    before = logger.level, list(logger.handlers)
    server.script(Fault.status(503))
    assert run(server.contact_ids[0], "-v") == 0
    assert (logger.level, list(logger.handlers)) == before
    assert [record for record in caplog.records if record.name == "np6_async"] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_on_a_terminal_the_lines_stand_above_the_bar(server: FakeNP6, tmp_path: Path) -> None:
    """The bar is drawn, no line of it is broken, and each line of -v is whole."""
    import pty

    server.latency = 0.05
    server.script(Fault.status(503, retry_after=0.3), contact=server.contact_ids[0])
    server.script(Fault.rate_limited(0.3), contact=server.contact_ids[1])
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "np6_async.cli", "events", *server.contact_ids, "-v"]
    command += ["--base-url", server.url, "-o", str(tmp_path / "out.ndjson")]
    environment = {**os.environ, "NP6_API_KEY": server.api_key, "TERM": "xterm-256color", "COLUMNS": "160"}
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 65_536):
                chunks.append(chunk)
        except OSError:  # Linux's way to tell the end
            pass

    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        reader = threading.Thread(target=read)
        reader.start()
        assert process.wait(timeout=30) == 0
    reader.join()
    os.close(ours)
    text = b"".join(chunks).decode()
    assert "/6 contacts" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    assert any(
        re.fullmatch(r"np6 events: contact \w+: 503: the server failed, again in 0\.\d s\s*", line) for line in plain
    )
    waits = [line for line in plain if line.startswith("np6 events: the rate limit is reached: every request waits")]
    assert len(waits) == 1
    assert any(re.match(r"np6 events: 6 contacts done, 72 events in", line) for line in plain)
