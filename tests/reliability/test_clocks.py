"""H: clocks that are wrong, of this machine or of the server, and days that do not have 24 hours."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from time import monotonic
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from support import exported

from np6_async import Cursor, Event, InvalidBound, NP6Client, RetryPolicy
from np6_async.export import Export, read_report
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6, make_bounce, make_hit
from np6_async.testing._app import App

BEGIN: Final = datetime(2026, 2, 1, 8, tzinfo=UTC).timestamp()
CONTACTS: Final = ("ANNE", "BERT", "CLEA", "QUIET")
MINUTE: Final = 60.0
HOUR: Final = 3_600.0
DAY: Final = 86_400.0

Figure = Callable[[str, str, str, object], None]
Skew = Callable[[float], float]  # what is added to the right time, in seconds, after this many seconds


class World:
    """A server whose events are published as time goes by, and a machine with a clock that is wrong by `skew`."""

    def __init__(self, server: FakeNP6, skew: Skew, seed: int) -> None:
        self.server = server
        self.skew = skew
        self._moved = BEGIN - monotonic()
        self._published = 0.0
        self.got: Counter[tuple[str, Any]] = Counter()
        self._rng = random.Random(seed)

    @property
    def now(self) -> float:
        """The time of the server, which is right."""
        return monotonic() + self._moved

    def wait(self, seconds: float) -> None:
        """Let the time pass."""
        self._moved += seconds

    def wall(self) -> float:
        """The time of this machine."""
        return self.now + self.skew(self.now - BEGIN)

    def pass_time(self, seconds: float) -> None:
        """Each contact but one has events meanwhile, the last of them just now."""
        before = max(self._published, self.now)
        self.wait(seconds)
        self._published = now = self.now
        for contact in CONTACTS[:-1]:
            times = [self._rng.uniform(before, now) for _ in range(self._rng.randint(0, 6))]
            times += [now - self._rng.choice([0.002, 1, 30, 150])]
            self.server.add_events(contact, [make_hit(at=int(time * 1000)) for time in times if time > before])

    def client(self) -> NP6Client:
        return self.server.client(retry=RetryPolicy(wall_clock=self.wall))

    def took(self, contact: Any, events: list[Event]) -> None:
        self.got.update((str(contact), event.id) for event in events)

    def there(self, before: float | None = None) -> Counter[tuple[str, Any]]:
        """All events, or those before this time."""
        return Counter(
            (contact, event["id"])
            for contact in CONTACTS
            for event in self.server.events(contact)
            if before is None or event["timestamp"] < before * 1000
        )

    def lost_and_doubled(self) -> tuple[int, int]:
        truth = self.there()
        return (truth - self.got).total(), (self.got - truth).total()


@asynccontextmanager
async def world(skew: Skew, seed: int = 0) -> AsyncIterator[World]:
    """A world in which an hour has passed."""
    made: list[World] = []
    async with FakeNP6(contacts=0, clock=lambda: made[0].now) as server:
        made.append(World(server, skew, seed))
        for contact in CONTACTS:
            server.add_contact(contact, [])
        made[0].wait(-HOUR)
        made[0].pass_time(HOUR)
        yield made[0]


Run = Callable[[NP6Client], Any]


def syncing(world: World, folder: Path) -> Run:
    """Runs of a sync, each of which delivers what is new."""

    async def run(np6: NP6Client) -> None:
        async with Sync(np6, SQLiteStore(folder / "state.db"), CONTACTS, start="2026-01-01").run() as run:
            async for contact, events in run.batches():
                world.took(contact, events)

    return run


def paging(world: World, folder: Path) -> Run:
    """Pages up to now, each time after the cursor of the last."""
    cursors: list[Cursor] = []

    async def run(np6: NP6Client) -> None:
        pages = np6.events.pages(
            CONTACTS, every=timedelta(minutes=25), start="2026-01-31", after=str(cursors[-1]) if cursors else None
        )
        async for page in pages:
            cursors.append(page.cursor)
            for contact, event in page.items:
                world.took(contact, [event])

    return run


def exporting(world: World, folder: Path) -> Run:
    """Exports that end now, each of which begins where the last one has ended."""
    ends = ["2026-01-31T00:00:00.000Z"]

    async def run(np6: NP6Client) -> None:
        out = folder / f"out-{len(ends)}"
        try:
            export = Export(np6, out, CONTACTS, start=ends[-1], every="1d")
        except InvalidBound:  # by this clock that has not come yet
            return
        await export.run()
        report = read_report(out)
        assert report is not None
        assert report.complete
        ends.append(exported.manifest(out)["query"]["end"])
        world.got.update((contact, id_) for contact, id_, _ in exported.events(out).elements())

    return run


WAYS: Final = [syncing, paging, exporting]
SKEWS: Final[dict[str, Skew]] = {
    "24 h behind": lambda _: -DAY,
    "1 h behind": lambda _: -HOUR,
    "20 min behind": lambda _: -20 * MINUTE,
    "20 min ahead": lambda _: 20 * MINUTE,
    "1 h ahead": lambda _: HOUR,
    "24 h ahead": lambda _: DAY,
    "drifting ahead by 1 s a minute": lambda passed: 2 * MINUTE + passed / 60,
    "drifting behind by 1 s a minute": lambda passed: -2 * MINUTE - passed / 60,
    "set forward, then put right": lambda passed: HOUR if passed < 2 * HOUR else 0.0,
    "set back, then put right": lambda passed: -HOUR if passed < 2 * HOUR else 0.0,
    "jumping between runs": lambda passed: random.Random(int(passed)).choice([-DAY, -HOUR, 0, HOUR, DAY]),
    "jumping at every look": lambda _: random.choice([-HOUR, 0, HOUR]),
}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("skew", SKEWS)
async def test_H1_a_clock_that_is_wrong_loses_nothing_and_doubles_nothing(
    skew: str, way: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, figure: Figure
) -> None:
    """Twelve runs of a machine whose clock is wrong, each in a new process; and one more, after it was put right."""
    async with world(SKEWS[skew]) as now:
        run = way(now, tmp_path)
        for _ in range(12):
            caplog.clear()
            async with now.client() as np6:
                await run(np6)
            assert len(warnings(caplog)) <= 1
            now.pass_time(random.Random(int(now.now)).choice([5, 300, 1_500]))
            assert now.lost_and_doubled()[1] == 0
        now.skew = lambda _: 0.0
        now.wait(2 * DAY)
        async with now.client() as np6:
            await run(np6)
        lost, doubled = now.lost_and_doubled()
        figure("H1", f"{way.__name__}, clock {skew}: lost / doubled", "0 / 0", f"{lost} / {doubled}")
        assert (lost, doubled) == (0, 0)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("skew", [20 * MINUTE, HOUR, DAY])
async def test_H1_a_clock_that_is_ahead_delays_nothing(way: Any, skew: float, tmp_path: Path) -> None:
    """What happened up to two seconds ago is delivered; a sync leaves the last two minutes to its next run, as ever."""
    async with world(lambda _: skew) as now:
        begin = now.now
        async with now.client() as np6:
            await way(now, tmp_path)(np6)
        safety = 120 if way is syncing else 0
        assert now.there(begin - safety - 2) <= now.got <= now.there(now.now - safety)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (-DAY, "1 d behind"),
        (-HOUR, "1 h behind"),
        (-20 * MINUTE, "20 min behind"),
        (20 * MINUTE, "20 min ahead of"),
        (HOUR, "1 h ahead of"),
        (DAY + HOUR, "1 d 1 h ahead of"),
    ],
)
async def test_H1_one_warning_says_by_how_much(
    skew: float, words: str, way: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for a client, however much it fetches."""
    async with world(lambda _: skew) as now, now.client() as np6:
        run = way(now, tmp_path)
        for _ in range(3):
            await run(np6)
            now.pass_time(400)
    assert [words in text for text in warnings(caplog)] == [True]


async def test_H1_a_clock_that_is_right_within_a_minute_is_no_reason_to_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for skew in (-55.0, 0.0, 55.0):
        async with world(lambda _, skew=skew: skew) as now, now.client() as np6:
            await np6.events.list("ANNE")
    assert warnings(caplog) == []


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_H1_one_client_that_outlives_a_clock_that_is_set(way: Any, tmp_path: Path, figure: Figure) -> None:
    """Set by hours, forward and back, between its runs: what was measured before a jump is not applied after it."""
    jumps = iter([0.0, HOUR, -HOUR, 0.0, DAY, DAY, 0.0, -DAY, 0.0, 0.0])
    async with world(lambda _: 0.0) as now, now.client() as np6:
        run = way(now, tmp_path)
        for jump in jumps:
            now.skew = lambda _, jump=jump: jump
            await run(np6)
            now.pass_time(1_000)
        now.wait(2 * DAY)
        await run(np6)
        lost, doubled = now.lost_and_doubled()
    figure("H1", f"{way.__name__}, one client, clock set 6 times: lost / doubled", "0 / 0", f"{lost} / {doubled}")
    assert (lost, doubled) == (0, 0)


async def test_H1_a_relative_bound_of_a_client_that_knows_goes_by_the_servers_clock() -> None:
    async with world(lambda _: HOUR) as now, now.client() as np6:
        await np6.events.list("QUIET")
        now.server.reset()
        await np6.events.list("ANNE", start=timedelta(minutes=10), end=timedelta(minutes=5))
        [request] = now.server.requests
    start, end = (datetime.fromisoformat(request.query[name]).timestamp() for name in ("start", "end"))
    assert abs(start - (BEGIN - 600)) < 2
    assert abs(end - (BEGIN - 300)) < 2


# -- H2 --------------------------------------------------------------------------------------------

DATES: Final[dict[str, Callable[[float], str | None]]] = {
    "no Date": lambda _: None,
    "an empty Date": lambda _: "",
    "a Date that is garbage": lambda _: "half past nine",
    "a constant Date": lambda _: formatdate(BEGIN, usegmt=True),
    "a constant Date of long ago": lambda _: "Thu, 01 Jan 1970 00:00:00 GMT",
    "a constant Date of the year 9999": lambda _: "Fri, 31 Dec 9999 23:59:59 GMT",
    "a Date that is 1 h behind": lambda now: formatdate(now - HOUR, usegmt=True),
    "a Date that is 1 h ahead": lambda now: formatdate(now + HOUR, usegmt=True),
    "a Date that is 24 h ahead": lambda now: formatdate(now + DAY, usegmt=True),
    "another Date each time": lambda now: formatdate(now + random.choice([-DAY, -HOUR, 0, HOUR]), usegmt=True),
}


@pytest.fixture
def dates(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], str | None]], None]:
    """Call it with what the server makes a Date of."""
    respond: Any = App._respond

    def use(date_of: Callable[[float], str | None]) -> None:
        def changed(self: Any, request: Any) -> Any:
            response = respond(self, request)
            text = date_of(self._clock())
            if text is None:
                response.headers.pop("Date", None)
            else:
                response.headers["Date"] = text
            return response

        monkeypatch.setattr(App, "_respond", changed)

    return use


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", DATES)
async def test_H2_a_date_that_is_missing_or_wrong_changes_nothing(
    kind: str, way: Any, dates: Any, tmp_path: Path, figure: Figure
) -> None:
    """The clock of the machine is right: everything is delivered once, and at the latest an hour late."""
    dates(DATES[kind])
    async with world(lambda _: 0.0) as now:
        run = way(now, tmp_path)
        for _ in range(12):
            async with now.client() as np6:
                await run(np6)
            now.pass_time(random.Random(int(now.now)).choice([5, 300, 1_500]))
        now.wait(2 * DAY)
        now.server.add_events("QUIET", [make_hit(at=int((now.now - 600) * 1000))])
        for _ in range(6):  # the Date may be refuted only by what it keeps back
            async with now.client() as np6:
                await run(np6)
        lost, doubled = now.lost_and_doubled()
    figure("H2", f"{way.__name__}, {kind}: lost / doubled", "0 / 0", f"{lost} / {doubled}")
    assert (lost, doubled) == (0, 0)


async def test_H2_the_date_of_a_cache_is_not_taken_for_the_time(
    dates: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response with an Age was made in the past."""
    dates(lambda now: formatdate(now - HOUR, usegmt=True))
    respond: Any = App._respond

    def cached(self: Any, request: Any) -> Any:
        response = respond(self, request)
        response.headers["Age"] = "3600"
        return response

    monkeypatch.setattr(App, "_respond", cached)
    async with world(lambda _: 0.0) as now, now.client() as np6:
        await np6.events.list("ANNE")
    assert [said for said in warnings(caplog) if "clock" in said] == []


# -- H3 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [syncing, paging], ids=lambda way: way.__name__)
@pytest.mark.parametrize("skew", [20 * MINUTE, HOUR, DAY])
async def test_H3_progress_that_lies_in_the_future_is_taken_back(
    skew: float, way: Any, dates: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, figure: Figure
) -> None:
    """It was made by a clock that was ahead, of a server that did not say so."""
    dates(lambda _: None)
    async with world(lambda _: skew) as now:
        run = way(now, tmp_path)
        async with now.client() as np6:
            await run(np6)
        dates(lambda at: formatdate(at, usegmt=True))
        now.skew = lambda _: 0.0
        now.pass_time(10 * MINUTE)
        async with now.client() as np6:
            await run(np6)
        assert [("lies " in text, "in the future" in text) for text in warnings(caplog)] == [(True, True)]
        delivered_again = now.lost_and_doubled()[1]
        now.pass_time(HOUR)
        async with now.client() as np6:
            await run(np6)
        now.wait(DAY)
        async with now.client() as np6:
            await run(np6)
        lost, doubled = now.lost_and_doubled()
    figure("H3", f"{way.__name__}, ahead by {skew / 60:.0f} min, then put right: lost", "0", lost)
    assert lost == 0
    assert doubled == delivered_again  # not at every run
    assert len(warnings(caplog)) == 1


async def test_H3_a_sync_that_remembers_its_last_events_doubles_none(dates: Any, tmp_path: Path) -> None:
    """Where the clock was ahead by less than the overlap, those are known."""
    dates(lambda _: None)
    async with world(lambda _: 4 * MINUTE) as now:
        now.server.add_events("QUIET", [make_hit(at=int((now.now - 60) * 1000))])
        run = syncing(now, tmp_path)
        async with now.client() as np6:
            await run(np6)
        before = now.got.total()
        dates(lambda at: formatdate(at, usegmt=True))
        now.skew = lambda _: 0.0
        async with now.client() as np6:
            await run(np6)
        now.pass_time(HOUR)
        now.wait(DAY)
        async with now.client() as np6:
            await run(np6)
        assert now.got.total() > before > 0
        assert now.lost_and_doubled() == (0, 0)


@pytest.mark.parametrize("way", [syncing, paging], ids=lambda way: way.__name__)
async def test_H3_progress_that_only_a_clock_behind_takes_for_the_future_is_kept(
    way: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's clock tells the two apart; the warning is about this machine's."""
    async with world(lambda _: 0.0) as now:
        run = way(now, tmp_path)
        async with now.client() as np6:
            await run(np6)
        now.skew = lambda _: -DAY
        now.pass_time(HOUR)
        async with now.client() as np6:
            await run(np6)
        assert ["1 d behind" in text for text in warnings(caplog)] == [True]
        now.skew = lambda _: 0.0
        now.wait(DAY)
        async with now.client() as np6:
            await run(np6)
        assert now.lost_and_doubled() == (0, 0)


# -- H4 --------------------------------------------------------------------------------------------

ZONES: Final = {
    "Europe/Paris": (date(2026, 3, 28), date(2026, 10, 24)),
    "America/Santiago": (date(2026, 9, 5), date(2026, 4, 3)),
    "America/Havana": (date(2026, 3, 7), date(2026, 10, 31)),
    "Asia/Beirut": (date(2026, 3, 28), date(2026, 10, 24)),
    "Africa/Cairo": (date(2026, 4, 23), date(2026, 10, 28)),
}


@pytest.mark.parametrize("zone", ZONES)
async def test_H4_days_are_those_of_the_zone(zone: str, tmp_path: Path, figure: Figure) -> None:
    """In pages and in the parts of an export, also where a day has 23 or 25 hours, or no midnight."""
    tz = ZoneInfo(zone)
    lengths, wrong = Counter[float](), 0
    for number, first in enumerate(ZONES[zone]):
        days = [first + timedelta(days=n) for n in range(4)]
        begin = datetime(first.year, first.month, first.day, tzinfo=tz).astimezone(UTC)
        hours = [begin + timedelta(minutes=30 * n) for n in range(2 * 24 * 4)]
        async with FakeNP6(contacts=0) as server, server.client(tz=tz) as np6:
            server.add_contact("ANNE", [make_bounce(at=at) for at in hours])
            pages = [page async for page in np6.events.pages("ANNE", start=first, end=days[3], every="1d")]
            out = tmp_path / f"out-{number}"
            report = await Export(np6, out, ["ANNE"], start=first, end=days[3], every="1d").run()
        found = [{event.at.astimezone(tz).date() for _, event in page.items} for page in pages]
        wrong += found != [{day} for day in days[:3]]
        lengths.update(((page.window.end or 0) - (page.window.start or 0)) / 3_600_000 for page in pages)
        parts = [[row["event"]["timestamp"] / 1000 for row in exported.rows(part)] for part in report.parts]
        wrong += [{datetime.fromtimestamp(at, tz).date() for at in part} for part in parts] != found
    figure("H4", f"days of {zone} that were cut elsewhere", "0", wrong)
    assert wrong == 0
    assert set(lengths) == {23.0, 24.0, 25.0}


async def test_H4_weeks_and_months_are_those_of_the_calendar() -> None:
    paris = ZoneInfo("Europe/Paris")
    async with FakeNP6(contacts=1, events_per_contact=1) as server, server.client(tz=paris) as np6:

        async def edges(every: str) -> list[str]:
            pages = np6.events.pages(server.contact_ids, start="2026-01-30", end="2026-04-07T12:00", every=every)
            windows = [page.window async for page in pages]
            ends = [windows[0].start, *[window.end for window in windows]]
            return [datetime.fromtimestamp((end or 0) / 1000, paris).strftime("%d.%m. %H:%M") for end in ends]

        assert await edges("1mo") == ["30.01. 00:00", "01.02. 00:00", "01.03. 00:00", "01.04. 00:00", "07.04. 12:00"]
        assert await edges("4w") == ["30.01. 00:00", "23.02. 00:00", "23.03. 00:00", "07.04. 12:00"]
        assert (await edges("1w"))[:3] == ["30.01. 00:00", "02.02. 00:00", "09.02. 00:00"]
