"""The server's clock, as the Date of its responses shows it."""

from __future__ import annotations

import random
from email.utils import formatdate

import pytest

from np6_async._http.server_clock import MARGIN, ServerClock, duration
from np6_async._streams.open_end import OpenEnd

BEGIN = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class World:
    """A server, this machine's clock that is ahead by `ahead`, and a monotonic one that begins at 50."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.passed = 0.0
        self.ahead = ahead
        self.clock = ServerClock(lambda: 50 + self.passed, lambda: self.server + self.ahead)

    @property
    def server(self) -> float:
        return BEGIN + 0.4 + self.passed

    def respond(self, there: float = 0.01, back: float = 0.01, *, wrong: float = 0.0, **headers: str) -> None:
        """A request and its response, which take so many seconds."""
        sent_at = 50 + self.passed
        self.passed += there
        date = formatdate(int(self.server + wrong), usegmt=True)
        self.passed += back
        self.clock.observe({"Date": date, **headers}, sent_at)

    def error(self) -> tuple[float, float]:
        """By how much the server's time may be later, and earlier, than it is known."""
        earliest, latest = self.clock.at(50 + self.passed) or (0.0, 0.0)
        return self.server - earliest, latest - self.server


def test_the_time_of_a_response_lies_between_its_request_and_its_arrival() -> None:
    """Within the second that its Date tells; further responses narrow that, and a slow one does not widen it."""
    world = World()
    assert world.clock.at(50) is None
    world.respond(2.0, 3.0)
    assert all(0 <= error <= 6 for error in world.error())
    rng = random.Random(1)
    for _ in range(200):
        world.passed += rng.uniform(0, 3)
        world.respond()
        assert all(0 <= error <= 6 for error in world.error())
    tight = world.error()
    assert sum(tight) < 0.1
    world.respond(25.0, 20.0)
    assert sum(world.error()) == pytest.approx(sum(tight))


def test_a_monotonic_clock_that_drifts_is_followed() -> None:
    """By a second a minute, in both directions: the server's time is never taken for more than two seconds off."""
    for drift in (59 / 60, 61 / 60):
        passed = 0.0
        clock = ServerClock(lambda: passed * drift, lambda: BEGIN + passed)  # noqa: B023
        for _ in range(7_200):
            sent_at = passed * drift
            passed += 0.5
            clock.observe({"Date": formatdate(int(BEGIN + passed), usegmt=True)}, sent_at)
            known = clock.at(passed * drift)
            assert known is not None
            assert known[0] - 2 <= BEGIN + passed <= known[1] + 2


def test_a_machine_that_sleeps_is_found_out() -> None:
    """Its monotonic clock stands still; what was measured before is not applied until the next response."""
    world = World()
    world.respond()
    world.clock.now()
    slept = 8 * 3_600
    clock = ServerClock(lambda: 50.0, lambda: BEGIN + slept)
    clock._own = BEGIN - 50.0
    clock.observe({"Date": formatdate(int(BEGIN), usegmt=True)}, 50.0)
    assert clock.now() in (BEGIN, BEGIN + slept)
    clock.observe({"Date": formatdate(int(BEGIN + slept), usegmt=True)}, 50.0)
    assert clock.now() == BEGIN + slept


def test_now_is_never_later_than_the_servers() -> None:
    """A clock that is ahead is not followed, one that is behind is; so is one that is set after the last response."""
    for ahead in (-3_600.0, -5.0, 0.0, 5.0, 3_600.0):
        world = World(ahead)
        world.respond()
        assert world.server - 1 <= world.clock.now() <= world.server or ahead <= 0
        assert ahead > 0 or world.clock.now() == world.server + ahead
        world.ahead = 7_200.0
        assert world.clock.now() == world.server + 7_200


def test_an_open_end_is_cut_by_the_first_response_after_it() -> None:
    """And stays there. What was known before does not count, because the machine may have slept since."""
    world = World(3_600.0)
    world.respond()
    end = OpenEnd(world.clock, own := int((world.server + 3_600) * 1000) - 120_000, 120_000)
    at = world.server
    assert end.ms == own
    world.respond(0.2)
    assert at - 1 <= end.ms / 1000 + 120 <= at
    cut = end.ms
    for _ in range(5):
        world.passed += 1.3
        world.respond()
        assert end.ms == cut
    assert not end.refuted_by(int((world.server + MARGIN - 2) * 1000))
    assert end.ms == cut
    assert end.refuted_by(int((world.server + MARGIN + 2) * 1000))
    assert end.ms == own


def test_within_the_second_that_a_date_tells_only_a_strict_end_is_cut() -> None:
    world = World(0.1)
    ends = [OpenEnd(world.clock, own := int((world.server + 0.1) * 1000), strict=strict) for strict in (True, False)]
    world.respond()
    assert [own - 1_100 <= end.ms < own for end in ends] == [True, False]
    assert ends[1].ms == own


@pytest.mark.parametrize("date", [None, "", "soon", "Thu, 99 Foo 2026 99:99:99 GMT", "1767225600"])
def test_anything_but_a_date_is_ignored(date: str | None) -> None:
    world = World()
    world.clock.observe({} if date is None else {"Date": date}, 50.0)
    assert world.clock.at(50) is None
    assert not world.clock.known
    world.respond(Age="17")
    assert not world.clock.known
    world.passed += 1
    world.respond(Age="0")
    assert world.clock.known


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (61, "1 min 1 s"), (599.6, "10 min"), (1_199.4, "20 min"), (3_599, "1 h"), (93_600, "1 d 2 h")],
)
def test_lengths_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
