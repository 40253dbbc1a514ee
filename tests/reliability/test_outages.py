"""G: an outage costs time, not contacts. Most of it in virtual time; with real servers where they matter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import pytest
from support import virtual_time
from support.virtual_np6 import KINDS, REFUSED, Answer, Received, VirtualNP6
from support.virtual_time import START, now

from np6_async import (
    BulkStats,
    ConnectError,
    NP6Client,
    NP6Error,
    Observation,
    OutageEnded,
    OutageWait,
    ServiceUnavailable,
    Timeout,
)

Figure = Callable[[str, str, str, object], None]

CONTACTS: Final = 20_000
BEGAN: Final = START + 5  # the outage


def during(seconds: float, answer: Answer) -> Callable[[str], Answer | None]:
    """What comes instead in an outage of so many seconds."""
    return lambda _: answer if BEGAN <= now() < BEGAN + seconds else None


class Run:
    """A bulk run over all contacts of a virtual server."""

    def __init__(self, server: VirtualNP6, **options: Any) -> None:
        self.server = server
        self.options = options
        self.received = Received()
        self.seen: list[Observation] = []
        self.failed: list[str] = []
        self.stats = BulkStats()
        self.error: NP6Error | None = None
        self.ended = 0.0

    def go(self, contacts: list[str] | None = None) -> Run:
        virtual_time.run(lambda: self._main(self.server.contact_ids if contacts is None else contacts))
        return self

    async def _main(self, contacts: list[str]) -> None:
        async with (
            self.server.client(**self.options) as np6,
            np6.events.stream_many(contacts, on_error="collect") as events,
        ):
            try:
                async for contact, batch in events.batches():
                    self.received.add(contact, batch)
            except NP6Error as error:
                self.error = error
            self.ended = now()
            self.stats = events.stats
            self.failed = sorted(str(failure.contact) for failure in events.failures)

    @property
    def lost_and_doubled(self) -> tuple[int, int]:
        return self.received.lost_and_doubled(self.server)

    def rate(self, start: float, end: float) -> float:
        """Events delivered a second between two times."""
        return sum(start <= at < end for at in self.received.times) / (end - start)


@pytest.mark.parametrize("seconds", [5, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_G1_an_outage_fails_no_contact_and_costs_hardly_a_request(kind: str, seconds: int, figure: Figure) -> None:
    """In the middle of 20,000 contacts, 16 at a time: 0 failed, lost, doubled; 1.02 requests a contact and 200 more at
    most; and the rate of before within 5 s of its end."""
    server = VirtualNP6(CONTACTS, fault=during(seconds, KINDS[kind]))
    # Requests that hang are known to hang after `Timeout.read`.
    run = Run(server, timeout=Timeout(read=2.0)).go()
    back = BEGAN + seconds + 5
    share = run.rate(back, back + 5) / run.rate(START + 1, BEGAN)
    figure(
        "G1",
        f"outage of {seconds} s, {kind}: failed / lost / doubled, requests a contact, rate from 5 s after it on",
        "0 / 0 / 0, <= 1.02 and 200 more, >= 90 %",
        f"{len(run.failed)} / {run.lost_and_doubled[0]} / {run.lost_and_doubled[1]}, "
        f"{len(server.sent) / CONTACTS:.3f}, {share:.0%}",
    )
    assert run.error is None
    assert run.failed == []
    assert run.lost_and_doubled == (0, 0)
    assert run.stats.done == CONTACTS
    assert len(server.sent) <= 1.02 * CONTACTS + 200
    assert run.stats.requests == len(server.sent)
    assert share >= 0.9


@pytest.mark.parametrize("concurrency", [1, 200])
def test_G1_whatever_the_concurrency(concurrency: int, figure: Figure) -> None:
    """One at a time, and two hundred at a time."""
    server = VirtualNP6(2_000, latency=0.005 * concurrency, fault=during(20, KINDS["502"]))
    run = Run(server, concurrency=concurrency).go()
    figure("G1", f"outage of 20 s, concurrency {concurrency}: requests for 2,000", "<= 2,240", len(server.sent))
    assert run.error is None
    assert run.failed == []
    assert run.lost_and_doubled == (0, 0)
    assert len(server.sent) <= 1.02 * 2_000 + 200


@pytest.mark.parametrize("status", [429, 408, 500, 503, 302, 404])
def test_G2_a_wait_that_the_server_asks_for_is_never_undercut(status: int, figure: Figure) -> None:
    """One contact gets it while 50 are in flight: from the next moment on, no request goes out before its end."""
    asked: list[float] = []

    def fault(contact: str) -> Answer | None:
        if contact == "C000500" and not asked:
            asked.append(now())
            return Answer(status, headers={"Retry-After": "30"})
        return None

    server = VirtualNP6(2_000, fault=fault)
    run = Run(server, concurrency=50).go()
    heard = asked[0] + server.latency
    early = [at for at, _, _ in server.sent if heard < at < heard + 30]
    figure("G2", f"{status} with Retry-After: 30, 50 in flight: requests too early", "0", len(early))
    assert early == []
    assert run.failed == (["C000500"] if status == 404 else [])  # a redirect is tried again: it may be an outage
    assert run.stats.done == 2_000 - len(run.failed)


@pytest.mark.parametrize("status", [408, 500, 503])
def test_G2_a_wait_beyond_the_outage_allowed_ends_the_run_at_once(status: int) -> None:
    """Retry-After: 3600."""
    server = VirtualNP6(4_000, fault=during(3_600, Answer(status, headers={"Retry-After": "3600"})))
    run = Run(server, concurrency=8).go()
    late = [at for at, _, _ in server.sent if at > BEGAN + server.latency]
    assert isinstance(run.error, ServiceUnavailable)
    assert run.error.retry_after == pytest.approx(3_600, abs=1)
    assert "asks to wait 3600 s" in str(run.error)
    assert run.failed == []
    assert late == []
    assert run.ended < BEGAN + 2


@pytest.mark.parametrize("kind", KINDS)
def test_G3_an_outage_beyond_the_bound_ends_the_run_and_fails_no_contact(kind: str, figure: Figure) -> None:
    """One ServiceUnavailable, 2 s after `RetryPolicy.outage` at most; it says since when, and what came."""
    server = VirtualNP6(CONTACTS, fault=during(1e9, KINDS[kind]))
    run = Run(server, timeout=Timeout(read=2.0), policy={"outage": 60.0}).go()
    after = run.ended - BEGAN
    figure("G3", f"{kind}: the run ends so long after the outage began, of which 60 s are allowed", "<= 62 s", after)
    assert isinstance(run.error, ServiceUnavailable)
    assert run.failed == []
    assert "NP6 has not answered since 20" in str(run.error)
    assert run.error.since is not None
    assert run.lost_and_doubled[1] == 0
    assert after <= 62 + (2 if kind == "time-out" else 0)  # it began to be seen when the first requests ran out of time


def own(contact: str) -> Answer | None:
    """One contact in three answers 500 for ever, one in three is unknown."""
    match int(contact[1:]) % 3:
        case 1:
            return Answer(500)
        case 2:
            return Answer(404)
    return None


def in_a_row(first: int) -> Callable[[str], Answer | None]:
    return lambda contact: Answer(500) if first <= int(contact[1:]) < first + 200 else None


CASES: Final[dict[str, Callable[[str], Answer | None]]] = {
    "one in three, one in three unknown": own,
    "200 in the middle": in_a_row(500),
    "200 at the end": in_a_row(1_800),
}


@pytest.mark.parametrize("concurrency", [1, 16, 200])
@pytest.mark.parametrize("case", CASES)
def test_G6_contacts_that_fail_by_themselves_are_those_that_fail(case: str, concurrency: int, figure: Figure) -> None:
    """Exactly those, and the others hardly wait for them: the holds take 5 s at most, in all."""
    server = VirtualNP6(2_000, fault=CASES[case])
    seen: list[Observation] = []
    contacts = server.contact_ids
    random.Random(1).shuffle(contacts)
    if case != "one in three, one in three unknown":
        contacts.sort()
    run = Run(server, concurrency=concurrency, hooks=[seen.append]).go(contacts)
    held = sum(observation.seconds for observation in seen if isinstance(observation, OutageEnded))
    figure(
        "G6",
        f"{case}, concurrency {concurrency}: seconds of holds, requests",
        "<= 5",
        f"{held:.1f}, {len(server.sent)}",
    )
    assert run.error is None
    assert run.failed == [contact for contact in server.contact_ids if CASES[case](contact)]
    assert run.stats.done == 2_000 - len(run.failed)
    assert held <= 5


def test_G6_nothing_is_lost_where_the_first_200_contacts_fail(figure: Figure) -> None:
    """Nothing tells them from an outage: after 20 the run ends, and none has failed. Without them, all are done."""
    server = VirtualNP6(600, fault=in_a_row(0))
    run = Run(server).go()
    figure("G6", "200 in a row at the start: requests until ServiceUnavailable", "(told)", len(server.sent))
    assert isinstance(run.error, ServiceUnavailable)
    assert "has answered for no contact yet" in str(run.error)
    assert (run.failed, run.stats.done) == ([], 0)
    rest = Run(server).go(server.contact_ids[200:])
    assert (rest.error, rest.failed, rest.stats.done) == (None, [], 400)


def test_G6_the_first_contacts_fail_as_soon_as_another_is_answered() -> None:
    """19 of them, one at a time: they are undecided until then."""
    server = VirtualNP6(40, fault=lambda contact: Answer(500) if int(contact[1:]) < 19 else None)
    run = Run(server, concurrency=1, policy={"base_delay": 0.01}).go()
    assert run.error is None
    assert run.failed == server.contact_ids[:19]
    assert run.stats.done == 21


def test_G1_an_outage_that_ends_just_before_the_probe_fails_no_contact() -> None:
    """One contact at a time: all its attempts fell into the outage, and the first probe finds the server there."""
    for length in range(100):
        end = START + 0.2 + 1.75 + 0.01 * length
        server = VirtualNP6(20, fault=lambda _, end=end: REFUSED if START + 0.2 <= now() < end else None)
        run = Run(server, concurrency=1, policy={"random": lambda: 0.5}).go()
        assert run.failed == []
        assert run.stats.done == 20


@pytest.mark.parametrize("kind", ["refused", "502", "HTML"])
def test_G1_a_server_that_comes_and_goes_fails_no_contact_of_those_that_are_asked_one_at_a_time(kind: str) -> None:
    """Down for three seconds of four, for ten minutes: no contact's attempts add up over several outages."""
    server = VirtualNP6(
        6_000, fault=lambda _: KINDS[kind] if START + 1 <= now() < START + 600 and now() % 4 > 1 else None
    )
    run = Run(server, concurrency=1).go()
    assert run.failed == []
    assert run.lost_and_doubled == (0, 0)


def test_G1_what_this_machine_lacks_does_not_end_an_outage() -> None:
    """A probe for which there is no descriptor says nothing of the server."""

    def no_descriptor() -> NP6Error:
        error = ConnectError("no connection: this process may open 64 files")
        error.local = True
        return error

    def fault(_: str) -> Answer | None:
        if not BEGAN <= now() < BEGAN + 20:
            return None
        return KINDS["502"] if now() < BEGAN + 0.04 else Answer(error=no_descriptor)

    run = Run(VirtualNP6(2_000, fault=fault), concurrency=1, policy={"max_attempts": 1}).go()
    assert run.failed == []
    assert run.lost_and_doubled == (0, 0)


@pytest.mark.parametrize("missing", ["error", "empty"])
@pytest.mark.parametrize("stops", [False, True])
def test_G6_contacts_in_turn_do_not_wait_for_one_that_is_undecided(missing: str, stops: bool) -> None:
    """The first one fails by itself, and no other is known: it is undecided until the next one has ended."""
    server = VirtualNP6(2_000, fault=lambda contact: Answer(500 if contact == "C000000" else 404))
    ended: list[object] = []

    async def main() -> None:
        options: Any = {"on_error": "collect", "order": "input", "missing": missing}
        async with server.client(concurrency=4) as np6, np6.events.stream_many(server.contact_ids, **options) as events:
            if stops:
                asyncio.get_running_loop().call_later(1, events.stop)
            async with asyncio.timeout(600):
                ended.extend([contact async for contact, _ in events.outcomes()])

    virtual_time.run(main)
    assert ended == server.contact_ids[: len(ended)]
    assert len(ended) == len({contact for _, contact, _ in server.sent})
    assert stops or len(ended) == 2_000


def test_G8_one_probe_at_a_time_and_no_herd_at_the_end(figure: Figure) -> None:
    """1,000 workers and a consumer that waits: in the hold one request at a time; when it ends, 20 in 50 ms at most
    while the rate is not known."""
    server = VirtualNP6(CONTACTS, latency=0.5, fault=during(30, REFUSED))
    run = Run(server, concurrency=1_000).go()
    times = [at for at, _, _ in server.sent]
    held = [at for at in times if BEGAN + 2 <= at < BEGAN + 30]
    gaps = [later - earlier for earlier, later in pairwise(held)]
    first = next(at for at in times if at >= BEGAN + 30)
    released = [
        at for at in times if first <= at < first + 2 * server.latency
    ]  # a probe, and before the first response
    most = max(sum(at <= other < at + 0.05 for other in released) for at in released)
    figure(
        "G8",
        "requests in the hold of 28 s; shortest time between two; most in 50 ms at its end",
        "(told); >= 0.12 s; <= 20",
        f"{len(held)}; {min(gaps):.2f} s; {most}",
    )
    assert min(gaps) >= 0.12
    assert most <= 20
    assert run.failed == []
    assert run.lost_and_doubled == (0, 0)


def test_G8_a_consumer_that_took_its_time_does_not_make_probes_slow() -> None:
    """It read one long response for ten minutes; a probe that hangs then takes 2 s, and not `Timeout.read`."""
    long = b"[" + b",".join(b'{"id":"%d","timestamp":%d,"type":"bounce"}' % (n, n + 1) for n in range(5_000)) + b"]"
    server = VirtualNP6(40, fault=lambda contact: Answer(body=long) if contact == "C000000" else None)

    async def main() -> None:
        async with server.client(policy={"max_attempts": 1}) as np6:
            async with np6.events.stream("C000000") as events:
                async for batch in events.batches():
                    await asyncio.sleep(600 if batch[0].id == "0" else 0)
            end = now() + 40
            server.fault = lambda _: Answer(hang=True) if now() < end else None
            assert await np6.events.list("C000001")
            assert now() <= end + 3.1 + 2.1

    virtual_time.run(main)


@pytest.mark.parametrize("how", ["cancel", "close", "deadline", "aclose"])
def test_G9_whatever_ends_a_run_ends_it_at_once_in_a_hold(how: str) -> None:
    """And it says so while it waits: since when, what came, and when the next try is."""

    async def main() -> None:
        seen: list[Observation] = []
        server = VirtualNP6(CONTACTS, fault=during(1e9, KINDS["503"]))
        options: dict[str, Any] = {"timeout": Timeout(deadline=20.0)} if how == "deadline" else {}

        async def consume(np6: NP6Client, ready: asyncio.Future[Any]) -> BulkStats:
            async with np6.events.stream_many(server.contact_ids, on_error="collect") as events:
                ready.set_result(events)
                try:
                    async for _ in events:
                        pass
                finally:
                    assert events.failures == [] or how == "deadline"
            return events.stats

        async with server.client(hooks=[seen.append], **options) as np6:
            ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            task = asyncio.ensure_future(consume(np6, ready))
            await asyncio.sleep(30)
            waits = [observation for observation in seen if isinstance(observation, OutageWait)]
            assert waits, "nobody was told of the outage"
            assert str(waits[-1]).startswith("NP6 has not answered since ")
            assert " UTC (503); next try in " in str(waits[-1])
            before = now()
            match how:
                case "cancel":
                    task.cancel()
                case "close":
                    await np6.close()
                case "aclose":
                    await (await ready).aclose()
            if how != "deadline":
                await asyncio.wait([task])
                assert now() - before < 0.01
            else:
                task.cancel()
                await asyncio.wait([task])
            assert server.in_flight == 0
            assert len(asyncio.all_tasks()) == 1

    virtual_time.run(main)


@pytest.mark.parametrize("kind", ["301", "302", "HTML", "502"])
def test_G1_an_outage_of_a_moment_fails_no_contact(kind: str, figure: Figure) -> None:
    """Shorter than a probe's way there and back: those in flight are requested again."""
    server = VirtualNP6(2_000, fault=lambda _: KINDS[kind] if START + 1 <= now() < START + 1.03 else None)
    run = Run(server).go()
    figure("G1", f"outage of 30 ms, {kind}: failed", "0", len(run.failed))
    assert (run.error, run.failed, run.lost_and_doubled) == (None, [], (0, 0))
