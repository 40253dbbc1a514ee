"""What `np6 events` shows to a person: a row for each event, that fits the terminal, and nothing that it obeys."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from np6_async import structure
from np6_async.cli import _events
from np6_async.cli._event_table import EventTable
from np6_async.testing import FakeNP6, Fault, make_bounce, make_event, make_hit, make_optout

Run = Callable[..., int]

AT = "2026-07-01T22:30Z"


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def in_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_events, "is_terminal", lambda stream: stream is sys.stdout)


def shown(*events: dict[str, Any], tz: str | None = None, contact: str | None = "A", name: int | None = None) -> str:
    """The rows of these events, without the head."""
    table = EventTable(ZoneInfo(tz) if tz else None, contact=name)
    head, *rows = table.rows(contact, [structure(event) for event in events]).decode().splitlines()
    assert head.startswith("TIME (")
    return "\n".join(rows)


def bounce(code: str, verdict: str = "hard") -> dict[str, Any]:
    event: dict[str, Any] = make_bounce("soft", at=AT)
    event["source"]["detail"]["bounce"]["status"]["code"]["enhanced"] = code
    event["source"]["detail"]["bounce"]["analysis"]["verdict"] = verdict
    return event


# Rows


@pytest.mark.usefixtures("in_terminal")
def test_a_terminal_gets_a_row_for_each_event(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    server.add_contact("ANNE", [make_hit("redirection", at="2026-01-02T03:04:05Z"), bounce("5.1.1")])
    assert run("ANNE") == 0
    out, err = capfd.readouterr()
    action = r"[0-9A-Z]{6}"
    assert re.fullmatch(
        r"TIME \(UTC\)           TYPE          ACTION  WHAT\n"
        rf"2026-01-02 03:04:05  hit           {action}  redirection\n"
        rf"2026-07-01 22:30:00  bounce        {action}  hard: 5.1.1 The mailbox does not\n"
        r" {43}exist \(permanent\)\n",
        out,
    )
    assert re.fullmatch(r"np6 events: 1 contact done, 2 events in \d+\.\d s\n", err)


@pytest.mark.usefixtures("in_terminal")
@pytest.mark.parametrize("to_file", [False, True])
def test_a_file_and_json_are_as_in_a_pipe(
    to_file: bool, run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    contact = server.contact_ids[0]
    target = tmp_path / "out"
    assert run(contact, *(["-o", str(target)] if to_file else ["--json"])) == 0
    out = target.read_text() if to_file else capfd.readouterr().out
    assert [json.loads(line)["event"] for line in out.splitlines()] != []


@pytest.mark.usefixtures("in_terminal")
def test_a_run_without_events_shows_no_table(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    server.add_contact("ANNE", [])
    assert run("ANNE") == 0
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("in_terminal")
def test_events_of_all_contacts_have_the_id_of_each(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--account", "--tz", "Europe/Paris") == 0
    out = capfd.readouterr().out
    assert out.startswith("TIME (Europe/Paris)  CONTACT   TYPE ")
    assert any(contact in out for contact in server.contact_ids)
    assert "@" not in out


def test_times_are_those_of_the_zone_in_the_head() -> None:
    for tz, head, time in [
        (None, "TIME (UTC)", "2026-07-01 22:30:00"),
        ("Europe/Paris", "TIME (Europe/Paris)", "2026-07-02 00:30:00"),
        ("America/Argentina/Buenos_Aires", "TIME (Buenos_Aires)", "2026-07-01 19:30:00"),
    ]:
        table = EventTable(ZoneInfo(tz) if tz else None, contact=None)
        first, row = table.rows("A", [structure(make_hit("open", at=AT))]).decode().splitlines()
        assert first.startswith(f"{head} ")
        assert row.startswith(f"{time}  hit ")
    last = {**make_hit("open"), "timestamp": 253_402_300_799_999}
    assert shown(last, tz="Asia/Tokyo").startswith("9999-12-31T23:59Z ")


def test_the_head_comes_once() -> None:
    table = EventTable(None, contact=8)
    events = [structure(make_hit("open", at=AT))]
    assert table.rows("A", []) == b""
    assert table.rows("A", events).count(b"TIME") == 1
    assert table.rows("B", events).count(b"TIME") == 0


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (make_hit("open", at=AT), "open"),
        (make_optout(at=AT, source={"type": "sms"}), "sms"),
        (bounce("4.2.2", "soft"), "soft: 4.2.2 The mailbox is full"),
        (bounce("nonsense"), "hard: nonsense"),
        ({"timestamp": 0, "type": "new"}, ""),
        ({"timestamp": 0}, ""),
    ],
)
def test_the_last_column_says_what_matters(event: dict[str, Any], what: str) -> None:
    first = shown(event).splitlines()[0]
    assert first[43:].startswith(what)
    assert bool(first[43:]) is bool(what)


# What must not be seen


def test_addresses_are_shown_only_where_they_name_the_contact() -> None:
    address = "alice.martin@example.com"
    events = [
        make_event(each, at=AT, unicity=address)
        for each in ("activation", "bounce", "hit", "execution", "optout", "reply", "creation", "cancellation")
    ]
    assert any(address in json.dumps(event) for event in events)
    for contact in ("000MLGPR", None):
        assert "@" not in shown(*events, contact=contact, name=8)
    assert "alice.martin@exam…" in shown(*events, contact=address, name=len(address))


def test_control_characters_of_the_server_never_reach_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202eevil\x9b"
    event = bounce(evil, evil)
    event["source"]["type"] = event["source"]["detail"]["activation"]["id"] = evil
    for each in (event, {"timestamp": 0, "type": evil, "source": {"type": evil}}):
        text = shown(each, contact=evil, name=8)
        assert all(character.isprintable() for character in text.replace("\n", ""))
        assert "evil" in text or "…" in text


# What fits


def cells(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(line)


@pytest.mark.parametrize("columns", [40, 80, 132])
@pytest.mark.parametrize("name", [None, 1, 8, 300])
def test_no_line_is_wider_than_the_terminal(columns: int, name: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 columns or more, whatever the server sends; wide characters take two."""
    monkeypatch.setenv("COLUMNS", str(columns))
    event = bounce("5.1.1 " + "word " * 50 + "x" * 200 + "漢字" * 60)
    event["type"] = "a type that nobody has heard of"
    event["source"]["detail"]["activation"]["id"] = "0123456789" * 9
    for contact in ("A", "x" * (name or 1), "é́漢字" * 30):
        table = EventTable(None, contact=name)
        lines = table.rows(contact, [structure(event, "bounces")]).decode().splitlines()[1:]
        assert len(lines) == 4
        assert max(map(cells, lines)) < max(columns, 80)
        assert lines[-1].endswith("…")


def test_a_wide_terminal_shows_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    address = "alice.martin.0@example.com"
    assert address in shown(make_hit("open", at=AT), contact=address, name=len(address))


def test_characters_that_the_terminal_does_not_have_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", Ascii())
    assert b"?" in EventTable(None, contact=8).rows("é" * 300, [structure(make_hit("open", at=AT))])


# A real terminal


@pytest.fixture
def stalling() -> Iterator[tuple[FakeNP6, list[str]]]:
    with FakeNP6(2, 30) as server:
        ids = list(server.contact_ids)
        server.script(Fault.stall(after=3000), contact=ids[1], times=None)
        yield server, ids


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_rows_appear_as_events_come(stalling: tuple[FakeNP6, list[str]]) -> None:
    """Those of the first contact, and the first ones of a contact whose response has stalled."""
    import pty

    server, ids = stalling
    screen, terminal = pty.openpty()
    command = [sys.executable, "-W", "error", "-m", "np6_async.cli", "events", "--base-url", server.url, *ids]
    environment = {**os.environ, "NP6_API_KEY": server.api_key, "PYTHONUNBUFFERED": "", "COLUMNS": "80"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.PIPE
    ) as process:
        os.close(terminal)
        try:
            seen = b""
            while seen.count(ids[0].encode()) < 30 or ids[1].encode() not in seen:
                seen += os.read(screen, 65536)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.stderr
            assert b"np6 events: interrupted\n" in process.stderr.read()
        finally:
            process.kill()
            os.close(screen)
    assert seen.startswith(b"TIME (UTC)           CONTACT   TYPE          ACTION  WHAT\r\n")
