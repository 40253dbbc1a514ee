"""Pages and their cursors: every event in exactly one page, wherever a run stops and another resumes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from np6_async import BulkError, Cursor, InvalidContact, InvalidInput, NotFound, NP6Client, Page, Window
from np6_async.testing import FakeNP6, Fault, make_hit

START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 4, 1, tzinfo=UTC)
# Ties, on and beside the edges of windows, and the change to summer time of Europe between them.
TIMES = [
    START + timedelta(hours=hours, milliseconds=more)
    for hours in (0, 1, 5, 24, 24, 24, 100, 671, 672, 673, 743)
    for more in (-1, 0, 0, 1)
]
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=0) as server:
        for number in range(6):
            events = [make_hit(at=at, seed=1_000 * number + index) for index, at in enumerate(TIMES)]
            server.add_contact(f"C{number}", events[number:])
        yield server


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client() as np6:
        yield np6


def truth(server: FakeNP6) -> Counter[tuple[str, Any]]:
    start, end = (at.timestamp() * 1000 for at in (START, END))
    return Counter(
        (contact, event["id"])
        for contact in server.contact_ids
        for event in server.events(contact)
        if start <= event["timestamp"] < end
    )


def got(pages: list[Page[Any, Any]]) -> Counter[tuple[str, Any]]:
    return Counter((str(contact), event.id) for page in pages for contact, event in page.items)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(every=st.integers(3_600_000 * 3, 3_600_000 * 800), stops=st.lists(st.integers(1, 40), max_size=4))
def test_windows_tile_the_time_and_a_run_resumes_after_any_page(every: int, stops: list[int]) -> None:
    """Each event in exactly one page, for windows of any length, wherever it was stopped and resumed."""

    async def main() -> None:
        async with FakeNP6(contacts=0) as server, server.client() as np6:
            for number in range(3):
                events = [make_hit(at=at, seed=1_000 * number + index) for index, at in enumerate(TIMES)]
                server.add_contact(f"C{number}", events)
            pages: list[Page[Any, Any]] = []
            cursor = None
            for stop in [*stops, 10**9]:
                taken = 0
                async for page in np6.events.pages(
                    list(server.contact_ids), start=START, end=END, every=every * MILLISECOND, after=cursor
                ):
                    pages.append(page)
                    cursor = json.loads(json.dumps(str(page.cursor)))
                    taken += 1
                    if taken == stop:
                        break
            assert got(pages) == truth(server)
            assert pages[0].window.start == START.timestamp() * 1000
            assert pages[-1].window.end == END.timestamp() * 1000
            for before, after in pairwise(pages):
                assert before.window.end == after.window.start
            for page in pages:
                assert all(page.window.contains(event.timestamp) for _, event in page.items)

    asyncio.run(main())


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    zone=st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    change=st.sampled_from([date(2026, 3, 8), date(2026, 3, 29), date(2026, 4, 5), date(2026, 10, 25)]),
    days=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    every=st.integers(3_600_000, 30 * 3_600_000),
)
def test_local_days_are_tiled_where_clocks_change(zone: str, change: date, days: tuple[int, int], every: int) -> None:
    """From one local midnight to another, whether the days between have 23, 24 or 25 hours."""
    tz = ZoneInfo(zone)
    first, last = change - timedelta(days=days[0]), change + timedelta(days=days[1])
    start, end = (datetime(day.year, day.month, day.day, tzinfo=tz).astimezone(UTC) for day in (first, last))
    hours = [start + timedelta(minutes=minutes) for minutes in range(-60, 24 * 60 * 5, 30)]

    async def main() -> None:
        async with FakeNP6(contacts=0) as server, server.client(tz=tz) as np6:
            contact = server.add_contact("C", [make_hit(at=at) for at in hours])
            pages = [
                page
                async for page in np6.events.pages(
                    contact, start=first.isoformat(), end=last, every=every * MILLISECOND
                )
            ]
        assert [event.at for page in pages for _, event in page.items] == [at for at in hours if start <= at < end]
        assert pages[0].window.start == start.timestamp() * 1000
        assert pages[-1].window.end == end.timestamp() * 1000
        for before, after in pairwise(pages):
            assert before.window.end == after.window.start

    asyncio.run(main())


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_pages_by_count(np6: NP6Client, server: FakeNP6, size: int, newest_first: bool) -> None:
    """Of one contact: full pages but for the last, in order, also where each resumes after the one before and
    the server has put the events of one millisecond into another order."""
    expected = await np6.events.list("C0", start=START, newest_first=newest_first)

    def pages(after: Any = None) -> Any:
        return np6.events.pages("C0", start=START, size=size, newest_first=newest_first, after=after)

    one_by_one, cursor = [], None
    while (page := await anext(pages(cursor), None)) is not None:
        one_by_one.append(page)
        cursor = str(page.cursor)
    for run in (one_by_one, [page async for page in pages()]):
        events = [event for page in run for _, event in page.items]
        assert {len(page.items) for page in run[:-1]} <= {size}
        assert [event.timestamp for event in events] == [event.timestamp for event in expected]
        assert sorted(str(event.id) for event in events) == sorted(str(event.id) for event in expected)


async def test_a_page_holds_the_contact_as_it_was_passed_in_and_its_events_together(np6: NP6Client) -> None:
    contacts = ["C0", "C1", "C2"]
    page = await anext(np6.events.pages(contacts, start=START, end=END, every=timedelta(days=31)))
    names = [contact for contact, _ in page.items]
    assert {id(name) for name in names} == {id(contact) for contact in contacts}
    assert sum(a != b for a, b in pairwise(names)) == 2
    for contact in contacts:
        times = [event.timestamp for name, event in page.items if name == contact]
        assert times == sorted(times)


async def test_a_page_that_failed_is_requested_again(np6: NP6Client, server: FakeNP6) -> None:
    """Nothing of it was delivered, and its cursor was not passed."""
    server.script(Fault.status(400), contact="C3", skip=1)
    pages = np6.events.pages(list(server.contact_ids), start=START, end=END, every=timedelta(days=10))
    collected = [await anext(pages)]
    with pytest.raises(BulkError):
        await anext(pages)
    collected += [page async for page in pages]
    assert got(collected) == truth(server)


async def test_a_cursor_does_not_pass_a_page_with_failures(np6: NP6Client, server: FakeNP6) -> None:
    """With on_error="collect"; later pages come all the same. With "skip" it does pass."""
    for policy in ("collect", "skip"):
        server.script(Fault.status(400), contact="C3", skip=1)
        ids = list(server.contact_ids)
        pages = [
            page
            async for page in np6.events.pages(
                ids,
                start=START,
                end=END,
                every=timedelta(days=10),
                on_error=policy,  # type: ignore[arg-type]
            )
        ]
        assert len(pages) == 4
        if policy == "skip":
            assert [page.failures for page in pages] == [[]] * 4
            assert len({str(page.cursor) for page in pages}) == 4
            continue
        assert [len(page.failures) for page in pages] == [0, 1, 0, 0]
        assert len({str(page.cursor) for page in pages}) == 1
        again = np6.events.pages(ids, start=START, end=END, every=timedelta(days=10), after=pages[-1].cursor)
        assert got([pages[0], *[page async for page in again]]) == truth(server)


async def test_a_cancelled_page_is_fetched_again(np6: NP6Client, server: FakeNP6) -> None:
    for size, every in ((5, None), (None, timedelta(days=31))):
        contacts: Any = "C0" if size else list(server.contact_ids)
        pages = np6.events.pages(contacts, start=START, end=END, size=size, every=every)
        server.script(Fault.stall(after=500), contact="C0")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(pages)
        everything = got([page async for page in pages])
        assert everything == {key: 1 for key in truth(server) if size is None or key[0] == "C0"}


async def test_cursors_are_opaque_and_hold_no_contact(np6: NP6Client) -> None:
    page = await anext(np6.events.pages("C0", start=START, size=3))
    text = str(page.cursor)
    assert text.isascii()
    assert not set(text) & set(' "\\/+=')
    assert b"C0" not in base64.urlsafe_b64decode(text + "==")
    assert Cursor.parse(text) == page.cursor
    assert repr(page.cursor) == f"Cursor('{text}')"


async def test_a_cursor_of_another_query_is_refused(np6: NP6Client) -> None:
    """Before any request: going on with it would lose events or double them."""
    by_size = str((await anext(np6.events.pages("C0", start=START, size=3))).cursor)
    by_time = str((await anext(np6.events.pages(["C0"], start=START, every=timedelta(days=1)))).cursor)
    day = timedelta(days=1)
    for call in (
        lambda: np6.events.pages("C1", start=START, size=3, after=by_size),
        lambda: np6.events.pages("C0", "bounces", start=START, size=3, after=by_size),
        lambda: np6.events.pages("C0", start=START, size=3, newest_first=True, after=by_size),
        lambda: np6.events.pages("C0", start=START, every=day, after=by_size),
        lambda: np6.events.pages("C0", start=START, size=3, after=by_time),
        lambda: np6.events.pages(["C0"], "hits", start=START, every=day, after=by_time),
    ):
        with pytest.raises(InvalidInput, match="another query"):
            call()
    # Another length of the pages, and other contacts in windows, are the caller's choice.
    np6.events.pages("C0", start=START, size=30, after=by_size)
    np6.events.pages(["C1"], start=START, every=2 * day, after=by_time)


@given(text=st.one_of(st.text(), st.text(alphabet="WzEsIjkyLTAwMSJd_=", max_size=40), st.integers(), st.none()))
def test_any_other_text_is_refused_as_a_cursor(text: Any) -> None:
    """And says so, whatever it is."""
    with suppress(InvalidInput):
        assert isinstance(Cursor.parse(text), Cursor)


async def test_a_page_says_whether_there_are_more(np6: NP6Client, server: FakeNP6) -> None:
    """Also where the number of events is a multiple of the size, so that a link to a next page never leads nowhere."""
    contact = server.contact_ids[0]
    count = len(server.events(contact))
    for size in (1, count - 1, count, count + 1):
        more = [page.has_more async for page in np6.events.pages(contact, size=size)]
        assert more == [True] * (-(-count // size) - 1) + [False]
    end = START + timedelta(days=3)
    pages = np6.events.pages(server.contact_ids, every=timedelta(days=1), start=START, end=end)
    assert [page.has_more async for page in pages] == [True, True, False]


async def test_pages_by_size_need_no_start(np6: NP6Client, server: FakeNP6) -> None:
    contact = server.contact_ids[0]
    ids = [event.id async for page in np6.events.pages(contact, size=3) for _, event in page.items]
    assert sorted(map(str, ids)) == sorted(event["id"] for event in server.events(contact))
    with pytest.raises(InvalidInput, match=r"^every= needs start=: the time from there on is cut into windows"):
        np6.events.pages(contact, every="1d")


async def test_bad_arguments_are_refused_at_once(np6: NP6Client, server: FakeNP6) -> None:
    def generator() -> Iterator[str]:
        yield "C0"

    async def asynchronous() -> AsyncIterator[str]:
        yield "C0"

    day = timedelta(days=1)
    pages: Any = np6.events.pages
    for contacts, options in (
        ("C0", {}),
        ("C0", {"every": day, "size": 3}),
        ("C0", {"every": timedelta(microseconds=1)}),
        ("C0", {"every": 7}),
        ("C0", {"size": 0}),
        ("C0", {"size": True}),
        (["C0"], {"size": 3}),
        (["C0"], {"every": day, "newest_first": True}),
        (generator(), {"every": day}),
        (asynchronous(), {"every": day}),
        (7, {"every": day}),
        ("C0", {"every": day, "on_error": "ignore"}),
        ("C0", {"every": day, "concurrency": 0}),
        ("C0", {"every": day, "after": "nonsense"}),
        ("C0", {"every": day, "end": START - day}),
    ):
        with pytest.raises(InvalidInput):
            pages(contacts, start=START, **options)
    with pytest.raises(InvalidContact):
        pages("../admin", start=START, size=3)
    assert server.request_count == 0


async def test_errors_of_a_single_contact_are_raised_as_they_are(np6: NP6Client) -> None:
    with pytest.raises(NotFound):
        await anext(np6.events.pages("NOBODY", start=START, size=3))


async def test_an_empty_window_has_no_pages(np6: NP6Client, server: FakeNP6) -> None:
    assert [p async for p in np6.events.pages(["C0"], start=START, end=START, every=timedelta(days=1))] == []
    assert server.request_count == 0


async def test_end_defaults_to_now_and_is_fixed_by_the_call(np6: NP6Client) -> None:
    pages = [p async for p in np6.events.pages(["C0"], start=timedelta(days=2), every=timedelta(days=1))]
    assert len(pages) == 2
    assert pages[-1].window == Window(pages[0].window.end, pages[-1].window.end)
    assert abs((pages[-1].window.end or 0) - datetime.now(UTC).timestamp() * 1000) < 60_000
