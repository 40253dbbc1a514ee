"""What tells an outage from contacts that fail by themselves, and the budget of retries; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define, field
from support.virtual_time import START, now, run

from np6_async import (
    ConnectError,
    NP6Error,
    ProtocolError,
    RetryPolicy,
    ServerError,
    ServiceUnavailable,
    TimeoutExceeded,
    TLSError,
    UnexpectedRedirect,
)
from np6_async._errors import BadRequest, DecodeError, StreamInterrupted
from np6_async._http.availability import Availability, Probe, concerns_server
from np6_async._http.rate_limiter import RateLimiter
from np6_async._protocol.endpoint import Endpoint

FAILURE = ServerError("502: the server failed", status=502)


class OneEndpoint(Endpoint[Any, Any]):
    def probe_target(self, contact: Any, number: int) -> tuple[str, str]:
        return f"/targets/{contact}/events", f"number={number}"


def availability(**policy: Any) -> tuple[Availability, RateLimiter]:
    """As of a client that is new."""
    settings = RetryPolicy(**{"clock": now, "wall_clock": now, "random": lambda: 0.0, **policy})
    limiter = RateLimiter(settings, requests=lambda: 16)
    return Availability(settings, limiter, 30.0), limiter


def answered(**policy: Any) -> tuple[Availability, RateLimiter]:
    """As of a client that was answered for the contact A."""
    made, limiter = availability(**policy)
    made.succeed(now(), OneEndpoint(), "A")
    return made, limiter


@define(slots=False)
class Probes:
    """A prober. `outcome` is called for what each probe comes to."""

    outcome: Callable[[], NP6Error | None]
    seconds: float = 0.1
    sent: list[float] = field(factory=list)
    targets: list[tuple[str, str] | None] = field(factory=list)
    allowed: list[float] = field(factory=list)
    waits: list[tuple[datetime, float, NP6Error]] = field(factory=list)
    over: list[float] = field(factory=list)

    async def probe(self, probe: Probe) -> NP6Error | None:
        self.sent.append(now() - START)
        self.targets.append(probe.endpoint.probe_target(probe.contact, probe.number))
        self.allowed.append(probe.seconds)
        await asyncio.sleep(self.seconds)
        return self.outcome()

    def outage_waits(self, since: datetime, delay: float, error: NP6Error) -> None:
        self.waits.append((since, delay, error))

    def outage_ended(self, seconds: float) -> None:
        self.over.append(seconds)


def until(seconds: float) -> Callable[[], NP6Error | None]:
    """Fails until so many seconds after the start."""
    return lambda: FAILURE if now() < START + seconds else None


class TestConcernsServer:
    @pytest.mark.parametrize(
        "error",
        [
            ConnectError(""),
            StreamInterrupted(""),
            TimeoutExceeded("", limit="read"),
            TimeoutExceeded("", limit="connect"),
            *(ServerError("", status=status) for status in (408, 500, 502, 503, 504, 520, 527)),
            UnexpectedRedirect("", status=302),
            ProtocolError.from_elsewhere("a page of HTML"),
        ],
    )
    def test_what_may_meet_every_contact(self, error: NP6Error) -> None:
        assert concerns_server(error)

    @pytest.mark.parametrize(
        "error",
        [
            TLSError(""),
            TimeoutExceeded("", limit="pool"),
            TimeoutExceeded("", limit="deadline"),
            BadRequest("", status=400),
            ProtocolError("no comma between two events"),
            DecodeError("an event"),
        ],
    )
    def test_what_does_not(self, error: NP6Error) -> None:
        assert not concerns_server(error)


class TestHold:
    def test_begins_with_eight_failures_without_a_success_in_between(self) -> None:
        async def main() -> None:
            available, _ = answered()
            for _ in range(3):
                for _ in range(7):
                    available.failed(now(), FAILURE)
                assert not available.holding
                available.succeed(now())
            for _ in range(8):
                available.failed(now(), FAILURE)
            assert available.holding

        run(main)

    def test_never_begins_before_the_first_answer(self) -> None:
        async def main() -> None:
            available, _ = availability()
            for _ in range(100):
                available.failed(now(), FAILURE)
            assert not available.holding

        run(main)

    def test_a_first_probe_that_is_answered_says_that_there_was_no_outage(self) -> None:
        """At once, for a millisecond of a contact that was answered before; those who wait are told."""

        async def main() -> None:
            available, _ = answered()
            probes = Probes(lambda: None)
            assert await available.wait(probes, FAILURE) is False
            assert (probes.sent, probes.targets) == ([0.0], [("/targets/A/events", "number=0")])
            assert (probes.waits, probes.over) == ([], [])
            assert not available.was_out(START)

        run(main)

    def test_probes_come_at_growing_intervals_of_three_seconds_at_most(self) -> None:
        """At once, and then 0.25, 0.5, 1, 2, 3, 3 ... seconds after each failure, no two with the same query."""

        async def main() -> None:
            available, _ = answered()
            probes = Probes(until(20), seconds=0.0)
            assert await available.wait(probes, FAILURE) is True
            assert probes.sent == pytest.approx([0, 0.25, 0.75, 1.75, 3.75, 6.75, 9.75, 12.75, 15.75, 18.75, 21.75])
            assert len(set(probes.targets)) == len(probes.targets)
            assert probes.waits[0] == (datetime.fromtimestamp(START, UTC), 0.25, FAILURE)
            assert probes.over == pytest.approx([21.75])
            assert not available.holding

        run(main)

    def test_those_who_wait_share_the_probes(self) -> None:
        """A thousand of them: one probe at a time, and all are released by the one that is answered."""

        async def main() -> None:
            available, _ = answered()
            probes = Probes(until(10))
            real = await asyncio.gather(*[available.wait(probes, FAILURE) for _ in range(1_000)])
            assert all(real)
            assert len(probes.sent) == len(set(probes.sent)) < 10

        run(main)

    def test_another_takes_over_where_the_one_who_probes_is_cancelled(self) -> None:
        async def main() -> None:
            available, _ = answered()
            first, second = Probes(until(10)), Probes(until(10))
            tasks = [asyncio.ensure_future(available.wait(each, FAILURE)) for each in (first, second)]
            await asyncio.sleep(5)
            tasks[0].cancel()
            assert await tasks[1] is True
            assert first.sent
            assert second.sent

        run(main)

    def test_the_time_in_which_nobody_waits_is_not_part_of_it(self) -> None:
        """Who comes ten minutes after the last one was cancelled sends a probe at once, and is not refused."""

        async def main() -> None:
            available, _ = answered()
            first, second = Probes(until(60)), Probes(until(60))
            task = asyncio.ensure_future(available.wait(first, FAILURE))
            await asyncio.sleep(20)
            task.cancel()
            await asyncio.sleep(600)
            await available.wait(second)
            assert second.sent == [620.0]
            assert not available.holding

        run(main)

    def test_failures_of_requests_from_before_its_end_are_those_of_the_outage(self) -> None:
        """However late they come: they are known as such, and begin no other hold."""

        async def main() -> None:
            available, _ = answered()
            sent_at = now()
            assert await available.wait(Probes(until(10)), FAILURE)
            for _ in range(20):
                available.failed(sent_at, FAILURE)
            assert available.was_out(sent_at)
            assert not available.holding
            await asyncio.sleep(1)
            assert not available.was_out(now())

        run(main)

    def test_a_probe_waits_as_long_as_the_server_asks(self) -> None:
        async def main() -> None:
            available, limiter = answered()
            limiter.pause(60, 503)
            probes = Probes(lambda: None)
            await available.wait(probes, FAILURE)
            assert probes.sent == [60.0]

        run(main)

    def test_a_probe_may_take_four_times_the_slowest_of_the_latest_responses(self) -> None:
        """Two seconds at least, and never longer than Timeout.read."""

        async def main() -> None:
            for took, allowed in ((0.01, 2.0), (1.0, 4.0), (20.0, 30.0)):
                available, _ = answered()
                began = now()
                await asyncio.sleep(took)
                available.succeed(began)
                probes = Probes(lambda: None)
                await available.wait(probes, FAILURE)
                assert probes.allowed == [pytest.approx(allowed)]

        run(main)


class TestBound:
    def test_a_pause_for_a_429_is_waited_for_whatever_outage_is_allowed(self) -> None:
        """It says that the server is there."""

        async def main() -> None:
            available, limiter = answered(outage=0)
            limiter.limited(await limiter.acquire(), 60.0, None)
            probes = Probes(lambda: None)
            assert await available.wait(probes, FAILURE) is False

        run(main)

    def test_a_probe_that_hangs_does_not_put_it_off(self) -> None:
        """Probes may take longer in a long outage, but at its end one second at most."""

        async def main() -> None:
            async def hang(probe: Probe) -> NP6Error | None:
                await asyncio.sleep(probe.seconds)
                return TimeoutExceeded("no response")

            for outage in range(70, 140, 10):
                available, _ = answered(outage=outage)
                probes, began = Probes(lambda: None), now()
                probes.probe = hang  # type: ignore[method-assign]
                with pytest.raises(ServiceUnavailable):
                    await available.wait(probes, FAILURE)
                assert now() - began <= outage + 1.1

        run(main)

    def test_a_server_that_comes_back_slow_is_found_in_a_quarter_of_it_or_a_minute(self) -> None:
        """It takes 5 s for a response, and two before."""

        async def main() -> None:
            for outage, seconds in ((40.0, 35.0), (300.0, 90.0)):
                available, _ = answered(outage=outage)
                probes = Probes(lambda: None)

                async def slow(probe: Probe) -> NP6Error | None:
                    await asyncio.sleep(min(5.0, probe.seconds))
                    return None if probe.seconds >= 5.0 else TimeoutExceeded("no response")

                probes.probe = slow  # type: ignore[method-assign]
                began = now()
                assert await available.wait(probes, FAILURE) is True
                assert now() - began <= seconds

        run(main)

    def test_the_end_of_the_outage_allowed_is_an_error_for_each_who_waits(self) -> None:
        """It says since when, what came last, and that nothing has failed; whoever comes later begins anew."""

        async def main() -> None:
            available, _ = answered(outage=30.0)
            probes = Probes(until(100))
            results = await asyncio.gather(*[available.wait(probes, FAILURE) for _ in range(3)], return_exceptions=True)
            assert now() - START <= 30.2
            for error in results:
                assert isinstance(error, ServiceUnavailable)
                assert (error.since, error.error) == (datetime.fromtimestamp(START, UTC), FAILURE)
                assert str(error) == (
                    "NP6 has not answered since 1970-01-01 00:16:40 UTC (502), longer than RetryPolicy.outage (30 s) "
                    "allows; contacts that are not done have not failed: continue with them later"
                )
            assert not available.holding
            await asyncio.sleep(80)
            assert await available.wait(probes, FAILURE) is False

        run(main)

    def test_with_zero_the_first_probe_decides(self) -> None:
        async def main() -> None:
            available, _ = answered(outage=0)
            assert await available.wait(Probes(lambda: None), FAILURE) is False
            probes = Probes(lambda: FAILURE)
            with pytest.raises(ServiceUnavailable):
                await available.wait(probes, FAILURE)
            assert len(probes.sent) == 1

        run(main)

    def test_each_of_those_who_wait_may_allow_an_outage_of_its_own(self) -> None:
        """Whoever allows less is told at its time, wherever it stands in the queue, and the others go on waiting."""

        async def main() -> None:
            available, _ = answered(outage=60.0)
            probes = Probes(until(40))

            async def ended(outage: float, after: float = 0.0) -> tuple[object, float]:
                await asyncio.sleep(after)
                try:
                    return await available.wait(probes, FAILURE, RetryPolicy(outage=outage)), now() - START
                except ServiceUnavailable as error:
                    return error, now() - START

            first, patient, short, none, late = await asyncio.gather(
                ended(5), ended(60), ended(10), ended(0), ended(3, after=20)
            )
            assert isinstance(first[0], ServiceUnavailable)
            assert 5 <= first[1] <= 6.1
            assert "(5 s)" in str(first[0])
            assert isinstance(short[0], ServiceUnavailable)
            assert 10 <= short[1] <= 12.1
            assert isinstance(none[0], ServiceUnavailable)
            assert none[1] <= 2.1
            assert isinstance(late[0], ServiceUnavailable)
            assert late[1] <= 22.1
            assert patient[0] is True
            assert 40 <= patient[1] <= 44
            assert not available.holding

        run(main)

    def test_whoever_allowed_more_and_has_left_keeps_nobody_from_finding_the_server(self) -> None:
        """However often others come, who allow less."""

        async def main() -> None:
            available, _ = answered(outage=600.0)
            probes = Probes(until(20))
            patient = asyncio.ensure_future(available.wait(probes, FAILURE))
            await asyncio.sleep(1)
            patient.cancel()
            while available.holding and now() < START + 60:
                with suppress(ServiceUnavailable):
                    await available.wait(probes, FAILURE, RetryPolicy(outage=5))
                await asyncio.sleep(1)
            assert not available.holding

        run(main)

    def test_it_holds_also_where_sleeping_takes_no_time(self) -> None:
        """With a `sleep` of the user's that returns at once, and a clock that stands still."""

        async def main() -> None:
            async def immediately(_: float) -> None:
                await asyncio.sleep(0)

            available, _ = answered(clock=lambda: START, sleep=immediately)
            probes = Probes(lambda: FAILURE, seconds=0.0)
            with pytest.raises(ServiceUnavailable):
                await available.wait(probes, FAILURE)
            assert len(probes.sent) < 200

        run(main)


class TestLimiter:
    def refused(self, contacts: int, *, served: int) -> list[bool]:
        """What 503s are taken for, of so many contacts, after others were served."""
        outcome: list[bool] = []

        async def main() -> None:
            available, _ = answered()
            for _ in range(served):
                available.succeed(now())
            for _ in range(contacts):
                outcome.append(available.is_limit(now(), new=True))

        run(main)
        return outcome

    def test_the_fourth_contact_of_sixteen_that_gets_a_503_says_that_a_limiter_refuses(self) -> None:
        assert self.refused(4, served=12) == [False, False, False, True]

    def test_one_contact_that_gets_it_again_and_again_does_not(self) -> None:
        async def main() -> None:
            available, _ = answered()
            assert not any(available.is_limit(now(), new=not attempt) for attempt in range(100))

        run(main)

    def test_where_the_pause_helps_nobody_it_is_no_limiter(self) -> None:
        async def main() -> None:
            available, limiter = answered()
            await asyncio.sleep(1)
            assert [available.is_limit(now(), new=True) for _ in range(4)][-1]
            limiter.limited(now(), None, None)
            await asyncio.sleep(2)
            assert not available.is_limit(now(), new=False)

        run(main)


class TestBudget:
    def test_it_ends(self) -> None:
        """100 retries, then none."""

        async def main() -> None:
            budget, _ = availability()
            assert [budget.spend() for _ in range(101)] == [True] * 100 + [False]
            assert not budget.may_retry

        run(main)

    def test_ten_successes_earn_a_retry(self) -> None:
        """A success gives a tenth back, and never more than the budget."""

        async def main() -> None:
            budget, _ = availability(budget=1, refund=0.125)
            for _ in range(1000):
                budget.succeed(now())
            assert [budget.spend(), budget.spend()] == [True, False]
            for _ in range(7):
                budget.succeed(now())
            assert not budget.spend()
            budget.succeed(now())
            assert budget.spend()

        run(main)

    def test_idle_connections_that_were_closed_cost_nothing_while_the_server_responds(self) -> None:
        """One for each success, and a thousand at most: in an outage they are failures like others."""

        async def main() -> None:
            budget, _ = availability()
            assert not budget.forgive()
            for _ in range(3):
                budget.succeed(now())
            assert [budget.forgive() for _ in range(4)] == [True] * 3 + [False]
            for _ in range(5_000):
                budget.succeed(now())
            assert sum(budget.forgive() for _ in range(5_000)) == 1_000

        run(main)

    def test_a_budget_of_zero_allows_no_retry(self) -> None:
        """budget=0."""

        async def main() -> None:
            budget, _ = availability(budget=0)
            assert not budget.spend()

        run(main)
