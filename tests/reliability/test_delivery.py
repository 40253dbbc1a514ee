"""A1, A4, A5, A6, A9 and C8: each event once and in order, over real sockets, whatever goes wrong on them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from support.delivery import KINDS, PATIENT, SEED, deliver, fewest, immediately

from np6_async import (
    ConnectError,
    Contact,
    DecodeLimits,
    NP6Error,
    OrderError,
    ProtocolError,
    RetryPolicy,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from np6_async.testing import FakeNP6, Fault

if TYPE_CHECKING:
    from conftest import Figure

CONTACT = "000MLGPR"
FRAMINGS: list[Any] = ["chunked", "rst", "length", "eof", "gzip"]
BOTH_ORDERS = pytest.mark.parametrize("newest_first", [False, True], ids=["asc", "desc"])
# All faults but these two break a response, and so cost another request.
HARMLESS = ("close_after", "duplicate")


# -- A1 and C8: ten thousand contacts --------------------------------------------------------------


@BOTH_ORDERS
async def test_A1_ten_thousand_contacts_under_17_kinds_of_faults_lose_and_double_nothing(
    figure: Figure, newest_first: bool
) -> None:
    """With 35 % of the requests going wrong in 17 ways each event of each contact comes once, and in order."""
    async with FakeNP6(contacts=10_000, events_per_contact=19, seed=SEED, chunk_size=4096) as server:
        server.fault_rate(0.35)
        delivery = await deliver(server, server.contact_ids, newest_first=newest_first)
    consumed, requests = server.faults_consumed, server.request_count
    order = "desc" if newest_first else "asc"
    least = fewest(consumed)
    goal = f"{order}, {delivery.done:,} contacts, {delivery.events:,} events, {delivery.tied:,} of them tied: "
    figure("A1", f"{goal}lost/duplicated/foreign/disorder/failed", "0/0/0/0/0", delivery.measured)
    figure("A1", f"{order}, faults met, of {requests:,} requests", "~35 %", f"{consumed.total() / requests:.1%}")
    figure("A1", f"{order}, the rarest of {len(KINDS)} kinds of fault", ">= 100 times", f"{least[0]}: {least[1]}")
    print(f"\nseed {SEED}, {order}: {dict(consumed)}, {delivery.stats}")
    assert not delivery.differences
    assert delivery.measured == "0/0/0/0/0"
    assert delivery.done == 10_000
    assert delivery.events == 190_000
    assert delivery.tied > 20_000
    assert len(KINDS) == 17
    assert set(consumed) == set(KINDS)
    assert least[1] >= 100
    assert 0.32 < consumed.total() / requests < 0.37
    # What was counted as a fault was one: it cost a request.
    assert requests >= 10_000 + consumed.total() - sum(consumed[name] for name in HARMLESS)


@BOTH_ORDERS
async def test_C8_two_thousand_healthy_contacts_take_two_thousand_requests(figure: Figure, newest_first: bool) -> None:
    """Where nothing goes wrong a contact costs one request."""
    async with FakeNP6(contacts=2_000, events_per_contact=(0, 38), seed=SEED, chunk_size=2048) as server:
        delivery = await deliver(server, server.contact_ids, newest_first=newest_first, read_timeout=30)
    order = "desc" if newest_first else "asc"
    figure("C8", f"{order}, requests of {delivery.done:,} healthy contacts", "2,000", f"{server.request_count:,}")
    assert delivery.measured == "0/0/0/0/0"
    assert delivery.stats is not None
    assert server.request_count == delivery.stats.requests == delivery.done == 2_000
    assert delivery.stats.retries == 0


# -- A4: cuts at the worst places ------------------------------------------------------------------

# 15 events on 7 timestamps, all of one size, so that a place is the same whatever the order of the ties; a
# character of two and one of four bytes, and what looks like the end of an event.
_SECONDS = [0, 0, 1, 2, 2, 2, 2, 2, 3, 4, 4, 5, 6, 6, 6]
EVENTS = [
    json.dumps(
        {"type": "hit", "id": f"{n:02x}", "timestamp": 1_700_000_000_000 + 1_000 * second, "note": 'é🎉},{"]'},
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    for n, second in enumerate(_SECONDS)
]
SIZE = len(EVENTS[0])
Place = Callable[[bool], list[int]]


def _end_of(count: int) -> int:
    """The size of a body up to the end of its `count`-th event."""
    return count * (SIZE + 1)


def five_in_a_row(newest_first: bool) -> list[int]:
    """Each after one timestamp more; a response begins with the ties of the last one."""
    ties = [_SECONDS.count(second) for second in range(7)]
    if newest_first:
        ties.reverse()
    first = [_end_of(ties[0] + 1) + 9]
    return first + [_end_of(ties[n] + 1) + 9 for n in range(1, 5)]


def before_the_bracket(newest_first: bool) -> list[int]:
    """All events came, the bracket did not; and once more, in what is requested again."""
    last = _SECONDS.count(0 if newest_first else 6)
    return [_end_of(len(EVENTS)), _end_of(last), _end_of(last)]


def inside_a_character(_: bool) -> list[int]:
    """After the first byte of two, and after each of the first three of four."""
    two, four = EVENTS[0].index("é".encode()), EVENTS[0].index("🎉".encode())
    return [_end_of(9) + 1 + two + 1, _end_of(3) + 1 + four + 1, _end_of(2) + 1 + four + 2, _end_of(2) + 1 + four + 3]


def inside_ties(newest_first: bool) -> list[int]:
    """Between and within the five events of one timestamp, some known and some new."""
    before = sum(second > 2 if newest_first else second < 2 for second in _SECONDS)
    return [_end_of(before + 1), _end_of(3) + 20, _end_of(1), _end_of(2) + 1, _end_of(4), _end_of(5) - 1, _end_of(5)]


def at_both_ends(_: bool) -> list[int]:
    """No byte of the body; only its first bracket; the first event less its brace."""
    return [0, 1, SIZE, SIZE + 1]


@BOTH_ORDERS
@pytest.mark.parametrize("place", [five_in_a_row, before_the_bracket, inside_a_character, inside_ties, at_both_ends])
async def test_A4_cuts_at_the_worst_places_lose_and_double_nothing(
    figure: Figure, place: Place, newest_first: bool
) -> None:
    """However a response breaks off in ties, characters or before its bracket, each event comes once."""
    assert {len(event) for event in EVENTS} == {SIZE}
    cuts = place(newest_first)
    wrong = []
    # The server may also send a body in small pieces, and end the connection right after one.
    runs = [(how, chunk_size) for how in FRAMINGS for chunk_size in (16 * 1024, 7)]
    for how, chunk_size in runs:
        async with (
            FakeNP6(contacts=0, seed=SEED, chunk_size=chunk_size) as server,
            server.client(retry=PATIENT, timeout=Timeout(read=5)) as np6,
        ):
            server.add_contact(CONTACT, EVENTS)
            server.script(*(Fault.cut(after=after, how=how) for after in cuts), contact=CONTACT)
            stream = np6.events.stream(CONTACT, newest_first=newest_first)
            events = [event async for event in stream]
        times = [event.timestamp for event in events]
        if Counter(event.raw for event in events) != Counter(EVENTS) or times != sorted(times, reverse=newest_first):
            wrong.append((how, chunk_size, [event.id for event in events]))
        assert not server.faults_pending.total()
        assert server.faults_consumed == {f"cut_{how}": len(cuts)}
        assert server.request_count == stream.stats.requests == len(cuts) + 1
    order = "desc" if newest_first else "asc"
    measured = f"{len(runs) - len(wrong)} of {len(runs)} runs"
    figure(
        "A4", f"{place.__name__}, {order}, {len(cuts)} cuts: exactly once", f"{len(runs)} of {len(runs)} runs", measured
    )
    assert not wrong


# -- A5: no progress -------------------------------------------------------------------------------


def _no_progress(body: int) -> dict[str, tuple[list[Fault], type[NP6Error]]]:
    """Ways of bringing nothing new; those of `body` bring what was delivered before."""
    return {
        "503": ([Fault.status(503)], ServerError),
        "drop": ([Fault.drop()], ConnectError),
        "reset": ([Fault.reset()], ConnectError),
        "hang": ([Fault.hang()], TimeoutExceeded),
        "stall": ([Fault.stall(after=body)], TimeoutExceeded),
        "html": ([Fault.html()], ProtocolError),
        **{f"cut {how}": ([Fault.cut(after=body, how=how)], StreamInterrupted) for how in FRAMINGS},
        "any": ([Fault.cut(after=body), Fault.drop(), Fault.object(), Fault.status(500)], NP6Error),
    }


@BOTH_ORDERS
async def test_A5_no_progress_is_an_error_after_max_attempts_requests(figure: Figure, newest_first: bool) -> None:
    """A contact that brings nothing new fails after `max_attempts` requests in a row, whatever was wrong with them."""
    attempts = 6
    policy = RetryPolicy(max_attempts=attempts, max_protocol_attempts=attempts, budget=1e9, sleep=immediately)
    # After progress: one response that brings a timestamp and all ties of the next, then nothing but those.
    known = sum(second >= 5 if newest_first else second < 2 for second in _SECONDS)
    ties = _SECONDS.count(5 if newest_first else 1)
    timeouts = ("hang", "stall")
    counts: dict[bool, Counter[int]] = {False: Counter(), True: Counter()}
    for way in _no_progress(0):
        for progress in (False, True):
            faults, expected = _no_progress(_end_of(ties) if progress else 1)[way]
            async with (
                FakeNP6(contacts=0, seed=SEED) as server,
                # Short for those that end by it only: a machine that is busy must not end others.
                server.client(retry=policy, timeout=Timeout(read=0.2 if way in timeouts else 10)) as np6,
            ):
                server.add_contact(CONTACT, EVENTS)
                if progress:
                    server.script(Fault.cut(after=_end_of(known)), contact=CONTACT)
                for turn in range(attempts):
                    server.script(faults[turn % len(faults)], contact=CONTACT)
                seen = []
                stream = np6.events.stream(CONTACT, newest_first=newest_first)
                with pytest.raises(expected, match=f"after {attempts} attempts") as caught:
                    async for event in stream:
                        seen.append(event.id)
            assert len(set(seen)) == len(seen) == (known if progress else 0), way
            assert caught.value.attempts == attempts, way
            # On a busy machine the time may be over before the server has read the request.
            unseen = stream.stats.requests - server.request_count
            assert unseen == 0 or (unseen > 0 and way in timeouts), way
            assert server.request_count == server.faults_consumed.total(), way
            counts[progress][stream.stats.requests - progress] += 1
    order, ways = "desc" if newest_first else "asc", len(_no_progress(0))
    for progress, name, wanted in ((False, "nothing came", f"{attempts}"), (True, "progress", f"{attempts - 1}")):
        measured = ", ".join(f"{requests} ({times} ways)" for requests, times in counts[progress].items())
        figure("A5", f"{order}, {ways} ways of no progress, requests after {name}", wanted, measured)
    assert set(counts[False]) == {attempts}
    # The request that brought something and then broke is the first of the count.
    assert set(counts[True]) <= {attempts - 1, attempts}


@BOTH_ORDERS
async def test_A5_progress_resets_the_count_of_attempts(figure: Figure, newest_first: bool) -> None:
    """Ever so many failures are borne while every few of them bring one event; without it the next few are an error."""
    attempts, rounds = 4, 25
    policy = RetryPolicy(max_attempts=attempts, budget=1e9, sleep=immediately)
    bodies = [b'{"id":"%02d","timestamp":%d}' % (n, 1_700_000_000_000 + n) for n in range(rounds + 5)]
    async with FakeNP6(contacts=0, seed=SEED) as server, server.client(retry=policy) as np6:
        server.add_contact(CONTACT, bodies)
        server.script(Fault.cut(after=1 + len(bodies[0])), contact=CONTACT)
        for turn in range(rounds):
            how = FRAMINGS[turn % len(FRAMINGS)]
            idle = (Fault.status(503), Fault.cut(after=1, how=how), Fault.drop())
            server.script(idle[turn % 3], idle[(turn + 1) % 3], contact=CONTACT)
            # The event that is known, and one that is new.
            server.script(Fault.cut(after=2 * len(bodies[0]) + 2, how=how), contact=CONTACT)
        server.script(Fault.status(502), contact=CONTACT, times=2 * attempts)
        seen = []
        with pytest.raises(ServerError, match=f"after {attempts} attempts"):
            async for event in np6.events.stream(CONTACT, newest_first=newest_first):
                seen.append(event.raw)
    order = "desc" if newest_first else "asc"
    idle_requests = server.faults_consumed["status_502"]
    figure("A5", f"{order}, events that came with 2 requests in 3 bringing none", f"{rounds + 1}", len(seen))
    figure("A5", f"{order}, requests after the last event", f"{attempts - 1}", idle_requests)
    assert seen == (bodies[::-1] if newest_first else bodies)[: rounds + 1]
    # As above: the one that brought the last event, and then broke, counts.
    assert attempts - 1 <= idle_requests <= attempts
    assert server.request_count == server.faults_consumed.total() == 1 + 3 * rounds + idle_requests


# -- A6: the server breaks the requested order ----------------------------------------------


@BOTH_ORDERS
@pytest.mark.parametrize("resumed", [False, True], ids=["first response", "resumed response"])
async def test_A6_a_broken_order_is_an_error_before_any_later_event(
    figure: Figure, resumed: bool, newest_first: bool
) -> None:
    """Where a response is out of order, nothing from there on is delivered, and nothing is requested again."""
    good = [{"id": f"{n}", "timestamp": 1_700_000_000_000 + 1_000 * (n // 2)} for n in range(40)]
    if newest_first:
        good.reverse()
    late = {"id": "late", "timestamp": good[0]["timestamp"]}
    tried = 0
    wrong = []
    for limits in (DecodeLimits(), DecodeLimits(batch_events=1), DecodeLimits(batch_events=7, slice_bytes=100)):
        for place in (*range(3, 12), 20, 39, 40):
            events = [*good[:place], late, *good[place:]]
            parts = [json.dumps(event, separators=(",", ":")).encode() for event in events]
            async with (
                FakeNP6(contacts=0, seed=SEED, chunk_size=64) as server,
                server.client(retry=PATIENT, limits=limits) as np6,
            ):
                server.set_raw(CONTACT, b"[" + b",".join(parts) + b"]")
                if resumed:  # the first response breaks off before its order is broken; the second starts again
                    server.script(Fault.cut(after=sum(map(len, parts[:2])) + 2), contact=CONTACT)
                seen = []
                error: NP6Error | None = None
                try:
                    async for event in np6.events.stream(CONTACT, newest_first=newest_first):
                        seen.append(event.id)
                except NP6Error as caught:
                    error = caught
            tried += 1
            before = [event["id"] for event in good[:place]]
            if not isinstance(error, OrderError) or seen != before[: len(seen)] or server.request_count != 1 + resumed:
                wrong.append((limits, place, error, seen, server.request_count))
            assert not server.faults_pending.total()
            assert not resumed or len(seen) >= 2
    where = f"{'desc' if newest_first else 'asc'}, {'resumed' if resumed else 'first'} response"
    name = f"{where}: OrderError before any later event"
    figure("A6", name, f"{tried} of {tried} places", f"{tried - len(wrong)} of {tried} places")
    assert not wrong


# -- A9: a contact named twice ---------------------------------------------------------------------


@BOTH_ORDERS
async def test_A9_a_contact_named_twice_is_fetched_twice_and_each_copy_is_complete(
    figure: Figure, newest_first: bool
) -> None:
    """Copies of a contact in the input do not mix: each brings all events, once and in order, faults or none."""
    for rate in (0.0, 0.35):
        async with (
            FakeNP6(contacts=40, events_per_contact=19, seed=SEED) as server,
            server.client(retry=PATIENT, timeout=Timeout(read=0.4)) as np6,
        ):
            server.fault_rate(rate)
            # Equal and yet three objects: the one that was passed in comes back.
            copies = [Contact.by_id(contact) for contact in server.contact_ids for _ in range(3)]
            got: defaultdict[int, list[Any]] = defaultdict(list)
            async with np6.events.stream_many(copies, newest_first=newest_first, concurrency=12) as events:
                async for contact, batch in events.batches():
                    got[id(contact)] += batch
            complete = 0
            for copy in copies:
                times = [event.timestamp for event in got[id(copy)]]
                truth = sorted(event["id"] for event in server.events(copy.value))
                complete += sorted(event.id for event in got[id(copy)]) == truth
                assert times == sorted(times, reverse=newest_first)
            done = events.stats.done
            seen = Counter(request.contact for request in server.requests)
        name = f"{'desc' if newest_first else 'asc'}, 40 contacts three times, {rate:.0%} faults"
        figure("A9", f"{name}: complete copies", "120 of 120", f"{complete} of {len(copies)}")
        assert len(got) == complete == done == 120
        assert min(seen.values()) >= 3
        assert rate or set(seen.values()) == {3}
