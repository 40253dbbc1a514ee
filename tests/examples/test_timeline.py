"""The timeline's server: what it sends to a browser, and what it never sends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from examples.timeline import app as timeline
from examples.timeline import demo
from examples.timeline.notices import Notices
from examples.timeline.search import Search
from examples.timeline.words import words
from np6_async import (
    AuthError,
    BadRequest,
    ClientClosed,
    ConnectError,
    Contact,
    DecodeError,
    InvalidBound,
    NP6Client,
    NP6Error,
    RateLimited,
    RateLimitWait,
    RequestStarted,
    RetryPolicy,
    RetryScheduled,
    ServerError,
    StreamInterrupted,
    TimeoutExceeded,
    TLSError,
    structure,
)
from np6_async.testing import FakeNP6, Fault, make_activation, make_bounce, make_event, make_hit

ROOT = Path(__file__).parents[2]
SHARED = {  # what the script of each page imports
    "timeline.js": ("page.js", "reach.js", "searches.js", "zones.js"),
    "account.js": ("page.js", "zones.js"),
}
Message = tuple[str, Any]


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[Message]:
    """The server-sent events of a response, as (name, data)."""
    name = ""
    async for line in response.content:
        key, _, value = line.decode("ascii").strip().partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


@asynccontextmanager
async def asking(server: TestServer, **query: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as session, session.get(server.make_url("/events"), params=query) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield response


async def ask(server: TestServer, **query: str) -> list[Message]:
    async with asking(server, **query) as response:
        return [message async for message in messages(response)]


def shown(got: list[Message]) -> list[dict[str, Any]]:
    return [event for name, data in got if name == "events" for event in data]


@pytest.fixture
async def np6() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=3, events_per_contact=300) as server:
        yield server


@pytest.mark.parametrize("by", ["id", "unicity", "hash"])
@pytest.mark.parametrize("told", [False, True])
async def test_every_event_of_the_contact_is_sent_newest_first(np6: FakeNP6, serve: Any, by: str, told: bool) -> None:
    contact = np6.contact_ids[0]
    value = {"id": contact, "unicity": np6.unicity(contact), "hash": np6.hash(contact)}[by]
    async with serve(np6) as server:
        got = await ask(server, contact=f" {value} ", **({"by": by} if told else {}))
    assert [event["at"] for event in shown(got)] == sorted(
        (event["timestamp"] for event in np6.events(contact)), reverse=True
    )
    assert got[-1] == ("end", {"events": 300, "most": False})


async def test_dates_bound_what_np6_is_asked_for(np6: FakeNP6, serve: Any) -> None:
    contact = np6.contact_ids[0]
    bounds = {"from": "2025-11-01T00:00:00.000Z", "to": "2025-12-01T00:00:00+01:00"}
    async with serve(np6) as server:
        got = await ask(server, contact=contact, **bounds)
    assert 0 < len(shown(got)) < 300
    query = np6.requests[0].query
    assert (query["start"], query["end"]) == ("2025-11-01T00:00:00.000Z", "2025-11-30T23:00:00.000Z")


@pytest.mark.parametrize(
    ("query", "field", "text"),
    [
        ({}, "contact", "Type the id"),
        ({"contact": "a/b"}, "contact", "That is not a contact id"),
        ({"contact": "abc", "by": "hash"}, "contact", "That is not a hash"),
        ({"contact": "a\x00b", "by": "unicity"}, "contact", "That is not an e-mail address"),
        ({"contact": "a", "by": "name"}, "contact", "looked up by"),
        ({"contact": "a", "from": "yesterday"}, "from", "The first day is not a calendar date"),
        ({"contact": "a", "to": "2026-02-30T00:00Z"}, "to", "The last day is not a calendar date"),
        ({"contact": "a", "to": "2026-02-03"}, "to", "The last day is not a calendar date"),
        ({"contact": "a", "from": "2026-02-03T00:00Z", "to": "2026-02-03T00:00Z"}, "from", "after the last day"),
        ({"contact": "a", "from": "0001-01-01T00:00Z"}, "from", "from 1970 to 9999"),
    ],
)
async def test_an_impossible_search_is_explained_and_sends_nothing_to_np6(
    np6: FakeNP6, serve: Any, query: dict[str, str], field: str, text: str
) -> None:
    async with serve(np6) as server:
        ((name, problem),) = await ask(server, **query)
    assert name == "problem"
    assert problem["field"] == field
    assert text in problem["words"]
    assert np6.request_count == 0


async def test_an_outage_is_reported_during_the_wait_and_at_the_end(np6: FakeNP6, serve: Any) -> None:
    np6.script(Fault.status(503), times=None)
    async with serve(np6) as server:
        got = await ask(server, contact=np6.contact_ids[0])
    assert got[-1][0] == "problem"
    assert got[-1][1]["words"].startswith("NP6 is not working right now (status 503). Try again in a few minutes.")
    assert np6.requests[-1].request_id in got[-1][1]["words"]


async def test_a_broken_response_is_resumed_and_every_event_sent_once(np6: FakeNP6, serve: Any) -> None:
    np6.script(Fault.cut(after=40_000), Fault.status(503), Fault.cut(after=30_000, how="rst"))
    contact = np6.contact_ids[1]
    async with serve(np6) as server:
        got = await ask(server, contact=contact)
    assert sorted(json.loads(event["data"])["id"] for event in shown(got)) == sorted(
        event["id"] for event in np6.events(contact)
    )
    assert np6.request_count == 5  # one of them for the hits without robots


async def test_the_places_of_events_by_robots_are_sent(np6: FakeNP6, serve: Any) -> None:
    """A robot's hits are in the list of all events and not in that of hits."""
    for contact in np6.contact_ids:
        async with serve(np6) as server:
            got = await ask(server, contact=contact)
        people = {event["id"] for event in np6.events(contact, "hits")}
        hits = {event["id"] for event in np6.events(contact) if event["type"] == "hit"}
        events = [json.loads(event["data"]) for event in shown(got)]
        robots = dict(got)["robots"]
        assert robots["known"] is True
        assert {events[place]["id"] for place in robots["places"]} == hits - people != set()


async def test_robots_are_looked_for_among_the_hits_that_were_shown_and_nowhere_else(np6: FakeNP6, serve: Any) -> None:
    moments = "2026-03-01T10:00Z", "2026-03-02T10:00Z"
    np6.add_contact("000BILL0", [make_hit(at=at) for at in moments])
    np6.add_contact("000CARL0", [make_activation(), make_bounce()])
    async with serve(np6) as server:
        await ask(server, contact="000BILL0", to="2027-01-01T00:00Z")
        query = np6.requests[-1].query
        assert (query["start"], query["end"]) == ("2026-03-01T10:00:00.000Z", "2026-03-02T10:00:00.001Z")
        got = await ask(server, contact="000CARL0")
        assert dict(got)["robots"] == {"known": True, "places": []}
        assert np6.request_count == 3  # no hits, no question


async def test_a_refusal_to_list_hits_leaves_the_robots_unknown(np6: FakeNP6, serve: Any) -> None:
    np6.add_contact("000BILL0", [make_activation(), make_hit(at="2026-03-01")])
    np6.script(Fault.status(403), path="*/hits")
    async with serve(np6) as server:
        got = dict(await ask(server, contact="000BILL0"))
    assert got["robots"] == {"known": False, "places": []}
    assert got["reach"][0]["verdict"] == "doubtful"
    assert got["end"] == {"events": 2, "most": False}


async def test_whether_the_contact_can_be_reached_is_sent_before_the_end(np6: FakeNP6, serve: Any) -> None:
    now = datetime.now(UTC)
    sent = make_activation(at=now - timedelta(days=9))
    np6.add_contact("000BILL0", [sent, make_hit("open", at=now - timedelta(days=8))])
    np6.add_contact("000CARL0", [sent])
    np6.add_events("000CARL0", [make_hit("open", at=now - timedelta(days=8))], robot="mpp")
    async with serve(np6) as server:
        got = await ask(server, contact="000BILL0")
        assert [name for name, _ in got] == ["events", "robots", "reach", "end"]
        (answer,) = dict(got)["reach"]
        assert (answer["channel"], answer["verdict"], answer["why"]) == ("email", "yes", "opened a message on")
        got = await ask(server, contact="000CARL0")
        (answer,) = dict(got)["reach"]
        assert (answer["verdict"], answer["opened"]) == ("doubtful", None)


@pytest.mark.parametrize(
    ("bounds", "then"),
    [
        ({}, ""),
        ({"from": "2020-01-01T00:00Z"}, ", but earlier events were not read"),
        ({"to": "2026-11-01T00:00Z"}, ", but later events were not read"),
        ({"to": "9000-01-01T00:00Z"}, ""),
    ],
)
async def test_dates_make_the_answer_doubtful(
    np6: FakeNP6, serve: Any, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, str], then: str
) -> None:
    """But for a last day that is still to come."""
    now = datetime(2026, 11, 29, tzinfo=UTC)
    monkeypatch.setattr(timeline, "clock", now.timestamp)
    sent = now - timedelta(days=60)
    np6.add_contact("000BILL0", [make_activation(at=sent), make_hit("open", at=sent)])
    async with serve(np6) as server:
        (answer,) = dict(await ask(server, contact="000BILL0", **bounds))["reach"]
    assert (answer["verdict"], answer["then"]) == ("doubtful" if then else "yes", then)


async def test_every_waiting_timeline_is_notified_of_a_rate_limit(np6: FakeNP6, serve: Any) -> None:
    """The client's clock stands still until both were notified."""
    both_told, now = asyncio.Event(), [0.0]

    async def sleep(seconds: float) -> None:
        await both_told.wait()
        now[0] += seconds

    def connect(hooks: Any) -> NP6Client:
        return np6.client(hooks=hooks, retry=RetryPolicy(clock=lambda: now[0], sleep=sleep))

    first, second = np6.contact_ids[:2]
    np6.script(Fault.rate_limited(40), contact=first)
    async with serve(np6, connect) as server, asking(server, contact=first) as response:
        waits = messages(response)
        name, notice = await anext(waits)
        assert (name, notice["seconds"]) == ("notice", 40)
        async with asking(server, contact=second) as other:
            others = messages(other)
            name, notice = await anext(others)
            assert name == "notice"
            assert 0 < notice["seconds"] <= 40
            both_told.set()
            for rest in ([m async for m in waits], [m async for m in others]):
                assert rest[0] == ("notice", None)
                assert rest[-1] == ("end", {"events": 300, "most": False})


async def test_a_browser_that_leaves_ends_the_fetch(np6: FakeNP6, serve: Any, until: Any) -> None:
    contact = np6.contact_ids[0]
    np6.script(Fault.stall(after=100_000), contact=contact)
    async with serve(np6) as server:
        async with asking(server, contact=contact) as response:
            name, _ = await anext(messages(response))
            assert name == "events"
            assert np6.in_flight == 1
        await until(lambda: np6.in_flight == 0 and np6.open_connections == 0)
        assert len(shown(await ask(server, contact=contact))) == 300  # and the client still works


async def test_stopping_the_server_ends_the_timelines_with_a_message(np6: FakeNP6, serve: Any) -> None:
    np6.script(Fault.stall(after=100_000))
    async with serve(np6) as server, asking(server, contact=np6.contact_ids[0]) as response:
        got = messages(response)
        await anext(got)
        async with asyncio.timeout(20):
            await server.close()
            assert [m async for m in got][-1] == (
                "problem",
                {"words": "This page's server is being stopped.", "field": None},
            )
    assert np6.in_flight == 0


async def test_a_quiet_stream_sends_heartbeats(np6: FakeNP6, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "HEARTBEAT", 0.001)
    np6.script(Fault.hang())
    async with serve(np6) as server, asking(server, contact=np6.contact_ids[0]) as response:
        assert await response.content.readline() == b": still here\n"


async def test_more_events_than_a_browser_holds_are_cut_and_the_page_is_told(
    np6: FakeNP6, serve: Any, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setattr(timeline, "MOST_EVENTS", 120)
    contact = np6.contact_ids[0]
    async with serve(np6) as server:
        got = await ask(server, contact=contact)
        assert got[-1] == ("end", {"events": 120, "most": True})
        newest = sorted((event["timestamp"] for event in np6.events(contact)), reverse=True)
        assert [event["at"] for event in shown(got)] == newest[:120]
        await until(lambda: np6.in_flight == 0)


async def test_the_key_is_in_no_response_and_no_header(serve: Any) -> None:
    key = "a-key-that-no-browser-sees"
    async with FakeNP6(contacts=1, api_key=key) as np6:
        for wrong in (False, True):
            np6.api_key = "another" if wrong else key

            def connect(hooks: Any, np6: FakeNP6 = np6) -> NP6Client:
                return np6.client(hooks=hooks, api_key=key)

            async with serve(np6, connect) as server, aiohttp.ClientSession() as session:
                for path in (
                    "/",
                    "/about",
                    "/account",
                    "/account/counts",
                    f"/events?contact={np6.contact_ids[0]}",
                    "/events?contact=000NOONE",
                    "/events",
                    "/static/timeline.js",
                    "/static/account.js",
                    "/static/page.js",
                    "/static/reach.js",
                    "/static/searches.js",
                    "/static/zones.js",
                    "/static/style.css",
                    "/static/__main__.py",
                    "/nowhere",
                ):
                    async with session.get(server.make_url(path)) as response:
                        if path == "/account/counts":  # which goes on
                            body = f"{await response.content.readline()!r} {await response.content.readline()!r}"
                        else:
                            body = await response.text()
                        text = f"{response.headers} {body}"
                    assert len(text) > 200
                    assert key not in text
                    if wrong and path.endswith(np6.contact_ids[0]):
                        assert "does not accept the API key of this page" in text


async def test_nothing_but_the_pages_own_files_may_run_or_load(np6: FakeNP6, serve: Any) -> None:
    async with serve(np6) as server, aiohttp.ClientSession() as session:
        for path in ("/", "/account", "/events?contact=x", "/account/counts", "/static/timeline.js", "/nowhere"):
            async with session.get(server.make_url(path)) as response:
                policy = response.headers["Content-Security-Policy"]
                assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
                assert "unsafe" not in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("page", "script", "labels"),
    [("index.html", "timeline.js", {"contact", "by", "from", "to", "zone"}), ("account.html", "account.js", set())],
)
def test_the_pages_have_no_inline_code_and_never_write_html(page: str, script: str, labels: set[str]) -> None:
    static = ROOT / "examples" / "timeline" / "static"
    page, own, *shared = ((static / name).read_text() for name in (page, script, *SHARED[script]))
    assert re.findall(r"<script[^>]*>", page) == [f'<script src="/static/{script}" type="module">']
    shared = "".join(shared)
    assert set(re.findall(r'from\s+"\./([^"]+)"', own + shared)) == set(SHARED[script])
    assert len(re.findall(r"\bfrom\s+[\"']|\bimport\s*[(\"']", own + shared)) == len(
        re.findall(r'from "\./[a-z]+\.js";', own + shared)
    )
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?://", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", own + shared)
    ids = re.findall(r' id="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'byId\("([\w-]+)"\)', own + shared)) <= set(ids)
    assert set(re.findall(r'<label for="(\w+)"', page)) == labels


@pytest.mark.parametrize(
    ("event", "kind", "title", "facts"),
    [
        (make_activation(), "sent", "Message sent", [("message", "000PE4"), ("channel", "email")]),
        (make_hit("open"), "opened", "Message opened", None),
        (make_hit("redirection"), "clicked", "Link followed", None),
        (make_hit("unsubscribe"), "stopped", "Unsubscribe link followed", None),
        (make_event("hit", source={"detail": {"link": {"type": "new"}}}), "clicked", "Hit: new", None),
        (
            make_bounce("hard", code="5.1.1", diagnostic="user unknown"),
            "bounced",
            "Bounced permanently",
            [
                *(("message", "000PE4"), ("channel", "email"), ("code", "5.1.1")),
                *(("means", "The mailbox does not exist (permanent)"), ("server said", "user unknown")),
            ],
        ),
        (make_bounce("soft"), "bounced", "Bounced temporarily", None),
        (make_event("new"), "other", "Event of type new", None),
        (make_event("cancellation"), "other", "Message not sent", None),
        (make_event("hit", source=None), "clicked", "Hit: unknown link", []),
        (make_event("bounce", source="?"), "bounced", "Bounced", []),
        (make_event("reply", source={"detail": {"reply": {"message": "x" * 999}}}), "clicked", "Contact replied", None),
    ],
)
def test_an_event_is_described_by_what_is_known_about_it(
    event: dict[str, Any], kind: str, title: str, facts: list[tuple[str, str]] | None
) -> None:
    row = timeline.describe(structure(event))
    assert (row["at"], row["kind"], row["title"]) == (event["timestamp"], kind, title)
    assert json.loads(row["data"]) == event
    assert all(len(value) <= 301 for _, value in row["facts"])
    if facts is not None:
        assert row["facts"] == facts


def test_half_an_emoji_is_shown_as_a_replacement() -> None:
    """In whatever form the page is sent."""
    row = timeline.describe(structure(make_bounce("hard", diagnostic="full \ud83d")))
    assert ("server said", "full \ufffd") in row["facts"]
    assert json.dumps(row, ensure_ascii=False).encode().decode().count("\ufffd") == 2


def test_every_documented_type_has_its_own_title() -> None:
    types = ("activation", "bounce", "cancellation", "complaint", "creation", "execution")
    types += ("hit", "impression", "modification", "optout", "reply", "suppression")
    rows = [timeline.describe(structure(make_event(name))) for name in types]
    assert len({row["title"] for row in rows}) == len(types)
    assert not any("of type" in row["title"] for row in rows)
    assert {row["kind"] for row in rows} == {"sent", "opened", "clicked", "bounced", "stopped", "other"}


def test_huge_data_is_cut_and_says_so() -> None:
    assert timeline.describe(structure(make_event("new", more="x" * 50_000)))["data"].endswith("… cut here")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RateLimited("", status=429), "Try again later."),
        (AuthError("", status=403), "not allowed to read events"),
        (BadRequest("", status=400, request_id="r-1"), "refused this request. (For NP6's support: request r-1.)"),
        (ServerError("", status=500), "(status 500). Try again in a few minutes."),
        (TLSError(), "could not prove that it is NP6"),
        (TimeoutExceeded("", limit="pool"), "Too many timelines"),
        (TimeoutExceeded("", limit="read"), "NP6 does not respond. Try again"),
        (ConnectError(), "NP6 cannot be reached. Try again"),
        (StreamInterrupted(), "broke off. Try again"),
        (DecodeError(), "not a list of events"),
        (InvalidBound(), "from 1970 to 9999"),
        (ClientClosed(), "being stopped"),
        (NP6Error(), "cannot explain"),
    ],
)
def test_every_error_has_words(error: NP6Error, text: str) -> None:
    assert text in words(error, Search.parse({"contact": "000MLGPR"}))[0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(20.2, "in 21 seconds"), (600, "in 10 minutes"), (86_400, "in 24 hours")]
)
def test_a_long_wait_is_given_in_units_that_people_use(seconds: float, text: str) -> None:
    error = RateLimited("", status=429)
    error.retry_after = seconds
    assert text in words(error, Search.parse({"contact": "000MLGPR"}))[0]


async def test_a_timeline_is_notified_only_of_its_own_retries() -> None:
    notices, path = Notices(clock=lambda: 0.0), "/targets/{id}/events"
    mine, another = Contact.by_id("A"), Contact.by_id("B")
    with notices.view(mine) as view:
        notices(RetryScheduled(path, 1, 0.5, ConnectError(), another))
        notices(RetryScheduled(path, 1, 0.5, ConnectError(), mine))
        assert await view.notice() == {"words": "NP6 cannot be reached. Trying again", "seconds": 0.5}
        notices(RequestStarted(path, 2, mine))
        assert await view.notice() is None
        notices(RateLimitWait(path, 9.0, another))  # its own request has been sent, so it does not wait
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await view.notice()


async def test_the_demo_has_every_contact_that_its_page_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PAUSE", 0)
    samples = [sample["contact"] for sample in demo.ABOUT["samples"]]
    async with TestServer(timeline.create_app(demo.connect, demo.ABOUT)) as server:
        async with aiohttp.ClientSession() as session, session.get(server.make_url("/about")) as response:
            assert await response.json() == demo.ABOUT
        assert (await ask(server, contact=samples[-1]))[-1][1]["field"] == "contact"  # nobody
        got = await ask(server, contact=samples[0])
    assert len({event["kind"] for event in shown(got)}) == 6
    assert sum(name == "events" for name, _ in got) > 1  # they arrive bit by bit


def environment(**variables: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("NP6_")}
    return {**own, "PYTHONUNBUFFERED": "1", **variables}


COMMAND = [sys.executable, "-m", "examples.timeline", "--port", "0"]


@pytest.mark.slow
@pytest.mark.parametrize("demo", [True, False])
async def test_one_command_serves_the_demo_and_with_two_variables_np6(np6: FakeNP6, until: Any, demo: bool) -> None:
    variables = {} if demo else {"NP6_API_KEY": np6.api_key, "NP6_BASE_URL": np6.url}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, cwd=ROOT, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            said = (await process.stdout.readline()).decode()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address, said
        async with aiohttp.ClientSession(address[0]) as session:
            async with session.get("/about") as response:
                assert (await response.json())["demo"] == demo
            async with session.get("/events", params={"contact": np6.contact_ids[0]}) as response:
                last = [message async for message in messages(response)][-1]
            np6.script(Fault.stall(after=100_000))
            async with session.get("/events", params={"contact": np6.contact_ids[1]}) as response:
                await anext(messages(response))
            await until(lambda: np6.in_flight == 0)
        assert last[0] == ("problem" if demo else "end")  # the demo has another contact
        assert np6.request_count == (0 if demo else 3)  # two of them for the first: all events, and hits
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert errors == b""
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NP6_BASE_URL": "https://api-cm.np6.com"}, "NP6_API_KEY is not"),
        ({"NP6_API_KEY": "a b"}, "NP6_API_KEY is not a valid API key"),
        ({"NP6_API_KEY": "key", "NP6_BASE_URL": "http://api-cm.np6.com"}, "NP6_BASE_URL must"),
    ],
)
def test_settings_that_cannot_work_are_reported_in_one_line(variables: dict[str, str], words: str) -> None:
    done = subprocess.run(
        COMMAND, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
