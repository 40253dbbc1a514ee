"""A disk that fills up over and over, in the middle of whatever is written."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import exported, killing, synced

from np6_async.testing import FakeNP6

Figure = Callable[[str, str, str, object], None]

_FORMS = ("ndjson", "ndjson --gzip", "csv", "parquet")
_RUNS = 60  # at most, until a disk is large enough


class Disk:
    """A file system of its own, as large as it is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount = shutil.which("mount") or "mount"
        if subprocess.run([self._mount, "-t", "tmpfs", "-o", "size=16k", "np6", str(path)], check=False).returncode:
            pytest.skip("a disk of its own takes the right to mount one")

    def resize(self, kib: int) -> None:
        subprocess.run([self._mount, "-o", f"remount,size={kib}k", str(self.path)], check=True)

    def close(self) -> None:
        subprocess.run([shutil.which("umount") or "umount", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("tmpfs of Linux")
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


def test_F3_disks_that_fill_up_lose_and_double_nothing(disk: Disk, tmp_path: Path, figure: Figure) -> None:
    """`np6 export` and `np6 sync` in every format, the state of the sync on the same disk: each run that finds the disk
    full ends with one line, what counts is whole, and with room again it all becomes what the server holds."""
    draw = random.Random(5)
    wrong: Counter[str] = Counter()
    full = 0
    with FakeNP6(250, (0, 12)) as server:
        ids = tmp_path / "ids.txt"
        ids.write_text("\n".join(server.contact_ids))
        truth = exported.truth(server, server.contact_ids)
        for form in _FORMS:
            for verb in ("export", "sync"):
                out = disk.path / f"{verb}-{form.replace(' ', '')}"
                command = [verb, "--ids-from", str(ids), "--output", str(out), "--concurrency", "8"]
                command += ["--format", *form.split(), "--part-size", "30K", "--part-time", "0.1"]
                command += ["--resume"] if verb == "export" else ["--state", f"{out}.db", "--safety", "0"]
                step = 70 if "gzip" in form or form == "parquet" else 300
                room = used(disk.path)
                code = -1
                for _ in range(_RUNS):
                    disk.resize(room := room + draw.randint(4, step))
                    with killing.start(server, command) as process:
                        said = process.communicate(timeout=60)[1].decode()
                        code = process.returncode
                    if code == 0:
                        break
                    full += 1
                    assert code in (2, 4), said
                    assert "Traceback" not in said
                    assert "Exception ignored" not in said
                    wrong.update(unnamed="No space left on device" not in said and "the disk is full" not in said)
                    found = events(verb, out)
                    wrong.update(foreign=(found - truth).total())
                assert code == 0, said
                found = events(verb, out)
                wrong.update(lost=(truth - found).total(), foreign=(found - truth).total())
                if verb == "export":
                    exported.check_whole(out)
                shutil.rmtree(out)
                shutil.rmtree(exported.beside(out))
    figure("F3", "events lost / doubled or foreign", "0 / 0", f"{wrong['lost']} / {wrong['foreign']}")
    figure("F3", "runs that found the disk full", ">= 30", full)
    assert wrong.total() == 0
    assert full >= 30


def used(path: Path) -> int:
    """KiB."""
    return 16 + shutil.disk_usage(path).used // 1024


def events(verb: str, out: Path) -> Counter[exported.Key]:
    if verb == "sync":
        return synced.events(out)
    return exported.events(out) if exported.begun(out) else Counter()
