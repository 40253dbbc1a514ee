"""`FakeNP6.assert_requests`: the requests that a test expects, and a diff if there were others."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from np6_async import Contact, NP6Client, RetryPolicy
from np6_async.testing import FakeNP6, Fault, RequestSeen


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    """A server that saw a failure and a success for A, then one request for B with another kind and window."""
    async with FakeNP6(contacts=0) as server, server.client(retry=RetryPolicy(base_delay=0)) as np6:
        server.add_contact("A", unicity="anne@example.com")
        server.add_contact("B")
        server.script(Fault.status(503), contact="A")
        await np6.events.list("A")
        await np6.events.list("B", "hits/open", start="2026-01-01")
        yield server


ALL = ("GET /targets/A/events -> 503", "GET /targets/A/events -> 200", "GET /targets/B/events/hits/open")


@pytest.mark.parametrize(
    "expected",
    [
        ALL,
        ("/targets/A/events", "/targets/A/events", "/targets/B/events/hits/open"),
        ("/targets/*/events", "/targets/A/*", "/targets/*/open"),
        (*ALL[:2], "/targets/B/events/hits/open?start=2026-01-01T00:00:00.000Z&sort=asc -> 200"),
        (*ALL[:2], "/targets/B/events/hits/open?sort=*&start=2026*"),
        (*ALL[:2], "/targets/%42/events/hits/open?start=2026-01-01T00%3A00%3A00.000Z"),
    ],
)
async def test_what_is_left_out_does_not_matter(server: FakeNP6, expected: tuple[str, ...]) -> None:
    """The method, the status, and parameters; percent-encoding is decoded; a star is any text."""
    server.assert_requests(*expected)


@pytest.mark.parametrize(
    "expected",
    [
        (),
        ALL[:2],
        (*ALL, "/targets/C/events"),
        (ALL[1], ALL[0], ALL[2]),
        ("POST /targets/A/events", *ALL[1:]),
        (*ALL[:2], "/targets/B/events/hits"),
        (*ALL[:2], "/targets/B/events/hits/open?start=2026-01-02T00:00:00.000Z"),
        (*ALL[:2], "/targets/B/events/hits/open?end=*"),
        ("/targets/A/events -> 500", *ALL[1:]),
    ],
)
async def test_more_fewer_others_or_another_order_fail(server: FakeNP6, expected: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError, match=f"{len(expected)} requests? expected, 3 seen"):
        server.assert_requests(*expected)


async def test_the_failure_is_a_diff(server: FakeNP6) -> None:
    """It shows the requests that were seen with their parameters and faults, and which are missing or extra."""
    with pytest.raises(AssertionError) as caught:
        server.assert_requests("GET /targets/A/events -> 503", "GET /targets/B/events/hits", "GET /targets/C/events")
    assert str(caught.value).splitlines() == [
        "3 requests expected, 3 seen (- expected but not seen, + seen but not expected):",
        "    GET /targets/A/events?sort=asc -> 503 (status_503)",
        "  - GET /targets/B/events/hits",
        "  - GET /targets/C/events",
        "  + GET /targets/A/events?sort=asc -> 200",
        "  + GET /targets/B/events/hits/open?sort=asc&start=2026-01-01T00:00:00.000Z -> 200",
    ]


async def test_requests_of_many_contacts_in_any_order(server: FakeNP6) -> None:
    """As many as possible are paired, even if an expected one fits several."""
    server.assert_requests(ALL[2], "/targets/A/events", "/targets/A/events -> 503", any_order=True)
    server.assert_requests("/targets/*", "/targets/A/events -> 200", "/targets/* -> 503", any_order=True)
    with pytest.raises(AssertionError) as caught:
        server.assert_requests(ALL[2], "/targets/A/events", "/targets/C/events", any_order=True)
    assert str(caught.value).splitlines()[1:] == [
        "  - /targets/C/events",
        "    GET /targets/A/events?sort=asc -> 503 (status_503)",
        "  + GET /targets/A/events?sort=asc -> 200",
        "    GET /targets/B/events/hits/open?sort=asc&start=2026-01-01T00:00:00.000Z -> 200",
    ]


async def test_requests_of_one_contact(server: FakeNP6) -> None:
    """Their order is certain even if many contacts are fetched concurrently."""
    server.assert_requests(*ALL[:2], contact="A")
    server.assert_requests(ALL[2], contact="B")
    server.assert_requests(contact="C")


async def test_contacts_by_address(server: FakeNP6) -> None:
    """Parameters are compared decoded, and the contact is the one with this address."""
    server.reset()
    async with NP6Client(server.api_key, base_url=server.url) as np6:
        await np6.events.list(Contact.by_unicity("anne@example.com"))
    server.assert_requests("GET /targets/events?unicity=anne@example.com", contact="A")


@pytest.mark.parametrize("wrong", ["", "targets/A", "get /targets/A", "GET  /targets", "/targets -> ok", "/a b"])
async def test_text_that_is_not_a_request_is_refused(server: FakeNP6, wrong: str) -> None:
    """The error says how to write one: a typo must not look like a missing request."""
    with pytest.raises(ValueError, match=re.escape("write it like 'GET /targets/A/events?sort=asc -> 200'")):
        server.assert_requests(wrong)


async def test_whoever_listens_hears_each_request_once(server: FakeNP6) -> None:
    """As it is in `requests`, from then on and until nobody listens."""
    heard: list[RequestSeen] = []
    server.on_request = heard.append
    async with server.client() as np6:
        await np6.events.list("B")
        server.on_request = None
        await np6.events.list("B")
    assert heard == server.requests[3:4]
