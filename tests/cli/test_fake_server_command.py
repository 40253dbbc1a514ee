"""`np6 fake-server`: a server to work with, whose two variables a shell takes as they are printed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from np6_async.cli import main
from np6_async.cli._fake_server import FakeServerCommand
from np6_async.cli._parser import build_parser
from np6_async.testing import FakeNP6

NP6 = [sys.executable, "-W", "error", "-m", "np6_async.cli"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("NP6_", "PYTHON"))}
LINES = 2

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and shells of POSIX")


@contextmanager
def standing(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, and the lines that it printed."""
    with subprocess.Popen(
        [*NP6, "fake-server", "--port", "0", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout
            yield process, b"".join(process.stdout.readline() for _ in range(LINES)).decode()
        finally:
            process.kill()


@posix
@pytest.mark.slow
def test_the_printed_lines_send_the_command_to_the_server(tmp_path: Path) -> None:
    """Sourced by a shell; the contacts have events of the last days."""
    (tmp_path / "script").write_text('eval "$1"; shift; exec "$@"')
    with standing("--contacts", "20", "--events", "40") as (process, lines):
        done = subprocess.run(
            ["sh", tmp_path / "script", lines, *NP6, "events", "--segment", "1", "--start", "30d"],  # noqa: S607
            env=ENVIRONMENT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    assert len({json.loads(line)["contact"] for line in done.stdout.splitlines()}) == 20
    assert process.returncode == 130
    first, *_, last = err.decode().splitlines()
    assert first.startswith("np6 fake-server: 20 contacts (")
    assert last == "np6 fake-server: interrupted after 21 requests"


@posix
@pytest.mark.slow
def test_each_request_is_said_where_that_is_wanted() -> None:
    """With its status and the fault that it met, and without what a terminal would obey."""
    with standing("--contacts", "1", "--faults", "1", "-v") as (process, lines):
        host, port = urlsplit(lines.splitlines()[0].partition("=")[2]).netloc.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"GET /targets/A/events?id=\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    said = [line for line in err.decode().splitlines() if "GET" in line]
    assert len(said) == 1
    assert said[0].startswith("np6 fake-server: GET /targets/A/events?id=")
    assert said[0].isprintable()


@posix
@pytest.mark.slow
def test_sigterm_ends_it_in_order() -> None:
    with standing("--contacts", "1") as (process, lines):
        assert [line.partition("=")[0] for line in lines.splitlines()] == ["export NP6_BASE_URL", "export NP6_API_KEY"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert b"Traceback" not in err
    assert err.endswith(b"np6 fake-server: terminated after 0 requests\n")


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNP6(1) as server:
        port = urlsplit(server.url).port
        with pytest.raises(SystemExit) as stop:
            main(["fake-server", "--port", str(port)])
    assert stop.value.code == 2
    assert f"--port {port} is in use: choose another, or 0 for any that is free" in capsys.readouterr().err


def test_contacts_events_limit_and_faults_are_those_of_the_options() -> None:
    words = "fake-server --contacts 5 --events 2-3 --seed 7 --faults 0.5 --rate-limit 9 --latency 0.25"
    command = FakeServerCommand(build_parser().parse_args(words.split()))
    server = command.server
    assert len(server.contact_ids) == 5
    assert list(server.contact_ids) == list(FakeNP6(5, seed=7).contact_ids)
    assert {len(server.events(contact)) for contact in server.contact_ids} <= {2, 3}
    assert server.rate_limit is not None
    assert (server.rate_limit.limit, server.latency) == (9, 0.25)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--events", "4-2", "is not a whole number, such as 10, or a range, such as 0-40"),
        ("--events", "many", "is not a whole number, such as 10, or a range, such as 0-40"),
        ("--port", "70000", "is not a whole number from 0 to 65535"),
        ("--faults", "5", "is not a number above 0 and up to 1"),
    ],
)
def test_what_it_cannot_serve_is_refused(
    option: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["fake-server", option, value])
    assert words in capsys.readouterr().err
