"""What resuming promises: each event once, in order, wherever the responses broke off."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from np6_async._errors import LimitExceeded, OrderError
from np6_async._models.events import Event, structure
from np6_async._models.time_bounds import Window, isoformat
from np6_async._protocol import resume as resuming
from np6_async._protocol.resume import ResumePoint

MAX_TIMESTAMP = 253_402_300_799_999


def event(timestamp: int, id: Any = None, **others: Any) -> Event:
    return structure({"timestamp": timestamp, "id": id, **others})


def batches(events: list[Event], size: int) -> list[list[Event]]:
    return [events[i : i + size] for i in range(0, len(events), size)]


class Server:
    """All events of one contact; responses like the API: filtered, sorted, ties in a new order each time."""

    def __init__(self, events: list[Event], *, newest_first: bool, rng: random.Random) -> None:
        self.events = events
        self.newest_first = newest_first
        self.rng = rng
        self.windows: list[Window] = []

    def response(self, window: Window) -> list[Event]:
        self.windows.append(window)
        events = [e for e in self.events if window.contains(e.timestamp)]
        self.rng.shuffle(events)
        events.sort(key=lambda e: e.timestamp, reverse=self.newest_first)
        return events


def fetch(server: Server, resume: ResumePoint, cuts: list[int], size: Callable[[], int] = lambda: 3) -> list[Event]:
    """The events delivered where the responses break off after `cuts` events, and the last one does not."""
    delivered: list[Event] = []
    for cut in [*cuts, None]:
        response = server.response(resume.window)
        resume.restart()
        for batch in batches(response[:cut], size()):
            delivered += resume.accept(batch)
    return delivered


def in_order(events: list[Event], newest_first: bool) -> bool:
    times = [e.timestamp for e in events]
    return times == sorted(times, reverse=newest_first)


def same(one: list[Event], other: list[Event]) -> bool:
    return sorted(e.raw for e in one) == sorted(e.raw for e in other)


# Few timestamps, so that ties are the normal case; some ids missing, some events alike to the last byte.
stamps = st.integers(1000, 1012)
named = st.tuples(stamps, st.integers(0, 10**6))
nameless = st.tuples(stamps, st.sampled_from([None, ""]), st.integers(0, 2))
bounds = st.none() | st.integers(998, 1014)


@pytest.mark.slow
@given(
    st.lists(named, max_size=25, unique=True),
    st.lists(nameless, max_size=8),
    st.booleans(),
    bounds,
    bounds,
    st.lists(st.integers(0, 30), max_size=12),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300)
def test_every_event_is_delivered_once_and_in_order_whatever_breaks(
    ids: list[Any], others: list[Any], newest_first: bool, start: Any, end: Any, cuts: list[int], rng: random.Random
) -> None:
    events = [event(at, f"{at}-{n}") for at, n in ids] + [event(at, no_id, n=n) for at, no_id, n in others]
    window = Window(start, end)
    server = Server(events, newest_first=newest_first, rng=rng)
    resume = ResumePoint(window, newest_first=newest_first)
    delivered = fetch(server, resume, cuts, lambda: rng.choice((1, 2, 3, 50)))
    assert same(delivered, [e for e in events if window.contains(e.timestamp)])
    assert in_order(delivered, newest_first)
    assert resume.delivered_to == (delivered[-1].timestamp if delivered else None)


@pytest.mark.slow
@given(
    st.lists(named, min_size=1, max_size=25, unique=True),
    st.booleans(),
    st.lists(st.integers(0, 30), max_size=6),
    st.randoms(use_true_random=False),
)
def test_an_event_sent_twice_in_one_response_is_delivered_once(
    ids: list[Any], newest_first: bool, cuts: list[int], rng: random.Random
) -> None:
    events = [event(at, f"{at}-{n}") for at, n in ids]
    twice = events + rng.choices(events, k=10)
    server = Server(twice, newest_first=newest_first, rng=rng)
    delivered = fetch(server, ResumePoint(Window(), newest_first=newest_first), cuts, lambda: rng.choice((1, 2, 50)))
    assert same(delivered, events)
    assert in_order(delivered, newest_first)


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize("with_ids", [True, False])
def test_a_cut_at_any_event_of_a_list_with_ties_loses_and_repeats_none(
    newest_first: bool, size: int, with_ids: bool
) -> None:
    times = [10, 20, 20, 20, 30, 40, 40, 50, 50, 50, 50, 60]
    events = [event(at, str(n) if with_ids else None, n=n % 3) for n, at in enumerate(times)]
    for first in range(13):
        for second in range(13):
            server = Server(events, newest_first=newest_first, rng=random.Random(first))
            resume = ResumePoint(Window(10, 61), newest_first=newest_first)
            delivered = fetch(server, resume, [first, second], lambda: size)
            assert same(delivered, events)
            assert in_order(delivered, newest_first)


def test_a_response_wider_than_the_window_is_trimmed_to_it() -> None:
    """A server that ignores the bounds changes nothing."""
    events = [event(at, str(at)) for at in range(10)]
    for newest_first in (False, True):
        ordered = events[::-1] if newest_first else events
        for start in (None, 0, 3, 9, 20):
            for end in (None, 0, 4, 7, 9, 20):
                for size in (1, 3, 10):
                    resume = ResumePoint(Window(start, end), newest_first=newest_first)
                    resume.restart()
                    delivered = [e for batch in batches(ordered, size) for e in resume.accept(batch)]
                    assert delivered == [e for e in ordered if Window(start, end).contains(e.timestamp)]


def test_a_server_that_ignores_the_narrower_window_of_a_second_request_changes_nothing() -> None:
    for newest_first in (False, True):
        events = [event(at // 2, str(at)) for at in range(10)]
        ordered = events[::-1] if newest_first else events
        for cut in range(11):
            resume = ResumePoint(Window(), newest_first=newest_first)
            resume.restart()
            delivered = resume.accept(ordered[:cut]) if cut else []
            resume.restart()
            delivered = delivered + [e for batch in batches(ordered, 3) for e in resume.accept(batch)]
            assert delivered == ordered


# --- what is requested again --------------------------------------------------------------------------


def test_the_window_stays_as_requested_until_an_event_is_delivered() -> None:
    window = Window(5, 50)
    resume = ResumePoint(window)
    assert resume.window == window
    resume.restart()
    assert resume.accept([event(60, "late")]) == []
    assert resume.window == window
    assert resume.delivered_to is None


@pytest.mark.parametrize("bounds", [Window(), Window(5, 50), Window(5), Window(None, 50)])
def test_the_window_is_trimmed_to_what_was_not_delivered_and_the_last_timestamp(bounds: Window) -> None:
    resume = ResumePoint(bounds)
    resume.restart()
    resume.accept([event(10, "a"), event(20, "b")])
    assert resume.window == Window(20, bounds.end)
    assert resume.delivered_to == 20
    resume = ResumePoint(bounds, newest_first=True)
    resume.restart()
    resume.accept([event(20, "a"), event(10, "b")])
    assert resume.window == Window(bounds.start, 11)
    assert resume.delivered_to == 10


def test_the_first_and_the_last_millisecond_can_be_requested_again() -> None:
    for newest_first in (False, True):
        for at in (0, 1, MAX_TIMESTAMP):
            resume = ResumePoint(Window(), newest_first=newest_first)
            resume.restart()
            assert len(resume.accept([event(at, "a")])) == 1
            assert resume.delivered_to == at
            window = resume.window
            assert window.contains(at)
            for bound in (window.start, window.end):
                assert bound is None or isoformat(bound)
            resume.restart()
            assert resume.accept([event(at, "a")]) == []


def test_equal_events_without_an_id_are_counted_and_not_merged() -> None:
    alike = [event(5) for _ in range(5)]
    for before in range(6):
        resume = ResumePoint(Window())
        resume.restart()
        count = sum(len(resume.accept([e])) for e in alike[:before])
        resume.restart()
        count += sum(len(resume.accept([e])) for e in alike)
        resume.restart()
        count += len(resume.accept(alike))
        assert count == 5


def test_an_empty_id_counts_as_none() -> None:
    resume = ResumePoint(Window())
    resume.restart()
    assert len(resume.accept([event(5, "", n=1), event(5, "", n=2), event(5, "x")])) == 3
    resume = ResumePoint(Window())
    resume.restart()
    assert [len(resume.accept([event(at, "", n=n)])) for n, at in enumerate((5, 5, 6))] == [1, 1, 1]


def test_the_same_id_at_another_timestamp_is_another_event() -> None:
    resume = ResumePoint(Window())
    resume.restart()
    assert len(resume.accept([event(5, "a"), event(6, "a")])) == 2
    assert len(resume.accept([event(7, "a")])) == 1


# --- order and limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_broken_order_is_an_error_before_any_later_event(newest_first: bool, size: int) -> None:
    good = [event(at, str(at)) for at in (10, 20, 30, 40)]
    for wrong in range(1, 5):
        events = [*good[:wrong], event(5, "late"), *good[wrong:]]
        if newest_first:
            events = [event(100 - e.timestamp, e.id) for e in events]
        resume = ResumePoint(Window(), newest_first=newest_first)
        resume.restart()
        delivered: list[Event] = []
        error = None
        for batch in batches(events, size):
            try:
                delivered += resume.accept(batch)
            except OrderError as caught:
                error = caught
                break
        assert ("descending" if newest_first else "ascending") in str(error)
        assert delivered == events[: len(delivered)]
        assert len(delivered) <= wrong
        # What was delivered is known, so that a later run can resume there.
        assert resume.delivered_to == (delivered[-1].timestamp if delivered else None)


def test_events_outside_the_window_must_be_in_order_too() -> None:
    resume = ResumePoint(Window(10, 20))
    resume.restart()
    with pytest.raises(OrderError):
        resume.accept([event(30, "a"), event(15, "b")])
    resume = ResumePoint(Window(10, 20))
    resume.restart()
    assert resume.accept([event(30, "a")]) == []
    with pytest.raises(OrderError):
        resume.accept([event(15, "b")])


def test_the_order_of_one_response_says_nothing_about_the_next() -> None:
    resume = ResumePoint(Window())
    resume.restart()
    resume.accept([event(10, "a"), event(20, "b")])
    resume.restart()
    assert [e.id for e in resume.accept([event(10, "a"), event(20, "b"), event(20, "c")])] == ["c"]


@pytest.mark.parametrize("with_ids", [True, False])
def test_more_ties_than_can_be_remembered_are_a_limit(with_ids: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "MAX_TIES", 10)
    ties = [event(20, f"{n}" if with_ids else None, n=n) for n in range(11)]
    resume = ResumePoint(Window())
    resume.restart()
    assert len(resume.accept([event(10, "a"), *ties[:10]])) == 11
    with pytest.raises(LimitExceeded):
        resume.accept(ties[10:])
    assert resume.delivered_to == 20
    resume = ResumePoint(Window())
    resume.restart()
    resume.accept([event(10, "a")])
    with pytest.raises(LimitExceeded):
        resume.accept([event(15, "b"), event(20, "0"), *ties])
    assert resume.delivered_to == 10


def test_ties_are_limited_per_timestamp_and_not_in_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "MAX_TIES", 3)
    events = [event(at, f"{at}-{n}") for at in range(50) for n in range(3)]
    resume = ResumePoint(Window())
    resume.restart()
    delivered = [e for batch in batches(events, 7) for e in resume.accept(batch)]
    assert delivered == events
    assert resume.accept([event(50), event(50, "")]) != []
    assert len(resume.accept([event(60, "a"), event(60, "b")]) + resume.accept([event(60, "c")])) == 3
    assert all(len(list(group)) == 3 for _, group in groupby(delivered, lambda e: e.timestamp))
