"""The law of a shared pace, in virtual time: several processes over one value, without Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_keeper import EPOCH, MemoryKeeper, sharing
from support.virtual_time import now, run, settle

from np6_async import ServiceUnavailable
from np6_async._protocol.rate_headers import parse_rate, parse_retry_after
from np6_async.integrations._shared_pace import Limited, OutageBegan, OutageEnded, Paused, Served, SharedPace
from np6_async.integrations._sharing_limiter import Away, PaceSharingLimiter
from np6_async.testing import RateLimit
from np6_async.testing._rate_limit import RateWindow


@define
class Load:
    """What a run of several processes against one limited server came to."""

    served: list[float] = field(factory=list)
    refused: list[float] = field(factory=list)
    steps: int = 0
    by_process: list[int] = field(factory=list)

    @property
    def seconds(self) -> float:
        return self.served[-1] - self.served[0]


@define
class Fleet:
    """`processes` with `slots` each send `requests` in all to a server with a limit."""

    rule: RateLimit
    processes: int = 4
    slots: int = 16
    requests: int = 3000
    latency: tuple[float, float] = (0.005, 0.015)
    keeper: MemoryKeeper = field(factory=MemoryKeeper)
    killed: dict[int, float] = field(factory=dict)  # process: after how many seconds

    def run(self, seed: int = 1) -> Load:
        return run(lambda: self._run(random.Random(seed)))

    async def _run(self, rng: random.Random) -> Load:
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds + rng.random() * 0.001)  # timers are late

        def wall() -> float:
            return EPOCH + now()

        window, load = RateWindow(self.rule), Load(by_process=[0] * self.processes)
        work = iter(range(self.requests))

        async def one(limiter: PaceSharingLimiter, number: int) -> bool:
            sent_at = await limiter.acquire()
            await asyncio.sleep(rng.uniform(*self.latency) / 2)
            allowed, headers = window.admit(wall())
            (load.served if allowed else load.refused).append(now())
            load.by_process[number] += allowed
            await asyncio.sleep(rng.uniform(*self.latency) / 2)
            rate = parse_rate(headers, wall)
            if allowed:
                limiter.responded(sent_at, rate)
            else:
                wait = parse_retry_after(headers, wall)
                limiter.limited(sent_at, rate.reset if wait is None and rate else wait, rate)
            return allowed

        async def process(number: int) -> None:
            limiter = sharing(self.keeper, self.slots, sleep=sleep)

            async def worker(work: Iterator[int]) -> None:
                for _ in work:
                    while not await one(limiter, number):
                        pass

            workers = [asyncio.ensure_future(worker(work)) for _ in range(self.slots)]
            await asyncio.wait(workers, timeout=self.killed.get(number))
            if number in self.killed:  # without a word to anybody
                for task in workers:
                    task.cancel()
                await asyncio.wait(workers)
                limiter._reports.clear()
            else:
                await asyncio.gather(*workers)
            load.steps += limiter.steps
            await limiter.close()

        await asyncio.gather(*(process(number) for number in range(self.processes)))
        return load


def pace_of(keeper: MemoryKeeper) -> SharedPace:
    return SharedPace.read(keeper.value, EPOCH + now(), requests=lambda: 16, max_wait=300.0)


class TestRate:
    """Four processes, 500 requests a second."""

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [1, 2])
    @pytest.mark.parametrize(
        ("rule", "least"),
        [
            (RateLimit(limit=500, headers=False), 0.9),
            (RateLimit(limit=500, headers=False, retry_after=False), 0.85),
            (RateLimit(limit=500), 0.9),
            (RateLimit(limit=500, reset="epoch_ms"), 0.9),
        ],
        ids=["retry-after", "nothing", "headers", "epoch_ms"],
    )
    def test_90_percent_of_the_rate_are_used_and_1_percent_is_refused(
        self, rule: RateLimit, least: float, seed: int
    ) -> None:
        """In the first minute, the finding out included (85 % where the server does not even say when to come back);
        and each process gets its part, by less than 100 calls a second of the keeper."""
        load = Fleet(rule, requests=30_000).run(seed)
        assert len(load.served) == 30_000
        assert len(load.refused) <= 300
        assert 30_000 / load.seconds >= least * 500
        assert min(load.by_process) >= 0.8 * 7_500
        assert load.steps / load.seconds < 100

    def test_long_windows_are_not_exceeded(self) -> None:
        """3,000 a minute, by their headers: no refusal in three of them, the first one of which is not known of."""
        load = Fleet(RateLimit(limit=3000, window=60), requests=8_000).run()
        assert len(load.refused) == 0
        assert load.seconds < 130

    def test_slots_of_a_killed_process_are_not_missed(self) -> None:
        """Two of four processes are killed with slots in their hands: the others use the whole rate."""
        fleet = Fleet(RateLimit(limit=100), requests=2_000, killed={0: 3.0, 1: 5.0})
        load = fleet.run()
        late = [at for at in load.served if at - load.served[0] > 6]
        assert len(late) / (late[-1] - late[0]) >= 0.85 * 100
        assert len(load.refused) <= 64 + 20

    def test_one_process_alone_gets_the_whole_rate(self) -> None:
        """By its headers, whether it sends 16 requests at once or one after the other."""
        for slots in (16, 4):
            load = Fleet(RateLimit(limit=200), processes=1, slots=slots, requests=4_000).run()
            assert 4_000 / load.seconds >= 0.88 * 200

    def test_without_a_limit_a_request_costs_no_call(self) -> None:
        """Four processes send thousands of requests a second, and call 30 times a second at most."""
        load = Fleet(RateLimit(limit=10**9, headers=False), requests=12_000).run()
        assert len(load.served) / load.seconds > 4_000
        assert load.steps <= 4 * (2 + 3 * load.seconds / 0.1)


class TestSharing:
    def test_a_429_pauses_the_other_processes(self) -> None:
        """Within a tenth of a second of their next request, and for as long as the server asks."""

        async def main() -> None:
            keeper = MemoryKeeper()
            one, other = sharing(keeper), sharing(keeper)
            for limiter in (one, other):
                limiter.responded(await limiter.acquire(), None)
            one.limited(await one.acquire(), 7.0, None)
            began = now()
            await asyncio.sleep(0.15)
            status = other.status()
            assert status is not None
            assert status.paused
            sent_at = await other.acquire()
            assert 6.99 <= sent_at - began <= 7.05
            other.responded(sent_at, None)
            await one.close()
            await other.close()

        run(main)

    def test_a_new_process_knows_what_the_others_have_learnt(self) -> None:
        """A pause, and what the headers said."""

        async def main() -> None:
            keeper = MemoryKeeper()
            one = sharing(keeper)
            one.limited(await one.acquire(), 20.0, parse_rate({"X-RateLimit-Limit": "50"}, now))
            await asyncio.sleep(1)
            await one.close()
            other, began = sharing(keeper), now()
            assert await other.acquire() - began >= 18.9
            status = other.status()
            assert status is not None
            assert status.limit == 50
            await other.close()

        run(main)

    def test_an_outage_makes_others_suspicious_once(self) -> None:
        """Not again while it lasts, and not after it."""

        async def main() -> None:
            keeper, suspected = MemoryKeeper(), 0
            one, other = sharing(keeper), sharing(keeper)

            def suspect() -> None:
                nonlocal suspected
                suspected += 1

            other.suspect = suspect
            for _ in range(2):
                before = suspected
                one.outage_began()
                for _ in range(10):
                    other.responded(await other.acquire(), None)
                    await asyncio.sleep(0.2)
                assert suspected == before + 1
                one.outage_ended()
                for _ in range(10):
                    other.responded(await other.acquire(), None)
                    await asyncio.sleep(0.2)
                assert suspected == before + 1
            await one.close()
            await other.close()

        run(main)

    def test_the_keepers_clock_may_be_put_back(self) -> None:
        """By an hour: what was a pause of 5 s is not one of an hour and 5 s."""

        async def main() -> None:
            keeper = MemoryKeeper()
            one, other = sharing(keeper), sharing(keeper)
            one.limited(await one.acquire(), 5.0, None)
            await asyncio.sleep(0.5)
            keeper.clock_error = -3600.0
            began = now()
            await other.acquire()
            assert now() - began < 6
            await one.close()
            await other.close()

        run(main)

    def test_nothing_runs_when_there_is_nothing_to_do(self) -> None:
        """No task, no call, no matter for how long."""

        async def main() -> None:
            keeper = MemoryKeeper()
            limiter = sharing(keeper)
            limiter.responded(await limiter.acquire(), None)
            await asyncio.sleep(5)
            calls = keeper.calls
            assert len(asyncio.all_tasks()) == 1
            await asyncio.sleep(3600)
            assert keeper.calls == calls
            await limiter.close()
            assert keeper.open == 0

        run(main)


class TestSteps:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        lost=st.sampled_from([0.0, 0.1, 0.4]),
        twice=st.sampled_from([0.0, 0.2, 0.7]),
        processes=st.integers(1, 4),
    )
    def test_each_response_counts_once(self, seed: int, lost: float, twice: float, processes: int) -> None:
        """Whatever replies are lost, and whatever is sent twice, in whichever order."""

        async def main() -> None:
            rng = random.Random(seed)
            keeper = MemoryKeeper(latency=0.004, lost=lost, twice=twice, rng=rng)
            limiters = [sharing(keeper) for _ in range(processes)]

            async def work(limiter: PaceSharingLimiter) -> None:
                for _ in range(20):
                    sent_at = await limiter.acquire()
                    await asyncio.sleep(rng.random() * 0.05)
                    limiter.responded(sent_at, None)

            await asyncio.gather(*(work(limiter) for limiter in limiters))
            keeper.lost = 0.0
            for limiter in limiters:  # the last reports
                await asyncio.sleep(1)
                limiter.responded(await limiter.acquire(), None)
                await asyncio.sleep(2)
                await limiter.close()
            assert pace_of(keeper)._responses == 21 * processes

        run(main)

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**32), twice=st.sampled_from([0.0, 0.5]), processes=st.integers(2, 4))
    def test_no_slot_is_given_out_twice(self, seed: int, twice: float, processes: int) -> None:
        """To a limiter that calls twice, or to others that call at the same moment."""

        async def main() -> None:
            rng = random.Random(seed)
            keeper = MemoryKeeper(latency=0.01, twice=twice, rng=rng)
            first = sharing(keeper)
            first.limited(await first.acquire(), 0.2, None)
            numbers: list[int] = []

            async def work(limiter: PaceSharingLimiter) -> None:
                for _ in range(10):
                    sent_at: Any = await limiter.acquire()
                    numbers.append(sent_at.slot)
                    limiter.responded(sent_at, None)

            await asyncio.sleep(0.3)
            limiters = [first, *(sharing(keeper) for _ in range(processes - 1))]
            await asyncio.gather(*(work(limiter) for limiter in limiters for _ in range(3)))
            assert len(numbers) == len(set(numbers)) == 30 * processes
            for limiter in limiters:
                await limiter.close()

        run(main)

    @given(
        reports=st.lists(
            st.one_of(
                st.builds(Served, st.floats(0, 9), st.integers(0, 9), st.none()),
                st.builds(Limited, st.floats(0, 9), st.integers(0, 9), st.none(), st.sampled_from([None, 1.0, 9.0])),
                st.builds(Paused, st.floats(0, 9), st.sampled_from([429, 503])),
                st.builds(OutageBegan),
                st.builds(OutageEnded),
            ),
            max_size=12,
        )
    )
    def test_a_value_says_all_there_is_to_know(self, reports: list[Any]) -> None:
        """A pace that was written and read goes on as if it had not been, and is small."""

        def fresh(value: bytes, at: float) -> SharedPace:
            return SharedPace.read(value, at, requests=lambda: 16, max_wait=300.0)

        headers = {"X-RateLimit-Limit": "9", "X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "5"}
        pace = fresh(b"", EPOCH)
        for report in (*reports, Served(1.0, 1, parse_rate(headers, lambda: EPOCH))):
            pace.apply(report)
        again = fresh(pace.write(b"12345678"), EPOCH)
        assert len(pace.write(b"12345678")) < 600
        pace.grant(3, EPOCH + 60)
        again.grant(3, EPOCH + 60)
        assert again.granted == pace.granted
        assert again.paused_until == pytest.approx(pace.paused_until, abs=1e-4)
        assert again.interval == pytest.approx(pace.interval)

    @pytest.mark.parametrize("value", [b"", b"?", b"\x90", b"\x97\x01\x90\x90\x90\xc0\xc0\x01", b"junk" * 99])
    def test_what_is_no_value_is_taken_for_none(self, value: bytes) -> None:
        assert SharedPace.read(value, EPOCH, requests=lambda: 1, max_wait=1.0).granted == 0


class TestWithoutTheKeeper:
    def test_the_calls_end_after_10_s(self) -> None:
        """With an error in words, which ends a run without a failed contact; and for those that come later, too."""

        async def main() -> None:
            keeper = MemoryKeeper()
            limiter = sharing(keeper)
            limiter.responded(await limiter.acquire(), None)
            await asyncio.sleep(1)
            keeper.away = Away("no connection to Redis")
            sent_at = await limiter.acquire()
            limiter.responded(sent_at, None)
            await asyncio.sleep(0.2)
            began = now()
            with pytest.raises(ServiceUnavailable, match=r"limit is away since .* no connection to Redis; contacts"):
                await limiter.acquire()
            assert 9 <= now() - began <= 12
            began = now()
            with pytest.raises(ServiceUnavailable):
                await limiter.acquire()
            assert now() - began < 2
            await limiter.close()

        run(main)

    def test_a_restart_within_10_s_costs_time_alone(self) -> None:
        """And what was known is written back, where it was lost: a pause that lasts."""

        async def main() -> None:
            keeper = MemoryKeeper()
            one, other = sharing(keeper), sharing(keeper)
            other.responded(await other.acquire(), None)
            one.limited(await one.acquire(), 30.0, None)
            await asyncio.sleep(1)
            began = now()
            keeper.away, keeper.value = Away("no connection to Redis"), b""
            waiting = asyncio.ensure_future(one.acquire())
            await asyncio.sleep(8)
            keeper.away = None
            await asyncio.sleep(1)
            assert pace_of(keeper).paused_until - EPOCH == pytest.approx(began + 29, abs=0.1)
            assert await waiting - began >= 28.9
            assert await sharing(keeper).acquire() - began >= 28.9
            await one.close()
            await other.close()

        run(main)

    def test_with_a_share_a_process_goes_on_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        """At that share of the pace, however long it takes; the log says so once, and that the keeper is back."""

        async def main() -> None:
            keeper = MemoryKeeper()
            limiter = sharing(keeper, share=0.25)
            rate = parse_rate({"X-RateLimit-Limit": "40", "X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "1"}, now)
            limiter.responded(await limiter.acquire(), rate)
            await asyncio.sleep(1)
            keeper.away = Away("Redis does not answer")
            sent = []
            for _ in range(300):
                sent_at = await limiter.acquire()
                sent.append(sent_at)
                limiter.responded(sent_at, None)
            assert len(sent[10:]) / (sent[-1] - sent[10]) == pytest.approx(10, rel=0.1)
            keeper.away = None
            await asyncio.sleep(1)
            limiter.responded(await limiter.acquire(), None)
            await asyncio.sleep(1)
            assert pace_of(keeper).granted > 0
            await limiter.close()

        with caplog.at_level("WARNING", logger="np6_async"):
            run(main)
        assert [record.message for record in caplog.records] == [
            "the shared rate limit is away: Redis does not answer; this process goes on alone, at 0.25 of the rate",
            "the shared rate limit is back",
        ]

    def test_what_lasts_is_not_waited_for(self) -> None:
        """A wrong password, for one."""

        async def main() -> None:
            limiter = sharing(MemoryKeeper(away=Away("Redis does not accept the user", lasting=True)))
            began = now()
            with pytest.raises(ServiceUnavailable, match="does not accept the user"):
                await limiter.acquire()
            assert now() - began < 2
            await limiter.close()

        run(main)

    def test_those_who_wait_may_be_cancelled(self) -> None:
        """Nothing is left of them."""

        async def main() -> None:
            limiter = sharing(MemoryKeeper(away=Away("no connection to Redis")))
            tasks = [asyncio.ensure_future(limiter.acquire()) for _ in range(5)]
            await settle()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert limiter._pending == limiter._waiting == 0
            await limiter.close()
            assert len(asyncio.all_tasks()) == 1

        run(main)
