"""Files of contacts that gzip has compressed are read as those that it has not; a damaged one is an error."""

from __future__ import annotations

import gzip
import json
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from support import exported

from np6_async.cli import main
from np6_async.cli._messages import BadInput
from np6_async.cli._text_blocks import TextBlocks
from np6_async.testing import FakeNP6

Run = Callable[..., int]
SIZE = 64 * 1024


def fetched(text: str) -> set[str]:
    return {json.loads(line)["contact"] for line in text.splitlines()}


def packed(*contacts: str) -> bytes:
    return gzip.compress("\n".join([*contacts, ""]).encode())


@pytest.mark.parametrize("name", ["ids.gz", "ids.txt"])
def test_contacts_come_out_of_gzip_whatever_the_name_of_the_file(
    name: str, run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And a file that is only called so is text."""
    (tmp_path / name).write_bytes(packed(*server.contact_ids[:3], "", "# no contact"))
    (tmp_path / "text.gz").write_text(server.contact_ids[4])
    assert run("--ids-from", str(tmp_path / name), "--ids-from", str(tmp_path / "text.gz")) == 0
    out, err = capfd.readouterr()
    assert fetched(out) == {*server.contact_ids[:3], server.contact_ids[4]}
    assert "4 contacts done" in err


def test_a_compressed_file_may_say_whose_events_are_kept(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ids.gz").write_bytes(packed(server.contact_ids[1]))
    assert run("--account", "--only-ids", str(tmp_path / "ids.gz")) == 0
    assert fetched(capfd.readouterr().out) == {server.contact_ids[1]}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[:-12], "is cut off: its gzip ends too early, and contacts may be missing"),
        (lambda whole: whole[:-4], "is cut off: its gzip ends too early, and contacts may be missing"),
        (lambda whole: whole[:-8] + b"12345678", "is damaged: gzip cannot unpack it to its end"),
        (lambda whole: whole + b"more", "is damaged: gzip cannot unpack it to its end"),
    ],
)
def test_a_damaged_file_is_named_and_its_run_is_no_success(
    damage: Callable[[bytes], bytes],
    words: str,
    run: Run,
    server: FakeNP6,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "ids.gz"
    file.write_bytes(damage(packed(*server.contact_ids)))
    assert run("--ids-from", str(file), "-o", str(tmp_path / "out")) == 2
    assert f"np6 events: {file} {words}\n" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_export_that_a_damaged_file_has_stopped_resumes_with_the_whole_one(
    server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.chdir(tmp_path)
    command = ["export", "--base-url", server.url, "--ids-from", "ids.gz", "--output", "out"]
    # Ids do not shrink much, so that the part before the cut is worth something.
    whole = gzip.compress("".join(f"{contact}\n" for contact in server.contact_ids).encode(), compresslevel=0)
    Path("ids.gz").write_bytes(whole[:50])
    assert main(command) == 2
    err = capfd.readouterr().err
    assert "np6 export: ids.gz is cut off: " in err
    Path("ids.gz").write_bytes(whole)
    assert main([*command, "--resume"]) == 0
    assert exported.events(Path("out")) == exported.truth(server, server.contact_ids)


# The blocks


def read(content: bytes, size: int = SIZE, *, through_pipe: bool = False, folder: Path) -> bytes:
    if through_pipe:
        reader, writer = os.pipe()
        threading.Thread(target=trickle, args=(writer, content)).start()
    else:
        (folder / "file").write_bytes(content)
        reader = os.open(folder / "file", os.O_RDONLY)
    try:
        blocks = TextBlocks(reader, "FILE", size)
        found = list(iter(blocks.read, b""))
        assert blocks.read() == b""
        assert max(map(len, found), default=0) <= size
        return b"".join(found)
    finally:
        os.close(reader)


def trickle(writer: int, content: bytes) -> None:
    for byte in content:
        os.write(writer, bytes([byte]))
    os.close(writer)


@pytest.mark.parametrize("size", [2, 3, 7, SIZE])
@pytest.mark.parametrize("text", [b"", b"A", b"AB\n", b"A" * 10_000])
def test_text_and_what_is_unpacked_are_the_same_in_blocks_of_any_size(text: bytes, size: int, tmp_path: Path) -> None:
    assert read(text, size, folder=tmp_path) == text
    assert read(gzip.compress(text), size, folder=tmp_path) == text


@pytest.mark.parametrize("text", [b"", b"A", b"A\nB\n"])
def test_a_pipe_may_bring_a_byte_at_a_time(text: bytes, tmp_path: Path) -> None:
    assert read(text, through_pipe=True, folder=tmp_path) == text
    assert read(gzip.compress(text), through_pipe=True, folder=tmp_path) == text


@pytest.mark.parametrize("size", [2, SIZE])
def test_members_follow_each_other_and_zeros_may_fill_the_end(size: int, tmp_path: Path) -> None:
    """As `cat a.gz b.gz` makes them, and as tapes leave them."""
    members = gzip.compress(b"A\n") + gzip.compress(b"") + bytes(5) + gzip.compress(b"B\n") + bytes(600)
    assert read(members, size, folder=tmp_path) == b"A\nB\n"


def test_a_file_that_is_cut_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    whole = gzip.compress(b"000MLGPR\n0013KDC0\n")
    for length in range(2, len(whole)):
        with pytest.raises(BadInput, match=r"^FILE is (cut off|damaged): "):
            read(whole[:length], folder=tmp_path)


def test_what_shrank_a_thousandfold_takes_no_memory_to_read(tmp_path: Path) -> None:
    packer = gzip.GzipFile(tmp_path / "file", "wb")
    with packer:
        for _ in range(64):
            packer.write(b"000MLGPR\n" * 111_111)  # a million bytes
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    tracemalloc.start()
    try:
        blocks = TextBlocks(fd, "FILE", SIZE)
        total = sum(map(len, iter(blocks.read, b"")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        os.close(fd)
    assert total == 64 * 9 * 111_111
    assert peak < 1024 * 1024
