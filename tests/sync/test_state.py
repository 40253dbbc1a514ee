"""The progress of a contact: what is requested, recognised, remembered, and kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from np6_async import Event, Window, structure
from np6_async.sync import _state
from np6_async.sync._state import State

OVERLAP = 10


def event(at: int, id_: str | None = None) -> Event:
    return structure({"type": "hit", "timestamp": at, **({"id": id_} if id_ else {})})


def reopened(progress: State, overlap: int = OVERLAP) -> State:
    return State.decode(overlap, progress.encode())


def test_a_contact_without_a_state_is_requested_from_start_on() -> None:
    assert State(OVERLAP, None).window(100) == Window(None, 100)
    assert State(OVERLAP, 7).window(100) == Window(7, 100)
    assert State(OVERLAP, 200).window(100).empty


def test_the_watermark_is_the_last_event_and_then_the_end() -> None:
    progress = State(OVERLAP, None)
    progress.advance([event(50), event(70)])
    assert reopened(progress).window(100) == Window(60, 100)
    progress.complete(100)
    assert reopened(progress).window(200) == Window(90, 200)


def test_nothing_before_the_start_is_requested_even_where_the_overlap_is_longer() -> None:
    progress = State(OVERLAP, 98)
    progress.complete(100)
    assert reopened(progress).window(200) == Window(98, 200)


@pytest.mark.parametrize("end", [100, 99, 1])
def test_nothing_is_requested_twice_when_the_clock_stops_or_goes_back(end: int) -> None:
    progress = State(OVERLAP, None)
    progress.complete(100)
    assert reopened(progress).window(end).empty
    progress.complete(end)
    assert reopened(progress).window(200) == Window(90, 200)


def test_a_late_event_does_not_move_the_watermark_back() -> None:
    progress = State(OVERLAP, None)
    progress.complete(100)
    progress = reopened(progress)
    progress.advance([event(91, "late")])
    assert reopened(progress).window(200) == Window(90, 200)
    assert reopened(progress).fresh([event(91, "late"), event(92)]) == [event(92)]


def test_a_longer_overlap_takes_effect_over_time() -> None:
    """What was not remembered is not requested; a shorter one takes effect at once."""
    progress = State(OVERLAP, None)
    progress.complete(100)
    progress = reopened(progress, 50)
    progress.complete(120)
    assert progress.window(200) == Window(90, 200)
    progress.complete(150)
    assert progress.window(200) == Window(100, 200)
    progress = reopened(progress, 1)
    progress.complete(151)
    assert progress.window(200) == Window(150, 200)


def test_a_shorter_overlap_recognises_what_a_longer_one_has_seen() -> None:
    """In the run that is the first with it, and after a late event too, of which it remembers nothing."""
    progress = State(50, None)
    progress.advance([event(60, "a"), event(61, "b")])
    progress.complete(100)
    progress = reopened(progress, 5)
    late = event(55, "late")
    assert progress.window(200) == Window(50, 200)
    assert progress.fresh([late]) == [late]
    progress.advance([late])
    assert progress.fresh([event(60, "a"), event(61, "b")]) == []
    assert reopened(progress, 5).window(200) == Window(95, 200)


def test_a_state_is_17_bytes_and_24_for_each_event_of_the_overlap() -> None:
    progress = State(OVERLAP, None)
    progress.advance([event(at) for at in (1, 2, 3, 80, 89, 90, 95, 95, 99)])
    progress.complete(100)
    assert len(progress.encode()) == 17 + 4 * 24


def test_beyond_10_000_events_the_overlap_begins_after_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is delivered twice, and nothing that is on time is lost."""
    assert _state.MOST == 10_000
    monkeypatch.setattr(_state, "MOST", 3)
    progress = State(OVERLAP, None)
    progress.advance([event(at, f"{at}{tie}") for at in (91, 92, 93) for tie in "ab"])
    progress.complete(100)
    progress = reopened(progress)
    assert progress.window(200) == Window(93, 200)
    new = event(100, "new")
    assert progress.fresh([event(93, "93a"), event(93, "93b"), new]) == [new]
    assert len(progress.encode()) == 17 + 2 * 24


def test_all_events_of_the_timestamp_at_which_a_response_broke_off_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_state, "MOST", 3)
    tied = [event(50, str(number)) for number in range(9)]
    progress = State(OVERLAP, None)
    progress.advance([event(49, "before"), *tied[:5]])
    progress = reopened(progress)
    assert progress.window(100) == Window(50, 100)
    assert progress.fresh(list(tied)) == tied[5:]


times = st.integers(0, 40)
events = st.builds(event, times, st.sampled_from([None, None, "a", "b", "c"]))


@pytest.mark.slow
@given(st.data())
def test_each_event_once_wherever_responses_break_off(data: st.DataObject) -> None:
    """Any events, in any order of publication, but not later than the overlap; any sizes of batches; any ends."""
    published: list[Event] = []
    got: list[Event] = []
    now = 0
    state: bytes | None = None
    asked = 0  # up to there, and an event must not be published later than the overlap before it
    for _ in range(data.draw(st.integers(1, 6))):
        now += data.draw(st.integers(0, 15))
        for each in data.draw(st.lists(events, max_size=12)):
            known = {(e.timestamp, e.id) for e in published if e.id}
            if each.timestamp >= asked - OVERLAP and (each.timestamp, each.id) not in known:
                published.append(each)
        progress = State(OVERLAP, None) if state is None else State.decode(OVERLAP, state)
        window = progress.window(now)
        response = [each for each in published if window.contains(each.timestamp)]
        response = sorted(data.draw(st.permutations(response)), key=lambda each: each.timestamp)
        broken = data.draw(st.integers(0, len(response) + 1))
        size = data.draw(st.integers(1, 5))
        for at in range(0, min(broken, len(response)), size):
            if fresh := progress.fresh(response[at : min(at + size, broken)]):
                got += fresh
                progress.advance(fresh)
                state = progress.encode()
        if broken > len(response):
            progress.complete(now)
            state = progress.encode()
        asked = now
    progress = State(OVERLAP, None) if state is None else State.decode(OVERLAP, state)
    last = sorted((e for e in published if progress.window(100).contains(e.timestamp)), key=lambda e: e.timestamp)
    if last:
        got += progress.fresh(last)
    assert counted(got) == counted(published)


def counted(given: list[Event]) -> Counter[Any]:
    return Counter((each.timestamp, each.id) for each in given)
