"""`np6 report` writes one page of what happened, whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from np6_async import structure
from np6_async.cli import _report, main
from np6_async.report import Report
from np6_async.testing import FakeNP6, Fault

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def report(server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`np6 report` with these arguments, into report.html; gives back the exit code."""
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, output: str = "report.html") -> int:
        try:
            return main(["report", *arguments, "--output", output, "--base-url", server.url])
        except SystemExit as stop:
            return int(stop.code or 0)

    return run


def expected(server: FakeNP6, contacts: list[str]) -> list[str]:
    """The numbers of the tiles, of the events that the server has."""
    made = Report()
    for contact in contacts:
        made.add(map(structure, server.events(contact, "all")), robots=True)
        made.add(map(structure, server.events(contact, "hits")))
    return tiles(made.html())


def tiles(html: str) -> list[str]:
    return re.findall(r'<dd class="number">([\d,]+)</dd>', html)


def test_the_folders_of_the_page_are_made(report: Run, server: FakeNP6) -> None:
    assert report(server.contact_ids[0], output="k/2026/report.html") == 0
    assert Path("k/2026/report.html").exists()


def test_the_page_has_the_numbers_of_these_contacts(report: Run, server: FakeNP6, capfd: Capture) -> None:
    chosen = list(server.contact_ids[:4])
    assert report(*chosen, "--title", "Spring & summer") == 0
    page = Path("report.html").read_text("utf-8")
    assert tiles(page) == expected(server, chosen)
    assert "<h1><bdi>Spring &amp; summer</bdi></h1>" in page
    err = capfd.readouterr().err
    sent, bounced, opened, clicked, stopped = tiles(page)
    assert f"{sent} sent, {bounced} bounced, {opened} opened, {clicked} clicked, {stopped} stopped" in err
    assert "in report.html" in err
    assert not [contact for contact in chosen if contact in page]


@pytest.mark.parametrize("how", [["--account"], ["--segment", "1"], ["--ids-from", "ids"]], ids=lambda how: how[0])
def test_all_contacts_are_the_same_however_they_are_named(report: Run, server: FakeNP6, how: list[str]) -> None:
    Path("ids").write_text("\n".join(server.contact_ids))
    assert report(*how) == 0
    assert tiles(Path("report.html").read_text("utf-8")) == expected(server, list(server.contact_ids))


def test_a_page_of_actions_has_their_events_alone(report: Run, server: FakeNP6) -> None:
    assert report("--action", "000PE4", "--action", "000Q3K") == 0
    page = Path("report.html").read_text("utf-8")
    rows = re.findall(r'<tr><th scope="row" class="name"><bdi>(000...)</bdi>', page)
    assert sorted(rows) == ["000PE4", "000Q3K"]


def test_only_some_contacts_of_the_account(report: Run, server: FakeNP6) -> None:
    chosen = list(server.contact_ids[:2])
    Path("ids").write_text("\n".join(chosen))
    assert report("--account", "--only-ids", "ids") == 0
    whole = [int(number.replace(",", "")) for number in expected(server, list(server.contact_ids))]
    found = [int(number.replace(",", "")) for number in tiles(Path("report.html").read_text("utf-8"))]
    assert 0 < sum(found) < sum(whole)


def test_both_passes_ask_for_the_same_time_and_only_hits_are_asked_for_twice(report: Run, server: FakeNP6) -> None:
    assert report(server.contact_ids[0], "--start", "2025-11-01", "--tz", "Europe/Paris") == 0
    first, second = server.requests
    assert (first.path.rsplit("/", 1)[1], second.path.rsplit("/", 1)[1]) == ("events", "hits")
    queries = [parse_qs(request.target.partition("?")[2]) for request in (first, second)]
    assert queries[0] == queries[1]
    assert queries[0]["start"] == ["2025-10-31T23:00:00.000Z"]
    assert "classification" not in queries[1]
    assert "1 Nov 2025, 00:00 to " in Path("report.html").read_text("utf-8")


def test_with_v_the_passes_are_named(report: Run, server: FakeNP6, capfd: Capture) -> None:
    assert report(*server.contact_ids, "-v") == 0
    first, second, summary = capfd.readouterr().err.splitlines()
    assert first == "np6 report: 1 of 2: all events"
    assert second == "np6 report: 2 of 2: hits, without those of robots"
    assert " sent, " in summary


def test_standard_output_is_the_page_and_nothing_else(report: Run, server: FakeNP6, capfd: Capture) -> None:
    assert report(*server.contact_ids, output="-") == 0
    out, err = capfd.readouterr()
    assert out.startswith("<!doctype html>")
    assert out.endswith("</html>\n")
    assert tiles(out) == expected(server, list(server.contact_ids))
    assert err.startswith("np6 report: ")


def test_what_is_missing_is_said_at_the_head_of_the_page(report: Run, server: FakeNP6, capfd: Capture) -> None:
    chosen = list(server.contact_ids[:3])
    Path("ids").write_text("\n".join([*chosen, "BAD LINE", "NOBODY"]))
    assert report("--ids-from", "ids") == 1
    page = Path("report.html").read_text("utf-8")
    assert tiles(page) == expected(server, chosen)
    notes = re.findall("<li><bdi>(.*)</bdi></li>", page)
    assert notes == [
        "1 of 4 contacts failed: their messages sent, bounced and stopped are missing.",
        "1 of 4 contacts failed: their opens and clicks are missing.",
        "1 line of the input could not be read as contacts.",
    ]
    assert "NOBODY" not in page
    assert "np6 report:   ids, line 4: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no contacts: give some, a file of them with --ids-from, or a segment"),
        (["A", "--account"], "contacts cannot be combined with --account"),
        (["A", "--start", "2099-01-01"], "--start 2099-01-01 lies in the future"),
        (["A", "--title", "x" * 201], "--title: a text of 1 to 200 characters"),
        (["A", "--title", ""], "--title: a text of 1 to 200 characters"),
        (["A", "--tz", "Nowhere"], "argument --tz: 'Nowhere' is not a time zone"),
        (["A", "--kind", "hits"], "there is no option --kind"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_request(
    report: Run, server: FakeNP6, capfd: Capture, arguments: list[str], says: str
) -> None:
    assert report(*arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert says in line
    assert not server.requests
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("", "--output: the name of the file is empty"),
        ("/dev/null/report.html", "--output '/dev/null/report.html' cannot be written: '/dev/null' is not a folder"),
        (".", "--output '.' is a folder; give the name of a file, such as report.html"),
    ],
)
def test_a_page_that_could_not_be_written_is_refused_before_any_request(
    report: Run, server: FakeNP6, capfd: Capture, output: str, says: str
) -> None:
    assert report(server.contact_ids[0], output=output) == 2
    assert says in capfd.readouterr().err
    assert not server.requests


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_contacts_from_a_pipe_are_refused_because_they_are_read_twice(
    report: Run, server: FakeNP6, capfd: Capture
) -> None:
    os.mkfifo("pipe")
    holder = os.open("pipe", os.O_RDWR)
    try:
        assert report("--ids-from", "pipe") == 2
    finally:
        os.close(holder)
    assert "a report reads the contacts twice, and pipe can be read only once" in capfd.readouterr().err
    assert not server.requests


def test_where_nothing_could_be_fetched_the_page_before_stays(report: Run, server: FakeNP6, capfd: Capture) -> None:
    Path("report.html").write_text("before")
    assert report("NOBODY") == 1
    assert Path("report.html").read_text() == "before"
    err = capfd.readouterr().err
    assert "np6 report: nothing could be fetched\n" in err
    assert "no report was written; report.html is as it was before" in err


def test_a_key_that_is_refused_is_exit_code_3(
    report: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("NP6_API_KEY", "wr0ng")
    assert report(server.contact_ids[0]) == 3
    assert "no report was written" in capfd.readouterr().err
    assert not Path("report.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("path", ["events", "hits"])
def test_a_run_that_is_stopped_writes_nothing(
    report: Run, server: FakeNP6, capfd: Capture, path: str, tmp_path: Path
) -> None:
    """In either pass."""
    Path("report.html").write_text("before")
    contact = server.contact_ids[0]
    server.script(*[Fault.close_after()] * (path == "hits"), Fault.hang(), contact=contact)

    def interrupt() -> None:
        deadline = time.monotonic() + 20
        hanging = 1 if path == "events" else 2
        while len(server.requests) + server.in_flight < hanging or not server.in_flight:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert report(contact) == 130
    assert Path("report.html").read_text() == "before"
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]
    err = capfd.readouterr().err
    assert err.splitlines() == [
        "np6 report: interrupted",
        "np6 report: no report was written; report.html is as it was before",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_page_that_is_being_written_at_a_signal_is_written_whole(
    report: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: Capture, tmp_path: Path
) -> None:
    replace = os.replace

    def interrupted(*names: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        replace(*names)

    monkeypatch.setattr(os, "replace", interrupted)
    monkeypatch.setattr(_report, "DRAIN", 20.0)  # the machine may be busy
    assert report(server.contact_ids[0]) == 130
    assert Path("report.html").read_text("utf-8").endswith("</html>\n")
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]
    first, second = capfd.readouterr().err.splitlines()
    assert first == "np6 report: interrupted"
    assert second.endswith("in report.html")


def test_a_full_disk_is_said_and_leaves_the_page_before(
    report: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: Capture, tmp_path: Path
) -> None:
    Path("report.html").write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert report(server.contact_ids[0]) == 4
    assert Path("report.html").read_text() == "before"
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]
    assert "report.html cannot be written to: No space left on device" in capfd.readouterr().err
