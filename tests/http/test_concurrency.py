"""Slots, in virtual time."""

from __future__ import annotations

import asyncio
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_time import START, now, run, settle

from np6_async._errors import TimeoutExceeded
from np6_async._http.concurrency import Slots


def slots(count: int, most: int = sys.maxsize) -> Slots:
    return Slots(count, now, most=most)


@pytest.mark.parametrize("count", [1, 3, 16, 100])
def test_never_more_in_flight_than_slots(count: int) -> None:
    """However many want to."""

    async def main() -> int:
        the_slots, most = slots(count), 0

        async def one() -> None:
            nonlocal most
            await the_slots.acquire(60)
            most = max(most, the_slots.in_use)
            await asyncio.sleep(0.01)
            the_slots.release(reading=True)

        await asyncio.gather(*[one() for _ in range(count * 5)])
        assert the_slots.in_use == 0
        return most

    assert run(main) == count


def test_first_come_first_served() -> None:
    """Slots go to those who wait, in the order in which they came; nobody jumps the queue."""

    async def main() -> list[int]:
        the_slots, order = slots(2), list[int]()

        async def one(number: int) -> None:
            await the_slots.acquire(60)
            order.append(number)
            await asyncio.sleep(random.Random(number).random())
            the_slots.release(reading=True)

        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(one(number))
                await asyncio.sleep(0)
        return order

    assert run(main) == list(range(30))


def test_lent_slots_are_taken_from_a_borrowed_sessions_connections() -> None:
    """All but one, which is for a call from inside the run; they come back when the run is over."""

    async def main() -> None:
        the_slots = slots(16, most=10)
        assert the_slots.limit == 10
        with the_slots.lend(6) as first:
            assert (first, the_slots.limit, the_slots.requests) == (6, 4, 10)
            with the_slots.lend(6) as second:
                assert (second, the_slots.limit) == (3, 1)
                with the_slots.lend(6) as third:  # a run has one worker at least
                    assert (third, the_slots.limit) == (1, 1)
                await the_slots.acquire(60)
                waiter = asyncio.ensure_future(the_slots.acquire(60))
                await settle()
                assert not waiter.done()
            await waiter
        assert the_slots.limit == 10

    run(main)


def test_slots_in_use_are_not_lent() -> None:
    """The connections of open streams are taken."""

    async def main() -> None:
        the_slots = slots(16, most=10)
        for _ in range(4):
            await the_slots.acquire(60)
        with the_slots.lend(20) as lent:
            assert lent == 6

    run(main)


def test_the_clients_own_session_lends_as_many_as_wanted() -> None:
    with slots(2).lend(500) as lent:
        assert lent == 500


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_cancelling_any_task_anywhere_loses_no_slot(seed: int) -> None:
    """Random cancels while waiting for a slot or holding one: afterwards all slots are there, and work."""

    async def main() -> None:
        rng = random.Random(seed)
        the_slots = slots(3)

        async def one() -> None:
            await the_slots.acquire(60)
            try:
                await asyncio.sleep(rng.random())
            finally:
                the_slots.release(reading=True)

        tasks = [asyncio.ensure_future(one()) for _ in range(30)]
        while running := [task for task in tasks if not task.done()]:
            assert the_slots.in_use <= 3
            for task in rng.sample(running, k=rng.randrange(min(4, len(running) + 1))):
                task.cancel()
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            await asyncio.sleep(rng.choice([0, 0.1, 1.0]))
        assert the_slots.in_use == the_slots._reading == 0
        assert not the_slots._waiting

    run(main)


def test_a_slot_given_to_a_task_that_is_cancelled_goes_to_the_next() -> None:
    """Both in one turn of the event loop."""

    async def main() -> None:
        the_slots = slots(1)
        await the_slots.acquire(60)
        first, second = (asyncio.ensure_future(the_slots.acquire(60)) for _ in range(2))
        await settle()
        the_slots.release(reading=True)
        first.cancel()
        await second
        assert first.cancelled()
        assert the_slots.in_use == 1

    run(main)


def test_all_slots_held_is_an_error_not_a_hang() -> None:
    """After `timeout` seconds in which nobody read, and the message says what to do."""

    async def main() -> None:
        the_slots = slots(2)
        for _ in range(2):
            await the_slots.acquire(60)
            the_slots.stop_reading()
        began = now()
        with pytest.raises(TimeoutExceeded, match="the 2 in use are held by streams that are open and not") as caught:
            await the_slots.acquire(2.5)
        assert now() - began == pytest.approx(2.5)
        assert caught.value.limit == "pool"
        the_slots.release(reading=False)
        await the_slots.acquire(2.5)

    run(main)


def test_no_error_while_others_make_progress() -> None:
    """A long queue that moves is not a deadlock."""

    async def main() -> None:
        the_slots = slots(1)

        async def one() -> None:
            await the_slots.acquire(1.5)
            await asyncio.sleep(1)
            the_slots.release(reading=True)

        await asyncio.gather(*[one() for _ in range(50)])
        assert now() - START == pytest.approx(50)

    run(main)


def test_no_error_while_a_holder_waits_for_the_server() -> None:
    """Whether for a response, for more of it, for a rate limit, or before a retry: that has its own timeouts."""

    async def main() -> None:
        the_slots = slots(1)
        await the_slots.acquire(1)
        waiter = asyncio.ensure_future(the_slots.acquire(1))
        await asyncio.sleep(600)
        assert not waiter.done()
        the_slots.stop_reading()
        await asyncio.sleep(0.5)
        the_slots.start_reading()
        await asyncio.sleep(0.9)
        the_slots.release(reading=True)
        await waiter

    run(main)
