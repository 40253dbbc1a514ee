"""Segments on the command line: `np6 events --segment`, and `np6 segments`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from np6_async.cli import _segments, main
from np6_async.testing import FakeNP6, Fault

Run = Callable[..., int]


def fetched(out: str) -> list[str]:
    """The contacts of the output, each once, in order."""
    return list(dict.fromkeys(json.loads(line)["contact"] for line in out.splitlines()))


@pytest.fixture
def list_segments(server: FakeNP6, run: Run) -> Run:
    """`np6 segments` with these arguments; gives back the exit code."""

    def list_segments(*arguments: str) -> int:
        try:
            return main(["segments", "--base-url", server.url, *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)

    return list_segments


# np6 events --segment


def test_the_events_of_a_segments_contacts_are_fetched_however_it_breaks(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    server.script(Fault.cut(after=20), Fault.status(503, retry_after=0), Fault.rate_limited(retry_after=0))
    assert run("--segment", "1") == 0
    out, err = capfd.readouterr()
    assert sorted(fetched(out)) == sorted(server.contact_ids)
    assert len(out.splitlines()) == 6 * 12
    assert "6 contacts done, 72 events" in err


def test_segments_come_after_arguments_and_files_one_after_the_other(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = server.contact_ids
    (tmp_path / "ids").write_text(ids[1])
    server.add_segment("a", ids[2:4])
    server.add_segment("b", [ids[4]])
    chosen = ["--segment", "a", "--segment", "b", "--ids-from", str(tmp_path / "ids")]
    assert run(*chosen, ids[0], "--concurrency", "1") == 0
    assert fetched(capfd.readouterr().out) == list(ids[:5])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--segment", "a/b"], "argument --segment: 'a/b' is not the id of a segment; 'np6 segments' lists them"),
        (["--segment", ""], "argument --segment: '' is not the id of a segment"),
        (["--segment", "1", "--by", "hash"], "--segment gives ids: it cannot be combined with --by hash"),
        ([], "no contacts: give some, a file of them with --ids-from, or a segment with --segment"),
    ],
)
def test_a_wrong_choice_is_refused_before_any_request(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert run(*arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert says in line
    assert server.request_count == 0


def test_a_segment_that_the_account_does_not_have_ends_the_run(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--segment", "77") == 2
    assert "np6 events: segment 77: the account has none with this id; 'np6 segments' lists them\n" in (
        capfd.readouterr().err
    )


def test_a_segment_without_contacts_is_told(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    server.add_segment(5, [])
    assert run("--segment", "5") == 2
    assert capfd.readouterr().err == "np6 events: segment 5 holds no contacts\n"


def test_ids_that_cannot_be_asked_for_are_failures(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    server.add_segment(5, ["a/b", server.contact_ids[0], ""])
    assert run("--segment", "5") == 1
    out, err = capfd.readouterr()
    assert fetched(out) == [server.contact_ids[0]]
    assert "1 contact done, 2 failed" in err
    assert "segment 5: an id contains U+002F as character 2\n" in err
    assert run("--segment", "5", "--on-error", "raise") == 1


def test_a_key_without_the_right_to_segments_ends_the_run(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    server.forbidden = True
    assert run("--segment", "1") == 3
    assert "segment 1: 403: the API key has no right" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("waits_for", ["contacts", "the segment"])
def test_after_ctrl_c_the_ids_of_a_segment_that_are_not_done_are_listed(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str], waits_for: str
) -> None:
    """Those that had not arrived yet are said to be missing."""
    ids = list(server.contact_ids)
    if waits_for == "contacts":
        server.script(Fault.hang(), contact=ids[1], times=None)
        server.script(Fault.hang(), contact=ids[2], times=None)
        hanging = 2
    else:
        server.script(Fault.stall(after=len(json.dumps(ids[:3], separators=(",", ":"))) + 3))
        hanging = 1

    def interrupt() -> None:
        deadline = time.monotonic() + 10
        while server.in_flight != hanging and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert run("--segment", "1", "--concurrency", "2", "-o", str(tmp_path / "out")) == 130
    err = capfd.readouterr().err
    missing = "the contacts were not read to their end: those that come later are not in"
    if waits_for == "contacts":
        left = (tmp_path / "out.remaining").read_text().splitlines()
        assert set(left[:2]) == set(ids[1:3])
        assert left[2:] == ids[3:]
        assert "1 of 6 contacts done" in err
        assert missing not in err
    else:
        assert (tmp_path / "out.remaining").read_text() == ""
        assert "3 contacts done" in err
        assert missing in err


# np6 segments


def test_segments_are_listed_as_ndjson_where_nobody_looks(
    list_segments: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    server.add_segment(41, ["A"], name="VIP é")
    assert list_segments() == 0
    out, err = capfd.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 41]
    assert lines[2]["name"] == "VIP é"
    assert lines[0]["targetsCount"] == 6
    assert err == ""


def test_segments_are_a_table_for_people(
    list_segments: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And names obey nobody: what a terminal would act on is not sent to it."""
    server.add_segment(41, ["A"], name="VIP\x1b[2J", test=True)
    monkeypatch.setattr(_segments, "is_terminal", lambda _: True)
    assert list_segments() == 0
    assert capfd.readouterr().out == (
        "ID  CONTACTS  TYPE           NAME\n"
        " 1         6  static         All contacts\n"
        " 2         5  static (test)  Test contacts\n"
        "41         1  static (test)  VIP\N{REPLACEMENT CHARACTER}[2J\n"
    )


def test_what_goes_wrong_is_one_line_and_an_exit_code(
    list_segments: Run, server: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server.script(Fault.html(), times=None)
    assert list_segments() == 4
    server.reset()
    server.forbidden = True
    assert list_segments() == 3
    assert list_segments("--base-url", "ftp://x") == 2
    assert list_segments("41") == 2
    monkeypatch.delenv("NP6_API_KEY")
    assert list_segments() == 3
    html, forbidden, url, argument, key = capfd.readouterr().err.splitlines()
    assert html.startswith("np6 segments: error: the segments: the response is an HTML or XML page")
    assert forbidden.startswith("np6 segments: error: the segments: 403: the API key has no right to read this")
    assert key.startswith("np6 segments: error: no API key: set NP6_API_KEY to it")
    assert "--base-url" in url
    assert argument.startswith("np6 segments: error: there is an argument too many")
