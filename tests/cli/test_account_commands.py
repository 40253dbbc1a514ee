"""`--account`, `--action` and `--only-ids`: the events of all contacts, in place of those that are named."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import exported, synced

from np6_async.cli import main
from np6_async.testing import FakeNP6, Fault, make_activation, make_bounce, make_event, make_hit

Run = Callable[..., int]
NOON = 1_767_268_800_000


@pytest.fixture
def np6(server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A command with these arguments, in a folder of its own; gives back the exit code."""
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(command: str, *arguments: str) -> int:
        try:
            return main([*command.split(), *arguments, "--base-url", server.url])
        except SystemExit as stop:
            return int(stop.code or 0)

    return run


@pytest.fixture
def full(server: FakeNP6) -> FakeNP6:
    """The server with more to say than fits into a block: 2,000 activations, 20 in each second."""
    server.add_contact("MANY", [make_activation(at=NOON + 1000 * (n // 20)) for n in range(2000)])
    return server


def lines(text: str) -> list[dict[str, Any]]:
    """Those of an output, which must all be whole."""
    assert not text or text.endswith("\n")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    assert all(list(line) == ["contact", "event"] for line in found)
    return found


def ids(found: list[dict[str, Any]]) -> Counter[str]:
    return Counter(line["event"]["id"] for line in found)


def truth(server: FakeNP6, *names: str, kind: str = "all") -> Counter[str]:
    return Counter(e["id"] for name in names or [None] for e in server.account_events(kind, action=name))


def receiver(event: dict[str, Any]) -> str | None:
    """The id in the notations that FakeNP6 knows."""
    detail = event["source"]["detail"]
    ref = detail.get("activation", {}).get("receiver") or detail.get("execution", {}).get("recipient") or {}
    while ref.get("type") == "contact":
        ref = ref["value"]
    return ref.get("id") or (ref["value"] if ref.get("type") == "id" else None)


# np6 events


def test_one_request_brings_the_events_of_all_contacts_in_the_order_of_time(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each with the id of its contact, or null where it does not name it by that; a summary speaks of events."""
    assert np6("events --account") == 0
    out, err = capfd.readouterr()
    found = lines(out)
    assert ids(found) == truth(server)
    stamps = [line["event"]["timestamp"] for line in found]
    assert stamps == sorted(stamps)
    assert [line["contact"] for line in found] == [receiver(line["event"]) for line in found]
    assert {line["contact"] for line in found} == {*server.contact_ids, None}
    assert re.fullmatch(r"np6 events: 72 events in \d+\.\d s\n", err)
    server.assert_requests("GET /actions/events?sort=asc -> 200")


def test_several_actions_are_fetched_by_a_request_each(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two, *_ = server.actions
    assert np6(f"events --action {one} --action {two} --action {one}") == 0
    out, err = capfd.readouterr()
    assert ids(lines(out)) == truth(server, one, two)
    assert err.startswith("np6 events: 2 actions done, ")
    assert {request.path for request in server.requests} == {f"/actions/{each}/events" for each in (one, two)}
    assert server.request_count == 2


def test_options_reach_the_server_for_the_account_too(np6: Run, server: FakeNP6) -> None:
    options = "--kind hits/open --start 2025-10-01 --end 2026-01-01 --tz Europe/Paris --classification mpp,gsr"
    assert np6(f"events --account {options} --newest-first") == 0
    (request,) = server.requests
    assert request.path == "/actions/events/hits/open"
    assert request.query == {
        "start": "2025-09-30T22:00:00.000Z",
        "end": "2025-12-31T23:00:00.000Z",
        "classification": "mpp,gsr",
        "sort": "desc",
    }


def test_there_are_cancellations_of_all_contacts(np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    server.add_contact("A", [make_event("cancellation"), make_bounce()])
    assert np6("events --account --kind cancellations") == 0
    found = lines(capfd.readouterr().out)
    assert ids(found) == truth(server, kind="cancellations")
    assert found


def test_only_the_contacts_that_a_file_names_are_kept(
    np6: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is read as one for --ids-from; events that do not name their contact by its id cannot be told apart."""
    wanted = list(server.contact_ids[:3])
    text = "\r\n".join(["# of today", "", *[f" {each}\t" for each in wanted], "A-VERY-LONG-ID"])
    Path("ids.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    server.add_contact("A-VERY-LONG-ID", [make_bounce(contact="A-VERY-LONG-ID")])
    assert np6("events --account --only-ids ids.txt") == 0
    out, err = capfd.readouterr()
    found = lines(out)
    named = [(receiver(event), event["id"]) for event in server.account_events()]
    assert ids(found) == Counter(i for contact, i in named if contact in {*wanted, "A-VERY-LONG-ID"})
    assert {line["contact"] for line in found} == {*wanted, "A-VERY-LONG-ID"}
    without = sum(contact is None for contact, _ in named)
    assert without
    assert f"{len(found)} events in " in err
    assert f", {without} events left out whose contact is not named by its id\n" in err


def test_lines_that_are_no_ids_are_reported_and_the_others_used(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, as with --ids-from; addresses are never quoted, and what is advised exists."""
    Path("ids.txt").write_text(f"jane@example.com\n{server.contact_ids[0]}\n")
    assert np6("events --account --only-ids ids.txt") == 1
    out, err = capfd.readouterr()
    assert {line["contact"] for line in lines(out)} == {server.contact_ids[0]}
    assert "1 line of --only-ids left out" in err
    assert "ids.txt, line 1: contains '@'" in err
    assert "--only-ids compares the NP6 ids of contacts" in err
    assert "jane" not in err
    assert "--by" not in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ids.txt holds no contacts"),
        (b"# none\n\n", "ids.txt holds no contacts"),
        ("A\n".encode("utf-16"), "is UTF-16 text; convert it to UTF-8"),
        (b"A\n\xff\n", "line 2 is not UTF-8 text"),
        (b"x" * 20_000, "line 1 is too long"),
    ],
)
@pytest.mark.parametrize("command", ["events", "sync --state s --output new"])
def test_a_file_of_ids_that_cannot_be_used_ends_the_command_before_any_request(
    command: str, content: bytes, said: str, np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("ids.txt").write_bytes(content)
    assert np6(f"{command} --account --only-ids ids.txt") == 2
    out, err = capfd.readouterr()
    assert said in err
    assert out == ""
    assert server.request_count == 0


def test_an_export_of_some_contacts_is_not_resumed_as_one_of_all(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("ids.txt").write_text("A\n")
    assert np6("export --account --only-ids ids.txt --output out") == 0
    capfd.readouterr()
    assert np6("export --account --output out --resume") == 2
    assert "it was begun with --only-ids, not without --only-ids" in capfd.readouterr().err


@pytest.mark.slow
def test_ids_come_from_standard_input(server: FakeNP6) -> None:
    wanted = server.contact_ids[0]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "np6_async.cli", "events", "--account", "--only-ids", "-"],
        env={**os.environ, "NP6_API_KEY": server.api_key, "NP6_BASE_URL": server.url},
        input=wanted.encode(),
        capture_output=True,
        check=True,
    )
    assert {line["contact"] for line in lines(done.stdout.decode())} == {wanted}


@pytest.mark.parametrize("command", ["events", "sync --state s --output o", "export --output o"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--account A", "contacts cannot be combined with --account, which takes the events of all contacts"),
        ("--account --ids-from x", "--ids-from cannot be combined with --account"),
        ("--account --segment 1", "--segment cannot be combined with --account"),
        ("--account --by id", "--by cannot be combined with --account"),
        ("--account --action X", "--account takes the events of all actions: it cannot be combined with --action"),
        ("--action X --segment 1", "--only-ids FILE keeps those of some"),
        ("--action X --by hash", "--by cannot be combined with --action"),
        ("--action x/y", "argument --action: 'x/y' is not the id of an action, such as 000PE4"),
        ("--account --only-ids /none", "--only-ids: '/none' cannot be read: No such file"),
        ("--account --only-ids /", "--only-ids: '/' cannot be read: it is a directory"),
        ("--account --only-ids - --only-ids -", "--only-ids -: standard input can be read once"),
        ("A --only-ids x", "--only-ids goes with --account or --action"),
        ("A --kind cancellations", "--kind cancellations goes with --account or --action"),
        ("", "or --account for the events of all contacts"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line_before_anything_happens(
    command: str, arguments: str, said: str, np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    assert np6(f"{command} {arguments}") == 2
    out, err = capfd.readouterr()
    assert said in err
    assert (out, err.count("\n"), server.request_count) == ("", 1, 0)
    assert os.listdir() == []


def test_an_output_that_is_the_file_of_ids_is_refused(np6: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Path("ids.txt").write_text("A")
    assert np6("events --account --only-ids ids.txt --output ids.txt") == 2
    assert "--output and --only-ids are the same file" in capfd.readouterr().err


def test_broken_responses_are_no_matter_of_the_user_s(
    np6: Run, full: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    full.script(Fault.cut(after=30_000), Fault.cut(after=200_000, how="rst"), Fault.cut(after=90_000))
    assert np6("events --account") == 0
    out, err = capfd.readouterr()
    assert ids(lines(out)) == truth(full)
    assert "3 retries" in err


@pytest.mark.parametrize("order", ["", "--newest-first"])
def test_a_failure_says_up_to_which_time_the_events_are_complete(
    order: str, np6: Run, full: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1. What came is beside the target; the same command with that time fetches the rest."""
    full.script(Fault.cut(after=300_000), Fault.status(400))
    assert np6(f"events --account {order} -o out") == 1
    err = capfd.readouterr().err
    assert "np6 events:   the account: 400: the server does not accept the request" in err
    match = re.search(r"repeat the command with (--\w+ \S+) \((\d+) events? will come again\)\n", err)
    assert match
    assert (" before " in err, " on are complete" in err) == (not order, bool(order))
    assert sorted(os.listdir()) == ["out.partial"]
    assert np6(f"events --account {order} {match[1]} -o out") == 0
    both = ids(lines(Path("out.partial").read_text())) + ids(lines(Path("out").read_text()))
    assert both.total() == truth(full).total() + int(match[2])
    assert set(both) == set(truth(full))


def test_of_several_actions_each_is_said_for_itself(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """An action that the account does not have fails, or has no events; the others are fetched."""
    one = server.actions[0]
    assert np6(f"events --action NONE --action {one}") == 1
    out, err = capfd.readouterr()
    assert ids(lines(out)) == truth(server, one)
    assert "np6 events: 1 of 2 actions done, " in err
    assert "np6 events:   action NONE: 404" in err
    assert err.endswith("np6 events: action NONE: no event has arrived\n")
    assert np6(f"events --action NONE --action {one} --missing empty") == 0


def test_a_full_disk_leaves_the_time_unknown(np6: Run, full: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    assert np6("events --account -o /dev/full") == 4
    err = capfd.readouterr().err
    assert "up to which time it is complete is not known" in err
    assert "repeat the command" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_keeps_whole_lines_and_says_up_to_which_time(
    np6: Run, full: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    full.script(Fault.stall(after=400_000), times=None)

    def interrupt() -> None:
        deadline = time.monotonic() + 10
        while not full.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert np6("events --account") == 130
    out, err = capfd.readouterr()
    found = lines(out)
    assert found
    match = re.search(r"np6 events: interrupted\nnp6 events: ([\d,]+) events in .*--start (\S+) \(", err, re.DOTALL)
    assert match
    assert f"{len(found):,}" == match[1]
    full.reset()
    assert np6(f"events --account --start {match[2]}") == 0
    assert set(ids(found) + ids(lines(capfd.readouterr().out))) == set(truth(full))


def test_progress_tells_events_and_the_time_that_is_reached(
    np6: Run, full: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And no number of contacts, nor a share of a total that nobody knows."""
    monkeypatch.setattr("np6_async.cli._progress._LINE_PERIOD", 0.0)
    assert np6("events --account -v -o out") == 0
    err = capfd.readouterr().err
    assert re.search(r"np6 events: [\d,]+ events, up to 2026-01-01 12:\d\d:\d\dZ, 0 retries\n", err)
    assert "contact" not in err
    assert "%" not in err


# np6 sync


def test_a_sync_of_the_account_brings_each_event_once_over_its_runs(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    assert np6("sync --account --state s --output new --overlap 365d") == 0
    said = capfd.readouterr().err
    assert re.fullmatch(
        r"np6 sync: 72 new events in 1 file in new, \d+\.\d s, up to \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", said
    )
    server.add_contact("LATER", [make_hit(at="2026-02-01T08:00Z", contact="LATER")])
    server.script(Fault.cut(after=100))
    assert np6("sync --account --state s --output new --overlap 365d") == 0
    assert Counter(key[1] for key in synced.events(Path("new"))) == truth(server)
    assert {key[0] for key in synced.events(Path("new"))} == {*server.contact_ids, None}
    assert {request.path for request in server.requests} == {"/actions/events"}


def test_a_sync_of_actions_counts_actions(np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    one, two, *_ = server.actions
    assert np6(f"sync --action {one} --action {two} --action NONE --state s --output new") == 1
    assert Counter(key[1] for key in synced.events(Path("new"))) == truth(server, one, two)
    said = capfd.readouterr().err
    assert "2 actions done, 1 failed, the next run will resume them, " in said
    assert "contact" not in said


def test_a_sync_of_the_account_that_failed_goes_on_in_the_next_run(
    np6: Run, full: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """The summary does not claim that the events up to now are there."""
    full.script(Fault.cut(after=300_000), Fault.status(400))
    assert np6("sync --account --state s --output new") == 1
    summary, failure = capfd.readouterr().err.splitlines()
    assert summary.startswith("np6 sync: failed, the next run will resume it, ")
    assert "up to" not in summary
    assert failure.startswith("np6 sync:   the account: 400")
    assert 0 < synced.events(Path("new")).total() < truth(full).total()
    assert np6("sync --account --state s --output new") == 0
    assert Counter(key[1] for key in synced.events(Path("new"))) == truth(full)


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_a_sync_of_the_account_keeps_some_contacts_only(
    form: str, np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is said to be new is what is in the files; what was left out does not come later."""
    wanted = server.contact_ids[1]
    Path("ids.txt").write_text(wanted)
    assert np6(f"sync --account --only-ids ids.txt --format {form} --state s --output new") == 0
    named = [(receiver(event), event["id"]) for event in server.account_events()]
    kept = Counter(i for contact, i in named if contact == wanted)
    assert Counter(key[1] for key in synced.events(Path("new"))) == kept
    without = sum(contact is None for contact, _ in named)
    said = capfd.readouterr().err
    assert f"np6 sync: {kept.total()} new events in 1 file in new, " in said
    assert f", {without} events left out whose contact is not named by its id\n" in said
    assert np6("sync --account --state s --output new --overlap 0") == 0
    assert "0 new events in 0 files" in capfd.readouterr().err


def test_the_state_of_an_account_is_for_that_account(np6: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert np6("sync --account --state s --output new") == 0
    assert np6("sync --action 000PE4 --state s --output new") == 2
    assert "--state 's': this state was made for 'account all'" in capfd.readouterr().err


def test_a_log_of_a_sync_of_the_account_tells_events_and_time(
    np6: Run, full: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("np6_async.cli._progress.Timed.__init__.__defaults__", (0.0,))
    assert np6("sync --account --state s --output new") == 0
    err = capfd.readouterr().err
    assert re.search(r"np6 sync: [\d,]+ events, up to 2026-01-01 12:\d\d:\d\dZ(, [\d,]+ events/s)?\n", err)
    assert "contact" not in err


# np6 export


@pytest.mark.parametrize("form", ["ndjson", "csv --gzip", "parquet"])
def test_an_export_of_the_account_holds_every_event_once(
    form: str, np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    assert np6(f"export --account --format {form} --output out") == 0
    assert Counter(key[1] for key in exported.events(Path("out"))) == truth(server)
    assert re.fullmatch(r"np6 export: 72 events in 1 part in out, \d+\.\d s\n", capfd.readouterr().err)
    assert np6(f"export --account --format {form} --output out --resume") == 0
    assert "the export is complete: there is nothing to do" in capfd.readouterr().err
    assert server.request_count == 1


def test_an_export_of_an_action_goes_on_in_the_middle_of_its_response(
    np6: Run, full: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a failure, which ends the command with exit code 4, as one that an outage has ended."""
    full.script(Fault.cut(after=300_000), Fault.status(400))
    assert np6("export --action 000PE4 --output out") == 4
    err = capfd.readouterr().err
    assert "np6 export: action 000PE4: 400: the server does not accept the request" in err
    assert "the export is unfinished: resume it with the same command and --resume" in err
    before = exported.events(Path("out")).total()
    assert 0 < before < truth(full, "000PE4").total()
    assert np6("export --action 000PE4 --output out --resume") == 0
    assert Counter(key[1] for key in exported.events(Path("out"))) == truth(full, "000PE4")
    assert full.requests[-1].query["start"] > "2026-01-01"


def test_an_export_keeps_some_contacts_only(np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = server.contact_ids[1]
    Path("ids.txt").write_text(wanted)
    assert np6("export --account --only-ids ids.txt --output out") == 0
    named = [(receiver(event), event["id"]) for event in server.account_events()]
    kept = exported.events(Path("out"))
    assert Counter(key[1] for key in kept) == Counter(i for contact, i in named if contact == wanted)
    without = sum(contact is None for contact, _ in named)
    said = capfd.readouterr().err
    assert f"np6 export: {kept.total()} events in 1 part in out, " in said
    assert f", {without} events left out whose contact is not named by its id\n" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--account --start 7d --every 1d", "--every cannot be combined with --account"),
        ("--account --resume --retry-failed", "--retry-failed cannot be combined with --account"),
        ("--action A --action B", "an export is of one --action; export each into a folder of its own"),
    ],
)
def test_an_export_of_the_account_has_neither_windows_nor_contacts_that_failed(
    arguments: str, said: str, np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    assert np6(f"export --output out {arguments}") == 2
    assert said in capfd.readouterr().err
    assert server.request_count == 0
    assert not Path("out").exists()


def test_an_export_is_resumed_as_it_was_begun(np6: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert np6("export --account --output out") == 0
    capfd.readouterr()
    assert np6("export --action 000PE4 --output out --resume") == 2
    assert "it was begun with --account, not with --action 000PE4; repeat" in capfd.readouterr().err
    assert np6("export A --output out --resume") == 2
    assert "it was begun with --account or --action, not with contacts; repeat" in capfd.readouterr().err


def test_a_file_of_ids_that_cannot_be_used_leaves_no_folder(
    np6: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("ids.txt").write_bytes("A\n".encode("utf-16"))
    assert np6("export --account --only-ids ids.txt --output out") == 2
    assert "is UTF-16 text" in capfd.readouterr().err
    assert os.listdir() == ["ids.txt"]
    assert server.request_count == 0


def test_a_log_of_an_export_of_the_account_tells_events_and_time(
    np6: Run, full: FakeNP6, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("np6_async.cli._progress.Timed.__init__.__defaults__", (0.0,))
    assert np6("export --account --output out") == 0
    err = capfd.readouterr().err
    assert re.search(r"np6 export: [\d,]+ events, up to 2026-01-01 12:\d\d:\d\dZ(, [\d,]+ events/s)?\n", err)
    assert "contact" not in err
