"""The small parts of the command line that need no server."""

from __future__ import annotations

import io
import re

import pytest

from np6_async import (
    ConnectError,
    Contact,
    Failure,
    NotFound,
    NP6Error,
    RateLimitWait,
    RetryScheduled,
    ServerError,
)
from np6_async.cli._bar import Bar
from np6_async.cli._demo import bar, can_draw, sparkline
from np6_async.cli._figures import Pace
from np6_async.cli._observing import Failures, Watch
from np6_async.cli._progress import Lines, Timed


def test_a_sparkline_is_relative_to_its_greatest_value() -> None:
    assert sparkline([0, 1, 4, 8], blocks=True) == " ▁▄█"
    assert sparkline([0, 1, 4, 8], blocks=False) == " _-#"
    assert sparkline([], blocks=True) == ""
    assert sparkline([0, 0], blocks=True) == "  "


def test_a_bar_shows_something_of_every_value() -> None:
    assert bar(8, 8, 4, blocks=True) == "████"
    assert bar(3, 8, 4, blocks=True) == "█▌"
    assert bar(1, 1000, 4, blocks=True) == "▏"
    assert bar(1, 1000, 4, blocks=False) == "#"
    assert bar(0, 8, 4, blocks=True) == bar(0, 0, 4, blocks=False) == ""


@pytest.mark.parametrize(("encoding", "blocks"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_blocks_are_drawn_where_they_can_be_encoded(encoding: str, blocks: bool) -> None:
    assert can_draw(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) is blocks
    assert not can_draw(None)


def test_plain_progress_is_a_line_for_every_tenth() -> None:
    said: list[str] = []
    progress = Lines(said.append, 1000)
    for contacts in range(1, 1001):
        progress.update(contacts, contacts * 2, 1)
    assert len(said) == 10
    assert said[0] == " 10 %  100 of 1,000 contacts, 200 events, 1 retry"


def test_the_pace_tells_what_is_left() -> None:
    """Of this run alone: contacts that an earlier one has done do not count."""
    times = iter([0.0, 10.0, 10.0, 20.0, 1000.0])
    pace = Pace(10_000, lambda: next(times))
    assert pace.say(5_000) == ""
    assert pace.say(5_400) == "40 contacts/s, 2 min left"
    assert pace.say(5_050) == "5.0 contacts/s, 16 min left"
    assert pace.say(9_990) == "250 contacts/s, 0 s left"
    assert pace.say(6_000) == "1.0 contacts/s, 1 h 07 min left"


def test_the_pace_of_a_run_of_unknown_length_has_no_end() -> None:
    times = iter([0.0, 10.0])
    pace = Pace(None, lambda: next(times))
    pace.say(0)
    assert pace.say(500) == "50 contacts/s"


def test_a_log_gets_a_line_now_and_then() -> None:
    """With what went wrong, where something did; short waits for the rate limit are not worth a line."""
    said: list[str] = []
    progress = Timed(said.append, None, period=3600)
    progress.update(5, 50, 0)
    progress.paused(0.5)
    assert said == []
    progress.paused(2.0)
    assert said == ["the rate limit is reached: every request waits 2.0 s"]
    progress = Timed(said.append, 10, period=0)
    progress.update(5, 50, 1, failed=2)
    assert said[-1] == " 50 %  5 of 10 contacts, 50 events, 2 failed, 1 retry"


@pytest.mark.parametrize("total", [None, 10])
def test_the_bar_goes_away_when_it_is_done(total: int | None) -> None:
    """What is printed afterwards starts on a clean line."""
    screen = io.StringIO()
    with Bar(screen, total) as progress:
        progress.update(5, 50, 0)
        progress.paused(1.0)
        progress.update(10, 100, 2, failed=1)
    assert "contacts" not in screen.getvalue() or screen.getvalue().endswith(("\n", "\x1b[2K"))


def test_without_contacts_events_and_the_time_reached_are_what_is_told() -> None:
    """The total is not known, so there is neither a share nor what is left."""
    said: list[str] = []
    for progress in (Timed(said.append, None, period=0), Bar(screen := io.StringIO(), None)):
        with progress:
            progress.update(None, 1_000, 0)
            progress.update(None, 2_000, 1, reached=1_767_225_600_999)
    assert said[0] == "1,000 events"
    assert re.fullmatch(r"2,000 events, up to 2026-01-01 00:00:00Z, [\d,]+ events/s, 1 retry", said[1])
    assert "contacts" not in screen.getvalue()


def failure(error: NP6Error) -> Failure:
    return Failure("000MLGPR", error, 1, None)


def test_failures_take_bounded_memory() -> None:
    failures = Failures("collect")
    for number in range(1000):
        failures.add(failure(NotFound(f"contact {number}", status=404)))
    lines = list(failures.report())
    assert (len(lines), lines[-1]) == (6, "... and 995 more")


def test_waits_of_many_requests_are_one_pause() -> None:
    """Sixteen requests refused at the same time made the client pause once."""
    heard: list[float] = []
    watch = Watch(heard.append)
    for _ in range(16):
        watch(RateLimitWait("/targets/{id}/events", 5.0, Contact.by_id("A")))
    assert watch.pauses == 1
    assert heard == [5.0]
    assert 5.0 <= watch.paused < 6.0


def retry(error: NP6Error) -> RetryScheduled:
    return RetryScheduled("/targets/{id}/events", 1, 0.1, error, Contact.by_id("A"))


def test_a_run_without_a_connection_says_so_once() -> None:
    """Not for a server that fails, which was reached."""
    said: list[str] = []
    watch = Watch(on_no_connection=lambda: said.append("no"))
    watch(retry(ServerError("503", status=503)))
    assert said == []
    for _ in range(16):
        watch(retry(ConnectError("refused")))
    assert said == ["no"]


def test_a_hint_is_told_once() -> None:
    failures = Failures("collect")
    for number in range(100):
        failures.refuse_line(f"ids.txt, line {number}: contains '@'", "e-mail addresses need --by unicity")
    lines = list(failures.report())
    assert len(lines) == 7
    assert lines[-2:] == ["... and 95 more", "e-mail addresses need --by unicity"]
