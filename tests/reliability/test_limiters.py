"""G4 and G5: real proxies that refuse, or that give up their servers, and say nothing of when to come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from support.peers import Delivery, compare, run_haproxy, run_nginx

from np6_async import BulkStats, Event, NP6Client
from np6_async.testing import FakeNP6, Fault

Figure = Callable[[str, str, str, object], None]

SEED: Final = 20_260_731
RATE: Final = 50
CONTACTS: Final = 500

NGINX: Final = {
    f"{name}, {status}": f"""
        limit_req_zone $binary_remote_addr zone=one:1m rate={RATE}r/s;
        limit_req zone=one {burst};
        {"" if status == 503 else f"limit_req_status {status};"}
        """
    for status in (503, 429)
    for name, burst in (("no burst", ""), ("burst 10", "burst=10"), ("burst 10 nodelay", "burst=10 nodelay"))
}
HAPROXY: Final = f"""
    stick-table type ip size 1k expire 10s store http_req_rate(1s)
    http-request track-sc0 src
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {RATE} }}
"""


async def fetch_all(np6: NP6Client, server: FakeNP6) -> tuple[Delivery, BulkStats, int]:
    """What came, compared with what there is; the counts; and how many contacts failed."""
    received: dict[str, list[Event]] = {contact: [] for contact in server.contact_ids}
    async with np6.events.stream_many(server.contact_ids, on_error="collect") as events:
        async for contact, batch in events.batches():
            received[str(contact)] += batch
    return compare(server, received), events.stats, len(events.failures)


def check(name: str, stats: BulkStats, delivery: Delivery, failed: int, seconds: float, figure: Figure) -> None:
    ratio, share = stats.requests / stats.done, stats.done / seconds / RATE
    what = f"{name}: failed, requests a contact, share of the rate"
    figure("G4", what, "0, <= 1.15, >= 60 %", f"{failed}, {ratio:.2f}, {share:.0%}")
    assert failed == 0
    assert delivery == Delivery()
    assert ratio <= 1.15
    assert share >= 0.6


@pytest.mark.parametrize("limit", NGINX)
async def test_G4_a_limiter_that_says_nothing_is_found_out(limit: str, tmp_path: Path, figure: Figure) -> None:
    """nginx's `limit_req`, which answers 503 by default: every contact is done, at 60 % of the rate at least, with 1.15
    requests each at most."""
    async with FakeNP6(contacts=CONTACTS, events_per_contact=(1, 5), seed=SEED) as server:
        with run_nginx(tmp_path, server.url, http=NGINX[limit]) as gateway:
            began = time.monotonic()
            async with server.client(base_url=gateway.url) as np6:
                delivery, stats, failed = await fetch_all(np6, server)
    check(f"nginx, {limit}", stats, delivery, failed, time.monotonic() - began, figure)


async def test_G4_haproxy_counts_what_it_refuses(tmp_path: Path, figure: Figure) -> None:
    """A sliding window that includes what was refused: whoever goes on asking is never served again."""
    async with FakeNP6(contacts=2 * CONTACTS, events_per_contact=(1, 5), seed=SEED) as server:
        with run_haproxy(tmp_path, server.url, frontend=HAPROXY) as url:
            began = time.monotonic()
            async with server.client(base_url=url) as np6:
                delivery, stats, failed = await fetch_all(np6, server)
    check("haproxy, 429", stats, delivery, failed, time.monotonic() - began, figure)


async def test_G5_two_servers_behind_nginx_that_both_fail_once_fail_no_contact(tmp_path: Path, figure: Figure) -> None:
    """nginx then answers 502 to everybody for 10 s: it gives up a server at its first failure."""
    async with (
        FakeNP6(contacts=CONTACTS, events_per_contact=2, seed=SEED) as one,
        FakeNP6(contacts=CONTACTS, events_per_contact=2, seed=SEED) as two,
    ):
        for server in (one, two):
            server.script(Fault.drop(), skip=50)
        with run_nginx(tmp_path, one.url, two.url) as gateway:
            async with one.client(base_url=gateway.url) as np6, asyncio.timeout(60):
                delivery, stats, failed = await fetch_all(np6, one)
            refused = gateway.statuses()[502]
    what = "two servers behind nginx fail once each: failed, 502s, requests a contact"
    figure("G5", what, "0", f"{failed}, {refused}, {stats.requests / CONTACTS:.2f}")
    assert failed == 0
    assert delivery == Delivery()
    assert refused > 2, "nginx did not give them up"
