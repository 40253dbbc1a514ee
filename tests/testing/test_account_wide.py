"""What FakeNP6 promises of the endpoints that respond for the whole account; the contacts' own are in test_fake."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from support.fake_wire import fetch
from yarl import URL

from np6_async.testing import (
    FakeNP6,
    Fault,
    make_activation,
    make_bounce,
    make_event,
    make_hit,
    make_optout,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Events = list[dict[str, Any]]

HOUR = 3_600_000
DAY = 24 * HOUR

KINDS = (
    *("", "/activations", "/cancellations", "/bounces", "/responses/stop", "/hits"),
    *("/hits/open", "/hits/redirection", "/hits/unsubscribe", "/hits/mirror", "/hits/form"),
)
REACTIONS = ("", "/bounces", *(kind for kind in KINDS if kind.startswith("/hits")))


class Session:
    """A client that interprets nothing: it returns what was sent."""

    def __init__(self, server: FakeNP6, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def send(self, target: str, method: str = "GET", data: bytes | None = None) -> tuple[int, bytes, Any]:
        url = URL(self.server.url + target, encoded=True)
        async with self.session.request(method, url, headers={"X-Key": self.server.api_key}, data=data) as response:
            return response.status, await response.read(), response.headers

    async def events(self, target: str) -> Events:
        status, body, _ = await self.send(target)
        assert status == 200, body
        events: Events = json.loads(body)
        return events

    async def campaign(self, campaign: str, body: object, query: str = "sort=asc") -> Events:
        data = json.dumps(body).encode()
        status, answer, _ = await self.send(f"/campaigns/{campaign}/events?{query}", "POST", data)
        assert status == 200, answer
        events: Events = json.loads(answer)
        return events


@contextlib.asynccontextmanager
async def serving(*args: Any, **options: Any) -> AsyncIterator[tuple[FakeNP6, Session]]:
    async with FakeNP6(*args, **options) as server, aiohttp.ClientSession() as session:
        yield server, Session(server, session)


def ids(events: Events) -> list[str]:
    return [event["id"] for event in events]


def stamps(events: Events) -> list[int]:
    return [event["timestamp"] for event in events]


def by_id(events: Events) -> Events:
    return sorted(events, key=lambda event: str(event["id"]))


def action_of(event: dict[str, Any]) -> str | None:
    detail = event["source"]["detail"]
    action: str | None = (detail.get("activation") or detail.get("execution") or {}).get("id")
    return action


def sent(event: dict[str, Any]) -> int:
    time: int = event["source"]["detail"]["activation"]["stamp"]["time"]
    return time


def texts(body: bytes) -> list[bytes]:
    """The elements of an array, byte for byte."""
    return [bytes(each) for each in msgspec.json.decode(body, type=list[msgspec.Raw])]


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_account_has_the_events_of_its_contacts(kind: str, typed: bool) -> None:
    """In one array, byte for byte what the contacts' own endpoints send; of one action, those of it."""
    async with serving(30, 40, typed=typed) as (server, session):
        server.add_contact("ANNE", [make_bounce(), make_hit("form"), make_optout(), make_activation()])
        server.add_contact(server.contact_ids[3], [make_event("cancellation")])
        everything = await session.events(f"/actions/events{kind}?sort=asc")
        assert everything
        assert stamps(everything) == sorted(stamps(everything))
        if kind != "/cancellations":
            own: list[bytes] = []
            for contact in server.contact_ids:
                own += texts((await session.send(f"/targets/{contact}/events{kind}"))[1])
            assert sorted(texts((await session.send(f"/actions/events{kind}"))[1])) == sorted(own)
        truth = list(server.account_events(kind.removeprefix("/") or "all"))
        assert stamps(truth) == stamps(everything)
        assert by_id(truth) == by_id(everything)
        for action in server.actions:
            one = await session.events(f"/actions/{action}/events{kind}?sort=asc")
            assert by_id(one) == by_id([event for event in everything if action_of(event) == action])
            assert by_id(one) == by_id(list(server.account_events(kind.removeprefix("/") or "all", action=action)))
        assert {seen.contact for seen in server.requests if seen.path.startswith("/actions")} == {None}


async def test_every_action_of_the_events_is_known() -> None:
    """Those of generated events, and those of events that a test added; others are 404, or empty where that is set."""
    async with serving(20) as (server, session):
        found = {action_of(event) for event in await session.events("/actions/events")} - {None}
        assert found == set(server.actions)
        assert (await session.send("/actions/00NEW1/events"))[0] == 404
        event = make_bounce()
        event["source"]["detail"]["activation"]["id"] = "00NEW1"
        server.add_events(server.contact_ids[0], [event])
        assert server.actions[-1] == "00NEW1"
        assert await session.events("/actions/00NEW1/events") == [event]
        assert await session.events("/actions/00NEW1/events/hits") == []
        for target in ("/actions/NOBODY/events", "/actions/NOBODY/reactivities", "/campaigns/NOBODY/events"):
            method, data = ("POST", b'{"itemsEvents":[]}') if "campaigns" in target else ("GET", None)
            server.missing = "404"
            assert (await session.send(target, method, data))[0] == 404
            server.missing = "empty"
            assert (await session.send(target, method, data))[:2] == (200, b"[]")


async def test_windows_orders_and_ties_across_contacts() -> None:
    """Half-open bounds; events of one timestamp in another order each time, whatever their contacts; none unsorted."""
    async with serving(0) as (server, session):
        for number in range(6):
            server.add_contact(
                f"C{number}", [make_bounce(id=f"{at}{number}{n}", at=at) for at in (1, 2, 3) for n in range(3)]
            )
        orders = set()
        for _ in range(10):
            events = await session.events("/actions/events?sort=asc&start=2000&end=3000")
            assert {each[0] for each in ids(events)} == {"2"}
            assert len(events) == 18
            orders.add(tuple(ids(events)))
        assert len(orders) == 10
        for sort, expected in ("asc", [1000, 2000, 3000]), ("desc", [3000, 2000, 1000]):
            events = await session.events(f"/actions/events/bounces?sort={sort}")
            assert [at for at, _ in itertools.groupby(stamps(events))] == expected
        unsorted = [tuple(ids(await session.events("/actions/events"))) for _ in range(5)]
        assert len(set(unsorted)) == 5
        assert len({tuple(sorted(each)) for each in unsorted}) == 1


async def test_robots_are_left_out_of_account_wide_hits_unless_asked_for() -> None:
    """`classification` selects robot classes of hits, of all actions and of one; "all" has everything."""
    async with serving(30, 60) as (server, session):
        for base in ("/actions/events", f"/actions/{server.actions[0]}/events"):
            people = await session.events(f"{base}/hits")
            robots = await session.events(f"{base}/hits?classification=genericrobot,mpp,gsr")
            everything = [event for event in await session.events(base) if event["type"] == "hit"]
            assert 0 < len(robots) < len(people)
            assert sorted(ids(people) + ids(robots)) == sorted(ids(everything))


async def test_wrong_account_wide_requests_are_refused() -> None:
    """404 for unknown paths, 405 for other methods, 400 for wrong parameters and bodies."""
    async with serving(1) as (_, session):
        for target, status in {
            "/actions": 404,
            "/actions/000PE4/events/cancelled": 404,
            "/actions/reactivities/activations": 404,
            "/actions/reactivities/cancellations": 404,
            "/actions/events?sort=up": 400,
            "/actions/events/hits?classification=google": 400,
            "/actions/reactivities?activationStart=soon": 400,
            "/targets/redlist/mail?endDate=soon": 400,
            "/targets/redlist/fax": 404,
            "/campaigns": 404,
            "/campaigns/00C001": 404,
        }.items():
            assert (await session.send(target))[0] == status, target
        for target, method, allowed in (
            ("/actions/events", "POST", "GET"),
            ("/targets/redlist/mail", "DELETE", "GET"),
            ("/campaigns/00C001/events", "GET", "POST"),
        ):
            status, _, headers = await session.send(target, method)
            assert (status, headers["allow"]) == (405, allowed)
        for body in (
            b"",
            b"[]",
            b"{}",
            b"\xff",
            b"[" * 100_000,
            b'{"itemsEvents":[{"type":"email","events":[{"type":"hit","subtypes":"open"}],"items":["000PE4"]}]}',
            b'{"itemsEvents":[{"type":"email","events":[{"type":"hit"}],"items":[null]}]}',
            b'{"itemsEvents":[{"type":"email","events":[{}],"items":["000PE4"]}]}',
        ):
            assert (await session.send("/campaigns/00C001/events", "POST", body))[0] == 400, body
        assert (await session.send("/campaigns/00C001/events?sort=up", "POST", b'{"itemsEvents":[]}'))[0] == 400


async def test_types_can_be_left_out_of_the_account_wide_responses() -> None:
    """`actions_without` names them; the contacts' own endpoints still have them. It may change meanwhile."""
    async with serving(20, 60, actions_without=("creation", "optout", "hit")) as (server, session):
        contact = server.contact_ids[0]
        own = {event["type"] for each in server.contact_ids for event in server.events(each)}
        assert {"creation", "optout", "hit"} < own
        assert {event["type"] for event in await session.events("/actions/events")} == own - {
            *("creation", "optout", "hit")
        }
        assert {event["type"] for event in server.account_events()} == own - {"creation", "optout", "hit"}
        assert await session.events("/actions/events/hits") == []
        assert {event["type"] for event in await session.events("/actions/reactivities")} == {"bounce"}
        assert await session.events(f"/targets/{contact}/events/hits")
        server.actions_without = ()
        assert {event["type"] for event in await session.events("/actions/events")} == own
    with pytest.raises(ValueError, match="collection of event types"):
        FakeNP6(actions_without="optout")


@pytest.mark.parametrize("kind", REACTIONS)
async def test_reactivities_have_a_window_for_the_sending_and_one_for_the_reaction(kind: str) -> None:
    """Hits and bounces of all actions or one, in the order of the reaction; both windows are half-open."""
    async with serving(30, 60) as (server, session):
        reactions = [
            event
            for event in server.account_events(kind.removeprefix("/") or "all")
            if event["type"] in ("hit", "bounce")
        ]
        assert by_id(await session.events(f"/actions/reactivities{kind}")) == by_id(reactions)
        low, high = reactions[len(reactions) // 4], reactions[3 * len(reactions) // 4]
        sends = sorted(map(sent, reactions))
        first, last = sends[len(sends) // 5], sends[4 * len(sends) // 5]
        window = f"reactivityStart={low['timestamp']}&reactivityEnd={high['timestamp']}"
        sending = f"activationStart={first}&activationEnd={last}"
        for query, expected in {
            window: [event for event in reactions if low["timestamp"] <= event["timestamp"] < high["timestamp"]],
            sending: [event for event in reactions if first <= sent(event) < last],
            f"{window}&{sending}": [
                event
                for event in reactions
                if low["timestamp"] <= event["timestamp"] < high["timestamp"] and first <= sent(event) < last
            ],
            f"activationStart={last}&activationEnd={first}": [],
        }.items():
            for action in (None, server.actions[1]):
                base = f"/actions/{action}/reactivities" if action else "/actions/reactivities"
                wanted = [event for event in expected if action in (None, action_of(event))]
                for sort in ("asc", "desc"):
                    found = await session.events(f"{base}{kind}?sort={sort}&{query}")
                    assert stamps(found) == sorted(stamps(wanted), reverse=sort == "desc")
                    assert by_id(found) == by_id(wanted)


async def test_a_campaign_has_the_events_that_its_request_describes() -> None:
    """Of the types, subtypes and actions named in the body, in one array; items may be numbers; no robots."""
    async with serving(30, 60) as (server, session):
        (campaign, (first, second, _)), (other, (stranger, *_)) = list(server.campaigns.items())[:2]

        def wish(items: Any, *events: Any) -> Any:
            return {"itemsEvents": [{"type": "email", "events": list(events), "items": items}]}

        def truth(action: str, *kinds: str) -> Events:
            return [event for kind in kinds for event in server.account_events(kind, action=action)]

        opens = {"type": "hit", "subtypes": ["open", "mirror"]}
        found = await session.campaign(campaign, wish([first], opens))
        assert found
        assert stamps(found) == sorted(stamps(found))
        assert by_id(found) == by_id(truth(first, "hits/open", "hits/mirror"))
        found = await session.campaign(campaign, wish([first, second], {"type": "bounce"}, {"type": "hit"}))
        assert by_id(found) == by_id(truth(first, "bounces", "hits") + truth(second, "bounces", "hits"))
        both = {"itemsEvents": wish([first], opens)["itemsEvents"] + wish([second], {"type": "bounce"})["itemsEvents"]}
        expected = truth(first, "hits/open", "hits/mirror") + truth(second, "bounces")
        assert by_id(await session.campaign(campaign, both)) == by_id(expected)
        middle = sorted(stamps(expected))[len(expected) // 2]
        late = [event for event in expected if event["timestamp"] >= middle]
        assert by_id(await session.campaign(campaign, both, f"start={middle}")) == by_id(late)
        assert await session.campaign(campaign, wish([stranger], {"type": "hit"})) == []
        assert await session.campaign(other, wish([stranger], {"type": "hit"}))
        event = make_bounce()
        event["source"]["detail"]["activation"]["id"] = 4711
        server.add_contact("ANNE", [event])
        server.add_campaign("own", ["4711"])
        for item in (4711, "4711"):
            assert await session.campaign("own", wish([item], {"type": "bounce"})) == [event]
        server.assert_requests(
            *["POST /campaigns/own/events?sort=asc -> 200"] * 2,
            *[f"POST /campaigns/{campaign}/events -> 200"] * 5,
            f"POST /campaigns/{other}/events",
            any_order=True,
        )
        assert json.loads(server.requests[0].body) == wish([first], opens)


async def test_a_request_body_may_be_large_and_come_in_pieces() -> None:
    """It is read to its end before the response, and what follows it on the connection is the next request."""
    async with serving(1) as (server, session):
        items = [f"{number:06d}" for number in range(100_000)]
        body = {"itemsEvents": [{"type": "email", "events": [{"type": "hit"}], "items": items}]}
        assert await session.campaign("00C001", body) == []
        assert await session.events("/actions/events")
        assert [seen.status for seen in server.requests] == [200, 200]
        assert server.connections == 1


async def test_red_lists_have_a_share_of_the_contacts() -> None:
    """Entries of every origin with epoch milliseconds, in a window that is half-open; more can be added."""
    async with serving(2000) as (server, session):
        origins: set[int] = set()
        for channel, share in ("mail", 0.05), ("sms", 0.02):
            listed = await session.events(f"/targets/redlist/{channel}")
            assert len(listed) == share * 2000
            assert by_id(listed) == by_id(server.redlist(channel))  # type: ignore[arg-type]
            assert all(entry["id"] in server.contact_ids for entry in listed)
            assert all(set(entry) == {"id", "timestamp", "origin", "detail"} for entry in listed)
            origins |= {entry["origin"] for entry in listed}
            start, end = sorted(stamps(listed))[5], sorted(stamps(listed))[15]
            window = await session.events(f"/targets/redlist/{channel}?startDate={start}&endDate={end}")
            assert sorted(stamps(window)) == sorted(stamps(listed))[5:15]
        assert origins == set(range(10))
        server.add_redlisted("ANNE", origin=42, at="2026-03-01", detail="?", source="x")
        server.add_redlisted("ANNE", "sms", at=1_800_000_000, timestamp="2027-01-15T08:00:00Z")
        assert await session.events("/targets/redlist/mail?startDate=2026-03-01") == [
            {"id": "ANNE", "timestamp": 1_772_323_200_000, "origin": 42, "detail": "?", "source": "x"}
        ]
        (entry,) = await session.events("/targets/redlist/sms?startDate=2027-01-01")
        assert entry["timestamp"] == "2027-01-15T08:00:00Z"


async def test_contacts_and_events_that_are_added_are_seen_by_the_next_request() -> None:
    """New contacts, new and late events, and events that replace those of a contact, before and after first use."""
    async with serving(10) as (server, session):
        server.add_events(server.contact_ids[0], [make_bounce(id="early")])
        assert len(await session.events("/actions/events")) == 101
        server.add_contact("ANNE", [make_bounce(id=f"anne{n}", at=n + 1) for n in range(40)])
        server.add_events(server.contact_ids[1], [make_hit(id="late", at=1)])
        server.add_events("ANNE", [make_hit(id="last", at="2030-01-01")])
        assert len(await session.events("/actions/events")) == 143
        found = await session.events("/actions/events?sort=asc")
        assert stamps(found) == sorted(stamps(found))
        assert {found[0]["id"], found[1]["id"]} == {"late", "anne0"}
        assert found[-1]["id"] == "last"
        for contact in (server.contact_ids[1], server.contact_ids[2], "ANNE"):
            server.add_contact(contact, [make_hit(id=f"only {contact}")])
        server.add_contact("BILL", [])
        found = await session.events("/actions/events?sort=asc")
        assert len(found) == 81 + 3
        own = [event for contact in server.contact_ids for event in server.events(contact)]
        assert by_id(found) == by_id(own)


async def test_events_that_no_number_can_hold_are_served_at_the_ends() -> None:
    """A timestamp beyond every clock sorts first or last, and breaks no other event."""
    async with serving(0) as (server, session):
        server.add_contact("ODD", [{"id": "b", "timestamp": 1}, {"id": "c", "timestamp": 10**30, "source": 7}])
        server.add_contact("ODD2", [{"id": "a", "timestamp": "-1e25", "source": {"detail": {"activation": {"id": 1}}}}])
        assert ids(await session.events("/actions/events?sort=asc")) == ["a", "b", "c"]
        assert ids(await session.events("/actions/1/events")) == ["a"]
        assert server.actions[-1] == "1"


async def test_faults_aim_at_paths() -> None:
    """`path` names an endpoint, with a star for any text; a script without a contact meets account-wide requests."""
    async with serving(2) as (server, session):
        first, second = server.actions[:2]
        server.script(Fault.status(500), path=f"/actions/{first}/*")
        server.script(Fault.status(503), path="/actions/events", skip=1)
        server.script(Fault.status(418), path="/*/redlist/*", times=2)
        targets = [
            *(f"/actions/{second}/events", f"/actions/{first}/events/hits", f"/actions/{first}/events"),
            *("/actions/events", "/actions/events/hits", "/actions/events", "/actions/events"),
            *("/targets/redlist/mail", "/targets/redlist/sms", "/targets/redlist/sms"),
        ]
        statuses = [(await session.send(target))[0] for target in targets]
        assert statuses == [200, 500, 200, 200, 200, 503, 200, 418, 418, 200]
        server.script(Fault.status(502))
        assert (await session.send("/actions/events"))[0] == 502
        assert not server.faults_pending
        server.script(Fault.status(502), contact=server.contact_ids[0])
        assert (await session.send("/actions/events"))[0] == 200


async def test_the_drawn_faults_of_a_path_follow_from_the_seed() -> None:
    """Whatever other requests there are meanwhile, the same requests for one path meet the same faults."""
    kinds = [Fault.status(500), Fault.status(503)]
    seen: dict[bool, list[int]] = {}
    for disturbed in (False, True):
        async with serving(2) as (server, session):
            server.fault_rate(0.4, kinds, seed=3)
            statuses = []
            for _ in range(40):
                statuses.append((await session.send("/actions/events/hits"))[0])
                if disturbed:
                    await session.send(f"/actions/{server.actions[0]}/events")
            seen[disturbed] = statuses
    assert seen[False] == seen[True]
    assert len(set(seen[True])) == 3


@pytest.fixture(scope="module")
def sender() -> FakeNP6:
    """An account of 12,000 events, which are too many for one block, and too large for the memory."""
    return FakeNP6(2_500, 5, sends=4)


def test_an_account_may_be_made_of_sends(sender: FakeNP6) -> None:
    """Each goes to its contacts within seconds; reactions come later; every contact has its number of events."""
    events = list(sender.account_events())
    assert len(sender.actions) == 4
    assert {action_of(event) for event in events} == {*sender.actions, None}
    assert len({event["id"] for event in events}) == len(events)
    counts = [len(sender.events(contact)) for contact in sender.contact_ids[:300]]
    assert sum(each == 5 for each in counts) > 0.8 * 300  # the others have had all four sends
    assert max(counts) == 5
    kinds = Counter(event["type"] for event in events)
    assert {"activation", "hit", "bounce", "cancellation", "creation", "modification", "optout"} < set(kinds)
    begun = {}
    for action in sender.actions:
        activations = list(sender.account_events("activations", action=action))
        begun[action] = activations[0]["timestamp"]
        ties = Counter(stamps(activations))
        assert all(at % 1000 == 0 for at in ties)
        assert max(ties) - min(ties) < 10_000
        assert max(ties.values()) > 500
        hits = [at - begun[action] for at in stamps(list(sender.account_events("hits", action=action)))]
        assert sum(wait < 2 * DAY for wait in hits) > 0.8 * len(hits)
        bounces = [at - begun[action] for at in stamps(list(sender.account_events("bounces", action=action)))]
        assert 0 < len(bounces) < 0.1 * len(activations)
        assert max(bounces) < HOUR
    late = [event for event in events if event["type"] == "hit" and sent(event) < event["timestamp"] - 30 * DAY]
    assert late
    leavers = list(sender.account_events("hits/unsubscribe")) + list(sender.account_events("stops"))
    assert 0 < len(leavers) < 0.02 * kinds["activation"]
    assert max(stamps(events)) < 1_767_225_600_000


def test_histories_made_of_sends_follow_from_the_seed(sender: FakeNP6) -> None:
    """A contact has the same events in another server, and there are as many as the range allows."""
    contact = sender.contact_ids[17]
    assert FakeNP6(2_500, 5, sends=4).events(contact) == sender.events(contact)
    assert FakeNP6(2_500, 5, sends=4, seed=1).actions == sender.actions
    many = FakeNP6(300, (0, 8), sends=40)
    assert {len(many.events(contact)) for contact in many.contact_ids} == set(range(9))
    executions = [event for event in many.account_events() if event["type"] == "execution"]
    assert len({action_of(event) for event in executions}) == 5
    with pytest.raises(ValueError, match="sends is 0"):
        FakeNP6(sends=0)


@pytest.mark.parametrize(("query", "descending"), [("?sort=asc", False), ("?sort=desc", True), ("", None)])
async def test_a_large_response_is_whole_and_in_another_order_each_time(
    sender: FakeNP6, query: str, descending: bool | None
) -> None:
    """All events of all contacts, sorted or not, those of one timestamp shuffled, however many they are."""
    truth = list(sender.account_events())
    own = itertools.chain.from_iterable(sender.events(contact) for contact in sender.contact_ids)
    assert by_id(truth) == by_id(list(own))
    orders = []
    async with sender, aiohttp.ClientSession() as session:
        for _ in range(2):
            events = await Session(sender, session).events(f"/actions/events{query}")
            orders.append(ids(events))
            assert by_id(events) == by_id(truth)
            if descending is not None:
                assert stamps(events) == sorted(stamps(truth), reverse=descending)
    moved = sum(one != other for one, other in zip(*orders, strict=True))
    assert moved > 0.5 * len(truth)
    if descending is None:
        assert moved > 0.99 * len(truth)


async def test_a_window_of_a_large_account_is_cut_out_exactly(sender: FakeNP6) -> None:
    """Whichever part it is, of all kinds or one: it has the events in it, and all that share their timestamps."""
    truth = list(sender.account_events())
    async with sender, aiohttp.ClientSession() as session:
        for first, last in ((0, 5), (3_000, 9_000), (5_000, 5_100), (10_000, -1)):
            start, end = truth[first]["timestamp"], truth[last]["timestamp"]
            for kind in ("", "/hits", "/activations"):
                wanted = [
                    event
                    for event in sender.account_events(kind.removeprefix("/") or "all")
                    if start <= event["timestamp"] < end
                ]
                target = f"/actions/events{kind}?sort=asc&start={start}&end={end}"
                found = await Session(sender, session).events(target)
                assert stamps(found) == stamps(wanted)
                assert by_id(found) == by_id(wanted)


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("how", ["chunked", "rst", "length", "eof", "gzip"])
async def test_a_large_response_is_cut_at_the_exact_byte(sender: FakeNP6, how: Any, gzip: bool) -> None:
    """Those bytes arrive, which are the beginning of a response, and the connection ends as `how` says."""
    truth = {json.dumps(event, sort_keys=True) for event in sender.account_events()}
    sender.gzip = gzip
    async with sender:
        for after in (0, 1, 700, 3_000_000, 100_000_000):
            sender.script(Fault.cut(after=after, how=how))
            wire = await fetch(sender, target="/actions/events?sort=asc", gzip=gzip or how == "gzip")
            assert wire.end == {"rst": "rst", "gzip": "open"}.get(how, "eof")
            assert len(wire.body) == after or (after == 100_000_000 and len(json.loads(wire.body)) == len(truth))
            if how == "gzip":
                assert wire.finished
                assert not wire.inflate.eof
            if how == "length":
                assert wire.length > len(wire.body)
            if after == 3_000_000:
                begin, comma, _ = wire.body.rpartition(b',{"type":')
                assert comma
                events = json.loads(begin + b"]")
                assert len(events) > 5_000
                assert {json.dumps(event, sort_keys=True) for event in events} <= truth
    sender.gzip = False
    assert not sender.faults_pending
    sender.reset()


async def test_other_faults_of_large_responses(sender: FakeNP6) -> None:
    """A duplicate, a bit that is flipped, garbage after the end, and a stall at a byte are as in small ones."""
    count = len(list(sender.account_events()))
    async with sender:
        target = "/actions/events?sort=desc"
        sender.script(Fault.duplicate(), Fault.bit_flip(), Fault.garbage(), Fault.stall(2_500_001, seconds=0.001))
        events = json.loads((await fetch(sender, target=target)).body)
        assert len(events) == count + 1
        assert sum(one == other for one, other in itertools.pairwise(events)) == 1
        with pytest.raises(ValueError):
            json.loads((await fetch(sender, target=target)).body)
        wire = await fetch(sender, target=target)
        assert wire.body.endswith(b"]}garbage")
        assert len(json.loads(wire.body.removesuffix(b"}garbage"))) == count
        assert len(json.loads((await fetch(sender, target=target)).body)) == count
        sender.script(Fault.stall(2_500_001))
        assert len((await fetch(sender, target=target, wait=0.1)).body) == 2_500_001
    assert not sender.faults_pending
    sender.reset()


async def test_a_large_account_can_change() -> None:
    """Events that are added, and contacts whose events are replaced, are in the next response and nothing is lost."""
    async with serving(1_500, 7, sends=6) as (server, session):
        await session.events("/actions/events/bounces")
        first, second = server.contact_ids[:2]
        server.add_events(first, [make_bounce(id="late", at="2025-12-01"), make_hit(id="new", at="2026-02-01")])
        server.add_contact(second, [make_bounce(id="replaced", at="2025-12-01")])
        server.add_contact("ANNE", [make_bounce(id=f"{n}", at="2025-12-01") for n in range(4_500)])
        events = await session.events("/actions/events?sort=asc")
        assert stamps(events) == sorted(stamps(events))
        own = [event for contact in server.contact_ids for event in server.events(contact)]
        assert by_id(events) == by_id(own)
        assert {"late", "new", "replaced", "4499"} < set(ids(events))
        assert by_id(list(server.account_events())) == by_id(own)
