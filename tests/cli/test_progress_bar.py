"""The progress bar: one line of a terminal of 80 columns, however large its numbers are."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from np6_async.cli import _bar
from np6_async.cli._bar import Bar, short

rich = pytest.importorskip("rich.console")


class Clock:
    """What the bar takes for the time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_bar.time, "monotonic", clock)
    return clock


Draw = Callable[..., str]


@pytest.fixture
def draw(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """What the bar of a run that lasts for ten hours shows, as a terminal would: without its sequences."""

    def draw(columns: int, total: int | None, *numbers: int, reached: int | None = None, outage: str = "") -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        bar = Bar(io.StringIO(), total)
        bar._pace.clock = clock
        bar._bar.disable = True
        bar._bar.get_time = clock  # for the time elapsed
        with bar:
            contacts: int | None
            contacts, events, retries, failed = numbers
            by_contact = reached is None
            bar.update(0 if by_contact else None, 0, 0)
            clock.now += 36_000
            if outage:
                bar.outage(outage, 60)
            bar.update(contacts if by_contact else None, events, retries, failed, reached)
            screen = io.StringIO()
            console = rich.Console(file=screen, width=columns, color_system=None)
            console.print(bar._bar.make_tasks_table(bar._bar.tasks))
        return screen.getvalue()

    return draw


BIG = (9_876_543, 9_876_543_210, 1_234_567, 2_345_678)


def test_with_room_for_all_of_them_numbers_are_exact(draw: Draw) -> None:
    line = draw(132, 2_000, 1_500, 15_000, 2, 1)
    assert line.rstrip().endswith(
        " 1,500/2,000 contacts  15,000 events  10:00:00  0.0 contacts/s  3 h 20 min left  1 failed, 2 retries"
    )


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 132])
@pytest.mark.parametrize("total", [None, 10_000_000])
def test_the_largest_numbers_are_one_line(draw: Draw, columns: int, total: int | None) -> None:
    """What matters most stays: how many of how many, what failed, and how long it still takes."""
    screen = draw(columns, total, *BIG)
    (line,) = screen.splitlines()
    assert len(line) <= columns
    if columns >= 80:
        assert "2.34M failed, 1.23M retries" in line or "2,345,678 failed, 1,234,567 retries" in line
        if total:
            assert "9.87M/10.0M contacts" in line
            assert "8 min left" in line


@pytest.mark.parametrize("columns", [60, 80])
def test_events_of_all_contacts_are_one_line(draw: Draw, columns: int) -> None:
    (line,) = draw(columns, None, *BIG, reached=1_767_225_600_999).splitlines()
    assert len(line) <= columns
    assert "9.87G events" in line


def test_an_outage_is_one_line_too(draw: Draw) -> None:
    text = "NP6 has answered nobody since 12:34:56: 503: the server failed, again in 12.5 s, for 4 min more"
    (line,) = draw(80, 10_000_000, *BIG, outage=text).splitlines()
    assert len(line) <= 80
    assert "NP6 has answered nobody since" in line
    assert line.rstrip().endswith("…")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (99_999, "99.9k"),
        (999_999, "999k"),
        (1_000_000, "1.00M"),
        (9_999_999, "9.99M"),
        (10_000_000, "10.0M"),
        (9_876_543_210, "9.87G"),
        (1_000_000_000_000, "1.00T"),
    ],
)
def test_a_short_number_is_never_more_than_it_is(number: int, text: str) -> None:
    """So that 9,999,999 of 10,000,000 does not look like all of them."""
    assert short(number) == text
