"""`np6 sync` in this process: what is new comes once, and what goes wrong is said in a line."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import exported
import pytest
import synced

from np6_async import Contact, NP6Client, RetryPolicy
from np6_async.cli import _sync, _syncing, main
from np6_async.export._formats import FORMATS
from np6_async.testing import FakeNP6, Fault, make_bounce, make_event

Run = Callable[..., int]
OUT = Path("new")


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    with FakeNP6(40, (0, 12)) as running:
        yield running


@pytest.fixture
def sync(server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`np6 sync` of these contacts (default: all) into `new`; gives back the exit code."""
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, ids: list[str] | None = None) -> int:
        Path("ids.txt").write_text("\n".join(server.contact_ids if ids is None else ids))
        defaults = {"--output": "new", "--state": "state.db", "--ids-from": "ids.txt", "--base-url": server.url}
        for name, value in defaults.items():
            if name not in arguments:
                arguments = (*arguments, name, value)
        try:
            return main(["sync", *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)

    return run


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is retried, so that what fails fails at once."""

    def make_client(options: argparse.Namespace, *, say: Any, **more: Any) -> NP6Client:
        return NP6Client(base_url=options.base_url, retry=RetryPolicy(max_attempts=1), **more)

    monkeypatch.setattr(_sync, "make_client", make_client)


def ago(**span: int) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


def truth(server: FakeNP6) -> Any:
    return exported.truth(server, server.contact_ids)


@pytest.mark.parametrize("form", [*FORMATS, "ndjson --gzip", "csv --gzip"])
def test_two_syncs_in_a_row_bring_each_event_once_also_new_and_late_ones(form: str, sync: Run, server: FakeNP6) -> None:
    first = truth(server)
    assert sync("--format", *form.split(), "--overlap", "1d") == 0
    assert synced.events(OUT) == first
    a, b = server.contact_ids[:2]
    server.add_events(a, [make_event(at=ago(minutes=10)), make_event(at=ago(hours=3))])
    server.add_events(b, [make_bounce(at=ago(hours=20))])
    server.add_contact("LATER", [make_event(at=ago(days=400)), make_event(at=ago(minutes=9))])
    assert sync("--format", *form.split(), "--overlap", "1d") == 0
    assert synced.events(OUT) == truth(server)
    assert synced.events(OUT).total() == first.total() + 5
    assert sync("--format", *form.split(), "--overlap", "1d") == 0
    assert synced.events(OUT) == truth(server)
    assert len(synced.files(OUT)) == 2


def test_what_was_loaded_and_removed_does_not_come_again(sync: Run, server: FakeNP6) -> None:
    assert sync() == 0
    for file in synced.files(OUT):
        file.unlink()
    assert sync() == 0
    assert synced.files(OUT) == []


def test_the_latest_events_are_left_to_a_later_run(sync: Run, server: FakeNP6) -> None:
    server.add_contact("A", [make_event(at=ago(seconds=90)), make_event(at=ago(hours=2))])
    assert sync(ids=["A"]) == 0
    assert synced.events(OUT).total() == 1
    assert sync("--safety", "1m", ids=["A"]) == 0
    assert synced.events(OUT).total() == 2


def test_a_contact_that_failed_goes_on_in_the_next_run(
    sync: Run, server: FakeNP6, one_attempt: None, capsys: pytest.CaptureFixture[str]
) -> None:
    contact = server.add_contact("BROKEN", [make_event() for _ in range(300)])
    server.script(Fault.cut(after=60_000), contact=contact)
    assert sync() == 1
    said = capsys.readouterr().err
    assert "1 failed, to be gone on with by the next run" in said
    assert "BROKEN" in said
    assert 0 < sum(key[0] == contact for key in synced.events(OUT)) < 300
    assert sync() == 0
    assert synced.events(OUT) == truth(server)


def test_a_summary_says_what_is_new(sync: Run, server: FakeNP6, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync() == 0
    said = capsys.readouterr().err
    assert f"40 contacts done, {truth(server).total():,} new events in 1 file in new" in said


def test_names_of_files_begin_with_the_kind_and_the_time(sync: Run, server: FakeNP6) -> None:
    assert sync("--kind", "hits/open", "--part-size", "1K") == 0
    files = synced.files(OUT)
    assert len(files) > 1
    assert [file.name[-13:] for file in files] == [f"{number:06d}.ndjson" for number in range(1, len(files) + 1)]
    assert all(file.name.startswith("hits-open-20") for file in files)


def test_contacts_may_come_from_a_segment(sync: Run, server: FakeNP6) -> None:
    assert main(["sync", "--segment", "1", "--state", "s.db", "--output", "new", "--base-url", server.url]) == 0
    assert synced.events(OUT) == truth(server)


def test_the_parts_of_a_killed_run_are_finished_or_dropped(sync: Run, server: FakeNP6) -> None:
    """One that the state has taken note of gets its name, also where the folder was moved; another is removed."""
    assert sync() == 0
    (file,) = synced.files(OUT)
    with sqlite3.connect("state.db") as database:
        note = database.execute("SELECT value FROM state WHERE name = 'sync/note'").fetchone()[0].decode()
    database.close()
    assert Path(note) == file.absolute()
    series = _sync.Series(OUT, Path("state.db"), "all", "ndjson", gzip=False)
    hidden = series._hidden(file)
    series.close()
    file.rename(hidden)
    other = hidden.with_name(hidden.name.replace("-000001", "-000002"))
    other.write_bytes(b"torn")
    foreign = OUT / ".all-20260101T000000.000Z-000001.ndjson.0123456789ab.tmp"
    foreign.write_bytes(b"of another sync")
    OUT.rename("moved")
    assert sync("--output", "moved") == 0
    moved = Path("moved")
    assert synced.files(moved) == [moved / file.name]
    assert synced.events(moved) == truth(server)
    assert sorted(os.listdir(moved)) == [foreign.name, file.name]


def test_a_stalled_contact_does_not_keep_the_others_from_being_written(
    sync: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `--part-time`; and at a signal everything that arrived is written, within two seconds."""
    server.script(Fault.hang(), contact=server.contact_ids[5], times=None)
    expected = {key for key in truth(server) if key[0] != server.contact_ids[5]}

    def stop_when_written() -> None:
        while {*synced.events(OUT)} != expected:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop_when_written)
    watcher.start()
    assert sync("--part-time", "0.05") == 143
    watcher.join()
    server.reset()
    assert sync() == 0
    assert synced.events(OUT) == truth(server)


def test_a_signal_writes_what_arrived(sync: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script(Fault.hang(), contact=server.contact_ids[5], times=None)
    took = _syncing.Given.__anext__

    async def anext_or_signal(self: _syncing.Given) -> Contact:
        if self.count == len(server.contact_ids):
            os.kill(os.getpid(), signal.SIGINT)
        return await took(self)

    monkeypatch.setattr(_syncing.Given, "__anext__", anext_or_signal)
    assert sync() == 130
    expected = {key for key in truth(server) if key[0] != server.contact_ids[5]}
    assert {*synced.events(OUT)} == expected


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--start", "yesterday"], "--start 'yesterday': expected a date"),
        (["--start", "2999-01-01"], "lies in the future"),
        (["--overlap", "-1h"], "argument --overlap: expected one argument"),
        (["--overlap", "1y"], "is no length of time"),
        (["--safety", "x"], "is no length of time"),
        (["--end", "2026-01-01"], "there is no option --end"),
        (["--format", "parquet", "--gzip"], "compressed already"),
        (["--classification", "mpp"], "--classification"),
        (["--ids-from", "nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["--output", "ids.txt"], "are the same file"),
        (["--output", "a/b"], "folder 'a' does not exist"),
        (["--output", ""], "--output: the name is empty"),
        (["--state", ""], "--state: the name is empty"),
        (["--state", "no/where.db"], "cannot be created"),
        (["--state", "ids.txt"], "is no state of a sync"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    arguments: list[str], said: str, sync: Run, server: FakeNP6, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync(*arguments) == 2
    line = capsys.readouterr().err.removesuffix("\n")
    assert "\n" not in line
    assert said in line
    assert "Traceback" not in line
    assert server.request_count == 0
    assert not OUT.exists() or os.listdir(OUT) == []


def test_the_state_of_another_query_is_refused(sync: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync("--kind", "bounces") == 0
    capsys.readouterr()
    assert sync("--kind", "hits") == 2
    assert "this state was made for 'bounces'" in capsys.readouterr().err


def test_a_wrong_key_ends_the_run_with_its_code(
    sync: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NP6_API_KEY", "wrong")
    assert sync() == 3
    assert "wrong" not in capsys.readouterr().err
    assert synced.files(OUT) == []


def test_no_contacts_at_all_are_a_mistake(sync: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync(ids=[]) == 2
    assert "ids.txt holds no contacts" in capsys.readouterr().err


def test_lines_that_are_no_contacts_are_told(sync: Run, server: FakeNP6, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync(ids=[*server.contact_ids, "a/b"]) == 1
    assert "line 41" in capsys.readouterr().err
    assert synced.events(OUT) == truth(server)


def test_a_disk_that_is_full_loses_nothing(
    sync: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with one clear line, no part is left over, and the next run brings everything."""

    def full(self: Any) -> int:
        self.discard()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_syncing.Part, "seal", full)
        assert sync() == 4
    assert "new cannot be written to: No space left on device" in capsys.readouterr().err
    assert os.listdir(OUT) == []
    assert sync() == 0
    assert synced.events(OUT) == truth(server)


def test_lines_are_those_of_np6_events(sync: Run, server: FakeNP6) -> None:
    assert sync() == 0
    (file,) = synced.files(OUT)
    row = json.loads(file.read_text().splitlines()[0])
    assert [*row] == ["contact", "event"]
    assert row["event"] in server.events(row["contact"])


def test_the_help_page_is_one_that_a_newcomer_can_act_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sync", "--help"])
    said = capsys.readouterr().out
    for what in ("examples:", "which events are new:", "going on:", "exit codes:", "--state FILE", "--overlap TIME"):
        assert what in said
