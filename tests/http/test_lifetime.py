"""Cancel scopes: what waits for a client ends when it closes, or when another task says so, and for no other reason."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support.virtual_time import START, now, run, settle

from np6_async._errors import ClientClosed, StreamInterrupted, TimeoutExceeded
from np6_async._http.lifetime import CancelScope, Lifetime


def too_late() -> TimeoutExceeded:
    return TimeoutExceeded("too late", limit="deadline")


async def wait_in(lifetime: Lifetime, seconds: float | None = None) -> None:
    with lifetime.scope() as scope:
        if seconds is not None:
            scope.cancel_after(seconds, too_late)
        await asyncio.Event().wait()


async def started(lifetime: Lifetime) -> tuple[asyncio.Task[None], CancelScope]:
    task = asyncio.create_task(wait_in(lifetime))
    await asyncio.sleep(0)
    return task, next(iter(lifetime._scopes))


async def test_the_first_use_is_reported_once() -> None:
    """On the loop that the client then belongs to."""
    used: list[asyncio.AbstractEventLoop] = []
    lifetime = Lifetime()
    lifetime.on_first_use(lambda: used.append(asyncio.get_running_loop()))
    assert used == []
    for _ in range(2):
        lifetime.check()
    assert used == [asyncio.get_running_loop()]


async def test_close_ends_every_wait() -> None:
    """All that wait get ClientClosed, at once."""
    lifetime = Lifetime()
    tasks = [asyncio.create_task(wait_in(lifetime)) for _ in range(5)]
    await asyncio.sleep(0)
    lifetime.close()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, ClientClosed)
        assert "closed while a call was waiting" in str(result)


async def test_use_after_close_is_refused() -> None:
    """One clear sentence."""
    lifetime = Lifetime()
    lifetime.close()
    with pytest.raises(ClientClosed, match=r"^this NP6Client is closed; create a new one(\n|$)"):
        lifetime.check()


def test_a_second_event_loop_is_refused() -> None:
    """The first use of the client decides the loop."""
    lifetime = Lifetime()

    async def use() -> None:
        lifetime.check()

    asyncio.run(use())
    with pytest.raises(ClientClosed, match="belongs to another event loop"):
        asyncio.run(use())


async def test_a_wait_ends_with_the_error_that_another_task_gives() -> None:
    """The first of them."""
    task, scope = await started(Lifetime())
    scope.cancel(StreamInterrupted("first"))
    scope.cancel(StreamInterrupted("second"))
    with pytest.raises(StreamInterrupted, match="first"):
        await task
    assert not task.cancelled()


async def test_a_scope_cancelled_by_its_own_task_ends_when_its_wait_does() -> None:
    """A hook may close the stream that calls it."""
    with pytest.raises(StreamInterrupted), Lifetime().scope() as scope:
        scope.cancel(StreamInterrupted("closed"))
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # nothing is cancelled later


async def test_a_wait_that_is_cancelled_just_as_it_succeeds_ends_with_the_error() -> None:
    """Both in one turn of the event loop."""
    lifetime, event = Lifetime(), asyncio.Event()

    async def one() -> None:
        with lifetime.scope():
            await event.wait()

    task = asyncio.create_task(one())
    await asyncio.sleep(0)
    event.set()
    lifetime.close()
    with pytest.raises(ClientClosed):
        await task


async def test_a_timeout_is_a_typed_error() -> None:
    """And says which limit ran out."""
    with pytest.raises(TimeoutExceeded, match="too late") as caught:
        await wait_in(Lifetime(), 0.001)
    assert caught.value.limit == "deadline"


async def test_cancellation_stays_cancellation() -> None:
    """A task that is cancelled from outside is cancelled, also where its wait is ended meanwhile."""
    lifetime = Lifetime()
    task, _ = await started(lifetime)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lifetime._scopes
    for first in ("cancel", "close"):
        lifetime = Lifetime()
        task, _ = await started(lifetime)
        if first == "cancel":
            task.cancel()
        lifetime.close()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_outer_timeout_keeps_its_name() -> None:
    """asyncio.timeout around a call raises TimeoutError, as everywhere."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.001):
            await wait_in(Lifetime())
    assert type(caught.value) is TimeoutError


async def test_an_error_inside_is_left_alone() -> None:
    """A wait changes nothing but its own end."""
    lifetime = Lifetime()
    with pytest.raises(LookupError), lifetime.scope():
        raise LookupError
    assert not lifetime._scopes


async def test_a_wait_that_ends_in_time_is_not_disturbed() -> None:
    """Waits that are over do not notice the close, nor the end of their bound."""
    lifetime = Lifetime()
    timeout = lifetime.shared_timeout(0.001, too_late)
    with lifetime.scope() as scope:
        timeout.start(scope)
        scope.cancel_after(0.001, too_late)
        await asyncio.sleep(0)
    await asyncio.sleep(0.003)
    lifetime.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("bound", ["timeout", "cancel_after"])
async def test_what_arrived_while_the_loop_was_blocked_arrived_in_time(bound: str) -> None:
    """A consumer that blocks the event loop for longer than the bound does not make the waits fail."""
    lifetime, event = Lifetime(), asyncio.Event()
    timeout = lifetime.shared_timeout(0.01, too_late)

    async def one() -> None:
        with lifetime.scope() as scope:
            if bound == "timeout":
                timeout.start(scope)
            else:
                scope.cancel_after(0.01, too_late)
            await event.wait()

    tasks = [asyncio.create_task(one()) for _ in range(5)]
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.005, event.set)  # as from a socket
    time.sleep(0.03)  # noqa: ASYNC251 - that is the point
    await asyncio.gather(*tasks)
    lifetime.close()


def test_one_shared_timeout_bounds_each_of_many_scopes() -> None:
    """By the time from its own begin; those that end sooner are left alone."""

    async def main() -> None:
        lifetime = Lifetime()
        timeout = lifetime.shared_timeout(10, too_late)

        async def one(begin: float, seconds: float) -> float:
            await asyncio.sleep(begin)
            try:
                with lifetime.scope() as scope:
                    timeout.start(scope)
                    await asyncio.sleep(seconds)
            except TimeoutExceeded:
                pass
            return now() - START - begin

        lasted = await asyncio.gather(*[one(begin, seconds) for begin in (0, 3, 3, 8, 40) for seconds in (1, 9.5, 60)])
        assert lasted == pytest.approx([1, 9.5, 10] * 5)
        assert not timeout._ends
        await settle()
        lifetime.close()

    run(main)


# -- a loop that its user blocks --------------------------------------------------------------------


def block(seconds: float) -> None:
    """As `time.sleep` does, in virtual time."""
    loop: Any = asyncio.get_running_loop()
    loop._selector.now += seconds


@pytest.mark.parametrize("bound", ["timeout", "cancel_after"])
@pytest.mark.parametrize("blocked_at", [0.0, 1.0, 4.9, 9.9])
def test_time_in_which_the_loop_is_blocked_hardly_counts(bound: str, blocked_at: float) -> None:
    """For an eighth of the timeout at most: the rest remains to whatever has to happen."""

    async def main() -> float:
        lifetime = Lifetime()
        timeout = lifetime.shared_timeout(10, too_late)
        asyncio.get_running_loop().call_later(blocked_at, block, 100)
        with pytest.raises(TimeoutExceeded), lifetime.scope() as scope:
            if bound == "timeout":
                timeout.start(scope)
            else:
                scope.cancel_after(10, too_late)
            await asyncio.Event().wait()
        lifetime.close()
        return now() - START

    assert 108.75 <= run(main) <= 110.001


@pytest.mark.parametrize("bound", ["timeout", "cancel_after"])
def test_a_loop_that_is_always_blocked_still_ends_a_wait(bound: str) -> None:
    """After several turns."""

    async def main() -> float:
        lifetime = Lifetime()
        timeout = lifetime.shared_timeout(10, too_late)

        async def busy() -> None:
            while True:
                await asyncio.sleep(0)
                block(100)

        other = asyncio.create_task(busy())
        with pytest.raises(TimeoutExceeded), lifetime.scope() as scope:
            if bound == "timeout":
                timeout.start(scope)
            else:
                scope.cancel_after(10, too_late)
            await asyncio.Event().wait()
        other.cancel()
        lifetime.close()
        return now() - START

    assert 700 <= run(main) <= 2_000


def test_what_arrives_with_the_end_of_the_timeout_restarts_it() -> None:
    """A body of many pieces, each of which comes as the timer fires."""

    async def main() -> float:
        lifetime = Lifetime()
        timeout = lifetime.shared_timeout(10, too_late)
        loop = asyncio.get_running_loop()
        with lifetime.scope() as scope:
            for _ in range(20):
                timeout.start(scope)
                piece = loop.create_future()
                loop.call_later(10, piece.set_result, None)
                await piece
        lifetime.close()
        return now() - START

    assert run(main) == pytest.approx(200)


def test_a_timeout_that_is_suspended_restarts_afterwards() -> None:
    """For the task that waits for something else, and for no other."""

    async def main() -> list[float]:
        lifetime = Lifetime()
        timeout = lifetime.shared_timeout(10, too_late)

        async def one(suspended: float) -> float:
            try:
                with lifetime.scope() as scope:
                    timeout.start(scope)
                    await asyncio.sleep(5)
                    if suspended:
                        with timeout.suspended():
                            await asyncio.sleep(suspended)
                    await asyncio.Event().wait()
            except TimeoutExceeded:
                pass
            return now() - START

        ended = await asyncio.gather(one(0), one(50), one(3))
        assert not timeout._ends
        lifetime.close()
        return ended

    assert run(main) == pytest.approx([10, 65, 18])
