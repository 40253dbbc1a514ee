"""The limiter, in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, suppress
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_time import START, now, run, settle

from np6_async import RetryPolicy
from np6_async._errors import RateLimited, ServiceUnavailable
from np6_async._http.rate_limiter import RateLimiter
from np6_async._protocol.rate_headers import RateState, parse_rate, parse_retry_after
from np6_async.testing._rate_limit import RateLimit, RateWindow


def rate_limiter(requests: int = 4, own: AbstractAsyncContextManager[Any] | None = None, **policy: Any) -> RateLimiter:
    """A limiter whose client has had a response."""
    made = RateLimiter(RetryPolicy(clock=now, **policy), requests=lambda: requests, rate_limiter=own)
    made._any_response = True
    return made


async def sends(limiter: RateLimiter, count: int) -> list[float]:
    """When so many requests, that all want to go out now, do; each is answered at once."""

    async def one() -> float:
        at = await limiter.acquire()
        limiter.responded(at, None)
        return at

    return sorted(await asyncio.gather(*[one() for _ in range(count)]))


class TestFirstVolley:
    @pytest.mark.parametrize("outcome", ["answered", "refused", "unanswered"])
    def test_at_most_16_before_the_first_response(self, outcome: str) -> None:
        """A client that knows nothing of the server's limits sends 16 requests, and the rest when one of them
        has ended, whatever came of it."""

        async def main() -> None:
            limiter = RateLimiter(RetryPolicy(clock=now), requests=lambda: 64)
            tasks = [asyncio.ensure_future(limiter.acquire()) for _ in range(64)]
            await settle()
            assert sum(task.done() for task in tasks) == 16
            match outcome:
                case "answered":
                    limiter.responded(now(), None)
                case "refused":
                    limiter.limited(now(), 1, None)
                case _:
                    limiter.failed()
            await asyncio.gather(*tasks)

        run(main)

    @settings(max_examples=150)
    @given(seed=st.integers(0, 2**32))
    def test_cancelling_any_task_anywhere_delays_no_other(self, seed: int) -> None:
        """Random cancels while waiting for a turn or a response: afterwards the limiter works."""

        async def main() -> None:
            rng = random.Random(seed)
            limiter = RateLimiter(RetryPolicy(clock=now), requests=lambda: 30)

            async def one() -> None:
                sent_at = await limiter.acquire()
                try:
                    await asyncio.sleep(rng.random())
                except BaseException:
                    limiter.failed()
                    raise
                if rng.random() < 0.2:
                    limiter.limited(sent_at, rng.choice([None, 0.0, 2.0]), None)
                else:
                    limiter.responded(sent_at, RateState(5, rng.randrange(6), rng.random()))

            tasks = [asyncio.ensure_future(one()) for _ in range(30)]
            while running := [task for task in tasks if not task.done()]:
                for task in rng.sample(running, k=rng.randrange(min(4, len(running) + 1))):
                    task.cancel()
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                await asyncio.sleep(rng.choice([0, 0.1, 1.0]))
            assert limiter._pending == 0
            assert not limiter._queue.locked()
            async with asyncio.timeout(60):
                for _ in range(3):
                    await limiter.acquire()

        run(main)


class TestPause:
    def test_a_429_pauses_everybody(self) -> None:
        """No request goes out before the wait is over, also those that hold a slot already."""

        async def main() -> None:
            limiter = rate_limiter(8)
            delay, refused_for = limiter.limited(await limiter.acquire(), 7, None)
            assert (delay, refused_for) == (7, 7)
            times = await sends(limiter, 20)
            assert times[0] - START >= 7

        run(main)

    @pytest.mark.parametrize("status", [429, 503])
    def test_one_that_is_too_long_for_who_waits_for_its_turn_is_told_at_once(self, status: int) -> None:
        """Whoever is ahead may wait for longer, and does."""

        async def main() -> None:
            limiter = rate_limiter()
            limiter.limited(await limiter.acquire(), 1, None)

            async def ended(policy: RetryPolicy | None = None) -> tuple[object, float]:
                try:
                    return await limiter.acquire(policy), now() - START
                except (RateLimited, ServiceUnavailable) as error:
                    return error.retry_after, now() - START

            brief = RetryPolicy(clock=now, max_wait=2, outage=2)
            tasks = [asyncio.ensure_future(ended(policy)) for policy in (None, brief, brief, None)]
            await asyncio.sleep(0.5)
            if status == 429:
                limiter.limited(now(), 60, None)
            else:
                limiter.pause(60, status)
            ahead, second, third, behind = await asyncio.gather(*tasks)
            assert second == third == (60, 0.5)
            assert ahead[1] >= 60
            assert behind[1] >= 60
            assert limiter.acquire_nowait() is None
            await asyncio.sleep(10)
            assert limiter.acquire_nowait() is not None, "nobody holds the queue"

        run(main)

    def test_after_the_pause_requests_go_out_one_by_one(self) -> None:
        """Not as the herd that they were before it."""

        async def main() -> None:
            limiter = rate_limiter(64)
            sent = [await limiter.acquire() for _ in range(64)]
            for at in sent[:50]:
                limiter.responded(at, None)
            for at in sent[50:]:
                limiter.limited(at, 1, None)
            times = await sends(limiter, 64)
            assert times[0] - START >= 1
            assert times[-1] - times[0] >= 0.95  # and growing already
            assert max(sum(at <= t < at + 0.05 for t in times) for at in times) <= 4

        run(main)

    def test_a_success_does_not_shorten_what_another_response_asked_for(self) -> None:
        """Of a request sent before the pause: it shortens a wait that was the client's own guess, but never below a
        Retry-After that came meanwhile."""

        async def main() -> None:
            limiter = rate_limiter(8)
            limiter.limited(await limiter.acquire(), None, None)
            sent = [await limiter.acquire() for _ in range(2)]
            pause, _ = limiter.limited(sent[0], None, None)
            asked = now() + 0.9 * pause
            limiter.pause(0.9 * pause, 503)
            limiter.responded(sent[1], None)
            assert await limiter.acquire() >= asked

        run(main)

    def test_a_probe_keeps_to_a_pause_that_begins_while_the_own_limiter_makes_it_wait(self) -> None:
        """A probe goes before all others, and still not too early."""

        class Slow(AbstractAsyncContextManager[None]):
            async def __aexit__(self, *_: object) -> None:
                await asyncio.sleep(10)

        async def main() -> None:
            limiter = rate_limiter(own=Slow())
            probe = asyncio.ensure_future(limiter.acquire_first())
            await asyncio.sleep(5)
            limiter.pause(30, 503)
            assert await probe >= START + 35

        run(main)

    def test_a_volley_of_64_counts_as_one(self) -> None:
        """The wait that none of them names is 1 s, and not doubled 63 times."""

        async def main() -> None:
            limiter = rate_limiter(64)
            sent = [await limiter.acquire() for _ in range(64)]
            waits = [limiter.limited(at, None, None)[0] for at in sent]
            assert waits == [1.0] * 64

        run(main)

    def test_unspecified_waits_double_until_a_response_comes(self) -> None:
        """1, 2, 4, 8 s and 1 again."""

        async def main() -> None:
            limiter, waits, refused_for = rate_limiter(), [], []
            for _ in range(4):
                wait, since = limiter.limited(await limiter.acquire(), None, None)
                waits.append(round(wait, 6))
                refused_for.append(round(since))
            assert waits == [1, 2, 4, 8]
            assert refused_for == [1, 3, 7, 15]
            limiter.responded(await limiter.acquire(), None)
            assert limiter.limited(await limiter.acquire(), None, None) == (1, 1)

        run(main)

    def test_a_429_after_a_long_idle_time_is_a_first_one(self) -> None:
        """A 429 today does not add to one of yesterday whose caller gave up."""

        async def main() -> None:
            limiter = rate_limiter()
            limiter.limited(await limiter.acquire(), 1, None)
            await asyncio.sleep(86_400)
            assert limiter.limited(await limiter.acquire(), 1, None) == (1, 1)

        run(main)

    def test_a_wait_of_zero_is_not_a_licence_to_hammer(self) -> None:
        """Retry-After: 0 with a 429 waits as if none were named."""

        async def main() -> None:
            limiter = rate_limiter()
            waits = [round(limiter.limited(await limiter.acquire(), 0.0, None)[0], 6) for _ in range(3)]
            assert waits == [1, 2, 4]

        run(main)

    def test_the_longest_wait_of_a_volley_counts(self) -> None:
        """A later 429 that asks for more gets it."""

        async def main() -> None:
            limiter = rate_limiter()
            first, second = await limiter.acquire(), await limiter.acquire()
            limiter.limited(first, 2, None)
            assert limiter.limited(second, 9, None)[0] == 9
            limiter.limited(first, 3, None)
            assert await limiter.acquire() - START == 9

        run(main)

    def test_a_late_response_does_not_end_a_pause(self) -> None:
        """One that was sent before the 429 tells nothing of the time after it."""

        async def main() -> None:
            limiter = rate_limiter()
            first, second = await limiter.acquire(), await limiter.acquire()
            limiter.limited(first, None, None)
            limiter.responded(second, None)
            assert limiter.limited(await limiter.acquire(), None, None)[0] == 2

        run(main)

    def test_a_pause_beyond_max_wait_is_an_error_for_everybody(self) -> None:
        """Nobody hangs for an hour and nobody asks earlier than allowed: RateLimited, with the wait that is left."""

        async def main() -> None:
            limiter = rate_limiter(max_wait=300.0)
            limiter.limited(await limiter.acquire(), 3600, None)
            await asyncio.sleep(600)
            with pytest.raises(RateLimited) as caught:
                await limiter.acquire()
            assert caught.value.retry_after == pytest.approx(3000)
            assert caught.value.status == 429
            await asyncio.sleep(3000)
            assert await limiter.acquire() == pytest.approx(START + 3600)

        run(main)

    def test_one_stray_429_is_soon_forgotten(self) -> None:
        """A client that ran at 2,000/s is back at half of that within two seconds of requests, and then free."""

        async def main() -> None:
            limiter = rate_limiter(16)
            for _ in range(2000):
                limiter.responded(await limiter.acquire(), None)
                await asyncio.sleep(0.0005)
            limiter.limited(await limiter.acquire(), None, None)
            await sends(limiter, 3000)
            began = now()
            await sends(limiter, 3000)
            assert now() - began < 3
            assert limiter._interval == 0

        run(main)

    def test_a_quiet_past_does_not_slow_the_future(self) -> None:
        """A request a minute for a day, then 16 at once and a 429: the next 16 take a second and not a quarter
        of an hour."""

        async def main() -> None:
            limiter = rate_limiter(16)
            for _ in range(1440):
                limiter.responded(await limiter.acquire(), None)
                await asyncio.sleep(60)
            limiter.limited(await limiter.acquire(), 1, None)
            times = await sends(limiter, 16)
            assert times[-1] - times[0] < 1.5

        run(main)


class TestHeaders:
    def test_plenty_slows_nothing(self) -> None:
        """With 5,000 of 10,000 left, or an absurd number, 500 requests go out at once."""

        async def main() -> None:
            for remaining in (5_000, 10**18):
                limiter = rate_limiter(64)
                limiter.responded(await limiter.acquire(), RateState(10_000, remaining, 60))
                began = now()
                assert (await sends(limiter, 500))[-1] == began

        run(main)

    def test_the_last_of_a_window_are_spread_over_it(self) -> None:
        """10 left for 10 s: one a second."""

        async def main() -> None:
            limiter = rate_limiter(16)
            limiter.responded(await limiter.acquire(), RateState(100, 10, 10))
            times = [await limiter.acquire() - START for _ in range(10)]
            assert all(0.9 <= b - a <= 1.1 for a, b in pairwise(times[1:]))
            assert times[-1] < 10.5

        run(main)

    def test_a_used_up_window_is_waited_for(self) -> None:
        """Remaining 0 means no request before the reset, and no 429."""

        async def main() -> None:
            limiter = rate_limiter(16)
            limiter.responded(await limiter.acquire(), RateState(50, 0, 30))
            assert await limiter.acquire() - START >= 30

        run(main)

    @pytest.mark.parametrize(
        "rate",
        [
            RateState(50, 10, None),
            RateState(50, 0, None),
            RateState(50, None, 10),
            RateState(None, None, 10),
            RateState(50, 0, 0.0),
            RateState(None, 0, 0.0),
            RateState(0, 0, 0.0),
            RateState(None, 100_000, 10),
        ],
    )
    def test_headers_that_say_too_little_delay_nobody(self, rate: RateState) -> None:
        """Half of the headers, or a reset of 0 each time: requests go out."""

        async def main() -> None:
            limiter = rate_limiter(8)
            began = now()
            for _ in range(200):
                sent_at = await limiter.acquire()
                await asyncio.sleep(0.001)
                limiter.responded(sent_at, rate)
            assert now() - began < 0.3

        run(main)

    def test_a_day_that_is_used_up_delays_nobody_for_hours(self) -> None:
        """Beyond the policy's max_wait the request is sent: only a 429 is certain."""

        async def main() -> None:
            limiter = rate_limiter(8, max_wait=300.0)
            limiter.responded(await limiter.acquire(), RateState(1000, 0, 80_000))
            assert await limiter.acquire() - START < 2

        run(main)

    def test_the_last_of_a_day_need_no_hour_each(self) -> None:
        """90 left until tomorrow: a second apart at most."""

        async def main() -> None:
            limiter = rate_limiter(8)
            limiter.responded(await limiter.acquire(), RateState(1000, 9, 80_000))
            times = [await limiter.acquire() for _ in range(5)]
            assert times[-1] - START < 6

        run(main)

    def test_headers_of_another_limit_do_not_hide_a_429(self) -> None:
        """Plenty left of the day, and a 429 for the second: the next requests are paced all the same."""

        async def main() -> None:
            limiter = rate_limiter(64)
            day = RateState(100_000, 90_000, 40_000)
            sent = [await limiter.acquire() for _ in range(64)]
            for at in sent[:40]:
                limiter.responded(at, day)
            for at in sent[40:]:
                limiter.limited(at, 1, day)
            times = await sends(limiter, 40)
            assert times[-1] - times[0] > 0.5

        run(main)

    @pytest.mark.slow
    @settings(max_examples=200)
    @given(data=st.data())
    def test_no_sequence_of_headers_stops_the_client(self, data: st.DataObject) -> None:
        """Whatever the server says, in whatever order: the next request goes out within max_wait or is refused
        with RateLimited."""

        async def main() -> None:
            limiter = rate_limiter(4, max_wait=300.0)
            count = st.none() | st.integers(0, 60) | st.integers(0, 10**30)
            times = st.none() | st.floats(0, 7 * 86_400) | st.sampled_from([0.0, 1.0])
            rates = st.none() | st.builds(RateState, limit=count, remaining=count, reset=times)
            for _ in range(data.draw(st.integers(1, 12))):
                asked_at = now()
                try:
                    sent_at = await limiter.acquire()
                except RateLimited:
                    await asyncio.sleep(7 * 86_400)
                    continue
                assert sent_at - asked_at <= 302
                await asyncio.sleep(data.draw(st.floats(0, 5)))
                rate = data.draw(rates)
                if data.draw(st.integers(0, 5)):
                    limiter.responded(sent_at, rate)
                else:
                    delay, since = limiter.limited(sent_at, data.draw(times), rate)
                    assert 0 <= delay < math.inf
                    assert since >= delay

        run(main)


@define
class Load:
    """What a run against a limited server came to."""

    sent: list[float] = field(factory=list)
    answered: int = 0
    refused: int = 0
    seconds: float = 0.0

    def most_in(self, span: float, since: float = 0.0) -> int:
        """The most requests within `span` seconds, from `since` on."""
        times = sorted(at for at in self.sent if at >= since)
        most = first = 0
        for index, at in enumerate(times):
            while at - times[first] > span:
                first += 1
            most = max(most, index - first + 1)
        return most


@define
class Server:
    """A fixed window in virtual time, and how far away it is."""

    rule: RateLimit
    latency: tuple[float, float] = (0.005, 0.03)
    epoch: float = 1_767_225_600.37  # the server's clock at the start
    skew: float = 0.0  # of the client's clock
    aligned: bool = False  # windows begin by the clock and not with a request
    slots: int = 64
    requests: int = 1500

    def run(self, seed: int = 1) -> Load:
        return run(lambda: self._run(random.Random(seed)))

    async def _run(self, rng: random.Random) -> Load:
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds + rng.random() * 0.001)  # timers are late

        def wall() -> float:
            return now() - START + self.epoch

        policy = RetryPolicy(clock=now, wall_clock=lambda: wall() + self.skew, sleep=sleep)
        limiter, window, load, began = (
            RateLimiter(policy, requests=lambda: self.slots),
            RateWindow(self.rule),
            Load(),
            now(),
        )
        frame = -1.0

        async def one() -> bool:
            nonlocal frame
            sent_at = await limiter.acquire()
            load.sent.append(sent_at - START)
            await asyncio.sleep(rng.uniform(*self.latency) / 2)
            if self.aligned and frame != (frame := wall() // self.rule.window):
                window._used, window._end = 0, (frame + 1) * self.rule.window
            allowed, fields = window.admit(wall())
            fields["Date"] = formatdate(wall(), usegmt=True)
            await asyncio.sleep(rng.uniform(*self.latency) / 2)
            rate = parse_rate(fields, policy.wall_clock)
            if allowed:
                limiter.responded(sent_at, rate)
                await asyncio.sleep(0.002)
                load.answered += 1
            else:
                wait = parse_retry_after(fields, policy.wall_clock)
                limiter.limited(sent_at, rate.reset if wait is None and rate else wait, rate)
                load.refused += 1
            return allowed

        async def worker(work: Iterator[int]) -> None:
            for _ in work:
                while not await one():
                    pass

        work = iter(range(self.requests))
        await asyncio.gather(*[worker(work) for _ in range(self.slots)])
        load.seconds = now() - began
        return load


class TestRateLimitedServer:
    """50 requests a second, 64 at once, 1,500 requests."""

    @pytest.mark.slow
    @pytest.mark.parametrize("latency", [(0.002, 0.006), (0.005, 0.03)])
    @pytest.mark.parametrize(("fraction", "skew"), [(0.02, 45.0), (0.37, 0.0), (0.95, 45.0)])
    @pytest.mark.parametrize(
        "rule",
        [
            RateLimit(reset="delta"),
            RateLimit(reset="epoch_s"),
            RateLimit(reset="epoch_ms"),
            RateLimit(reset="http_date"),
            RateLimit(reset="delta", retry_after=False),
        ],
        ids=lambda rule: f"{rule.reset}-{rule.retry_after}",
    )
    def test_with_headers(self, rule: RateLimit, fraction: float, skew: float, latency: tuple[float, float]) -> None:
        """Whatever the notation of the reset: at most 1 % of the requests are refused, never more than 20 go out
        in 50 ms, and 90 % of what is allowed is used."""
        load = Server(rule, latency, epoch=1_767_225_600 + fraction, skew=skew).run()
        assert load.answered == 1500
        assert len(load.sent) <= 1.01 * 1500
        assert load.most_in(0.05) <= 20
        assert 1500 / load.seconds >= 0.9 * 50

    @pytest.mark.slow
    @pytest.mark.parametrize("latency", [(0.002, 0.006), (0.005, 0.03), (0.05, 0.15)])
    @pytest.mark.parametrize(
        "rule",
        [RateLimit(headers=False), RateLimit(headers=False, retry_after=False), RateLimit(reset=None)],
        ids=["retry-after", "nothing", "no-reset"],
    )
    def test_without_headers(self, rule: RateLimit, latency: tuple[float, float]) -> None:
        """The limit is not known before it is broken: at most 5 % are refused, after the first 429 never more
        than 20 go out in 50 ms, and 60 % of what is allowed is used."""
        load = Server(rule, latency).run()
        assert load.answered == 1500
        assert len(load.sent) <= 1.05 * 1500
        assert load.most_in(0.05, since=0.5) <= 20
        assert 1500 / load.seconds >= 0.6 * 50

    @pytest.mark.parametrize("reset", ["delta", "epoch_s", "epoch_ms"])
    def test_windows_that_begin_by_the_clock(self, reset: Any) -> None:
        """The same where the window does not begin with a request of ours."""
        load = Server(RateLimit(reset=reset), aligned=True).run()
        assert len(load.sent) <= 1.05 * 1500
        assert 1500 / load.seconds >= 0.85 * 50

    def test_responses_that_overtake_each_other(self) -> None:
        """With a third of a second of jitter a count may arrive after the next window's: 10 % are refused at most."""
        load = Server(RateLimit(), (0.05, 0.4)).run()
        assert load.answered == 1500
        assert len(load.sent) <= 1.1 * 1500
        assert 1500 / load.seconds >= 0.7 * 50

    @pytest.mark.slow
    def test_long_windows(self) -> None:
        """3,000 a minute, 9,000 requests: no refusal, and done within the fourth minute."""
        load = Server(RateLimit(limit=3000, window=60), requests=9000).run()
        assert load.refused == 0
        assert load.seconds < 190

    def test_a_limit_that_is_not_reached_costs_nothing(self) -> None:
        """1,000 requests under a limit of 100,000 take as long as without any."""
        free = Server(RateLimit(limit=10**9, headers=False), requests=1000).run()
        limited = Server(RateLimit(limit=100_000, window=60), requests=1000).run()
        assert limited.seconds == pytest.approx(free.seconds, rel=0.1)


class TestRateLimiter:
    def test_it_is_entered_before_every_request(self) -> None:
        """A limiter of the caller's own decides too."""
        entered: list[float] = []

        class Limiter:
            async def __aenter__(self) -> None:
                await asyncio.sleep(1)
                entered.append(now())

            async def __aexit__(self, *_: object) -> None: ...

        async def main() -> None:
            limiter = rate_limiter(4, Limiter())
            assert [await limiter.acquire() - START for _ in range(3)] == [1, 2, 3]
            assert len(entered) == 3

        run(main)

    def test_requests_that_it_let_through_do_not_pile_up_during_a_pause(self) -> None:
        """Its rate holds after a 429, too."""
        entered: list[float] = []

        class Limiter:
            async def __aenter__(self) -> None:
                entered.append(now())
                await asyncio.sleep(0.05)

            async def __aexit__(self, *_: object) -> None: ...

        async def main() -> None:
            limiter = rate_limiter(200, Limiter())
            limiter.limited(await limiter.acquire(), 4, None)
            sent = await sends(limiter, 100)
            assert sent[0] - START >= 4
            assert max(sum(at <= other < at + 1 for other in sent) for at in sent) <= 21

        run(main)

    def test_cancelled_inside_it_nothing_is_lost(self) -> None:
        """The next request goes through it as usual."""

        class Limiter:
            async def __aenter__(self) -> None:
                await asyncio.sleep(5)

            async def __aexit__(self, *_: object) -> None: ...

        async def main() -> None:
            limiter = rate_limiter(1, Limiter())
            task = asyncio.ensure_future(limiter.acquire())
            await asyncio.sleep(1)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert limiter._pending == 0
            assert await limiter.acquire() - START == 6

        run(main)
