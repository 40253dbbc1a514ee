"""What notebooks, debuggers and tracebacks show of the client's objects: their state, and nobody's data."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import np6_async
from np6_async import EventList, InvalidInput, NP6Client, NP6Error, Page, structure
from np6_async.testing import FakeNP6, Fault

KEY = "canary-key-51d0"
START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=5, api_key=KEY) as server:
        yield server


def names(server: FakeNP6) -> list[str]:
    """Everything that must not show."""
    ids = list(server.contact_ids)
    return [KEY, *ids, *map(server.unicity, ids), *map(server.hash, ids)]


def shows_nobody(text: str, server: FakeNP6) -> bool:
    return not any(name in text for name in names(server))


async def test_a_client_shows_where_it_asks_and_whether_it_is_paused_or_closed(server: FakeNP6) -> None:
    async with server.client(concurrency=7) as np6:
        assert repr(np6) == f"NP6Client(base_url={server.url!r}, concurrency=7, closed=False)"
        assert "concurrency=2" in repr(np6.with_options(concurrency=2))
        server.script(Fault.status(503, retry_after=3600))
        with pytest.raises(NP6Error):
            await np6.events.list(server.contact_ids[0])
        assert ", paused," in repr(np6)
    assert repr(np6).endswith("closed=True)")


async def test_a_stream_shows_how_far_it_is(server: FakeNP6) -> None:
    async with server.client() as np6:
        stream = np6.events.stream(server.contact_ids[0])
        assert repr(stream) == "<EventStream: /targets/{id}/events, new, 0 items so far>"
        await anext(stream)
        assert repr(stream) == "<EventStream: /targets/{id}/events, complete, 10 items so far>"
        await stream.aclose()
        stream = np6.events.stream(server.contact_ids[0])
        await stream.aclose()
        assert repr(stream) == "<EventStream: /targets/{id}/events, closed, 0 items so far>"


async def test_a_bulk_stream_shows_its_counts(server: FakeNP6) -> None:
    async with server.client() as np6:
        events = np6.events.stream_many([*server.contact_ids, "NOBODY"], on_error="skip")
        assert repr(events) == "<BulkStream: not entered, 0 done, 0 failed, 0 events>"
        async with events:
            assert repr(events) == "<BulkStream: open, 0 done, 0 failed, 0 events>"
            async for _ in events:
                assert shows_nobody(repr(events), server)
            assert repr(events) == "<BulkStream: ended, 5 done, 1 failed, 50 events>"
        async with np6.events.stream_many(server.contact_ids) as events:
            await anext(events)
        assert repr(events).startswith("<BulkStream: closed, ")


async def test_pages_show_what_comes_next_and_a_page_what_it_covers(server: FakeNP6) -> None:
    async with server.client() as np6:
        pages = np6.events.pages(server.contact_ids, every="1d", start=START, end=START + timedelta(days=2))
        assert repr(pages) == "<Pages: windows, next from 2026-03-01T00:00:00Z to 2026-03-03T00:00:00Z>"
        page = await anext(pages)
        count = len(page.items)
        assert repr(page) == f"<Page of {count} events, 2026-03-01T00:00:00Z to 2026-03-02T00:00:00Z, has_more=True>"
        assert "next from 2026-03-02" in repr(pages)
        sized = np6.events.pages(server.contact_ids[0], size=3)
        assert repr(sized) == "<Pages: 3 events each>"
        assert re.fullmatch(r"<Page of 3 events, any time to \S+Z, has_more=True>", repr(await anext(sized)))


async def test_a_notebook_shows_a_list_as_a_small_table_that_names_nobody(server: FakeNP6) -> None:
    contact = server.contact_ids[0]
    async with server.client() as np6:
        events = await np6.events.list(contact)
        page = await anext(np6.events.pages(contact, size=4))
    assert isinstance(events, EventList)
    shown = events._repr_html_()
    assert shown == events.to_html()
    assert shown.startswith('<table><caption style="text-align:left">10 events</caption>')
    assert shown.count("<tr>") == 11
    assert shows_nobody(shown, server)
    assert "10 events (the first 3)" in events.to_html(rows=3)
    assert shows_nobody(page._repr_html_(), server)
    assert page.to_html(contacts=True).count(contact) == 4


async def test_limits_keep_the_list_what_it_is(server: FakeNP6) -> None:
    async with server.client() as np6:
        events = await np6.events.list(server.contact_ids[0], limit=3)
    assert isinstance(events, EventList)
    assert len(events) == 3


def test_what_a_server_wrote_is_escaped() -> None:
    mean = "<script>alert(1)</script>"
    event = structure({"timestamp": 1, "type": mean})
    assert mean not in EventList([event]).to_html()
    assert "&lt;script&gt;" in EventList([event]).to_html()
    assert EventList().to_html().count("<tr>") == 1
    page: Page[str, np6_async.Event] = Page([(mean, event)], np6_async._models.time_bounds.Window(), None)  # type: ignore[arg-type]
    assert mean not in page.to_html(contacts=True)


def test_an_error_names_its_place_in_the_documentation() -> None:
    """Each class has an anchor there, and one of another module that of its base."""
    page = (Path(__file__).parent.parent / "docs/guide/errors.md").read_text()
    for name in dir(np6_async):
        cls = getattr(np6_async, name)
        if isinstance(cls, type) and issubclass(cls, NP6Error):
            assert f'<a id="{name.lower()}"></a>`{name}`' in page

    class Own(InvalidInput):
        pass

    assert Own("x").__notes__ == [
        "For what to do, see docs/guide/errors.md#invalidinput or help(np6_async.InvalidInput)"
    ]
    assert str(Own("x")) == "x"
    with pytest.raises(NP6Error) as caught:
        NP6Client("")
    assert "docs/guide/errors.md#configerror" in caught.value.__notes__[0]
