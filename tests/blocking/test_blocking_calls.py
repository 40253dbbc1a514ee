"""What the calls of a blocking client return and raise, on real sockets."""

from __future__ import annotations

import asyncio
import pickle
import re
import sqlite3
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest
from support.waiting import until

import np6_async
from np6_async import (
    Bounce,
    BulkError,
    ClientClosed,
    ConfigError,
    Contact,
    Done,
    Failure,
    InvalidContact,
    InvalidInput,
    NotFound,
    NP6Error,
    RetryPolicy,
    UsageError,
)
from np6_async.blocking import NP6Client
from np6_async.testing import FakeNP6, Fault, make_bounce


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    with FakeNP6(contacts=40, events_per_contact=12) as server:
        yield server


@pytest.fixture
def np6(server: FakeNP6) -> Iterator[NP6Client]:
    with NP6Client(server.api_key, base_url=server.url, retry=RetryPolicy(base_delay=0)) as np6:
        yield np6


def ids_of(server: FakeNP6, contact: str) -> list[str]:
    """In no order: that of events of one millisecond is not defined."""
    return sorted(event["id"] for event in server.events(contact))


def expected(server: FakeNP6, contacts: Any) -> list[tuple[str, str]]:
    return sorted((contact, event["id"]) for contact in contacts for event in server.events(contact))


def test_events_of_a_contact_come_as_a_list_and_one_by_one(server: FakeNP6, np6: NP6Client) -> None:
    contact = server.contact_ids[0]
    events = np6.events.list(contact)
    assert sorted(event.id or "" for event in events) == ids_of(server, contact)
    assert events == sorted(events, key=lambda event: event.timestamp)
    assert sorted(event.id or "" for event in np6.events.stream(contact)) == ids_of(server, contact)
    assert len(np6.events.list(contact, limit=3)) == 3
    assert all(isinstance(event, Bounce) for event in np6.events.stream(contact, kind="bounces"))


def test_a_stream_goes_on_in_batches_where_it_left_off_one_by_one(server: FakeNP6, np6: NP6Client) -> None:
    contact = server.contact_ids[0]
    with np6.events.stream(Contact.by_id(contact)) as events:
        one = next(events)
        two = next(iter(events))
        (rest,) = events.batches()
        assert list(events) == []
        assert sorted(event.id or "" for event in (one, two, *rest)) == ids_of(server, contact)
    assert events.contact == Contact.by_id(contact)
    assert events.stats.events == 12


@pytest.mark.parametrize(
    "contacts", [list, tuple, iter, lambda ids: dict.fromkeys(ids).keys()], ids=["list", "tuple", "iterator", "keys"]
)
def test_events_of_many_contacts_each_come_once(server: FakeNP6, np6: NP6Client, contacts: Any) -> None:
    ids = server.contact_ids
    with np6.events.stream_many(contacts(ids), missing="empty") as events:
        found = sorted((contact, event.id) for contact, event in events)
    assert found == expected(server, ids)
    assert (events.stats.done, events.stats.events, events.failures) == (40, 480, [])


def test_outcomes_follow_the_events_of_their_contact(server: FakeNP6, np6: NP6Client) -> None:
    ids = [*server.contact_ids[:5], "UNKNOWN1"]
    seen: dict[Any, list[Any]] = {contact: [] for contact in ids}
    with np6.events.stream_many(ids, on_error="collect") as events:
        for contact, item in events.outcomes():
            seen[contact].append(item)
    assert [type(items[-1]) for items in seen.values()] == [Done] * 5 + [Failure]
    assert events.failures == [seen["UNKNOWN1"][-1]]
    assert (events.stats.done, events.stats.failed) == (5, 1)


def test_the_counts_are_of_what_was_taken(server: FakeNP6, np6: NP6Client) -> None:
    """Although more was fetched: whoever stops here knows what came to it."""
    with np6.events.stream_many(list(server.contact_ids), order="input") as events:
        for _, batch in events.batches():
            assert events.stats.done == 0
            assert events.stats.events == len(batch)
            break


def test_a_run_that_raises_delivers_the_events_before_and_names_the_contact(server: FakeNP6, np6: NP6Client) -> None:
    found: set[str] = set()
    contacts = [server.contact_ids[0], "UNKNOWN1"]
    with pytest.raises(BulkError) as caught, np6.events.stream_many(contacts, order="input") as events:
        found.update(event.id or "" for _, event in events)
    (error,) = caught.value.exceptions
    assert isinstance(error, NotFound)
    assert error.contact == Contact.by_id("UNKNOWN1")
    assert len(found) == 12
    assert [failure.contact for failure in events.failures] == ["UNKNOWN1"]


def test_contacts_may_come_from_what_belongs_to_the_thread(server: FakeNP6, np6: NP6Client) -> None:
    """A cursor of sqlite3, which refuses every other thread; and so for `on_error`."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE contacts (id TEXT)")
    database.execute("CREATE TABLE failed (id TEXT)")
    ids = [*server.contact_ids, "UNKNOWN1"]
    database.executemany("INSERT INTO contacts VALUES (?)", [(contact,) for contact in ids])

    def note(failure: Failure) -> None:
        database.execute("INSERT INTO failed VALUES (?)", (failure.contact,))

    rows = (contact for (contact,) in database.execute("SELECT id FROM contacts"))
    with np6.events.stream_many(rows, on_error=note) as events:
        assert sorted((contact, event.id) for contact, event in events) == expected(server, server.contact_ids)
    assert database.execute("SELECT id FROM failed").fetchall() == [("UNKNOWN1",)]
    assert (events.stats.failed, events.failures) == (1, [])
    database.close()


def test_on_error_is_called_after_the_events_of_its_contact(server: FakeNP6, np6: NP6Client) -> None:
    """And may itself call the client, or be a coroutine function."""
    server.add_contact("ANNE", [make_bounce(at=f"2026-02-0{day}") for day in (1, 2, 3)])
    server.script(Fault.cut(after=1_000), Fault.status(400))
    seen: list[str] = []

    async def decide(failure: Failure) -> Any:
        assert len(seen) > 0
        assert np6.contacts  # in the thread of the caller
        await asyncio.sleep(0)
        return "collect"

    with np6.events.stream_many(["ANNE"], on_error=decide) as events:
        seen.extend(event.id or "" for _, event in events)
    assert len(events.failures) == 1


def test_ids_of_a_segment_are_contacts(server: FakeNP6, np6: NP6Client) -> None:
    """Two streams of one client at once, one reading the other."""
    server.add_segment(41, server.contact_ids)
    with np6.events.stream_many(np6.segments.contacts(41), kind="all") as events:
        assert sorted((contact, event.id) for contact, event in events) == expected(server, server.contact_ids)


def test_ten_thousand_contacts_from_a_generator(server: FakeNP6, np6: NP6Client) -> None:
    """More than are read ahead; they are read as there is room, and not all at the start."""
    read = 0

    def contacts() -> Iterator[str]:
        nonlocal read
        for read in range(1, 10_001):
            yield f"NOBODY{read}"

    taken = 0
    with np6.events.stream_many(contacts(), missing="empty", on_error="collect") as events:
        for taken, (_, outcome) in enumerate(events.outcomes(), 1):
            assert isinstance(outcome, Done)
            if taken == 500:
                break
    assert taken == 500
    assert read < 8_000


@pytest.mark.parametrize(
    ("contacts", "words"),
    [
        ("ANNE", "use stream()"),
        ({"ANNE": 1}, "which is a mapping"),
        (7, "an iterable of contacts, not int"),
        (b"ANNE", "decode them first"),
    ],
)
def test_what_is_no_contacts_is_refused_before_any_request(
    server: FakeNP6, np6: NP6Client, contacts: Any, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(").replace(")", r"\)")):
        np6.events.stream_many(contacts)
    assert server.request_count == 0


def test_an_async_iterable_is_refused(np6: NP6Client) -> None:
    async def contacts() -> Any:
        yield "ANNE"

    with pytest.raises(InvalidInput, match=r"np6_async\.NP6Client takes both"):
        np6.events.stream_many(contacts())


def test_what_an_iterable_of_contacts_raises_arrives_after_the_events_before_it(
    server: FakeNP6, np6: NP6Client
) -> None:
    def contacts() -> Iterator[str]:
        yield server.contact_ids[0]
        raise LookupError("no more")

    found = []
    with pytest.raises(LookupError, match="no more") as caught, np6.events.stream_many(contacts()) as events:
        found += list(events)
    assert "in contacts" in "".join(traceback.format_exception(caught.value))


def test_pages_continue_after_a_cursor(server: FakeNP6, np6: NP6Client) -> None:
    contact = server.contact_ids[0]
    with np6.events.pages(contact, start=0, size=5, end="2026-01-01") as pages:
        first = next(pages)
    others = np6.events.pages(contact, start=0, size=5, after=str(first.cursor), end="2026-01-01")
    found = [event.id or "" for page in (first, *others) for _, event in page.items]
    assert sorted(found) == ids_of(server, contact)


def test_pages_by_time_read_their_contacts_again(server: FakeNP6, np6: NP6Client) -> None:
    class Contacts:
        def __init__(self) -> None:
            self.threads: list[int] = []

        def __iter__(self) -> Iterator[str]:
            self.threads.append(threading.get_ident())
            return iter(server.contact_ids)

    contacts = Contacts()
    pages = np6.events.pages(contacts, start="2025-10-01", end="2026-01-02", every=timedelta(days=31))
    found = sorted((contact, event.id) for page in pages for contact, event in page.items)
    assert found == expected(server, server.contact_ids)
    assert len(contacts.threads) > 2
    assert set(contacts.threads) == {threading.get_ident()}
    with pytest.raises(InvalidInput, match="can be read only once"):
        np6.events.pages(iter(contacts), start="2025-10-01", every="1d")


def test_the_other_namespaces(server: FakeNP6, np6: NP6Client) -> None:
    server.add_segment(41, server.contact_ids[:3])
    everything = [event.id for event in np6.actions.stream()]
    assert len(everything) == 480
    assert [event.id for event in np6.actions.list(limit=2)] == everything[:2]
    assert len(np6.reactivities.list("hits")) == len(np6.actions.list("hits"))
    (page, *_) = np6.actions.pages(start=0, size=7)
    assert len(page.items) == 7
    assert "Segment 41" in [segment.name for segment in np6.segments.list()]
    assert list(np6.segments.contacts(41)) == list(server.contact_ids[:3])
    assert np6.contacts.get(server.contact_ids[0]).id == server.contact_ids[0]
    assert np6.contacts.count() == 40
    assert len(list(np6.redlist.mail())) == len(server.redlist())
    with pytest.raises(NotFound):
        list(np6.campaigns.events(1, 2))


def test_arguments_are_refused_as_by_the_async_client(np6: NP6Client) -> None:
    with pytest.raises(InvalidInput, match="kind"):
        np6.events.stream("ANNE", kind="bounce")
    with pytest.raises(InvalidInput, match="kind"):
        np6.events.list("ANNE", kind="bounce")  # type: ignore[call-overload]
    with pytest.raises(InvalidContact):
        np6.contacts.get("a b")
    with pytest.raises(TypeError, match="unheard_of"):
        np6.events.list("ANNE", unheard_of=1)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"with np6\.events\.stream_many"):
        iter(np6.events.stream_many(["ANNE"]))


def test_a_client_is_set_up_as_the_async_one() -> None:
    with pytest.raises(ConfigError, match="base_url"):
        NP6Client("key", base_url="ftp://x")
    with pytest.raises(ConfigError, match="a session belongs to the event loop"):
        NP6Client("key", session=None)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="no API key"):
        NP6Client()
    with pytest.raises(ConfigError, match="max_retries"):
        NP6Client("key", max_retries=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):  # its key must not travel, and its thread cannot
        pickle.dumps(NP6Client("key"))
    with NP6Client("key") as np6:
        assert re.fullmatch(r"blocking.NP6Client\(base_url='https://api-cm.np6.com', .*closed=False\)", repr(np6))
        assert repr(np6.events.stream("ANNE")) == "<EventStream: /targets/{id}/events, new, 0 items so far>"
        assert repr(np6.events.stream_many(["ANNE"])) == "<BulkStream: not entered, 0 done, 0 failed, 0 events>"
    assert "closed=True" in repr(np6)


def test_some_calls_have_other_options(server: FakeNP6, np6: NP6Client) -> None:
    """On the same thread, which they do not end."""
    server.script(Fault.status(503), times=None)
    with np6.with_options(retry=RetryPolicy(max_attempts=1, outage=0)) as once, pytest.raises(NP6Error):
        once.events.list(server.contact_ids[0])
    assert server.request_count == 1
    assert not np6.closed
    with pytest.raises(ConfigError, match="max_retries"):
        np6.with_options(max_retries=1)  # type: ignore[arg-type]


def test_an_error_shows_the_line_of_the_caller_and_the_one_where_it_was_raised(np6: NP6Client) -> None:
    with pytest.raises(NotFound) as caught:
        np6.events.list("UNKNOWN1")  # this line
    text = "".join(traceback.format_exception(caught.value))
    assert "this line" in text
    assert "fetch.py" in text


def test_no_traceback_with_locals_holds_the_key(server: FakeNP6) -> None:
    def fails(make: Any) -> None:
        try:
            make()
        except np6_async.NP6Error as error:
            shown = traceback.TracebackException.from_exception(error, capture_locals=True)
            ours = [frame.locals or {} for frame in shown.stack if "np6_async" in frame.filename]
            assert ours
            assert not [name for names in ours for name, value in names.items() if "canary-key" in value]
        else:
            pytest.fail("nothing was raised")

    fails(lambda: NP6Client("canary-key", base_url="ftp://x"))
    fails(lambda: NP6Client("canary-key " * 2))
    fails(lambda: NP6Client("key", base_url="ftp://x", proxy="http://me:canary-key@proxy"))
    fails(lambda: NP6Client("key", proxy="ftp://me:canary-key@proxy"))
    with NP6Client("canary-key", base_url=server.url) as np6:
        fails(lambda: np6.events.list("ANNE"))


def test_fifty_threads_share_one_client(server: FakeNP6, np6: NP6Client) -> None:
    ids = list(server.contact_ids) * 5
    with ThreadPoolExecutor(50) as threads:
        lists = list(threads.map(np6.events.list, ids))
    for contact, events in zip(ids, lists, strict=True):
        assert sorted(event.id or "" for event in events) == ids_of(server, contact)
    assert server.max_in_flight <= 16


def test_two_threads_do_not_read_one_stream(server: FakeNP6, np6: NP6Client) -> None:
    """Where one is waiting for the next event; its own reading goes on."""
    server.script(Fault.hang())
    stream = np6.events.stream(server.contact_ids[0])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(next, stream)
        until(lambda: server.in_flight == 1)
        with pytest.raises(UsageError, match="another thread"):
            next(stream)
        stream.close()
        with pytest.raises(ClientClosed, match="the stream is closed"):
            waiting.result(20)


def test_a_call_has_the_context_of_its_caller(server: FakeNP6) -> None:
    """So spans and log fields that are kept in context variables reach the hooks."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: set[str] = set()
    with NP6Client(server.api_key, base_url=server.url, hooks=[lambda _: seen.add(user.get())]) as np6:
        user.set("anne")
        np6.events.list(server.contact_ids[0])
    assert "anne" in seen


async def test_it_works_where_an_event_loop_runs(server: FakeNP6) -> None:
    """As in a cell of a notebook: it has a loop of its own."""
    with NP6Client(server.api_key, base_url=server.url) as np6:
        assert len(np6.events.list(server.contact_ids[0])) == 12
