"""`np6 sync` in this process: what is new comes once, and what goes wrong is said in a line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import exported, synced

from np6_async import RetryPolicy
from np6_async.cli import _command, main
from np6_async.export import _part, _sync_writer
from np6_async.export._storage import LocalStorage
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6, Fault, make_bounce, make_event

Run = Callable[..., int]
OUT = Path("new")
BESIDE = Path("new.np6")
# For argparse "-1h" is an option up to Python 3.13, and a value from 3.14 on.
NO_VALUE = "'-1h' is " if sys.version_info >= (3, 14) else "expected one argument"


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


def ago(**span: int) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


def truth(server: FakeNP6) -> Any:
    return exported.truth(server, server.contact_ids)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet", "ndjson --gzip", "csv --gzip"])
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
    assert "1 failed, the next run will resume them" in said
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


@pytest.fixture
def killed(sync: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed when the state had taken note of its part and the part had no name yet; its path."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_sync_writer.PartSequence, "release", killed)
        assert sync() == 130
    assert synced.files(OUT) == []
    (unfinished,) = BESIDE.iterdir()
    return OUT.absolute() / f"{unfinished.name.partition('.ndjson')[0]}.ndjson"


@pytest.mark.parametrize("moved", ["nothing", "the folders", "the state", "another folder is given"])
def test_a_part_that_the_state_has_taken_note_of_gets_its_name(
    moved: str, killed: Path, sync: Run, server: FakeNP6
) -> None:
    out, state = OUT, "state.db"
    match moved:
        case "the folders":
            out = OUT.rename("moved")
            BESIDE.rename("moved.np6")
        case "the state":
            Path("elsewhere").mkdir()
            state = str(Path("state.db").rename("elsewhere/other.db"))
        case "another folder is given":
            out = Path("another")
    assert sync("--output", str(out), "--state", state) == 0
    there = OUT if moved == "another folder is given" else out
    assert [file.name for file in there.iterdir()] == [killed.name]
    assert synced.events(there) == truth(server)
    if moved == "another folder is given":
        assert not [*out.iterdir()]


def test_a_part_that_is_out_of_reach_is_waited_for(
    killed: Path, sync: Run, server: FakeNP6, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the folder of a disk that is not mounted: nothing is fetched until it is back."""
    away, beside = OUT.rename("away"), BESIDE.rename("away.np6")
    requests = server.request_count
    assert sync() == 2
    assert f"names the file {str(killed)!r}, which is neither there" in capsys.readouterr().err
    assert server.request_count == requests
    assert not OUT.exists()
    assert not BESIDE.exists()
    away.rename(OUT)
    beside.rename(BESIDE)
    assert sync() == 0
    assert synced.events(OUT) == truth(server)


def test_what_a_killed_run_has_not_completed_is_removed_and_that_of_others_is_not(sync: Run, server: FakeNP6) -> None:
    assert sync() == 0
    with contextlib.closing(sqlite3.connect("state.db")) as database:
        note = database.execute("SELECT value FROM state WHERE name = 'sync/note'").fetchone()[0].decode()
    tag = json.loads(note.removeprefix("np6 sync 2 "))[0]
    (BESIDE / f"all-20260101T000000.000Z-000001.ndjson.{tag}.tmp").write_bytes(b"torn")
    foreign = BESIDE / "all-20260101T000000.000Z-000001.ndjson.0123456789ab.tmp"
    foreign.write_bytes(b"of another sync")
    assert sync() == 0
    assert list(BESIDE.iterdir()) == [foreign]
    assert synced.events(OUT) == truth(server)


@pytest.mark.parametrize("note", ["", "part-1", "x\0y", "np6 sync 2 [", "np6 sync 3 [1, 2]", "é" * 400])
async def test_a_state_with_notes_of_another_program_is_refused(
    note: str, server: FakeNP6, sync: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    async with server.client() as np6, Sync(np6, SQLiteStore("state.db"), ["A"]).run() as run:
        await run.commit(note)
    assert await asyncio.to_thread(sync) == 2
    said = capsys.readouterr().err
    assert "belongs to another program" in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="names of files that are no Unicode")
def test_a_folder_whose_name_is_no_unicode_is_one(sync: Run, server: FakeNP6) -> None:
    folder = os.fsdecode(b"o\xff5")
    assert sync("--output", folder) == 0
    assert synced.events(Path(folder)) == truth(server)


def test_an_old_folder_that_is_gone_is_in_nobodys_way(sync: Run, server: FakeNP6) -> None:
    assert sync() == 0
    shutil.rmtree(OUT)
    OUT.write_text("a file now")
    assert sync("--output", "another") == 0


def test_an_outage_ends_the_run(
    sync: Run, server: FakeNP6, one_attempt: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with "some failed": the rest is for the next run."""
    server.script(Fault.drop(), times=None, skip=10)
    assert sync("--concurrency", "2", "--outage", "0") == 4
    assert "NP6 has not answered since 20" in capsys.readouterr().err
    server.reset()
    assert sync() == 0
    assert synced.events(OUT) == truth(server)


def test_at_a_signal_no_more_contacts_are_begun(sync: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch) -> None:
    took = _part.PartFile.add

    def add(self: Any, contact: str, events: Any) -> None:
        took(self, contact, events)
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(_part.PartFile, "add", took)

    monkeypatch.setattr(_part.PartFile, "add", add)
    server.latency = 0.02  # the part is written in another thread, which on a busy machine begins late
    assert sync("--concurrency", "1") == 143
    assert server.request_count < 20
    assert sync() == 0
    assert synced.events(OUT) == truth(server)


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
    expected = {key for key in truth(server) if key[0] != server.contact_ids[5]}
    took = _part.PartFile.add

    def add(self: Any, contact: str, events: Any) -> None:
        took(self, contact, events)
        if self.rows == len(expected):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_part.PartFile, "add", add)
    assert sync() == 130
    assert {*synced.events(OUT)} == expected


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--start", "yesterday"], "--start 'yesterday': expected a date"),
        (["--start", "2999-01-01"], "lies in the future"),
        (["--overlap", "-1h"], f"argument --overlap: {NO_VALUE}"),
        (["--overlap", "1y"], "is not a length of time"),
        (["--safety", "x"], "is not a length of time"),
        (["--end", "2026-01-01"], "there is no option --end"),
        (["--format", "parquet", "--gzip"], "compressed already"),
        (["--classification", "mpp"], "--classification"),
        (["--ids-from", "nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["--output", "ids.txt"], "are the same file"),
        (["--output", "ids.txt/b"], "is not a folder"),
        (["--output", ""], "--output: the name is empty"),
        (["--state", ""], "--state: the name is empty"),
        (["--state", "no/where.db"], "cannot be created"),
        (["--state", "ids.txt"], "is not the state of a sync"),
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
        patch.setattr(_part.PartFile, "seal", full)
        assert sync() == 4
    assert "new cannot be written to: No space left on device" in capsys.readouterr().err
    assert not OUT.exists()
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
    for what in ("examples:", "which events are new:", "resuming:", "exit codes:", "--state FILE", "--overlap TIME"):
        assert what in said


def test_a_clock_that_is_wrong_is_said(
    sync: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once, with the figure."""
    ahead = partial(RetryPolicy, wall_clock=lambda: time.time() + 3_600)
    monkeypatch.setattr(_command, "RetryPolicy", ahead)
    assert sync() == 0
    said = capfd.readouterr().err
    assert said.count("np6 sync: this machine's clock is 1 h ahead of the server's") == 1
    end = re.search(r"up to (\S+)$", said, re.MULTILINE)
    assert end is not None
    assert timedelta(minutes=2) <= datetime.now(UTC) - datetime.fromisoformat(end[1]) < timedelta(minutes=4)


def test_a_part_of_many_files_gets_those_that_it_lacks(
    sync: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was killed when the state had taken note of them and some had their names."""
    release, released = LocalStorage.release, 0

    def killed(self: Any, held: str, name: str) -> bool:
        nonlocal released
        if released == 3:
            raise KeyboardInterrupt
        released += 1
        return release(self, held, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "release", killed)
        assert sync("--partition-by", "kind,day") == 130
    assert len(synced.files(OUT)) == 3
    waiting = len(list(BESIDE.iterdir()))
    assert waiting > 3
    assert sync("--partition-by", "kind,day") == 0
    assert len(synced.files(OUT)) >= 3 + waiting - 1  # all but their list
    assert not list(BESIDE.iterdir())
    assert synced.events(OUT) == truth(server)
