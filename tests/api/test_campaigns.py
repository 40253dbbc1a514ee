"""The events of a campaign: a POST that only reads is retried, resumed and paced as a GET is; on real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from support.raw_server import Connection, RawServer, raw_server, response

from np6_async import (
    Activation,
    APIError,
    AuthError,
    BadRequest,
    Bounce,
    Event,
    EventKind,
    Hit,
    InvalidBound,
    InvalidInput,
    NotFound,
    NP6Client,
    Observation,
    Optout,
    OutageEnded,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryPolicy,
    RetryScheduled,
    ServerError,
    UnexpectedRedirect,
    UnknownEvent,
)
from np6_async.testing import FakeNP6, Fault

HITS = ["form", "mirror", "open", "redirection", "unsubscribe"]
START = 1_614_089_582_000
# Ties of several contacts, and an event without an id, as a mixed array has them.
EVENTS: list[dict[str, Any]] = [
    {"type": "hit", "id": "a", "timestamp": START},
    {"type": "bounce", "id": "b", "timestamp": START},
    {"type": "bounce", "timestamp": START + 1_000, "source": {"type": "email"}},
    {"type": "hit", "id": "c", "timestamp": START + 1_000},
    {"type": "activation", "id": "d", "timestamp": START + 1_000},
    {"type": "new", "id": "e", "timestamp": START + 2_000},
]
QUICK = RetryPolicy(base_delay=0, budget=1e9)


async def immediately(_: float) -> None:
    """Sleep, without the waiting."""


IMPATIENT = RetryPolicy(sleep=immediately, budget=1e9)


def client(server: RawServer, **options: Any) -> NP6Client:
    return NP6Client("secret", base_url=server.url, **{"retry": QUICK, **options})


def window_of(target: str) -> list[dict[str, Any]]:
    """The events that a request is for, in its order."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
    low, high = (
        datetime.fromisoformat(query[name]).timestamp() * 1000 if name in query else limit
        for name, limit in (("start", 0), ("end", 2**60))
    )
    found = [event for event in EVENTS if low <= event["timestamp"] < high]
    return sorted(found, key=lambda event: event["timestamp"], reverse=query["sort"] == "desc")


async def serve(connection: Connection) -> None:
    while True:
        request = await connection.request()
        await connection.send(response(json.dumps(window_of(request.target)).encode()))


def failing(*failures: bytes | None) -> Callable[[Connection], Awaitable[None]]:
    """Each request gets the next of these bytes; None resets the connection. Then all is well."""
    left = list(failures)

    async def behaviour(connection: Connection) -> None:
        while True:
            request = await connection.request()
            if not left:
                await connection.send(response(json.dumps(window_of(request.target)).encode()))
                continue
            failure = left.pop(0)
            if failure is None:
                return
            await connection.send(failure)

    return behaviour


# What is sent


@pytest.mark.parametrize("borrowed", [False, True])
async def test_the_request_is_a_post_of_json_with_the_headers_of_any_other(borrowed: bool) -> None:
    """Over the client's own session or a borrowed one."""
    async with (
        raw_server(serve) as server,
        aiohttp.ClientSession() as session,
        client(server, session=session if borrowed else None) as np6,
    ):
        assert await np6.events.list("A")
        events = [event async for event in np6.campaigns.events(1234, [56, "0057"], start="2021-01-01")]
    assert [event.id for event in events] == [each.get("id") for each in EVENTS]
    get, post = server.requests
    assert (post.method, post.target) == ("POST", "/campaigns/1234/events?sort=asc&start=2021-01-01T00:00:00.000Z")
    assert json.loads(post.body) == {
        "itemsEvents": [{"type": "email", "events": [{"type": "hit", "subtypes": HITS}], "items": [56, "0057"]}]
    }
    own = {"content-type": "application/json", "content-length": str(len(post.body))}
    assert {name: value for name, value in post.headers.items() if name not in own} == get.headers
    assert {name: post.headers[name] for name in own} == own
    assert post.headers["x-key"] == "secret"
    assert post.raw.lower().count(b"\r\nx-key:") == 1


def asked(post: bytes) -> list[dict[str, Any]]:
    (items,) = json.loads(post)["itemsEvents"]
    events: list[dict[str, Any]] = items["events"]
    return events


@pytest.mark.parametrize(
    ("kinds", "events"),
    [
        ("hits", [{"type": "hit", "subtypes": HITS}]),
        ("hits/open", [{"type": "hit", "subtypes": ["open"]}]),
        (EventKind.BOUNCES, [{"type": "bounce"}]),
        (["hits/redirection", "hits/open"], [{"type": "hit", "subtypes": ["open", "redirection"]}]),
        (("hits/open", "hits"), [{"type": "hit", "subtypes": HITS}]),
        (
            ["bounces", EventKind.HITS_FORM, "activations", "stops", "bounces"],
            [{"type": "bounce"}, {"type": "hit", "subtypes": ["form"]}, {"type": "activation"}, {"type": "optout"}],
        ),
    ],
)
async def test_the_body_names_the_types_and_their_subtypes(kinds: Any, events: list[Any]) -> None:
    async with raw_server(serve) as server, client(server) as np6:
        async for _ in np6.campaigns.events("C1", 7, kinds=kinds):
            pass
    assert asked(server.requests[0].body) == events


@pytest.mark.parametrize(
    ("items", "sent"), [(7, [7]), ("7", ["7"]), ([7, "000PE4", 0], [7, "000PE4", 0]), (iter((1, 2)), [1, 2])]
)
async def test_items_are_sent_as_they_were_given(items: Any, sent: list[Any]) -> None:
    """One or many, as numbers or as text; `channel` is their type."""
    async with raw_server(serve) as server, client(server) as np6:
        async for _ in np6.campaigns.events("C1", items, channel="sms"):
            pass
    (parts,) = json.loads(server.requests[0].body)["itemsEvents"]
    assert (parts["items"], parts["type"]) == (sent, "sms")


@pytest.mark.slow
async def test_a_body_of_two_hundred_thousand_items_is_sent() -> None:
    async with raw_server(serve) as server, client(server) as np6:
        async for _ in np6.campaigns.events("C1", range(1_000_000, 1_200_000)):
            pass
    (parts,) = json.loads(server.requests[0].body)["itemsEvents"]
    assert parts["items"] == list(range(1_000_000, 1_200_000))


@pytest.mark.parametrize(
    ("kinds", "classes"),
    [
        ("hits", {Hit}),
        ("bounces", {Bounce}),
        ("activations", {Activation}),
        ("stops", {Optout}),
        (["hits/open", "hits/form"], {Hit}),
        (["hits", "bounces"], {Hit, Bounce, Activation, UnknownEvent}),
    ],
)
async def test_events_of_one_type_have_its_class_and_those_of_several_that_of_their_own(
    kinds: Any, classes: set[type[Event]]
) -> None:
    async with raw_server(serve) as server, client(server) as np6:
        assert {type(event) async for event in np6.campaigns.events(1, 2, kinds=kinds)} == classes


async def test_the_address_and_the_parameters(responses: aioresponses) -> None:
    seen: list[tuple[str, Any]] = []

    def callback(url: Any, **options: Any) -> CallbackResult:
        seen.append((str(url), options["data"].read()))
        return CallbackResult(body="[]")

    address = "https://api-cm.np6.com/campaigns/000PE4/events"
    query = "end=2021-03-01T00:00:00.000Z&sort=desc&start=2021-02-01T00:00:00.000Z"
    responses.post(f"{address}?{query}", callback=callback)
    async with (
        NP6Client("k") as np6,
        np6.campaigns.events(
            "000PE4", [1], start="2021-02-01", end=datetime(2021, 3, 1, tzinfo=UTC), newest_first=True
        ) as events,
    ):
        assert [event async for event in events] == []
    ((url, body),) = seen
    assert url.partition("?")[0] == address
    assert asked(body) == [{"type": "hit", "subtypes": HITS}]


# What is refused


@pytest.mark.parametrize("campaign", ["", ".", "..", "a/b", "1?x", "1\n", "%2F", "é", -1, -1.5, True, None, b"1", [1]])
async def test_a_bad_campaign_is_refused_before_any_request(campaign: Any) -> None:
    async with raw_server(serve) as server, client(server) as np6:
        with pytest.raises(InvalidInput, match="campaign"):
            np6.campaigns.events(campaign, [1])
        with pytest.raises(InvalidInput, match="item"):
            np6.campaigns.events(1, [1, campaign])
    assert server.connections == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"items": []}, "items must be the ids of one or more items"),
        ({"items": None}, "items must be"),
        ({"items": b"4711"}, "items must be"),
        ({"items": {4711: "mail"}}, "items must be"),
        ({"items": 10**5_000}, "too large"),
        ({"kinds": []}, "kinds must be one or more of: activations"),
        ({"kinds": "all"}, "kinds must be one or more of"),
        ({"kinds": ["hits", "all"]}, "kinds must be one or more of"),
        ({"kinds": "clicks"}, "kind='clicks'"),
        ({"kinds": None}, "kinds must be"),
        ({"channel": ""}, "channel must be"),
        ({"channel": 1}, "channel must be"),
    ],
)
async def test_other_bad_arguments_are_refused_before_any_request(options: dict[str, Any], match: str) -> None:
    async with raw_server(serve) as server, client(server) as np6:
        with pytest.raises(InvalidInput, match=match):
            np6.campaigns.events(1, **{"items": [1], **options})
        with pytest.raises(InvalidBound):
            np6.campaigns.events(1, 1, start="2026-02-01", end="2026-01-01")
        assert [event async for event in np6.campaigns.events(1, 1, start=5, end=5)] == []
    assert server.connections == 0


# What goes wrong


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (400, BadRequest, 1),
        (401, AuthError, 1),
        (403, AuthError, 1),
        (404, NotFound, 1),
        (405, BadRequest, 1),
        (302, UnexpectedRedirect, 1),
        (307, UnexpectedRedirect, 1),
        (408, ServerError, 5),
        (500, ServerError, 5),
        (503, ServerError, 5),
    ],
)
async def test_statuses_are_the_errors_that_a_get_has(
    status: int, error: type[APIError], requests: int, responses: aioresponses
) -> None:
    """Retried where a GET is."""
    responses.post(
        "https://api-cm.np6.com/campaigns/7/events?sort=asc", status=status, body="anne@example.com", repeat=True
    )
    async with NP6Client("k", retry=QUICK) as np6:
        with pytest.raises(error, match=rf"^campaign 7: {status}") as caught:
            await anext(np6.campaigns.events(7, 1))
    assert (caught.value.status, caught.value.attempts) == (status, requests)
    assert sum(len(calls) for calls in responses.requests.values()) == requests
    assert "anne" not in str(caught.value)


async def test_a_redirect_is_not_followed_by_whatever_method() -> None:
    moved = b"HTTP/1.1 303 See Other\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(failing(moved)) as server, client(server) as np6:
        with pytest.raises(UnexpectedRedirect):
            await anext(np6.campaigns.events(7, 1))
    assert [request.method for request in server.requests] == ["POST"]


async def test_failures_are_retried_with_the_same_body() -> None:
    failures = [
        response(b"", status="503 Service Unavailable"),
        None,
        response(b"<html>sign in</html>"),
        response(b"", "Retry-After: 0", status="429 Too Many Requests"),
    ]
    async with raw_server(failing(*failures)) as server, client(server, retry=IMPATIENT) as np6:
        found = [event async for event in np6.campaigns.events(7, [1, 2], kinds=["hits", "bounces"])]
    assert len(found) == len(EVENTS)
    assert len(server.requests) == len(failures) + 1
    assert len({(request.method, request.target, request.body) for request in server.requests}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_response_cut_at_any_byte_is_resumed_with_the_same_body_from_a_later_start(newest_first: bool) -> None:
    """Or to an earlier end: each event once and in order, ties and events without an id included."""
    place = 0

    async def cut_once(connection: Connection) -> None:
        while True:
            request = await connection.request()
            body = json.dumps(window_of(request.target)).encode()
            if len(connection.server.requests) == 1:
                await connection.send(response(body[:place], length=len(body)))
                return
            await connection.send(response(body))

    order = "desc" if newest_first else "asc"
    whole = window_of(f"/?sort={order}")
    windows = set()
    for place in range(len(json.dumps(whole))):
        async with raw_server(cut_once) as server, client(server) as np6:
            stream = np6.campaigns.events(7, ["a"], kinds=["hits", "bounces"], newest_first=newest_first)
            assert [event.data async for event in stream] == whole, place
            assert stream.stats.retries == 1
        first, second = server.requests
        assert (first.method, first.body) == (second.method, second.body)
        windows.add(second.target.partition("?")[2])
    bounds = ["start=2021-02-23T14:13:02.000Z", "start=2021-02-23T14:13:03.000Z", "start=2021-02-23T14:13:04.000Z"]
    if newest_first:
        bounds = ["end=2021-02-23T14:13:04.001Z", "end=2021-02-23T14:13:03.001Z"]
    assert windows >= {f"sort={order}", *(f"sort={order}&{bound}" for bound in bounds)} - {f"sort={order}&{bounds[-1]}"}


@asynccontextmanager
async def outage() -> AsyncIterator[RawServer]:
    """The first request is answered, then 30 fail."""
    down = response(b"", status="502 Bad Gateway")
    async with raw_server(failing(response(b"[]"), *[down] * 30)) as server:
        yield server


async def test_an_outage_is_waited_for_and_its_probes_are_posts_too() -> None:
    """A GET of that path would be a 405, and so the end of the wait."""
    seen: list[Observation] = []
    async with outage() as server, client(server, retry=IMPATIENT, hooks=[seen.append]) as np6:
        assert [event async for event in np6.campaigns.events(7, 1)] == []
        assert len([event async for event in np6.campaigns.events(7, 1)]) == len(EVENTS)
    assert {request.method for request in server.requests} == {"POST"}
    assert len({request.body for request in server.requests}) == 1
    assert len(server.requests) >= 32
    assert any(isinstance(each, OutageEnded) for each in seen)


async def test_observations_name_the_method_and_no_campaign() -> None:
    seen: list[Observation] = []
    whole = json.dumps(EVENTS).encode()
    limited = response(b"", "Retry-After: 0", status="429 Too Many Requests")
    broken = response(whole[:200], length=len(whole))

    async def breaks(connection: Connection) -> None:
        await connection.request()
        await connection.send([limited, broken, response(whole)][len(connection.server.requests) - 1])

    async with raw_server(breaks) as server, client(server, retry=IMPATIENT, hooks=[seen.append]) as np6:
        async for _ in np6.campaigns.events("000PE4", 1):
            pass
    assert {type(each) for each in seen} >= {RequestStarted, RequestFinished, Resumed, RetryScheduled, RateLimitWait}
    for each in seen:
        assert each.path == "/campaigns/{id}/events"
        assert each.contact is None
        assert "000PE4" not in str(each)
        if isinstance(each, RequestStarted | RequestFinished | Resumed | RetryScheduled):
            assert each.method == "POST"
            assert str(each).startswith("POST /campaigns/{id}/events")


@pytest.mark.parametrize("newest_first", [False, True])
async def test_events_come_once_and_in_order_on_a_server_of_faults(newest_first: bool) -> None:
    """Half of the requests break, in every way; and the contact of each event is in it."""
    kinds = ["hits", "bounces", "activations"]
    async with FakeNP6(contacts=200, seed=5) as server, server.client(retry=QUICK) as np6:
        campaign, items = next(iter(server.campaigns.items()))
        whole = [event async for event in np6.campaigns.events(campaign, items, kinds=kinds)]
        assert {type(event) for event in whole} == {Hit, Bounce, Activation}
        assert all(event.recipient is not None for event in whole)
        server.fault_rate(0.5, [fault for fault in Fault.ALL if fault.name not in ("hang", "stall")])
        for _ in range(10):
            found = np6.campaigns.events(campaign, items, kinds=kinds, newest_first=newest_first)
            times = [(event.timestamp, event.id) async for event in found]
            assert times == sorted(times, key=lambda each: each[0], reverse=newest_first)
            assert sorted(times) == sorted((event.timestamp, event.id) for event in whole)
        assert len(server.faults_consumed) > 3
