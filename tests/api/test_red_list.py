"""The red list: the requests, retries and errors of everything else, and its own end after a break, on real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aioresponses import aioresponses
from support.raw_server import Connection, RawServer, raw_server, response

from np6_async import (
    APIError,
    AuthError,
    BadRequest,
    ClientClosed,
    InvalidBound,
    NotFound,
    NP6Client,
    OrderError,
    RedListEntries,
    RedListEntry,
    RedListOrigin,
    RetryPolicy,
    ServerError,
)
from np6_async.testing import FakeNP6

ENTRIES: list[dict[str, Any]] = [
    {"id": "000MLGPR", "timestamp": 1_614_089_582_000, "origin": 5, "detail": None},
    {"id": "0013KDC0", "timestamp": "2021-02-23T14:13:02Z", "origin": 12, "detail": "more", "unknown": [1]},
    {"id": "0013E001"},
]
LIST = json.dumps(ENTRIES).encode()
QUICK = RetryPolicy(base_delay=0, budget=1e9)

Call = Callable[..., RedListEntries]


def client(server: RawServer, **options: Any) -> NP6Client:
    return NP6Client("k", base_url=server.url, **{"retry": QUICK, **options})


async def serve(connection: Connection) -> None:
    while True:
        await connection.request()
        await connection.send(response(LIST))


async def test_entries_come_in_the_servers_order_with_every_member() -> None:
    async with raw_server(serve) as server, client(server) as np6:
        complaint, unknown, bare = [entry async for entry in np6.redlist.mail()]
    assert complaint == RedListEntry(
        id="000MLGPR", timestamp=1_614_089_582_000, origin=RedListOrigin.COMPLAINT, data=ENTRIES[0]
    )
    assert complaint.at == datetime(2021, 2, 23, 14, 13, 2, tzinfo=UTC)
    assert (unknown.timestamp, unknown.origin, unknown.detail) == (1_614_089_582_000, 12, "more")
    assert unknown.data["unknown"] == [1]
    assert bare == RedListEntry(id="0013E001", data={"id": "0013E001"})


async def test_each_channel_has_its_path_and_bounds_are_dates_of_the_window() -> None:
    """Written as those of events are."""
    async with raw_server(serve) as server, client(server) as np6:
        for entries in (
            np6.redlist.mail(),
            np6.redlist.sms(start="2026-01-01"),
            np6.redlist.mail(datetime(2026, 1, 1, tzinfo=UTC), 1_772_323_200_000),
            np6.redlist.sms(end="2026-03-01T01:00+01:00"),
        ):
            assert len([entry async for entry in entries]) == 3
    assert [request.target for request in server.requests] == [
        "/targets/redlist/mail",
        "/targets/redlist/sms?startDate=2026-01-01T00:00:00.000Z",
        "/targets/redlist/mail?startDate=2026-01-01T00:00:00.000Z&endDate=2026-03-01T00:00:00.000Z",
        "/targets/redlist/sms?endDate=2026-03-01T00:00:00.000Z",
    ]


async def test_they_are_read_in_batches_and_left_early() -> None:
    async with raw_server(serve) as server, client(server) as np6:
        async with np6.redlist.sms() as entries:
            assert [[entry.id for entry in batch] async for batch in entries.batches()] == [
                ["000MLGPR", "0013KDC0", "0013E001"]
            ]
        async with np6.redlist.sms() as entries:
            assert (await anext(entries)).id == "000MLGPR"
        with pytest.raises(ClientClosed):
            await anext(entries)


async def test_bad_bounds_are_refused_and_equal_ones_request_nothing() -> None:
    async with raw_server(serve) as server, client(server) as np6:
        for bounds in (("yesterday",), ("2026-02-01", "2026-01-01"), (None, timedelta(days=-1))):
            with pytest.raises(InvalidBound):
                np6.redlist.mail(*bounds)
        assert [entry async for entry in np6.redlist.mail("2026-01-01", "2026-01-01")] == []
    assert server.requests == []


@pytest.mark.parametrize("channel", ["mail", "sms"])
@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (400, BadRequest, 1),
        (401, AuthError, 1),
        (403, AuthError, 1),
        (404, NotFound, 1),
        (405, BadRequest, 1),
        (500, ServerError, 5),
    ],
)
async def test_statuses_are_the_errors_that_events_have(
    channel: str, status: int, error: type[APIError], requests: int, responses: aioresponses
) -> None:
    url = f"https://api-cm.np6.com/targets/redlist/{channel}?startDate=2026-01-01T00:00:00.000Z"
    responses.get(url, status=status, body="anne@example.com", repeat=True)
    async with NP6Client("k", retry=QUICK) as np6:
        with pytest.raises(error, match=rf"^the red list \({channel}\): {status}") as caught:
            await anext(getattr(np6.redlist, channel)("2026-01-01"))
    assert (caught.value.status, caught.value.attempts) == (status, requests)
    assert sum(len(calls) for calls in responses.requests.values()) == requests
    assert "anne" not in str(caught.value)


@pytest.mark.slow
async def test_a_response_cut_at_any_byte_is_requested_again_and_each_entry_comes_once() -> None:
    place = 0

    async def cut_once(connection: Connection) -> None:
        while True:
            await connection.request()
            if len(connection.server.requests) % 2:
                await connection.send(response(LIST[:place], length=len(LIST)))
                return
            await connection.send(response(LIST))

    async with raw_server(cut_once) as server, client(server) as np6:
        for place in range(len(LIST)):
            assert [entry.data async for entry in np6.redlist.mail()] == ENTRIES, place
    assert len(server.requests) == 2 * len(LIST)


async def test_many_breaks_in_a_long_list_lose_and_double_nothing() -> None:
    entries = [{"id": f"{n:08}", "timestamp": n, "origin": n % 10} for n in range(20_000)]
    body = json.dumps(entries).encode()
    cuts = iter([300_000, 900_000, 200_000, 800_000])

    async def breaks(connection: Connection) -> None:
        while True:
            await connection.request()
            after = next(cuts, None)
            if after is not None:
                await connection.send(response(body[:after], length=len(body)))
                return
            await connection.send(response(body))

    async with raw_server(breaks) as server, client(server) as np6:
        assert [entry.data async for entry in np6.redlist.mail()] == entries
    assert len(server.requests) == 5


@pytest.mark.parametrize("change", [ENTRIES[::-1], [{**ENTRIES[0], "origin": 1}, *ENTRIES[1:]], ENTRIES[:1], []])
async def test_a_list_that_changed_after_a_break_is_an_error_and_not_a_guess(change: list[Any]) -> None:
    first = json.dumps(ENTRIES[:2]).encode()[:-1] + b","

    async def changes(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:
            await connection.send(response(first, length=len(LIST)))
        else:
            await connection.send(response(json.dumps(change).encode()))

    async with raw_server(changes) as server, client(server) as np6:
        entries = np6.redlist.mail()
        assert [(await anext(entries)).id, (await anext(entries)).id] == ["000MLGPR", "0013KDC0"]
        with pytest.raises(OrderError, match=r"^the red list \(mail\): .* after 2 entries, .* start again"):
            await anext(entries)
        with pytest.raises(ClientClosed):
            await anext(entries)
    assert len(server.requests) == 2


async def test_a_list_is_whole_on_a_server_of_faults() -> None:
    """A third of the requests break, in every way."""
    async with FakeNP6(contacts=2_000, seed=5) as server, server.client(retry=QUICK) as np6:
        server.fault_rate(0.35)
        for channel in ("mail", "sms"):
            for start in (None, "2025-06-01", "2025-12-01"):
                found = [entry.data async for entry in getattr(np6.redlist, channel)(start)]
                low = 0 if start is None else datetime.fromisoformat(f"{start}T00:00Z").timestamp() * 1000
                assert sorted(found, key=str) == sorted(
                    (entry for entry in server.redlist(channel) if entry["timestamp"] >= low), key=str
                )
        assert server.faults_consumed
