"""Scopes: what waits under a client ends with it, and only for that reason."""

from __future__ import annotations

import asyncio

import pytest

from np6_async._errors import ClientClosed, TimeoutExceeded
from np6_async._lifetime import Lifetime


async def wait_in(lifetime: Lifetime, seconds: float | None = None) -> None:
    async with lifetime.scope(seconds):
        await asyncio.Event().wait()


async def started(lifetime: Lifetime, seconds: float | None = None) -> asyncio.Task[None]:
    task = asyncio.create_task(wait_in(lifetime, seconds))
    await asyncio.sleep(0)
    return task


async def test_close_ends_every_scope() -> None:
    """All that wait get ClientClosed, at once."""
    lifetime = Lifetime()
    tasks = [await started(lifetime) for _ in range(5)]
    lifetime.close()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, ClientClosed)
        assert "closed while a call was waiting" in str(result)


async def test_a_scope_after_close_does_not_begin() -> None:
    """One clear sentence."""
    lifetime = Lifetime()
    lifetime.close()
    with pytest.raises(ClientClosed, match=r"^this NP6Client is closed; create a new one$"):
        async with lifetime.scope():
            pytest.fail("the body ran")


def test_a_second_event_loop_is_refused() -> None:
    """Whoever used the client first decides the loop."""
    lifetime = Lifetime()

    async def use() -> None:
        async with lifetime.scope():
            await asyncio.sleep(0)

    asyncio.run(use())
    with pytest.raises(ClientClosed, match="belongs to another event loop"):
        asyncio.run(use())


async def test_a_deadline_is_a_typed_timeout() -> None:
    """And says which limit ran out."""
    with pytest.raises(TimeoutExceeded, match="deadline") as caught:
        await wait_in(Lifetime(), 0.001)
    assert caught.value.limit == "deadline"


async def test_closing_as_the_deadline_passes_is_no_error() -> None:
    """Both at the same moment of the loop: the call ends, and close() succeeds."""
    lifetime = Lifetime()
    task = await started(lifetime, 0)
    for timeout in lifetime._scopes:
        timeout._on_timeout()  # type: ignore[attr-defined]
    lifetime.close()
    with pytest.raises((ClientClosed, TimeoutExceeded)):
        await task


async def test_cancellation_stays_cancellation() -> None:
    """A task that is cancelled from outside is cancelled, also in a client that closes meanwhile."""
    lifetime = Lifetime()
    task = await started(lifetime)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lifetime._scopes
    task = await started(lifetime)
    task.cancel()
    lifetime.close()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_outer_timeout_keeps_its_name() -> None:
    """asyncio.timeout around a call raises TimeoutError, as everywhere."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.001):
            await wait_in(Lifetime())
    assert type(caught.value) is TimeoutError


async def test_an_error_inside_is_left_alone() -> None:
    """A scope changes nothing but its own end."""
    lifetime = Lifetime()
    with pytest.raises(LookupError):
        async with lifetime.scope(5):
            raise LookupError
    assert not lifetime._scopes


async def test_what_is_done_in_time_is_not_disturbed() -> None:
    """Scopes that ended do not notice the close."""
    lifetime = Lifetime()
    async with lifetime.scope(5):
        await asyncio.sleep(0)
    lifetime.close()
    await asyncio.sleep(0.002)
