"""What a report counts is what happened: the same numbers as by hand, whatever the events, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies

from np6_async import Activation, Bounce, Event, Hit, InvalidInput, Optout, structure
from np6_async.report import Report, _days, _domains, _rows
from np6_async.report._days import Days, begin, following
from np6_async.report._domains import LEAST, Domains
from np6_async.report._rows import SENT, SERIES, Rows
from np6_async.report._tally import Tally
from np6_async.testing import FakeNP6, make_activation, make_bounce, make_event, make_hit, make_optout

PARIS: Final = ZoneInfo("Europe/Paris")
AT: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)


def events_of(server: FakeNP6, kind: str) -> list[Event]:
    return [structure(each) for contact in server.contact_ids for each in server.events(contact, kind)]


def series_of(event: Event) -> str | None:
    """By the words of the documentation."""
    match event:
        case Activation():
            return "sent"
        case Bounce():
            return "bounced"
        case Hit(link=link) if link is not None and link.type == "open":
            return "opened"
        case Hit(link=link) if link is not None and link.type == "redirection":
            return "clicked"
        case Optout():
            return "stopped"
    return None


def by_hand(events: list[Event], key: Callable[[Event], Any]) -> dict[Any, list[int]]:
    """A naive count."""
    counts = Counter((key(event), series_of(event)) for event in events)
    keys = {key(event) for event in events if series_of(event)}
    return {each: [counts[each, series] for series in SERIES] for each in keys}


def tallied(events: list[Event], tz: Any = UTC) -> Tally:
    tally = Tally(tz)
    for begins in range(0, len(events), 7):
        tally.add(events[begins : begins + 7], robots=False)
    return tally


@pytest.fixture(scope="module")
def account() -> list[Event]:
    """An account, with the hits as NP6 gives them where hits are asked for."""
    with FakeNP6(60, 40) as server:
        others = [event for event in events_of(server, "all") if not isinstance(event, Hit)]
        return others + events_of(server, "hits")


@pytest.mark.parametrize("tz", [UTC, PARIS, ZoneInfo("Pacific/Chatham")], ids=str)
def test_an_account_is_counted_as_by_hand(account: list[Event], tz: Any) -> None:
    tally = tallied(account, tz)
    totals = tally.totals
    series = Counter(map(series_of, account))
    assert [getattr(totals, name) for name in SERIES] == [series[name] for name in SERIES]
    assert min(series[name] for name in SERIES) > 0
    verdicts = Counter(event.verdict for event in account if isinstance(event, Bounce))
    assert (totals.hard, totals.soft) == (verdicts["hard"], verdicts["soft"])
    assert totals.events == len(account)

    def action(event: Event) -> str:
        message = event.activation or event.execution
        return (message.id if message else None) or ""

    assert dict(tally.actions.largest()) == by_hand(account, action)
    days = by_hand(account, lambda event: event.at.astimezone(tz).date())
    assert tally.days._rows == days
    codes = Counter(e.status.code.enhanced for e in account if isinstance(e, Bounce) and e.status and e.status.code)
    assert {code: row[1] for code, row in tally.codes.largest()} == codes


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(strategies.events(), max_size=40), st.sampled_from([UTC, PARIS]))
def test_whatever_the_events_the_sums_of_every_table_are_the_totals(sent: list[dict[str, Any]], tz: Any) -> None:
    events = [structure(each) for each in sent]
    tally = tallied(events, tz)
    totals = [getattr(tally.totals, name) for name in SERIES]
    series = Counter(map(series_of, events))
    assert totals == [series[name] for name in SERIES]
    for rows, others in (
        ([row for _, row in tally.actions.largest()], tally.actions.others),
        ([row for _, row in tally.domains.shown(9)[0]], tally.domains.shown(9)[1]),
        ([row for _, row in tally.days.columns()[2]], _rows.new_row()),
    ):
        assert [sum(column) for column in zip(*rows, others, strict=True)] == totals
    assert sum(row[1] for _, row in tally.codes.largest()) == tally.totals.bounced
    assert tally.totals.events == len(events)
    assert Report().html()


def test_hits_of_robots_are_not_opens_and_are_told_apart() -> None:
    """All events, of which some hits are of robots; and the hits once more, without those."""
    with FakeNP6(60, 40) as server:
        everything, hits = events_of(server, "all"), events_of(server, "hits")
    report = Report()
    report.add(everything, robots=True)
    assert (report.totals.opened, report.totals.clicked, report.totals.robots) == (0, 0, 0)
    report.add(hits)
    assert report.totals.opened == sum(series_of(event) == "opened" for event in hits)
    robots = sum(isinstance(event, Hit) for event in everything) - len(hits)
    assert report.totals.robots == robots > 0
    assert f"{robots:,} hits of robots were left out" in report.html()


# Days


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)),  # noqa: DTZ001 - hypothesis takes these alone
    st.sampled_from(
        [
            "Europe/Paris",
            "Asia/Kathmandu",
            "America/Sao_Paulo",
            "Africa/Monrovia",
            "Pacific/Apia",
            "Australia/Lord_Howe",
        ]
    ),
)
def test_a_day_is_that_of_the_zone(at: datetime, zone: str) -> None:
    """Also where midnight lies within an hour of UTC, or is skipped."""
    days = Days(ZoneInfo(zone))
    for minutes in range(0, 120, 15):
        moment = at.replace(tzinfo=UTC, microsecond=0) + timedelta(minutes=minutes)
        days.of(int(moment.timestamp() * 1000))[SENT] += 1
        assert moment.astimezone(ZoneInfo(zone)).date() in days._rows


@given(st.lists(st.integers(0, 253_402_300_799_999), min_size=1, max_size=30), st.sampled_from([UTC, PARIS]))
def test_columns_are_few_and_without_a_gap_and_hold_every_day(times: list[int], tz: Any) -> None:
    days = Days(tz)
    for at in times:
        days.of(at)[SENT] += 1
    unit, step, columns = days.columns()
    assert 1 <= len(columns) <= 62
    assert sum(row[SENT] for _, row in columns) == len(times)
    for (first, _), (second, _) in pairwise(columns):
        at: date | None = first
        for _ in range(step):
            at = following(at, unit) if at else None
        assert at == second == begin(second, unit)


@pytest.mark.parametrize(
    ("length", "unit"), [(1, "day"), (62, "day"), (64, "week"), (420, "week"), (500, "month"), (2_500, "year")]
)
def test_the_unit_follows_from_the_length_of_time(length: int, unit: str) -> None:
    days = Days(UTC)
    for number in range(length):
        days.of(int((AT + timedelta(number)).timestamp() * 1000))[SENT] += 1
    assert days.columns()[:2] == (unit, 1)


def test_very_long_times_are_counted_by_weeks_months_or_years(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_days, "_MOST_DAYS", 20)
    days = Days(UTC)
    for number in range(2_000):
        days.of(int((AT + timedelta(number)).timestamp() * 1000))[SENT] += 1
        assert len(days._rows) <= 21
    assert days.unit == "year"
    assert {day.year: row[SENT] for day, row in days._rows.items()}[2027] == 365


# Rows


@given(st.lists(st.sampled_from("abcdefghijkl"), max_size=200), st.integers(1, 15))
def test_rows_are_exact_up_to_twice_their_number_and_lose_nothing_beyond(keys: list[str], most: int) -> None:
    rows = Rows(most)
    for key in keys:
        rows.of(key)[SENT] += 1
        assert len(rows.largest()) <= 2 * most
    counts = Counter(keys)
    kept = {key: row[SENT] for key, row in rows.largest()}
    if len(counts) <= 2 * most:
        assert kept == counts
        assert not rows.folded
    assert all(number <= counts[key] for key, number in kept.items())
    assert sum(kept.values()) + rows.others[SENT] == len(keys)


def test_what_is_frequent_all_the_time_is_not_given_up() -> None:
    rows = Rows(5)
    for number in range(3_000):
        rows.of("frequent")[SENT] += 1
        rows.of(f"rare {number}")[SENT] += 1
    assert rows.largest()[0] == ("frequent", [3_000, 0, 0, 0, 0])


def test_a_key_of_any_length_takes_little_memory() -> None:
    rows = Rows(5)
    rows.of("x" * 100_000)[SENT] += 1
    rows.of("y" * 100_000)[SENT] += 1
    assert rows.largest() == [("(too long)", [2, 0, 0, 0, 0])]


# Domains


def test_a_domain_is_told_where_ten_people_share_it() -> None:
    """Not ten messages."""
    domains = Domains()
    for number in range(LEAST):
        assert domains.shown(9)[0] == []
        for name in (f"p{number}", f"P{number}"):
            domains.of(f"{name}@Shared.example")[SENT] += 1
        domains.of("one@own.example")[SENT] += 1
    ((name, row),), others, count = domains.shown(9)
    assert (name, row[SENT]) == ("shared.example", 2 * LEAST)
    assert (others[SENT], count) == (LEAST, 1)


@pytest.mark.parametrize(
    "address", [None, "", "0612345678", "anne@", "anne@localhost", "anne@a b.example", "a@<script>", "a@-x.example"]
)
def test_what_has_no_domain_is_counted_apart(address: str | None) -> None:
    domains = Domains()
    domains.of(address)[SENT] += 1
    (named,), others, count = domains.shown(9)
    assert named == ("", [1, 0, 0, 0, 0])
    assert (sum(others), count) == (0, 0)


def test_of_many_domains_the_large_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_domains, "_MOST", 10)
    domains = Domains()
    for number in range(500):
        domains.of(f"p{number}@large.example")[SENT] += 1
        domains.of(f"p@{number}.example")[SENT] += 1
        assert len(domains._few) <= 20
    ((name, row),), others, _ = domains.shown(9)
    assert (name, row[SENT]) == ("large.example", 500)
    assert others[SENT] == 500
    assert not domains.exact


@pytest.mark.parametrize(
    "receiver",
    [
        {"type": "id", "value": "0013KDC0"},
        {"type": "unicity", "value": ["p{}@shared.example"]},
        {"type": "footprint", "id": "A", "unicity": "p{}@shared.example", "hash": "0f"},
        {"type": "footprint", "id": "A", "unicity": ["p{}@shared.example"]},
    ],
    ids=lambda ref: ref["type"],
)
def test_the_address_is_found_in_every_notation(receiver: dict[str, Any]) -> None:
    events = []
    for number in range(LEAST):
        event = make_activation()
        activation = event["source"]["detail"]["activation"]
        filled = {k: [v[0].format(number)] if isinstance(v, list) else v.format(number) for k, v in receiver.items()}
        activation["receiver"] = filled
        activation["recipient"] = f"p{number}@shared.example" if receiver["type"] == "id" else None
        events.append(structure(event))
    shown, _, _ = tallied(events).domains.shown(9)
    assert [name for name, _ in shown] == ["shared.example"]


# Arguments


@pytest.mark.parametrize("title", ["", "  ", "x" * 201, None, 5])
def test_a_title_that_is_none_is_refused(title: Any) -> None:
    with pytest.raises(InvalidInput, match="title= is a text of 1 to 200 characters"):
        Report(title)


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is no time zone; use one such as"):
        Report(tz="Europe/Paris")  # type: ignore[arg-type]


def test_a_report_shows_how_many_events_it_has() -> None:
    report = Report("secret@example.com")
    report.add(map(structure, [make_activation(), make_bounce(), make_hit(), make_optout(), make_event("delivery")]))
    assert repr(report) == "Report(events=5)"
    assert attrgetter(*SERIES)(report.totals) == (1, 1, 1, 0, 1)
