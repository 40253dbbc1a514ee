"""`np6 compare` finds out which events the response for all contacts lacks, and says what follows from that."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from np6_async import NP6Client
from np6_async.cli import main
from np6_async.cli._compare import CompareCommand
from np6_async.testing import FakeNP6, Fault, make_activation, make_bounce, make_event, make_hit, make_optout

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def compare(server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`np6 compare` with these arguments; gives back the exit code."""
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, start: str | None = "2025-01-01") -> int:
        since = [] if start is None else ["--start", start]
        try:
            return main(["compare", *arguments, *since, "--base-url", server.url])
        except SystemExit as stop:
            return int(stop.code or 0)

    return run


def table(out: str) -> dict[str, tuple[int, int, int]]:
    """Its rows by type: in both, only by contact, only account-wide."""
    head, *rows = out.partition("\n\n")[0].splitlines()
    assert re.split(r"  +", head) == ["type", "in both", "only by contact", "only account-wide"]
    cells = [re.split(r"  +", row) for row in rows]
    return {name: (int(both), int(one), int(other)) for name, both, one, other in cells}


def last(out: str) -> str:
    return out.splitlines()[-1]


def test_the_same_events_both_ways_are_exit_code_0(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    """One request for each contact of the sample, and one for all contacts, for the very same time."""
    assert compare(*server.contact_ids) == 0
    out, err = capfd.readouterr()
    found = table(out)
    assert sum(both for both, _, _ in found.values()) == 72
    assert all(row[1:] == (0, 0) for row in found.values())
    assert last(out) == (
        "NP6's account-wide response has the same 72 events of 6 contacts: for these types, use the account-wide calls "
        "(--account, np6.actions), with far fewer requests."
    )
    assert re.fullmatch(
        r"np6 compare: 6 contacts from 2025-01-01T00:00:00.000Z to \S+Z, 144 events read in \d+\.\d s\n", err
    )
    assert sorted(request.path for request in server.requests) == [
        "/actions/events",
        *sorted(f"/targets/{contact}/events" for contact in server.contact_ids),
    ]
    assert len({(request.query["start"], request.query["end"]) for request in server.requests}) == 1


def test_types_that_the_account_wide_response_lacks_are_named_with_their_number(
    compare: Run, server: FakeNP6, capfd: Capture
) -> None:
    server.add_contact("A", [*(make_event("creation") for _ in range(2)), make_optout(), make_bounce()])
    server.actions_without = ["creation", "optout"]
    assert compare("A") == 1
    out, _ = capfd.readouterr()
    assert table(out) == {"bounce": (1, 0, 0), "creation": (0, 2, 0), "optout": (0, 1, 0)}
    assert last(out) == (
        "NP6's account-wide response lacks creations (2) and opt-outs (1): if you need them, fetch by contact; for the "
        "other types, the account-wide calls (--account, np6.actions) do, with far fewer requests."
    )


def test_where_everything_is_lacking_there_are_no_other_types(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    server.add_contact("A", [make_event("reply")])
    server.actions_without = ["reply"]
    assert compare("A") == 1
    said = "NP6's account-wide response lacks replies (1): if you need them, fetch by contact."
    assert last(capfd.readouterr().out) == said


def test_events_that_come_account_wide_only_are_found_as_well(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    """As a cancellation of which the contact's own response knows nothing; events of others do not count."""
    server.add_contact("A", [make_bounce(contact="A"), make_bounce(contact="A")])
    server.add_contact("B", [make_event("cancellation", contact="A"), make_bounce(contact="A"), make_hit(contact="B")])
    assert compare("A") == 1
    out, _ = capfd.readouterr()
    assert table(out) == {"bounce": (2, 0, 1), "cancellation": (0, 0, 1)}
    assert last(out) == (
        "NP6's responses by contact lack some bounces (1 of 3) and cancellations (1): use the account-wide calls "
        "(--account, np6.actions) for them."
    )


def test_events_are_told_apart_by_their_id_or_else_by_what_they_are(
    compare: Run, server: FakeNP6, capfd: Capture
) -> None:
    """Three equal ones without an id are three."""
    without = {**make_event("impression", contact="A", at="2025-06-01"), "id": None}
    server.add_contact("A", [without] * 3)
    assert compare("A") == 0
    assert table(capfd.readouterr().out) == {"impression": (3, 0, 0)}


def test_the_order_of_the_members_of_an_event_without_an_id_makes_no_difference(
    compare: Run, server: FakeNP6, capfd: Capture
) -> None:
    event = {**make_event("impression", contact="A", at="2025-06-01"), "id": None}
    server.add_contact("A", [event])
    server.set_raw("A", f"[{json.dumps(dict(reversed(event.items())), indent=1)}]".encode())
    assert compare("A") == 0
    assert table(capfd.readouterr().out) == {"impression": (1, 0, 0)}


@pytest.mark.parametrize("id", ["ef0e9a0a", None])
def test_what_is_published_between_the_requests_is_no_difference(
    id: str | None, compare: Run, server: FakeNP6, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is late, and in the account-wide response alone until its contact is asked once more. One that never comes by
    contact remains a difference, also where it is like others that do."""
    alike = {**make_event("impression", contact="A", at="2025-06-01"), "id": None}
    server.add_contact("A", [make_bounce(contact="A"), alike])
    server.add_contact("B", [make_bounce(contact="A"), alike])
    fetch_account = CompareCommand._fetch_account

    async def publish(command: CompareCommand, np6: NP6Client) -> None:
        server.add_events("A", [{**make_hit(contact="A", at="2025-07-01"), "id": id}])
        await fetch_account(command, np6)

    monkeypatch.setattr(CompareCommand, "_fetch_account", publish)
    assert compare("A") == 1
    out, _ = capfd.readouterr()
    assert table(out) == {"bounce": (1, 0, 1), "hit": (1, 0, 0), "impression": (1, 0, 1)}
    assert [request.contact for request in server.requests] == ["A", None, "A"]


def test_the_sample_is_the_first_contacts(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    """From files and segments as well; one that is named twice is one."""
    Path("ids.txt").write_text("\n".join([server.contact_ids[0], *server.contact_ids]))
    assert compare("--ids-from", "ids.txt", "--sample", "3") == 0
    asked = [request.contact for request in server.requests if request.contact]
    assert sorted(asked) == sorted(server.contact_ids[:3])
    assert "np6 compare: 3 contacts from " in capfd.readouterr().err
    server.reset()
    assert compare("--segment", "1", "--sample", "2") == 0
    assert len({request.contact for request in server.requests if "/events" in request.path} - {None}) == 2


def test_what_may_still_appear_is_not_compared(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    """Nothing of the last two minutes, whatever the --end."""
    now = datetime.now(UTC)
    server.add_contact("A", [make_hit(at=now - timedelta(seconds=60)), make_hit(at=now - timedelta(minutes=5))])
    assert compare("A", "--end", "2999-01-01", start="1h") == 0
    assert table(capfd.readouterr().out) == {"hit": (1, 0, 0)}
    assert compare("A", "--end", "4m", start="1h") == 0
    assert compare("A", "--end", "10m", start="1h") == 1


def test_a_kind_is_compared_with_the_same_kind(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    server.add_contact("A", [make_hit(), make_bounce()])
    assert compare("A", "--kind", "bounces") == 0
    assert table(capfd.readouterr().out) == {"bounce": (1, 0, 0)}
    assert {request.path for request in server.requests} == {"/actions/events/bounces", "/targets/A/events/bounces"}


def test_no_events_are_no_agreement(compare: Run, capfd: Capture) -> None:
    assert compare("NOBODY") == 1
    out, _ = capfd.readouterr()
    assert out == (
        "Nothing was compared: 1 contact without an event in this time. Take more time, or other contacts.\n"
    )


def test_a_contact_that_fails_leaves_the_sample(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    """Of its events some are missing: they would look like a difference."""
    server.add_contact("A", [make_activation(contact="A") for _ in range(300)])
    server.script(Fault.cut(after=60_000), Fault.status(400), contact="A")
    assert compare("A", server.contact_ids[0]) == 1
    out, err = capfd.readouterr()
    assert all(row[1:] == (0, 0) for row in table(out).values())
    assert "np6 compare: 1 contact from " in err
    assert ", 1 failed, " in err
    assert "contact A: 400" in err


def test_an_account_wide_response_that_fails_is_no_result(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    server.script(Fault.status(403), path="/actions/*", times=None)
    assert compare(*server.contact_ids) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert "403" in err


def test_broken_responses_make_no_difference(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    for contact in server.contact_ids:
        server.script(Fault.cut(after=3_000), contact=contact)
    server.script(Fault.cut(after=9_000), Fault.cut(after=4_000, how="rst"), path="/actions/*")
    assert compare(*server.contact_ids) == 0
    assert "8 retries" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("A", "give a --start"),
        ("A --start 1m", "--start 1m is not before --end and 2 minutes ago"),
        ("A --start 2999-01-01", "--start 2999-01-01 is not before --end and 2 minutes ago"),
        ("A --start 1d --kind cancellations", "--kind cancellations cannot be compared: NP6 has none by contact"),
        ("--start 1d", "no contacts: give some, a file of them with --ids-from, or a segment with --segment"),
        ("jane@example.com --start 1d", "contact 1 contains '@'; np6 compare takes the NP6 ids of contacts"),
        ("A --start 1d --by unicity", "there is no option --by"),
        ("A --start 1d --sample 0", "'0' is not a whole number from 1 to 100000"),
        ("--start 1d --ids-from none", "--ids-from: 'none' cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    arguments: str, said: str, compare: Run, server: FakeNP6, capfd: Capture
) -> None:
    assert compare(*arguments.split(), start=None) == 2
    out, err = capfd.readouterr()
    assert said in err
    assert "jane" not in err
    assert (out, err.count("\n"), server.request_count) == ("", 1, 0)


def test_an_empty_file_is_exit_code_2(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    Path("ids.txt").touch()
    assert compare("--ids-from", "ids.txt") == 2
    assert capfd.readouterr().err == "np6 compare: ids.txt holds no contacts\n"
    assert server.request_count == 0


def test_no_contact_is_on_the_screen(compare: Run, server: FakeNP6, capfd: Capture) -> None:
    """Nor what a type of event that the server made up would do to a terminal."""
    server.add_contact("SECRET", [{**make_bounce(contact="SECRET"), "type": "\x1b[31mred"}])
    assert compare("SECRET", *server.contact_ids[:3]) == 0
    said = "".join(capfd.readouterr())
    assert "\x1b" not in said
    assert not any(contact in said for contact in ["SECRET", *server.contact_ids])
    assert os.listdir() == []
