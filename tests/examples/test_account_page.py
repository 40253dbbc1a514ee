"""The page of the whole account: what its server sends, what it asks of NP6, and when."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from examples.timeline import account, demo
from examples.timeline import app as timeline
from examples.timeline.account import LastHour, Tally
from examples.timeline.notices import Notices
from np6_async import NP6Client, OutageWait, RetryPolicy, ServerError, structure
from np6_async.testing import FakeNP6, Fault, make_activation, make_bounce, make_event, make_hit

Counts = dict[str, Any]
MINUTE = 60_000


@asynccontextmanager
async def looking(server: TestServer) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """A browser that looks at the page: what it is sent, as (name, data)."""

    async def messages() -> AsyncIterator[tuple[str, Any]]:
        name = ""
        async for line in response.content:
            key, _, value = line.decode("ascii").strip().partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                yield name, json.loads(value)

    url = server.make_url("/account/counts")
    async with aiohttp.ClientSession(read_bufsize=2**20) as session, session.get(url) as response:
        assert response.content_type == "text/event-stream"
        yield messages()


async def first(
    messages: AsyncIterator[tuple[str, Any]], name: str, total: int | None = None, *, partial: bool = False
) -> Any:
    """The next message of this name, and if `total` is given, the next counts of so many events.

    Counts of a part of the hour, which come first where reading takes long, are passed over unless they may be
    `partial`.
    """
    async with asyncio.timeout(20):
        async for got, data in messages:
            if got == "counts" and not (data["complete"] or partial):
                continue
            if got == name and (total is None or data["totals"].get("all", 0) == total):
                return data
    raise AssertionError(f"there was no {name}")


def truth(np6: FakeNP6, start: int, end: int) -> list[dict[str, Any]]:
    return [event for event in np6.account_events() if start <= event["timestamp"] < end]


@pytest.fixture
async def np6() -> AsyncIterator[FakeNP6]:
    """An account that has sent six actions in the last hour, and another one before."""
    now = datetime.now(UTC)
    async with FakeNP6(300, (2, 6), sends=6, now=now, period=timedelta(minutes=55)) as server:
        server.add_contact("000EARLY", [make_activation(at=now - timedelta(minutes=61 + n)) for n in range(50)])
        yield server


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next read begins when one has ended."""
    monkeypatch.setattr(account, "EVERY", 0.001)
    monkeypatch.setattr(account, "LONGEST", 0.001)


def add(np6: FakeNP6, *events: dict[str, Any]) -> None:
    np6.add_events(np6.contact_ids[0], events)


async def test_the_last_hour_is_counted_by_action_and_by_minute(np6: FakeNP6, serve: Any) -> None:
    async with serve(np6) as server, looking(server) as messages:
        counts = await first(messages, "counts")
    events = truth(np6, counts["start"], counts["end"])
    assert len(events) > 100
    assert 59 * MINUTE <= counts["end"] - counts["start"] <= 60 * MINUTE
    assert counts["totals"]["all"] == len(events)
    assert [minute.get("all", 0) for minute in counts["minutes"]] == [
        sum((event["timestamp"] - counts["start"]) // MINUTE == minute for event in events) for minute in range(60)
    ]
    by_action: Counter[Any] = Counter()
    for event in events:
        detail = event["source"]["detail"]
        message = detail.get("activation") or detail.get("execution") or {}
        link = detail.get("link", {}).get("type")
        kind = {
            "activation": "sent",
            "bounce": "bounced",
            "cancellation": "cancelled",
            "optout": "stopped",
            "complaint": "stopped",
            "hit": {"open": "opened", "mirror": "opened", "unsubscribe": "stopped"}.get(link, "clicked"),
        }.get(event["type"], "other")
        by_action[message.get("id"), kind] += 1
        by_action[message.get("id"), "all"] += 1
        if kind == "bounced":
            by_action[message.get("id"), detail["bounce"]["analysis"]["verdict"]] += 1
    shown = {(row["action"], kind): n for row in counts["actions"] for kind, n in row["counts"].items()}
    assert shown == by_action
    for row in counts["actions"]:
        if row["counts"].get("sent"):
            own = np6.account_events("activations", action=row["action"])
            assert row["began"] == min(e["timestamp"] for e in own if e["timestamp"] >= counts["start"])


async def test_new_and_late_events_are_counted_once_whichever_read_finds_them(
    np6: FakeNP6, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time() * 1000)
    add(np6, make_hit("open", at=now - 1_000))
    async with serve(np6) as server, looking(server) as messages:
        total = (await first(messages, "counts"))["totals"]["all"]
        add(np6, make_hit("open", at=now - 500))  # new
        await first(messages, "counts", total + 1)
        add(np6, make_bounce("soft", at=now - 100_000))  # published late
        await first(messages, "counts", total + 2)
        before = np6.request_count
        add(np6, make_hit("form", at=now - 50 * MINUTE))  # published very late, found when the whole hour is counted
        for _ in range(3):
            assert (await first(messages, "counts"))["totals"]["all"] == total + 2
        monkeypatch.setattr(account, "RECOUNT", 0)
        await first(messages, "counts", total + 3)
        assert np6.request_count > before
        for _ in range(3):
            assert (await first(messages, "counts"))["totals"]["all"] == total + 3


async def test_a_read_asks_for_the_latest_minutes_only(np6: FakeNP6, serve: Any) -> None:
    now = int(time.time() * 1000)
    add(np6, make_hit("open", at=now - 1_000))
    async with serve(np6) as server, looking(server) as messages:
        for _ in range(3):
            await first(messages, "counts")
    asked = [datetime.fromisoformat(request.query["start"]).timestamp() * 1000 for request in np6.requests[:3]]
    assert now - 60 * MINUTE <= asked[0] <= now - 59 * MINUTE + 5_000
    assert all(now - 4 * MINUTE <= start <= now - 2 * MINUTE for start in asked[1:])


async def test_what_is_older_than_an_hour_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime(2026, 3, 18, 17, 0, tzinfo=UTC)
    now = [start + timedelta(minutes=59, seconds=30)]
    async with FakeNP6(contacts=0) as np6, np6.client() as client:
        np6.add_contact("A", [make_activation(at=start + timedelta(minutes=minute)) for minute in range(0, 60, 10)])
        hour = LastHour(client, Notices(), clock=lambda: now[0].timestamp())
        async with hour.watch() as watch:
            counts = (await watch.news())["counts"]
            assert counts["totals"]["all"] == 6
            assert [n for n, minute in enumerate(counts["minutes"]) if minute] == [0, 10, 20, 30, 40, 50]
            for later, left in ((25, 3), (90, 0)):
                now[0] = start + timedelta(minutes=59 + later)
                while counts["end"] != now[0].timestamp() * 1000:
                    counts = (await watch.news()).get("counts", counts)
                assert counts["totals"].get("all", 0) == left
                gc.collect()
                assert sum(type(each) is Tally for each in gc.get_objects()) == left  # and so does its memory


async def test_all_browsers_share_one_poller_and_it_ends_with_the_last_of_them(
    np6: FakeNP6, serve: Any, until: Any
) -> None:
    async with serve(np6) as server:
        async with looking(server) as one:
            await first(one, "counts")
            async with looking(server) as other:
                assert (await first(other, "counts"))["totals"] == (await first(one, "counts"))["totals"]
            requests = np6.request_count
            await until(lambda: np6.request_count > requests + 3)  # for the one that is left
        assert np6.max_in_flight == 1
        await nothing_is_asked(np6, server, until)
        async with looking(server) as again:
            assert (await first(again, "counts"))["complete"]


async def nothing_is_asked(np6: FakeNP6, server: TestServer, until: Any) -> None:
    """The poller ends, and NP6 is asked for nothing that nobody wants, though a poller would at once."""
    await until(lambda: "account" not in {task.get_name() for task in asyncio.all_tasks()})
    await until(lambda: np6.in_flight == 0)
    requests = np6.request_count
    async with aiohttp.ClientSession() as session:
        query = {"contact": np6.contact_ids[0]}
        async with session.get(server.make_url("/events"), params=query) as response:
            assert "event: end" in await response.text()
    assert np6.request_count == requests + 1


async def test_a_browser_that_leaves_during_a_read_ends_it(np6: FakeNP6, serve: Any, until: Any) -> None:
    np6.script(Fault.stall(after=20_000), times=None)
    async with serve(np6) as server:
        async with looking(server):
            await until(lambda: np6.in_flight == 1)
        await until(lambda: np6.in_flight == 0)


async def test_counts_appear_while_the_first_hour_is_being_read(
    np6: FakeNP6, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "PARTIAL", 0)
    np6.script(Fault.stall(after=60_000, seconds=0.2))
    async with serve(np6) as server, looking(server) as messages:
        part = await first(messages, "counts", partial=True)
        assert not part["complete"]
        counts = await first(messages, "counts")
    assert 0 < part["totals"]["all"] < counts["totals"]["all"] == len(truth(np6, counts["start"], counts["end"]))


async def test_a_response_that_breaks_off_changes_nothing(np6: FakeNP6, serve: Any) -> None:
    np6.fault_rate(0.5, [Fault.cut(after=30_000), Fault.status(502), Fault.drop()])
    async with serve(np6) as server, looking(server) as messages:
        counts = await first(messages, "counts")
        assert counts["totals"]["all"] == len(truth(np6, counts["start"], counts["end"]))


async def test_an_outage_is_reported_while_it_lasts_and_the_counts_stay(np6: FakeNP6, serve: Any) -> None:
    def connect(hooks: Any) -> NP6Client:
        return np6.client(hooks=hooks, retry=RetryPolicy(max_attempts=1, outage=0))

    async with serve(np6, connect) as server, looking(server) as messages:
        total = (await first(messages, "counts"))["totals"]["all"]
        np6.script(Fault.status(503), times=None)
        notice = await first(messages, "notice")
        assert notice["words"] == "NP6 is not working right now (status 503). Trying again"
        async with looking(server) as late:  # is shown the counts and the notice at once
            assert (await first(late, "counts"))["totals"]["all"] == total
            assert (await first(late, "notice"))["words"] == notice["words"]
        add(np6, make_hit("open", at=int(time.time() * 1000)))
        np6.reset()
        while await first(messages, "notice"):
            pass
        await first(messages, "counts", total + 1)


async def test_a_wait_for_the_rate_limit_is_reported(np6: FakeNP6, serve: Any) -> None:
    """The client's clock stands still until it was."""
    seen, now = asyncio.Event(), [0.0]

    async def sleep(seconds: float) -> None:
        await seen.wait()
        now[0] += seconds

    def connect(hooks: Any) -> NP6Client:
        return np6.client(hooks=hooks, retry=RetryPolicy(clock=lambda: now[0], sleep=sleep))

    np6.script(Fault.rate_limited(40))
    async with serve(np6, connect) as server, looking(server) as messages:
        assert await first(messages, "notice") == {
            "words": "NP6 allows no more requests for now. Resuming",
            "seconds": 40,
        }
        seen.set()
        assert await first(messages, "notice") is None
        assert (await first(messages, "counts"))["complete"]


async def test_reads_that_fail_are_repeated_less_and_less_often(
    np6: FakeNP6, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "LONGEST", 0.01)

    def connect(hooks: Any) -> NP6Client:
        return np6.client(hooks=hooks, retry=RetryPolicy(max_attempts=1, outage=0))

    np6.script(Fault.status(503), times=None)
    async with serve(np6, connect) as server, looking(server) as messages:
        waits = [(await first(messages, "notice"))["seconds"] for _ in range(4)]
    assert waits == [0.002, 0.004, 0.008, 0.01]


async def test_a_wrong_key_ends_the_reads_with_a_message(np6: FakeNP6, serve: Any) -> None:
    def connect(hooks: Any) -> NP6Client:
        return np6.client(hooks=hooks, api_key="another")

    async with serve(np6, connect) as server:
        for tries in (1, 2):  # whoever looks again tries again
            async with looking(server) as messages:
                problem = await first(messages, "problem")
                assert [message async for message in messages] == []
            assert problem["words"].startswith("NP6 does not accept the API key of this page.")
            assert np6.request_count == tries


async def test_an_account_without_these_events_is_explained(serve: Any) -> None:
    async with FakeNP6(contacts=1) as np6:
        np6.script(Fault.status(404), times=None)
        async with serve(np6) as server, looking(server) as messages:
            problem = await first(messages, "problem")
    assert problem["words"].startswith("NP6 does not offer the events of all contacts at its address.")


async def test_stopping_the_server_ends_every_page_with_a_message(np6: FakeNP6, serve: Any) -> None:
    async with serve(np6) as server, looking(server) as one, looking(server) as other:
        for messages in (one, other):
            await first(messages, "counts")
        async with asyncio.timeout(20):
            await server.close()
            for messages in (one, other):
                assert (await first(messages, "problem"))["words"] == "This page's server is being stopped."
    assert np6.in_flight == 0


async def test_a_quiet_page_gets_heartbeats(np6: FakeNP6, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "HEARTBEAT", 0.001)
    np6.script(Fault.hang())
    async with (
        serve(np6) as server,
        aiohttp.ClientSession(server.make_url("/")) as session,
        session.get("/account/counts") as response,
    ):
        assert await response.content.readline() == b": still here\n"


async def test_no_contact_is_named(np6: FakeNP6, serve: Any) -> None:
    async with serve(np6) as server, looking(server) as messages:
        text = json.dumps(await first(messages, "counts"))
    assert "@" not in text
    for contact in np6.contact_ids:
        assert contact not in text
        assert np6.hash(contact) not in text


async def test_of_many_actions_the_smallest_share_a_row(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "MOST_ACTIONS", 3)
    at = int(time.time() * 1000) - 1_000
    async with FakeNP6(contacts=0) as np6:
        events = [activation(f"A{number}", at) for number in range(6) for _ in range(number + 1)]
        np6.add_contact("A", events)
        async with serve(np6) as server, looking(server) as messages:
            counts = await first(messages, "counts")
    assert [row["action"] for row in counts["actions"]] == ["A5", "A4", "A3"]
    assert (counts["others"], counts["rest"]["sent"], counts["totals"]["sent"]) == (3, 6, 21)


def activation(action: Any, at: int, sent: Any = 0) -> dict[str, Any]:
    detail = {"activation": {"id": action, "stamp": {"time": sent}}}
    return make_activation(at=at, source={"type": "email", "detail": detail})


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        (make_activation(), {"sent"}),
        (make_event("execution"), {"other"}),
        (make_event("cancellation"), {"cancelled"}),
        (make_bounce("hard"), {"bounced", "hard"}),
        (make_bounce("soft"), {"bounced", "soft"}),
        (make_event("bounce", source=None), {"bounced"}),
        (make_hit("open"), {"opened"}),
        (make_hit("redirection"), {"clicked"}),
        (make_hit("unsubscribe"), {"stopped"}),
        (make_event("optout"), {"stopped"}),
        (make_event("creation"), {"other"}),
        (make_event("new"), {"other"}),
    ],
)
def test_an_event_counts_as_what_it_is(event: dict[str, Any], counts: set[str]) -> None:
    tally = Tally()
    tally.count(structure(event))
    assert tally.counts == Counter({*counts, "all"})


def test_a_sending_begins_with_its_first_activation_of_the_hour_or_else_when_it_was_sent() -> None:
    tally = Tally()
    for event in (make_hit(at=5_000_000_000_000), make_hit(at=4_000_000_000_000)):
        tally.count(structure(event))
    assert (tally.began, tally.sent) == (None, 4_000_000_000_000 - 5_375)
    for at in (4_200_000_000_000, 4_100_000_000_000):
        tally.count(structure(make_activation(at=at)))
    assert tally.began == 4_100_000_000_000
    for strange in (-1, 10**30, None, "x"):
        tally.count(structure(activation("A", 4_300_000_000_000, strange)))
    assert (tally.began, tally.sent) == (4_100_000_000_000, 4_000_000_000_000 - 5_375)


async def test_an_outage_is_reported_to_whoever_waits() -> None:
    notices = Notices(clock=lambda: 0.0)
    async with FakeNP6(contacts=0) as np6, np6.client() as client:
        hour = LastHour(client, notices)
        with notices.notifying(hour):
            notices(OutageWait("/actions/events", datetime.now(UTC), 2.0, ServerError("", status=500), None))
    assert hour.latest["notice"] == {
        "words": "NP6 is not working right now (status 500). Trying again",
        "seconds": 2.0,
    }


async def test_sends_of_the_demo_go_on_while_one_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PUBLISH", 0.001)
    async with TestServer(timeline.create_app(demo.connect, demo.ABOUT)) as server, looking(server) as messages:
        counts = await first(messages, "counts")
    assert len(counts["actions"]) > 5
    for kind in ("sent", "opened", "clicked", "hard", "soft", "stopped", "cancelled"):
        assert counts["totals"][kind] > 0
    async with FakeNP6(demo.READERS, 0) as np6:
        now = datetime.now(UTC)
        sends = demo.Sends(np6, now)
        totals = []
        for minute in range(0, 90, 15):
            sends.publish(now + timedelta(minutes=minute))
            totals.append(sum(1 for _ in np6.account_events()))
    assert all(later > earlier + 50 for earlier, later in pairwise(totals))
