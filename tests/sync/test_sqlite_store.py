"""The state of a sync in a file: whole, private, locked, and never taken for something else."""

# ruff: noqa: ASYNC240 - these files are tiny, and nothing else runs

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import exported, synced

from np6_async import InvalidInput, StoreError
from np6_async.export import SyncWriter
from np6_async.sync import SQLiteStore, Store, Sync, _store
from np6_async.testing import FakeNP6

VALUES = {"id:A": b"1", "unicity:änne@example.com": b"\x00\xff" * 100}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def write(path: Path, values: dict[str, bytes] = VALUES) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.write(values)
    await store.close()


async def read(path: Path, *names: str) -> dict[str, bytes]:
    store = SQLiteStore(path)
    await store.open()
    try:
        return dict(await store.read(names))
    finally:
        await store.close()


def test_it_is_a_store(path: Path) -> None:
    assert isinstance(SQLiteStore(path), Store)
    assert not path.exists()


async def test_what_was_written_is_there_for_the_next_run(path: Path) -> None:
    await write(path)
    await write(path, {"id:A": b"2"})
    assert await read(path, *VALUES, "id:NONE") == {**VALUES, "id:A": b"2"}
    assert await read(path) == {}


async def test_a_file_is_readable_by_its_owner_alone_and_one_file_between_runs(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.write(VALUES)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    await store.close()
    await store.close()
    assert list(path.parent.iterdir()) == [path]


async def test_an_existing_empty_file_becomes_private_too(path: Path) -> None:
    path.touch(0o644)
    path.chmod(0o644)
    await write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_cannot_be_made_private_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of another user is: nothing is written into it."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    path.touch()
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(StoreError, match=r"state\.db cannot be made readable by its owner alone: Operation not perm"):
        await SQLiteStore(path).open()
    assert path.read_bytes() == b""


async def test_a_write_is_all_or_nothing(path: Path) -> None:
    """The disk is full in the middle of it: the error says so, and what was there stays."""
    await write(path)
    store = SQLiteStore(path)
    await store.open()
    await store._call(lambda: store._database.execute("PRAGMA max_page_count=20").fetchall())
    with pytest.raises(StoreError, match="the disk is full"):
        await store.write({"id:A": b"2", **{f"id:{number}": b"x" * 1_000 for number in range(200)}})
    assert await store.read(["id:A", "id:0"]) == {"id:A": b"1"}
    await store.write({"id:A": b"3"})
    await store.close()
    assert await read(path, "id:A", "id:0") == {"id:A": b"3"}


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
async def test_a_file_in_use_is_refused_and_the_run_that_has_it_continues(path: Path, same: bool) -> None:
    """By another store, and by the same one."""
    store = SQLiteStore(path)
    await store.open()
    other = store if same else SQLiteStore(path)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"state\.db is in use by another run or another program"):
            await other.open()
    await store.write(VALUES)
    assert in_another_process(path).startswith("StoreError")
    await store.close()
    assert in_another_process(path) == "opened"
    await other.open()
    await other.close()


def in_another_process(path: Path) -> str:
    code = """if True:
        import asyncio, sys
        from np6_async.sync import SQLiteStore
        async def main():
            store = SQLiteStore(sys.argv[1])
            await store.open()
            await store.close()
        try:
            asyncio.run(main())
            print("opened")
        except Exception as error:
            print(type(error).__name__, error)
    """
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


async def test_a_database_that_another_program_has_open_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE mine (name TEXT)")
        mode = path.stat().st_mode
        with pytest.raises(StoreError, match="or another program"):
            await SQLiteStore(path).open()
        database.execute("INSERT INTO mine VALUES ('still there')")
    assert path.stat().st_mode == mode


@pytest.mark.parametrize("content", [b"x", b"a list of contacts\n" * 3, b"0013KDC0\n" * 60, b"0013KDC0\n" * 60_000])
async def test_a_file_of_another_kind_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is not the state of a sync"):
        await SQLiteStore(path).open()
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE state (name TEXT)")
    database.close()
    content = path.read_bytes()
    with pytest.raises(StoreError, match="is not the state of a sync"):
        await SQLiteStore(path).open()
    assert path.read_bytes() == content


async def test_a_state_of_another_version_is_refused_and_left_as_it_is(path: Path) -> None:
    await write(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=2")
    database.close()
    with pytest.raises(StoreError, match="a state of version 2"):
        await SQLiteStore(path).open()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)


async def test_a_damaged_file_is_an_error_that_says_what_to_do(path: Path) -> None:
    await write(path, {f"id:{number}": b"x" * 500 for number in range(1_000)})
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 40_000 + content[44_096:])
    with pytest.raises(StoreError, match="is damaged"):
        await read(path, "id:1", "id:500")


@pytest.mark.parametrize("below", ["missing/state.db", "."])
async def test_a_place_that_cannot_hold_a_file_is_refused(tmp_path: Path, below: str) -> None:
    with pytest.raises(StoreError, match="cannot be"):
        await SQLiteStore(tmp_path / below).open()


@pytest.mark.parametrize("path", ["", None, 7])
def test_anything_but_a_path_is_refused_at_once(path: Any) -> None:
    with pytest.raises(InvalidInput, match="path"):
        SQLiteStore(path)


async def test_names_that_mean_something_to_sqlite_are_names_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:state.db?mode=memory"):
        store = SQLiteStore(name)
        await store.open()
        await store.close()
    assert {file.name for file in tmp_path.iterdir()} == {":memory:", "file:state.db?mode=memory"}


async def test_a_store_that_is_not_open_says_so(path: Path) -> None:
    with pytest.raises(StoreError, match="not open"):
        await SQLiteStore(path).read(["id:A"])


@pytest.mark.parametrize("step", ["open", "write", "close"])
async def test_a_cancelled_call_has_happened_when_the_cancellation_comes(path: Path, step: str) -> None:
    """And nothing is left: no thread, no lock, no open file."""
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    store = SQLiteStore(path)
    calls = {"open": store.open, "write": lambda: store.write(VALUES), "close": store.close}
    for name, call in calls.items():
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        if name == step:
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is (name == step)
        if task.cancelled() and name == "open":
            break
    await store.close()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files
    assert await read(path, *VALUES) == ({} if step == "open" else VALUES)


async def test_the_log_beside_the_file_is_absorbed_after_a_kill(path: Path) -> None:
    """A copy of both as they lie there is what a kill leaves."""
    store = SQLiteStore(path)
    await store.open()
    await store.write(VALUES)
    left = path.parent / "left"
    left.mkdir()
    for file in path.parent.glob("state.db*"):
        shutil.copy(file, left)
    await store.close()
    assert {file.name for file in left.iterdir()} == {"state.db", "state.db-wal"}
    assert await read(left / "state.db", *VALUES) == VALUES


async def test_the_log_beside_the_file_does_not_grow_from_kill_to_kill(path: Path) -> None:
    """On a disk that is nearly full it would take all the room that is made."""
    sizes = []
    for run in range(5):
        store = SQLiteStore(path)
        await store.open()
        await store.write({f"id:{number}": b"x" * 100 for number in range(500)})
        left = path.parent / str(run)
        left.mkdir()
        for file in path.parent.glob("state.db*"):
            shutil.copy(file, left)
        sizes.append((left / "state.db-wal").stat().st_size)
        await store.close()
        path = left / "state.db"
    assert max(sizes) < 1.5 * min(sizes)


# What happens to the file during a run

REMOVED = r"was removed or renamed during the run, which can save no more progress; put back the file that was there"
REPLACED = r"was replaced, or written to by another program, during the run, which can save no more progress"


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def restore(path: Path) -> None:
    """Write an older copy over it."""
    path.write_bytes(b"\0" * 100)


ACCIDENTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (Path.unlink, REMOVED),
    "renamed": (rename, REMOVED),
    "moved with its folder": (lambda path: rename(path.parent), REMOVED),
    "replaced": (replace, REPLACED),
    "written over": (restore, REPLACED),
    "emptied": (lambda path: path.write_bytes(b"") and None, REPLACED),
    "its log removed": (lambda path: Path(f"{path}-wal").unlink(), rf"-wal {REMOVED}"),
    "its log replaced": (lambda path: replace(Path(f"{path}-wal")), rf"-wal {REPLACED}"),
}


@pytest.mark.parametrize("call", ["read", "write"])
@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_a_file_that_is_not_there_any_more_is_an_error_at_the_next_access(
    tmp_path: Path, accident: str, call: str
) -> None:
    """What SQLite writes into a file without a name would be lost, with nothing said."""
    path = tmp_path / "folder" / "state.db"
    path.parent.mkdir()
    happens, words = ACCIDENTS[accident]
    store = SQLiteStore(path)
    await store.open()
    await store.write(VALUES)
    happens(path)
    with pytest.raises(StoreError, match=words):
        await (store.read([]) if call == "read" else store.write({"id:A": b"2"}))
    await store.close()


async def test_a_file_that_was_put_back_has_all_that_was_saved_and_nothing_else(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.write(VALUES)
    away = path.rename(path.with_name("away"))
    with pytest.raises(StoreError, match=REMOVED):
        await store.write({"id:A": b"2", "id:B": b"2"})
    away.rename(path)
    await store.close()
    assert await read(path, *VALUES, "id:B") == VALUES


async def test_a_file_that_is_removed_while_it_is_written_was_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the end of the write."""
    store = SQLiteStore(path)
    await store.open()
    transaction = _store._transaction

    @contextmanager
    def removed(database: sqlite3.Connection) -> Iterator[None]:
        with transaction(database):
            yield
            path.unlink()

    monkeypatch.setattr(_store, "_transaction", removed)
    with pytest.raises(StoreError, match=REMOVED):
        await store.write(VALUES)
    await store.close()


async def test_a_run_may_be_as_long_as_it_likes_and_its_file_grow(path: Path) -> None:
    """What SQLite itself does to its files is no accident."""
    store = SQLiteStore(path)
    await store.open()
    sizes = set()
    for number in range(40):
        await store.write({f"id:{number}-{n}": b"x" * 200 for n in range(500)})
        assert len(await store.read([f"id:{number}-{n}" for n in range(500)])) == 500
        sizes.add(path.stat().st_size)
    assert len(sizes) > 1
    await store.close()


async def test_events_are_not_put_into_files_when_the_state_is_gone(tmp_path: Path) -> None:
    """The files would be loaded, and the next run would write the same events again."""
    state, out = tmp_path / "state.db", tmp_path / "new"
    with FakeNP6(40, 12) as server:
        async with server.client() as np6:
            sync = Sync(np6, SQLiteStore(state), server.contact_ids)

            def lose(counts: Any) -> None:
                if counts.events > 100 and state.exists():
                    state.rename(tmp_path / "away")

            with pytest.raises(StoreError, match=REMOVED):
                async with sync.run(autocommit=False) as run:
                    await SyncWriter(out, part_bytes=10_000, on_progress=lose).write(run)
            before = synced.events(out)
            (tmp_path / "away").rename(state)
            async with sync.run(autocommit=False) as run:
                await SyncWriter(out).write(run)
            assert 0 < before.total() <= 120
            assert synced.events(out) == exported.truth(server, server.contact_ids)


def unprivileged() -> None:
    """Let the process have no more rights to files than their owner, even if it is root's."""
    import ctypes

    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of Linux")
@pytest.mark.parametrize("what", ["file", "folder", "file in mid-run"])
def test_what_is_read_only_is_refused_before_anything_is_delivered(path: Path, what: str) -> None:
    """At the start of a run. In a run it stays open for writing, and all that was saved is there for the next."""
    asyncio.run(write(path))
    code = """if True:
        import asyncio, os, sys
        from np6_async.sync import SQLiteStore
        path, what = sys.argv[1:]
        async def main():
            store = SQLiteStore(path)
            if what == "file in mid-run":
                await store.open()
                os.chmod(path, 0o400)
                await store.write({"id:A": b"2"})
                await store.close()
            else:
                os.chmod(*((path, 0o400) if what == "file" else (os.path.dirname(path), 0o500)))
            try:
                await store.open()
            except Exception as error:
                print(type(error).__name__, error)
        asyncio.run(main())
    """
    command = [sys.executable, "-c", code, str(path), what]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=unprivileged)
    finally:
        path.parent.chmod(0o700)
        path.chmod(0o600)
    assert done.stdout.startswith("StoreError")
    assert f"{path} cannot be" in done.stdout
    assert asyncio.run(read(path, "id:A"))["id:A"] == (b"2" if what == "file in mid-run" else b"1")
