"""The folder of an export: what counts, and what a kill, a full disk or a stranger leaves of it."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from support import exported

from np6_async import Contact, Event, structure
from np6_async.export import FolderError, InputChanged, _folder, _part, read_report
from np6_async.export._intake import ContactBuffer
from np6_async.export._ledger import Ledger
from np6_async.export._manifest import Asked, Place, Query
from np6_async.export._storage import LocalStorage
from np6_async.export._writers import FileFormat, Format

QUERY = Query("bounces", "id", None, "2026-01-01T00:00:00.000Z", None, "error", None, "ndjson", False)
ASKED = Asked(None, None)


class Folder(_folder.Folder):
    """One on this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.beside = path, path.with_name(f"{path.name}.np6")
        super().__init__(LocalStorage(path), FileFormat())


def events(count: int, first: int = 0) -> list[Event]:
    return [structure({"id": str(first + n), "timestamp": n}) for n in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "out")
    made.begin(QUERY, ASKED, None)
    return made


def commit(folder: Folder, contact: str, place: Place, failed: Sequence[str] = ()) -> None:
    part = folder.new_part(folder.manifest.window)
    part.add(contact, events(3))
    folder.commit([part], place, done=1, failed=failed)


def reopened(folder: Folder) -> Folder:
    folder.close()
    again = Folder(folder.path)
    again.resume()
    return again


def names(folder: Folder) -> set[str]:
    """Of all files: the parts, and what lies beside them with a slash in front."""
    return {*os.listdir(folder.path), *(f"/{name}" for name in os.listdir(folder.beside))}


def content(folder: Folder) -> dict[Path, bytes]:
    return exported.contents(folder.path)


# Commits


def test_what_was_committed_is_found_again(folder: Folder) -> None:
    commit(folder, "A", Place(2, "d1", [1]), failed=["B"])
    commit(folder, "C", Place(3, "d2"), failed=["D"])
    with reopened(folder) as again:
        found = again.manifest
        assert found == folder.manifest
        assert (found.contacts, found.rows, found.failed, found.place) == (2, 6, 2, Place(3, "d2"))
        assert [part.file for part in found.parts] == ["part-000001.ndjson", "part-000002.ndjson"]
        assert (again.beside / "failures.txt").read_text() == "B\nD\n"


def test_what_was_not_committed_is_gone_and_nothing_else(folder: Folder) -> None:
    """A part in progress, a part without a commit, failures behind the last commit; files of others stay."""
    commit(folder, "A", Place(1, "d"), failed=["B"])
    before = names(folder)
    with open(folder.beside / "failures.txt", "a") as file:
        file.write("torn")
    (folder.path / "part-000002.ndjson").write_text("torn")
    for name in ("part-000002.ndjson.tmp", "manifest.json.tmp", "held-x1", "failures-20260101T000000Z.txt"):
        (folder.beside / name).write_text("torn")
    foreign = {"notes.txt", "part-one.ndjson", ".hidden", "part-000001.json", "/notes.txt", "/part-000001.ndjson"}
    for name in foreign:
        (folder.beside / name[1:] if name[0] == "/" else folder.path / name).write_text("of somebody")
    with reopened(folder) as again:
        assert names(again) == before | foreign
        assert (again.beside / "failures.txt").read_text() == "B\n"


@pytest.mark.parametrize("step", ["seal", "_add_failures", "_replace"])
def test_a_commit_that_fails_counts_for_nothing(folder: Folder, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever step of it the disk refuses: the folder is what it was, and goes on from there."""
    commit(folder, "A", Place(1, "d"), failed=["B"])
    before = content(folder)
    manifest = folder.manifest

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "seal":
            patch.setattr(_part.os, "fsync", full)
        else:
            patch.setattr(Folder, step, full)
        with pytest.raises(OSError, match="No space"):
            commit(folder, "C", Place(2, "d2"), failed=["D"])
    assert content(folder) == before
    assert folder.manifest == manifest
    commit(folder, "C", Place(2, "d2"), failed=["E"])
    with reopened(folder) as again:
        assert again.manifest.contacts == 2
        assert (again.beside / "failures.txt").read_text() == "B\nE\n"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(
    ("format", "gzip"), [("ndjson", False), ("ndjson", True), ("csv", False), ("csv", True), ("parquet", False)]
)
def test_a_full_disk_leaves_no_part(format: Format, gzip: bool, folder: Folder) -> None:
    """An OSError and no file, in every format, whatever was waiting to be written."""
    before = names(folder)
    full = folder.beside / "full"
    full.symlink_to("/dev/full")
    part = _part.PartFile(folder.beside, "part-000001.x", FileFormat(format, gzip), temporary="full")
    with pytest.raises(OSError, match="No space left"):
        part.add("A", events(4_000))
        part.seal()
    part.discard()
    del part
    gc.collect()
    assert names(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("format", ["ndjson", "csv", "parquet"])
def test_a_part_that_is_given_up_leaves_nothing(format: Format, folder: Folder) -> None:
    before = names(folder)
    part = _part.PartFile(folder.beside, "part-000001.x", FileFormat(format), temporary="x.tmp")
    part.add("A", events(4_000))
    part.discard()
    del part
    gc.collect()
    assert names(folder) == before


def test_each_window_has_parts_and_failures_of_its_own(tmp_path: Path) -> None:
    first, second = "2026-01-01T00:00:00.000Z", "2026-01-02T08:15:30.500Z"
    with Folder(tmp_path / "out") as folder:
        folder.begin(evolve(QUERY, every=86_400_000), ASKED, first)
        commit(folder, "A", Place(1, "d"), failed=["B"])
        folder.next_window(second, Place(1, "d"))
        assert folder.manifest.place == Place()
        commit(folder, "A", Place(1, "d"), failed=["B"])
        folder.next_window(None, Place(1, "d"))
        assert folder.manifest.complete
        assert names(folder) == {
            "part-20260101T000000Z-000001.ndjson",
            "part-20260102T081530.500Z-000001.ndjson",
            "/manifest.json",
            "/failures-20260101T000000Z.txt",
            "/failures-20260102T081530.500Z.txt",
        }
        kept = names(folder)
    with reopened(folder) as again:
        assert names(again) == kept


# What is refused


def refused(path: Path, act: Callable[[Folder], object] = lambda folder: None) -> str:
    with pytest.raises(FolderError) as caught, Folder(path) as folder:
        act(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_two_processes_do_not_export_to_one_folder(folder: Folder) -> None:
    assert refused(folder.path).startswith(f"another process writes to {str(folder.path)!r}")
    folder.close()
    Folder(folder.path).close()


@pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_text("x")])
def test_a_part_that_counts_must_be_as_it_was(folder: Folder, change: Callable[[Path], object]) -> None:
    commit(folder, "A", Place(1, "d"))
    commit(folder, "B", Place(2, "d"))
    change(folder.path / "part-000001.ndjson")
    folder.close()
    assert "part-000001.ndjson' is " in refused(folder.path, Folder.resume)


def test_parts_without_a_manifest_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-000001.csv").write_text("of somebody")
    said = refused(out, lambda folder: folder.begin(QUERY, ASKED, None))
    assert said.startswith(f"{str(out)!r} holds part-000001.csv, and there is no manifest.json in '{out}.np6'")
    assert (out / "part-000001.csv").read_text() == "of somebody"


def test_a_manifest_whose_parts_are_gone_says_what_to_delete(folder: Folder) -> None:
    """As after `rm -r out`: to resume would be an export with a hole, and to begin might not be meant."""
    commit(folder, "A", Place(1, "d"))
    folder.close()
    shutil.rmtree(folder.path)
    said = refused(folder.path)
    assert said.startswith(f"{str(folder.path)!r}: its parts are gone, and '{folder.path}.np6' still counts them")
    assert f"or delete '{folder.path}.np6' as well to export again" in said
    assert not folder.path.exists()
    shutil.rmtree(folder.beside)
    with Folder(folder.path) as again:
        again.begin(QUERY, ASKED, None)


@pytest.mark.skipif(sys.platform == "win32", reason="a command for a shell of POSIX")
def test_a_folder_with_a_manifest_among_its_parts_says_how_to_go_on(folder: Folder) -> None:
    """As it once was. The command that the error gives does it."""
    commit(folder, "A", Place(1, "d"), failed=["B"])
    found = folder.manifest
    folder.close()
    for file in folder.beside.iterdir():
        file.rename(folder.path / file.name)
    folder.beside.rmdir()
    (folder.path / ".part-000002.ndjson.tmp").touch()  # of a run that was killed
    said = refused(folder.path)
    assert "was written by a version that kept manifest.json in it" in said
    assert not folder.beside.exists()
    subprocess.run(["/bin/sh", "-c", said.partition("go on: ")[2]], check=True)
    with reopened(folder) as again:
        assert again.manifest == found
        assert {"/manifest.json", "/failures.txt"} < names(again)
        assert {file.name for file in folder.path.iterdir()} == {"part-000001.ndjson"}


def test_a_link_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Folder(tmp_path / "link") as folder:
        folder.begin(QUERY, ASKED, None)
        commit(folder, "A", Place(1, "d"))
    assert read_report(tmp_path / "real") is not None
    assert {file.name for file in tmp_path.iterdir()} == {"real", "real.np6", "link"}


def test_the_root_of_a_disk_is_no_folder_for_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside it would lie on another disk, to which nothing can be renamed."""
    out = tmp_path / "out"
    out.mkdir()
    real = Path.stat

    def stat(self: Path, **options: Any) -> os.stat_result:
        found = real(self, **options)
        return os.stat_result((*found[:2], 7, *found[3:])) if self == out else found

    monkeypatch.setattr(Path, "stat", stat)
    said = refused(out)
    assert f"is the root of a disk, and '{out}.np6' would lie on another" in said
    assert f"such as '{out}/events'" in said
    assert os.listdir(tmp_path) == ["out"]


def test_names_of_what_lies_beside_are_not_for_parts(tmp_path: Path) -> None:
    assert "names that end in .np6 are for what lies beside them" in refused(tmp_path / "out.np6")
    assert os.listdir(tmp_path) == []


def test_the_folder_of_the_process_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with _folder.Folder(LocalStorage(Path()), FileFormat()) as folder:
        folder.begin(QUERY, ASKED, None)
    assert os.listdir(tmp_path / "out.np6") == ["manifest.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is damaged"),
        (b"\xff{", "it is damaged"),
        (b"[1]", "it is damaged"),
        (b"{}", "its version is none, not 1"),
        (b'{"version":2,"more":1}', "its version is 2, not 1"),
        (b'{"version":1,"query":7}', "it is damaged"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_not_replaced(tmp_path: Path, content: bytes, words: str) -> None:
    manifest = tmp_path / "out.np6" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_bytes(content)
    assert words in refused(tmp_path / "out")
    assert manifest.read_bytes() == content


@pytest.mark.parametrize(
    ("path", "words"),
    [("file", "is not a folder"), ("file/x", "is not a folder"), ("file/x/y", "is not a folder"), ("a\0b", "null")],
)
def test_a_folder_that_cannot_be_is_explained(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    assert words in refused(tmp_path / path)


def test_the_folders_that_it_lies_in_are_made_with_it(tmp_path: Path) -> None:
    """And removed with it, where it came to nothing and they are empty."""
    (tmp_path / "a").mkdir()
    with Folder(tmp_path / "a" / "b" / "c" / "out") as folder:
        assert (tmp_path / "a" / "b" / "c" / "out.np6").is_dir()
        folder.begin(QUERY, ASKED, None)
        folder.forget()
    assert os.listdir(tmp_path / "a") == []
    (tmp_path / "a" / "file").touch()
    assert "is not a folder" in refused(tmp_path / "a" / "file" / "b")
    assert "null" in refused(tmp_path / "a" / "d" / "e\0f")
    assert os.listdir(tmp_path / "a") == ["file"]


def test_what_came_to_nothing_is_forgotten(tmp_path: Path) -> None:
    with Folder(tmp_path / "out") as folder:
        folder.begin(QUERY, ASKED, None)
        folder.forget()
    assert os.listdir(tmp_path) == []


def test_the_manifest_does_not_grow_with_the_contacts(folder: Folder) -> None:
    sizes = []
    for contacts in (1, 10_000_000):
        folder.commit([], Place(contacts, "d" * 32, [contacts - 1]), done=contacts)
        sizes.append((folder.beside / "manifest.json").stat().st_size)
    assert sizes[1] - sizes[0] < 40
    assert json.loads((folder.beside / "manifest.json").read_text())["query"]["kind"] == "bounces"


# Buffered events


@pytest.mark.parametrize("limit", [0, 5_000, 10**9])
def test_buffered_events_come_back_in_order(tmp_path: Path, limit: int) -> None:
    """From memory, from the disk or from both, and no file is seen meanwhile."""
    held = ContactBuffer(tmp_path, limit)
    given = [events(10, first) for first in range(0, 100, 10)]
    for batch in given:
        held.add(batch)
    assert os.listdir(tmp_path) == []
    assert list(held.batches()) == given
    assert [[event.raw for event in batch] for batch in held.batches()] == [[e.raw for e in batch] for batch in given]
    held.close()


# The input


async def contacts(*values: str) -> AsyncGenerator[Contact, None]:
    for value in values:
        yield Contact("id", value)


async def test_a_ledger_goes_on_with_what_was_open() -> None:
    """The contacts that had not ended come first, then the rest; the same contact twice is two contacts."""
    ledger = Ledger(contacts("A", "B", "A", "C", "D"))
    taken = [await anext(ledger) for _ in range(4)]
    ledger.end(taken[1])
    ledger.end(taken[2])
    place = ledger.place
    assert (place.contacts, place.open) == (4, [0, 3])
    again = Ledger(contacts("A", "B", "A", "C", "D"))
    await again.skip(place)
    assert again.place == place
    left = [contact async for contact in again]
    assert [contact.value for contact in left] == ["A", "C", "D"]
    assert again.ended
    for contact in left:
        again.end(contact)
    assert again.place.open == []


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (["A"], "there are only 1, and the export has reached number 2"),
        (["A", "X", "C"], "the first 2 are not those"),
        (["AB", "C"], "the first 2 are not those"),
    ],
)
async def test_another_input_is_refused(now: list[str], words: str) -> None:
    ledger = Ledger(contacts("A", "B", "C"))
    ledger.end(await anext(ledger))
    ledger.end(await anext(ledger))
    with pytest.raises(InputChanged, match=words):
        await Ledger(contacts(*now)).skip(ledger.place)


async def test_a_ledger_that_was_stopped_hands_out_no_more() -> None:
    ledger = Ledger(contacts("A", "B"))
    await anext(ledger)
    ledger.stop()
    assert [contact async for contact in ledger] == []
    assert not ledger.ended
    await asyncio.sleep(0)


def test_names_of_an_export_are_known() -> None:
    parts = ["part-000001.ndjson", "part-000001.csv.gz", "part-20260101T000000Z-1234567.parquet"]
    assert all(_folder._is_beside(f"{name}.tmp") for name in [*parts, "failures.txt", "manifest.json"])
    assert _folder._is_beside("failures.txt")
    assert not any(map(_folder._is_beside, ["manifest.json", "part-1.csv.tmp", "part-000001.csv.bak", "x.txt"]))
