"""What `np6 events` promises to whoever types it, and to scripts."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from np6_async.cli import main
from np6_async.testing import FakeNP6, Fault, make_bounce, make_event

Run = Callable[..., int]


def parse(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The pairs of an output, whose every line must be whole and have just two members."""
    assert not text or text.endswith("\n")
    pairs = [json.loads(line) for line in text.split("\n")[:-1]]
    assert all(list(pair) == ["contact", "event"] for pair in pairs)
    return [(pair["contact"], pair["event"]) for pair in pairs]


def by_contact(text: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for contact, event in parse(text):
        found.setdefault(contact, []).append(event)
    return found


def same(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> bool:
    return sorted(left, key=str) == sorted(right, key=str)


def test_every_event_of_every_contact_is_one_line(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output has exactly the server's events, unchanged; standard error has one line of summary."""
    assert run(*server.contact_ids) == 0
    out, err = capfd.readouterr()
    found = by_contact(out)
    assert set(found) == set(server.contact_ids)
    assert all(same(found[contact], server.events(contact)) for contact in found)
    assert re.fullmatch(r"np6 events: 6 contacts done, 72 events in \d+\.\d s\n", err)


def test_the_folders_of_the_output_are_made(run: Run, server: FakeNP6, tmp_path: Path) -> None:
    """Unless nothing is written: a run that fails leaves none behind."""
    assert run("NOBODY", "-o", str(tmp_path / "k" / "2026" / "events.ndjson")) == 1
    assert list(tmp_path.iterdir()) == []
    assert run(server.contact_ids[0], "-o", str(tmp_path / "k" / "2026" / "events.ndjson")) == 0
    assert list(by_contact((tmp_path / "k" / "2026" / "events.ndjson").read_text())) == [server.contact_ids[0]]


def test_contacts_come_from_files_as_they_are_found_in_the_wild(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A byte order mark, CRLF, empty lines, comments and blanks are no contacts; arguments come first."""
    first, *others = server.contact_ids
    lines = ["# export of today", "", *[f"  {contact}\t" for contact in others], "   "]
    file = tmp_path / "ids.txt"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert run(first, "--ids-from", str(file), "--concurrency", "1") == 0
    contacts = [contact for contact, _ in parse(capfd.readouterr().out)]
    assert list(dict.fromkeys(contacts)) == [first, *others]


def test_a_file_larger_than_a_block_is_read_whole(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No contact is lost or cut where one block of the file ends and the next begins."""
    file = tmp_path / "ids.txt"
    filler = "# é" + "x" * 995
    file.write_text("\n".join(line for contact in server.contact_ids for line in [filler] * 40 + [contact]), "utf-8")
    assert run("--ids-from", str(file)) == 0
    assert set(by_contact(capfd.readouterr().out)) == set(server.contact_ids)


@pytest.mark.parametrize("by", ["unicity", "hash"])
def test_contacts_are_named_as_they_were_given(
    by: str, run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """By unicity and by hash, `contact` is what the user wrote."""
    identifier = server.contact_ids[0]
    given = getattr(server, by)(identifier)
    assert run("--by", by, given) == 0
    found = by_contact(capfd.readouterr().out)
    assert list(found) == [given]
    assert same(found[given], server.events(identifier))


def test_messages_hide_unicity_values(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """An e-mail address that failed is not on standard error, where logs are kept."""
    assert run("--by", "unicity", "jane.doe@example.com", "-vv") == 1
    err = capfd.readouterr().err
    assert "contact by unicity (hidden): 404" in err
    assert "jane" not in err


def test_options_reach_the_server(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """Kind, window, time zone, classification and order are those asked for."""
    contact = server.contact_ids[0]
    options = "--kind hits/open --start 2025-10-01 --end 2026-01-01 --tz Europe/Paris --classification mpp,gsr"
    assert run(contact, *options.split(), "--newest-first") == 0
    (request,) = server.requests
    assert request.path == f"/targets/{contact}/events/hits/open"
    assert request.query == {
        "start": "2025-09-30T22:00:00.000Z",
        "end": "2025-12-31T23:00:00.000Z",
        "classification": "mpp,gsr",
        "sort": "desc",
    }
    stamps = [event["timestamp"] for _, event in parse(capfd.readouterr().out)]
    assert stamps == sorted(stamps, reverse=True)


def test_an_event_of_any_shape_is_one_line_with_all_its_members(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """Line breaks between members, a member named contact, odd characters and great numbers all survive; half an emoji
    becomes U+FFFD, which strict readers take."""
    event = {**make_bounce(id="1"), "contact": "theirs", "note": "a\nb\u2028é", "big": 10**30}
    server.add_contact("ODD", [json.dumps(event, indent=2).encode()])
    server.set_raw("LONE", json.dumps([{**make_event("hit", id="2"), "note": "\ud800"}]).encode())
    assert run("ODD", "LONE") == 0
    found = by_contact(capfd.readouterr().out)
    assert found["ODD"] == [event]
    assert found["LONE"][0]["note"] == "\ufffd"


def test_the_type_is_in_every_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Endpoints of one kind may leave the type out; the output has it."""
    with FakeNP6(1, 200, typed=False) as untyped:
        assert run(untyped.contact_ids[0], "--kind", "bounces", "--base-url", untyped.url) == 0
    types = {event["type"] for _, event in parse(capfd.readouterr().out)}
    assert types == {"bounce"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kind", "bounce"],
        ["--start", "yesterday"],
        ["--start", "99999999w"],
        ["--start", "2026-02-01", "--end", "2026-01-01"],
        ["--tz", "Mars/Olympus"],
        ["--tz", "../etc/passwd"],
        ["--concurrency", "0"],
        ["--concurrency", "many"],
        ["--timeout", "-1"],
        ["--classification", "mpp"],
        ["a b"],
        ["--by", "hash"],
        ["--ids-from", "/no/such/file"],
        ["--ids-from", "/"],
        ["--output", "/dev/null/file"],
        ["--output", "/"],
        ["--frobnicate"],
    ],
)
def test_a_wrong_command_line_is_one_clear_line(
    arguments: list[str], run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line that names the command and its help, no traceback, and no request."""
    assert run(server.contact_ids[0], *arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("np6")
    assert "error: " in err
    assert "--help" in err
    assert server.request_count == 0


def test_no_contacts_is_a_wrong_command_line(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "--ids-from" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--api-key={}", "--api-key {}", "--apikey {}", "--token={}", "--api-key"])
def test_the_key_is_no_option(option: str, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Who gives it as one out of habit is told why and what instead, and the key is not repeated."""
    assert run("000MLGPR", *option.format("s3cr3t").split()) == 2
    err = capfd.readouterr().err
    assert "NP6_API_KEY_FILE" in err
    assert "s3cr3t" not in err


def test_without_a_key_the_exit_code_is_3(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No key, an unreadable key file and a refused key are told apart in words, and are one exit code."""
    target = tmp_path / "out"
    monkeypatch.delenv("NP6_API_KEY")
    assert run("000MLGPR", "-o", str(target)) == 3
    assert "no API key" in capfd.readouterr().err
    monkeypatch.setenv("NP6_API_KEY_FILE", str(tmp_path / "missing"))
    assert run("000MLGPR", "-o", str(target)) == 3
    assert "cannot be read" in capfd.readouterr().err
    monkeypatch.setenv("NP6_API_KEY", "wr0ng")
    assert run("000MLGPR", "-o", str(target)) == 3
    err = capfd.readouterr().err
    assert "401" in err
    assert "wr0ng" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_that_wants_credentials_is_exit_code_3(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """It stops the run, as a refused key does: no contact could be fetched."""
    server.script(Fault.status(407), times=None)
    assert run(*server.contact_ids) == 3
    err = capfd.readouterr().err
    assert "407: the proxy wants other credentials" in err
    assert "check the proxy between this machine and NP6" in err


def test_a_server_that_cannot_be_reached_is_exit_code_4(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert run("000MLGPR", "--base-url", url) == 4
    assert f"no connection to {url} (" in capfd.readouterr().err


def test_a_wrong_address_is_exit_code_4(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """When each of many contacts is unknown, the run stops and says what to check."""
    assert run(*[f"NOBODY{n}" for n in range(60)]) == 4
    assert "each of the first 20 contacts" in capfd.readouterr().err


def test_failed_contacts_are_listed_and_the_others_fetched(
    run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """By default: exit code 1, one line a failure with its cause, and a count of those not listed."""
    server.set_raw("BROKEN", b'{"error":"internal"}')
    assert run("BROKEN", *[f"NOBODY{n}" for n in range(8)], *server.contact_ids[:6]) == 1
    out, err = capfd.readouterr()
    assert len(by_contact(out)) == 6
    summary, *lines = err.splitlines()
    assert "6 contacts done, 9 failed, 72 events" in summary
    assert len(lines) == 6
    assert all(line.startswith("np6 events:   contact NOBODY") and "404" in line for line in lines[:5])
    assert lines[5] == "np6 events:   ... and 4 more"


def test_skipped_failures_are_counted_only(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("NOBODY", server.contact_ids[0], "--on-error", "skip") == 1
    err = capfd.readouterr().err
    assert "1 contact done, 1 failed" in err
    assert "NOBODY" not in err


def test_the_first_failure_can_end_the_run(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--on-error raise`: what came before is kept beside the target, and the target is not touched."""
    target = tmp_path / "out.ndjson"
    target.write_text("of yesterday\n")
    done = server.contact_ids[0]
    code = run(done, "NOBODY", server.contact_ids[1], "--on-error", "raise", "--concurrency", "1", "-o", str(target))
    assert code == 1
    assert target.read_text() == "of yesterday\n"
    partial = tmp_path / "out.ndjson.partial"
    assert same(by_contact(partial.read_text())[done], server.events(done))
    err = capfd.readouterr().err
    assert "stopped at the first failure" in err
    assert "contact NOBODY: 404" in err
    assert str(partial) in err
    remaining = tmp_path / "out.ndjson.remaining"
    assert set(tmp_path.iterdir()) == {target, partial, remaining}
    assert remaining.read_text().split() == ["NOBODY", server.contact_ids[1]]
    assert "1 of 3 contacts done, 1 failed" in err


def test_unknown_contacts_may_count_as_empty(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("NOBODY", "--missing", "empty") == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "1 contact done, 0 events" in err


def test_a_file_appears_only_when_it_is_complete(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It replaces the old one, through a link and with its mode, and leaves nothing else behind."""
    real, link = tmp_path / "real.ndjson", tmp_path / "link.ndjson"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    assert run(*server.contact_ids, "--output", str(link)) == 0
    assert capfd.readouterr().out == ""
    assert len(parse(real.read_text())) == 72
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert set(tmp_path.iterdir()) == {real, link}


def test_a_run_without_events_leaves_an_empty_file(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert run("NOBODY", "--missing", "empty", "-o", str(target)) == 0
    assert target.read_bytes() == b""


def test_devices_are_written_to_and_not_replaced(run: Run, server: FakeNP6) -> None:
    assert run(server.contact_ids[0], "-o", os.devnull) == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_is_exit_code_4(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*server.contact_ids, "-o", "/dev/full") == 4
    assert "/dev/full cannot be written to: No space left on device" in capfd.readouterr().err


def test_events_arrive_once_through_faults(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """Cut answers are no matter of the user's; the summary counts the retries."""
    for contact in server.contact_ids:
        server.script(Fault.cut(after=3000), contact=contact)
    assert run(*server.contact_ids) == 0
    out, err = capfd.readouterr()
    ids = Counter(event["id"] for _, event in parse(out))
    assert ids.total() == 72
    assert set(ids.values()) == {1}
    assert "6 retries" in err


@pytest.mark.parametrize("arguments", [["--help"], ["events", "--help"], ["demo", "--help"], ["--version"]])
def test_help_is_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "np6" in capsys.readouterr().out


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "np6 demo" in capsys.readouterr().err
