"""The client runs on uvloop when the application does."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from np6_async import ClientClosed, NP6Client, RetryPolicy, ServiceUnavailable, Timeout, TimeoutExceeded
from np6_async.testing import FakeNP6, Fault

uvloop = pytest.importorskip("uvloop", reason="there is no uvloop for this platform")

QUICK = RetryPolicy(base_delay=0.001, max_attempts=20, max_protocol_attempts=20, budget=1e9)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on uvloop, with nothing left over and nothing to complain of."""
    complaints: list[Any] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, uvloop.Loop)
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        await main()
        gc.collect()
        await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if "np6_async" in task.get_name()] == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched())
    assert complaints == []


def truth(server: FakeNP6) -> Counter[tuple[Any, Any]]:
    return Counter((contact, event["id"]) for contact in server.contact_ids for event in server.events(contact))


@pytest.mark.parametrize("gzip", [False, True])
def test_a_bulk_run_with_faults_delivers_each_event_once(gzip: bool) -> None:
    async def main() -> None:
        async with FakeNP6(contacts=150, events_per_contact=(0, 20), gzip=gzip) as server:
            server.fault_rate(0.2, [kind for kind in Fault.ALL if kind.name not in ("stall", "hang")], seed=5)
            async with server.client(retry=QUICK) as np6, np6.events.stream_many(server.contact_ids) as events:
                got = Counter([(contact, event.id) async for contact, event in events])
            assert got == truth(server)
            assert server.faults_consumed.total() > 10

    run(main)


def test_a_single_stream_of_a_large_response() -> None:
    async def main() -> None:
        async with FakeNP6(contacts=1, events_per_contact=3_000) as server, server.client() as np6:
            async with np6.events.stream(server.contact_ids[0]) as stream:
                assert len([event async for event in stream]) == 3_000
            assert stream.stats.requests == 1

    run(main)


def test_connections_are_used_again_and_a_closed_one_costs_no_attempt() -> None:
    async def main() -> None:
        async with FakeNP6(contacts=20) as server, server.client(retry=RetryPolicy(max_attempts=1, budget=0)) as np6:
            for contact in server.contact_ids:
                await np6.events.list(contact)
            assert server.connections == 1
            server.script(Fault.close_after(), times=2)
            for contact in server.contact_ids[:4]:
                assert len(await np6.events.list(contact)) == 10

    run(main)


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.stall(after=50)], ids=repr)
@pytest.mark.parametrize("many", [False, True])
def test_close_cancellation_and_timeouts_end_what_waits(many: bool, fault: Fault) -> None:
    async def read(np6: NP6Client, contacts: Any) -> None:
        if many:
            async with np6.events.stream_many(contacts, on_error="collect") as events:
                async for _ in events:
                    pass
            raise events.failures[0].error
        await np6.events.list(contacts[0])

    async def main() -> None:
        async with FakeNP6(contacts=5) as server:
            server.script(fault, times=None)
            for how in ("close", "cancel", "time out"):
                timeout = Timeout(read=0.05) if how == "time out" else Timeout(read=20)
                np6 = server.client(timeout=timeout, retry=RetryPolicy(max_attempts=1))
                task = asyncio.create_task(read(np6, server.contact_ids))
                if how != "time out":
                    while not server.in_flight:
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(0.01)
                async with asyncio.timeout(5):
                    if how == "close":
                        await np6.close()
                        with pytest.raises(ClientClosed):
                            await task
                    elif how == "cancel":
                        task.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await task
                    else:
                        with pytest.raises(ServiceUnavailable if many else TimeoutExceeded):
                            await task
                assert not np6._runtime.transport._live
                await np6.close()

    run(main)
