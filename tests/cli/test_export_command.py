"""`np6 export` in this process: what is in the folder, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import exported

from np6_async.cli import _command, _export, main
from np6_async.cli._progress import Timed
from np6_async.export import _export as _library
from np6_async.export import _intake, _writers
from np6_async.testing import FakeNP6, Fault

Export = Callable[..., int]


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    with FakeNP6(40, (0, 12)) as running:
        yield running


@pytest.fixture
def export(server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Export:
    """`np6 export` of these contacts (default: all) into `out`; gives back the exit code."""
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_text("\n".join(server.contact_ids))

    def run(*arguments: str, ids: Sequence[str] | None = None) -> int:
        if ids is not None:
            Path("ids.txt").write_text("\n".join(ids))
        if "--output" not in arguments:
            arguments = (*arguments, "--output", "out")
        try:
            return main(["export", "--base-url", server.url, "--ids-from", "ids.txt", *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)

    return run


OUT = Path("out")
BESIDE = exported.beside(OUT)
FORMS = ["ndjson", "csv", "parquet", "ndjson --gzip", "csv --gzip"]


# Contents


def test_the_folders_of_the_output_are_made(export: Export, server: FakeNP6) -> None:
    assert export("--output", "lake/raw/bounces", "--kind", "bounces") == 0
    assert exported.events(Path("lake/raw/bounces")) == exported.truth(server, server.contact_ids, "bounces")
    assert export("--output", "lake/raw/bounces", "--kind", "bounces", "--resume") == 0


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="a system that gives pipes names")
def test_the_key_for_personal_data_may_come_through_a_pipe(export: Export) -> None:
    """Which can be read once: ``--personal-key <(pass np6)``."""
    reader, writer = os.pipe()
    os.write(writer, b"0123456789abcdef\n")
    os.close(writer)
    try:
        assert export("--personal", "hash", "--personal-key", f"/dev/fd/{reader}") == 0
    finally:
        os.close(reader)
    Path("key").write_text("0123456789abcdef")
    assert export("--personal", "hash", "--personal-key", "key", "--output", "other") == 0
    by_pipe, by_file = (sorted(next(folder.iterdir()).read_bytes().splitlines()) for folder in (OUT, Path("other")))
    assert by_pipe == by_file != []


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_event_is_in_the_parts_once(form: str, export: Export, server: FakeNP6) -> None:
    """Of the kind that was asked for, in whole files that the manifest names."""
    assert export("--format", *form.split(), "--part-size", "20K") == 0
    assert exported.events(OUT) == exported.truth(server, server.contact_ids)
    exported.check_whole(OUT)
    assert exported.manifest(OUT)["complete"]
    assert export("--format", *form.split(), "--kind", "hits", "--output", "hits") == 0
    assert exported.events(Path("hits")) == exported.truth(server, server.contact_ids, "hits")


def test_parts_are_closed_at_their_size(export: Export) -> None:
    assert export("--part-size", "16K", "--concurrency", "1") == 0
    sizes = [file.stat().st_size for file in exported.files(OUT)]
    assert len(sizes) > 3
    assert all(16 * 1024 <= size < 32 * 1024 for size in sizes[:-1])


def test_a_line_is_that_of_np6_events(export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    contact = server.contact_ids[1]
    assert export(ids=[contact]) == 0
    capfd.readouterr()
    assert main(["events", "--base-url", server.url, contact]) == 0
    assert exported.files(OUT)[0].read_text() == capfd.readouterr().out


@pytest.mark.parametrize("form", FORMS)
def test_an_export_without_events_has_one_empty_part(form: str, export: Export, server: FakeNP6) -> None:
    """Whoever reads it finds the columns."""
    server.add_contact("EMPTY")
    assert export("--format", *form.split(), ids=["EMPTY"]) == 0
    (part,) = exported.files(OUT)
    if form == "parquet":
        assert pq.read_table(part).schema.names[:3] == ["contact", "id", "timestamp"]
    else:
        assert exported.events(OUT) == {}
    assert exported.manifest(OUT)["contacts"] == 1


def test_contacts_given_twice_are_fetched_twice(export: Export, server: FakeNP6) -> None:
    contact = server.contact_ids[1]
    assert export(contact, "--concurrency", "4", ids=[contact, contact]) == 0
    once = exported.truth(server, [contact])
    assert exported.events(OUT) == once + once + once


def test_contacts_by_address_are_named_by_it(export: Export, server: FakeNP6) -> None:
    contact = server.contact_ids[1]
    address = server.unicity(contact)
    assert export("--by", "unicity", ids=[address]) == 0
    assert {key[0] for key in exported.events(OUT)} == {address}
    assert address not in (BESIDE / "manifest.json").read_text()


def test_the_contacts_may_be_those_of_a_segment(export: Export, server: FakeNP6) -> None:
    """After those of the files, in each window anew."""
    ids = list(server.contact_ids)
    server.add_segment(41, contacts=ids[3:9])
    span = ["--start", "2025-12-01", "--end", "2026-01-01"]
    assert export("--segment", "41", *span, "--every", "1w", ids=ids[:3]) == 0
    assert export(*span, "--output", "whole", ids=ids[:9]) == 0
    assert exported.events(OUT) == exported.events(Path("whole"))


@pytest.mark.slow
def test_events_that_do_not_fit_in_memory_go_through_the_disk(
    export: Export, server: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contact with very many of them gets a part of its own."""
    monkeypatch.setattr(_intake, "_BUFFER", 10_000)
    monkeypatch.setattr(_intake, "_BUFFER_LEAST", 10_000)
    monkeypatch.setattr(_intake, "_LARGE", 1_000_000)
    other = FakeNP6(1, 3_000)
    big = server.add_contact("BIG", other.events(other.contact_ids[0]))
    assert export("--concurrency", "1", ids=[*server.contact_ids[:5], big, *server.contact_ids[5:9]]) == 0
    exported.check_whole(OUT)
    assert exported.events(OUT) == exported.truth(server, [*server.contact_ids[:9], big])
    assert exported.manifest(OUT)["parts"][1]["rows"] >= 3_000


# Windows


def test_each_window_has_parts_of_its_own(export: Export, server: FakeNP6) -> None:
    """Together they hold what one export of the whole time holds."""
    span = ["--start", "2025-12-01", "--end", "2026-01-01T12:00Z"]
    assert export(*span, "--every", "1w", "--format", "parquet") == 0
    assert export(*span, "--output", "whole") == 0
    assert exported.events(OUT) == exported.events(Path("whole"))
    exported.check_whole(OUT)
    names = sorted(file.name for file in exported.files(OUT))
    days = ["20251201", "20251208", "20251215", "20251222", "20251229"]
    assert names == [f"part-{day}T000000Z-000001.parquet" for day in days]
    assert exported.manifest(OUT)["contacts"] == 5 * 40


def test_windows_of_the_calendar(export: Export, server: FakeNP6) -> None:
    """Days and months of the zone, each with its own parts."""
    span = ["--start", "2025-10-01", "--end", "2026-01-01", "--tz", "Europe/Paris", "--format", "csv"]

    def begins(every: str) -> set[str]:
        assert export(*span, "--every", every, "--output", every) == 0
        return {file.name[5:21] for file in exported.files(Path(every))}

    assert begins("1mo") <= {"20250930T220000Z", "20251031T230000Z", "20251130T230000Z"}
    summer, winter = {f"202510{day:02}T220000Z" for day in range(1, 26)} | {"20250930T220000Z"}, "T230000Z"
    assert {day for day in begins("1d") if not day.endswith(winter)} <= summer
    assert exported.events(Path("1mo")) == exported.events(Path("1d"))
    assert export(*span[:-4], "--every", "1d", "--output", "1d", "--resume", "--format", "csv") == 2  # no --tz


def test_windows_go_on_where_they_were(export: Export, server: FakeNP6) -> None:
    arguments = ["--start", "2025-12-01", "--end", "2026-01-01", "--every", "1w", "--concurrency", "1"]
    third = server.contact_ids[7]
    server.script(Fault.status(401), contact=third, skip=2)
    assert export(*arguments) == 3
    assert exported.manifest(OUT)["window"] == "2025-12-15T00:00:00.000Z"
    assert exported.manifest(OUT)["contacts"] == 2 * 40 + 7
    exported.check_whole(OUT)
    server.reset()
    assert export(*arguments, "--resume") == 0
    assert server.request_count == 3 * 40 - 7
    assert export(*arguments[:4], "--output", "whole") == 0
    assert exported.events(OUT) == exported.events(Path("whole"))


# Going on


@pytest.mark.parametrize("form", FORMS)
def test_it_goes_on_where_it_was_stopped(form: str, export: Export, server: FakeNP6) -> None:
    """What is done is not fetched again."""
    arguments = ["--format", *form.split(), "--concurrency", "2"]
    server.script(Fault.status(403), contact=server.contact_ids[30])
    assert export(*arguments) == 3
    exported.check_whole(OUT)
    assert 29 <= exported.manifest(OUT)["contacts"] <= 31
    left = 40 - exported.manifest(OUT)["contacts"]
    server.reset()
    assert export(*arguments, "--resume") == 0
    assert server.request_count == left
    assert exported.events(OUT) == exported.truth(server, server.contact_ids)
    exported.check_whole(OUT)


def test_a_complete_export_is_left_alone(export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    assert export() == 0
    server.reset()
    before = exported.contents(OUT)
    assert export("--resume") == 0
    assert server.request_count == 0
    assert "the export is complete: there is nothing to do\n" in capfd.readouterr().err
    assert exported.contents(OUT) == before


def test_resume_begins_where_there_is_nothing(export: Export, server: FakeNP6) -> None:
    """One command line does for a job that is started again and again."""
    assert export("--resume") == 0
    assert exported.events(OUT) == exported.truth(server, server.contact_ids)


def test_words_that_count_back_from_now_mean_the_same_time_later(export: Export, server: FakeNP6) -> None:
    """--start 9000d is the first run's, and so is an --end that was not given."""
    server.script(Fault.status(403), contact=server.contact_ids[20])
    assert export("--start", "9000d", "--concurrency", "1") == 3
    asked = exported.manifest(OUT)["query"]
    server.reset()
    assert export("--start", "9000d", "--resume") == 0
    assert exported.manifest(OUT)["query"] == asked
    assert exported.events(OUT) == exported.truth(server, server.contact_ids)


@pytest.mark.slow
def test_the_contacts_may_come_from_standard_input_again(
    export: Export, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All of them, from the first on."""
    command = [
        sys.executable,
        "-m",
        "np6_async.cli",
        "export",
        "--base-url",
        server.url,
        "--ids-from",
        "-",
        "-o",
        "out",
    ]
    given = "\n".join(server.contact_ids).encode()
    server.script(Fault.status(403), contact=server.contact_ids[20])
    for code, more in ((3, []), (0, ["--resume"])):
        done = subprocess.run(
            [*command, "-o", "out", *more], input=given, capture_output=True, cwd=tmp_path, check=False
        )
        assert done.returncode == code, done.stderr
    assert exported.events(OUT) == exported.truth(server, server.contact_ids)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")],
)
def test_a_signal_ends_it_with_what_is_done(
    name: str,
    code: int,
    word: str,
    export: Export,
    server: FakeNP6,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A contact that is stalled is given up after a moment, and begun first when the export goes on."""
    if name == "SIGHUP" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        pytest.skip("under nohup, where it is ignored on purpose")
    monkeypatch.setattr(_command, "DRAIN", 0.1)
    server.script(Fault.stall(after=10), contact=server.contact_ids[20], times=None)

    def send() -> None:
        deadline = time.monotonic() + 10
        while (server.request_count, server.in_flight) != (40, 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), getattr(signal, name))

    threading.Thread(target=send, daemon=True).start()
    assert export("--concurrency", "3") == code
    said = capfd.readouterr().err.splitlines()
    assert said[0] == f"np6 export: {word}"
    assert said[-1] == "np6 export: the export is unfinished: resume it with the same command and --resume"
    exported.check_whole(OUT)
    place = exported.manifest(OUT)["place"]
    assert (exported.manifest(OUT)["contacts"], place["contacts"], place["open"]) == (39, 40, [20])
    server.reset()
    assert export("--resume") == 0
    assert [request.contact for request in server.requests] == [server.contact_ids[20]]
    assert exported.events(OUT) == exported.truth(server, server.contact_ids)


# Failures


@pytest.mark.usefixtures("one_attempt")
def test_contacts_that_failed_are_fed_back(export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """None of their events are in the parts, though some arrived; the command to fetch them is told."""
    ids = list(server.contact_ids)
    broken = [contact for contact in ids if len(server.events(contact)) > 8][:3]
    for contact in broken:
        server.script(Fault.cut(after=3_000), contact=contact, times=None)
    assert export("--format", "csv", "--concurrency", "2", ids=[*ids, "NOBODY", "no contact"]) == 1
    err = capfd.readouterr().err
    assert "37 contacts done, 4 failed" in err
    assert "ids.txt, line 42: contains U+0020" in err
    assert sorted((BESIDE / "failures.txt").read_text().splitlines()) == sorted([*broken, "NOBODY"])
    assert exported.events(OUT) == exported.truth(server, set(ids) - set(broken))
    exported.check_whole(OUT)
    server.reset()
    (told,) = re.findall(r"to fetch the 4 that failed into another: np6 (export .*) --output ANOTHER", err)
    assert main([*shlex.split(told), "--base-url", server.url, "--output", "again"]) == 1  # NOBODY fails again
    both = exported.events(OUT) + exported.events(Path("again"))
    assert both == exported.truth(server, ids)
    assert Path("again.np6/failures.txt").read_text() == "NOBODY\n"


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize("windows", [(), ("--start", "2025-01-01", "--end", "2027-01-01", "--every", "52w")])
def test_contacts_that_failed_are_taken_up_again(
    export: Export, server: FakeNP6, windows: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """--resume --retry-failed: into the same folder, no row twice, whatever fails again in between."""
    ids = list(server.contact_ids)
    broken = [contact for contact in ids if len(server.events(contact)) > 8][:3]
    for contact in broken:
        server.script(Fault.status(400), contact=contact, times=None)
    assert export(*windows, ids=[*ids, "NOBODY"]) == 1
    assert "the same command with --resume --retry-failed" in capfd.readouterr().err
    server.reset()
    server.script(Fault.status(400), contact=broken[0], times=None)
    for left in ({broken[0], "NOBODY"}, {"NOBODY"}, {"NOBODY"}):
        assert export(*windows, "--resume", "--retry-failed", ids=[*ids, "NOBODY"]) == 1
        failed = {line for file in BESIDE.glob("failures*.txt") for line in file.read_text().splitlines()}
        assert failed == left
        exported.check_whole(OUT)
        server.reset()
    events = exported.events(OUT)
    assert events.total() == len(set(events))
    if not windows:
        assert events == exported.truth(server, ids)
    assert exported.manifest(OUT)["failed"] == len(exported.manifest(OUT)["failures"])


def test_retry_failed_goes_with_resume(export: Export, capfd: pytest.CaptureFixture[str]) -> None:
    assert export("--retry-failed") == 2
    assert "--retry-failed goes with --resume" in capfd.readouterr().err


def test_failures_are_listed_once_however_often_it_goes_on(export: Export, server: FakeNP6) -> None:
    ids = list(server.contact_ids)
    ids[5:5] = ["NOBODY"]
    server.script(Fault.status(403), contact=ids[20])
    assert export("--concurrency", "1", ids=ids) == 3
    assert (BESIDE / "failures.txt").read_text() == "NOBODY\n"
    server.reset()
    assert export("--resume", ids=[*ids, "NOONE"]) == 1
    assert (BESIDE / "failures.txt").read_text() == "NOBODY\nNOONE\n"


@pytest.mark.usefixtures("one_attempt")
def test_an_outage_leaves_contacts_for_later(
    export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are not at fault: they are not in the list of those that failed, but are fetched when it goes on."""
    server.script(Fault.status(502), times=None, skip=10)
    assert export("--concurrency", "1", "--outage", "0") == 4
    said = capfd.readouterr().err
    assert "NP6 has not answered since 20" in said
    assert "(502), longer than --outage (0 s) allows" in said
    assert "resume it with the same command and --resume" in said
    assert exported.manifest(OUT)["contacts"] == 10
    server.reset()
    assert export("--resume") == 0
    assert exported.events(OUT) == exported.truth(server, server.contact_ids)


@pytest.mark.usefixtures("one_attempt")
def test_one_contact_that_the_server_cannot_serve_is_a_failure(export: Export, server: FakeNP6) -> None:
    """Also the last one of all."""
    last = server.contact_ids[39]
    server.script(Fault.status(503, retry_after=0), contact=last, times=None)
    assert export() == 1
    assert (BESIDE / "failures.txt").read_text() == f"{last}\n"
    assert exported.manifest(OUT)["complete"]


def test_a_run_in_which_nothing_works_leaves_nothing(
    export: Export, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NP6_API_KEY", "wr0ng")
    assert export() == 3
    assert not OUT.exists()
    assert not BESIDE.exists()
    assert "check NP6_API_KEY" in capfd.readouterr().err


# What is refused


def line(capfd: pytest.CaptureFixture[str]) -> str:
    """What it said, which is one line."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("np6 export: ").rstrip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "nonsense"], "--start 'nonsense': expected a date"),
        (["--start", "2026-02-01", "--end", "2026-01-01"], "--start 2026-02-01 is later than --end 2026-01-01"),
        (["--start", "2999-01-01"], "--start 2999-01-01 lies in the future"),
        (["--every", "1d"], "--every cuts the time from --start on into windows: give a --start"),
        (["--every", "1y"], "'1y' is not a length of time above 0, such as 15m, 6h, 1d, 1w or 1mo"),
        (["--every", "0d"], "'0d' is not a length of time"),
        (["--every", "1M"], "'1M' is not a length of time"),
        (["--every", "999999999w"], "'999999999w' is not a length of time"),
        (["--start", "2000-01-01", "--every", "1m"], "windows of this time; make it longer"),
        (["--part-size", "0"], "'0' is not a size above 0, such as 512K, 64M or 1G"),
        (["--part-time", "0"], "'0' is not a number of seconds above 0"),
        (["--format", "xml"], "invalid choice: 'xml'"),
        (["--format", "parquet", "--gzip"], "--gzip is for ndjson and csv"),
        (["--ids-from", "no.txt"], "'no.txt' cannot be read: No such file or directory"),
        (["--classification", "mpp"], "--classification: "),
        (["--output", ""], "--output: the name is empty"),
        (["--output", "ids.txt"], "--output and --ids-from are the same file"),
        (["--output", "ids.txt/out"], "--output 'ids.txt/out' is not a folder"),
        (["--newest-first"], "there is no option --newest-first"),
        (["--key", "s3cr3t"], "the API key is not an option"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    arguments: list[str], words: str, export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anything is asked or written."""
    assert export(*arguments) == 2
    assert words in line(capfd)
    assert server.request_count == 0
    assert not OUT.exists()
    assert not BESIDE.exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_folder_that_cannot_be_written_to_is_one_clear_line(
    export: Export, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before anything is asked: /proc takes no files, from nobody."""
    assert export("--output", "/proc/self/fd") == 2
    assert "'/proc/self/fd.np6' cannot be written to: " in line(capfd)


def test_pyarrow_is_asked_for_by_its_extra(
    export: Export, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_writers, "find_spec", lambda name: None)
    assert export("--format", "parquet") == 2
    assert "--format parquet needs pyarrow and numpy: pip install 'np6_async[parquet]'" in line(capfd)


def test_no_output_and_no_contacts_are_told(
    server: FakeNP6, export: Export, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        main(["export", "A"])
    assert "required: -o/--output" in line(capfd)
    with pytest.raises(SystemExit):
        main(["export", "-o", "out"])
    assert "no contacts" in line(capfd)
    assert export(ids=["# none", ""]) == 2
    assert line(capfd) == "ids.txt holds no contacts"
    assert not OUT.exists()
    assert not BESIDE.exists()


def test_windows_need_contacts_that_can_be_read_again(export: Export, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDWR)
    try:
        assert export("--start", "2026-01-01", "--every", "1d", "--ids-from", "pipe") == 2
    finally:
        os.close(reader)
    assert "pipe can be read only once; save them in a file first" in line(capfd)


def test_a_folder_with_an_export_is_not_overwritten(export: Export, capfd: pytest.CaptureFixture[str]) -> None:
    assert export() == 0
    before = exported.contents(OUT)
    capfd.readouterr()
    assert export() == 2
    assert "'out' holds an export already; resume it with --resume, or export to another folder" in line(capfd)
    assert exported.contents(OUT) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "hits"], "it was begun with --kind bounces, not with --kind hits"),
        (["--start", "2025-12-02"], "with --start 2025-12-01T00:00:00.000Z, not with --start 2025-12-02T00:00"),
        (["--end", "2026-01-01"], "not with --end 2026-01-01T00:00:00.000Z"),
        (["--format", "csv"], "it was begun with --format ndjson, not with --format csv"),
        (["--gzip"], "it was begun without --gzip, not with --gzip"),
        (["--every", "1w"], "it was begun without --every, not with --every 1w"),
        (["--missing", "empty"], "with --missing error, not with --missing empty"),
    ],
)
def test_another_query_is_refused(
    arguments: list[str], words: str, export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """The line says what differs, and what to do."""
    begun = ["--kind", "bounces", "--start", "2025-12-01"]
    server.script(Fault.status(403), contact=server.contact_ids[20])
    assert export(*begun, "--concurrency", "1") == 3
    before = exported.contents(OUT)
    capfd.readouterr()
    assert export(*begun, *arguments, "--resume") == 2
    said = line(capfd)
    assert words in said
    assert "repeat the command it was begun with, or export to another folder" in said
    assert exported.contents(OUT) == before


def test_another_key_is_refused(export: Export, capfd: pytest.CaptureFixture[str]) -> None:
    """Under which equal addresses would no longer be equal. No key is shown, or kept with the export."""
    for name in ("a", "b"):
        Path(name).write_text(f"the secret of {name}, long enough")
    assert export("--personal", "hash", "--personal-key", "a") == 0
    capfd.readouterr()
    assert export("--personal", "hash", "--personal-key", "b", "--resume") == 2
    said = line(capfd)
    assert "it was begun with another --personal-key, not with this one; repeat the command" in said
    kept = b"".join(file.read_bytes() for folder in (OUT, f"{OUT}.np6") for file in Path(folder).iterdir())
    assert "the secret of" not in said
    assert b"the secret of" not in kept


def test_other_contacts_are_refused(export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """Among those that were taken already; more may follow."""
    server.script(Fault.status(403), contact=server.contact_ids[20])
    assert export("--concurrency", "1") == 3
    ids = list(server.contact_ids)
    capfd.readouterr()
    assert export("--resume", ids=[*ids[:5], "NOBODY", *ids[5:]]) == 2
    assert "the contacts changed: the first 21 are not those that the export began with" in capfd.readouterr().err
    assert export("--resume", ids=ids[:5]) == 2
    assert "there are only 5, and the export has reached number 21" in capfd.readouterr().err
    exported.check_whole(OUT)
    server.reset()
    assert export("--resume", ids=[*ids, ids[1]]) == 0
    assert exported.events(OUT) == exported.truth(server, ids) + exported.truth(server, [ids[1]])


def test_a_file_that_cannot_be_read_on_keeps_what_was_done(
    export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """The line is named; mended, the export goes on."""
    ids = list(server.contact_ids)
    Path("ids.txt").write_bytes("\n".join([*ids[:30], ""]).encode() + b"\xff\n" + "\n".join(ids[30:]).encode())
    assert export("--concurrency", "1") == 2
    assert "ids.txt: line 31 is not UTF-8 text" in capfd.readouterr().err
    assert exported.manifest(OUT)["contacts"] == 30
    assert export("--resume", ids=ids) == 0
    assert exported.events(OUT) == exported.truth(server, ids)


# What is told


def test_the_help_page_can_be_acted_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    out = capfd.readouterr().out
    for words in ("examples:", "what is in the folder:", "resuming:", "exit codes:", "--resume", "failures.txt"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 100


def test_progress_is_told_in_lines(
    export: Export, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_export, "for_files", lambda _, total, say: Timed(say, total, period=0))
    assert export("--concurrency", "1") == 0
    err = capfd.readouterr().err
    assert re.search(r" 50 %  20 of 40 contacts, \d+ events, [\d,.]+ contacts/s, \d+ s left\n", err)


@pytest.mark.parametrize("change", ["appended", "removed", "another"])
def test_a_complete_export_is_not_said_to_be_one_of_other_contacts(
    change: str, export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = [*server.contact_ids]
    assert export(ids=ids[:20]) == 0
    other = {"appended": ids[:21], "removed": ids[:19], "another": [*ids[:19], ids[30]]}[change]
    capfd.readouterr()
    assert export("--resume", ids=other) == 2
    assert "the contacts changed" in capfd.readouterr().err
    assert export("--resume", ids=ids[:20]) == 0


@pytest.mark.usefixtures("one_attempt")
def test_with_windows_other_contacts_are_refused_before_anything_is_fetched(
    export: Export, server: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [*server.contact_ids]
    window = ("--start", "2025-01-01", "--end", "2027-01-01", "--every", "52w")
    with monkeypatch.context() as patch:
        broken: list[int] = []

        def begin_of_second(self: object, following: str | None, whole: object) -> None:
            broken.append(1)
            real(self, following, whole)  # type: ignore[arg-type]
            server.script(Fault.drop(), times=None)

        real = _library.Folder.next_window
        patch.setattr(_library.Folder, "next_window", begin_of_second)
        assert export(*window, "--outage", "0", ids=ids[:20]) == 4
        assert broken
    sent = -1
    while sent != server.request_count or server.in_flight:  # what was on its way arrives
        sent = server.request_count
        time.sleep(0.05)
    server.reset()
    requests = server.request_count
    assert export(*window, "--resume", ids=ids[:30]) == 2
    assert server.request_count == requests
    assert export(*window, "--resume", ids=ids[:20]) == 0
    start, end = (datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000 for year in (2025, 2027))
    expected = {key for key in exported.truth(server, ids[:20]) if start <= key[2] < end}
    assert set(exported.events(OUT)) == expected


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize("damage", ["moved", "cut"])
def test_a_list_of_failures_that_was_touched_is_missed(
    damage: str, export: Export, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    server.script(Fault.status(404), contact=server.contact_ids[3], times=None)
    assert export() == 1
    failures = BESIDE / "failures.txt"
    content = failures.read_bytes()
    if damage == "moved":
        failures.unlink()
    else:
        failures.write_bytes(content[:3])
    manifest = json.loads((BESIDE / "manifest.json").read_text())
    (BESIDE / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    capfd.readouterr()
    assert export("--resume") == 2
    assert "failures.txt" in capfd.readouterr().err
    failures.write_bytes(content)
    assert export("--resume") in (0, 1)
