"""`--quiet`, for cron: nothing on standard error where all went well, and all that would be said where it did not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from np6_async.cli import main
from np6_async.testing import FakeNP6, Fault, make_bounce

Run = Callable[..., int]

COMMANDS = {
    "events": ["-o", "bounces.ndjson"],
    "export": ["-o", "out", "--start", "2026-01-01"],
    "sync": ["-o", "new", "--state", "state.db"],
    "compare": ["--start", "2025-12-01"],
    "report": ["-o", "report.html"],
}


@pytest.fixture
def np6(server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Any command, in a folder of its own, with the contacts of the server."""
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_text("\n".join(server.contact_ids))

    def run(command: str, *arguments: str, ids: str = "ids.txt") -> int:
        try:
            return main([command, "--base-url", server.url, "--ids-from", ids, *COMMANDS[command], *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_in_which_all_goes_well_says_nothing(
    command: str, np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """Although a request had to be repeated."""
    server.script(Fault.reset())
    kind = [] if command == "report" else ["--kind", "bounces"]
    assert np6(command, "--quiet", *kind) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_in_which_a_contact_fails_says_all_that_it_would_say(
    command: str, np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    server.script(Fault.status(400), contact=server.contact_ids[2], times=None)
    assert np6(command, "-q") == 1
    err = capfd.readouterr().err
    assert f"np6 {command}: " in err
    assert f"contact {server.contact_ids[2]}: 400" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_cannot_begin_says_why(
    command: str, np6: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No file, no contact in it, and no key."""
    assert np6(command, "-q", ids="nofile") == 2
    assert "'nofile' cannot be read" in capfd.readouterr().err
    Path("empty").touch()
    assert np6(command, "-q", ids="empty") == 2
    assert "empty holds no contacts" in capfd.readouterr().err
    monkeypatch.delenv("NP6_API_KEY")
    assert np6(command, "-q") == 3
    assert "no API key" in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_and_verbose_contradict_each_other(command: str, np6: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert np6(command, "-q", "-v") == 2
    assert "--verbose says more: give one of them" in capfd.readouterr().err


def test_there_is_no_progress_bar_in_a_terminal(
    np6: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for module in ("_events", "_progress"):
        monkeypatch.setattr(f"np6_async.cli.{module}.is_terminal", lambda stream: True)
    assert np6("events", "-q", "-o", "x") == np6("export", "-q", "--resume") == 0
    assert capfd.readouterr().err == ""


def test_what_was_fetched_is_on_standard_output_all_the_same(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    server.add_contact("ANNE", [make_bounce("hard")])
    Path("anne").write_text("ANNE")
    assert np6("events", "-q", "-o", "-", ids="anne") == 0
    out, err = capfd.readouterr()
    assert (out.count("\n"), err) == (1, "")
