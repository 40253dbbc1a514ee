"""Runs that end early: nothing is left over, nothing waits forever, memory stays bounded.

The ends at random points run in their own processes, with Python's development mode and with resource
warnings for errors: this file is their program too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any

import pytest

from np6_async import ClientClosed, NP6Client, NP6Error, RetryPolicy, Timeout, TimeoutExceeded
from np6_async.testing import FakeNP6, Fault, RateLimit, make_event

Figure = Callable[[str, str, str, object], None]

LONG = bool(os.environ.get("NP6_LONG"))
SEED = int(os.environ.get("NP6_SEED", "20260102"))
POINTS = 1_000 if LONG else 300

# -- D1 and D2: the program of the child processes ---------------------------------------------------

RETRY = RetryPolicy(base_delay=0.002, max_delay=0.01, max_attempts=12, max_protocol_attempts=12, budget=1e9)
TIMEOUT = Timeout(read=0.08, pool=20.0)
# Points between two clients: idle connections and descriptors are looked at when one closes.
PER_CLIENT = 20


class Stopped(Exception):
    """What a consumer raises."""


class Trial:
    """One client after the other against a server with faults, and what they leave."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.problems: list[str] = []
        self.complaints: list[str] = []  # of the event loop, and what could not be raised
        self.slowest = 0.0  # from cancel to the end of the task
        self.ended_early = 0

    def complain(self, _: Any, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def unraisable(self, hook: Any) -> None:
        self.complaints.append(f"unraisable: {hook.exc_value!r} in {hook.object!r}")

    # Reading, in all the ways there are

    async def read(self, np6: NP6Client, many: bool, stop: int | None = None, how: str = "") -> int:
        """Read events, by batch or one by one; with `stop` leave after so many, as `how` says."""
        count = 0
        contacts = self.rng.sample(list(self.server.contact_ids), 12)
        by_batch = self.rng.random() < 0.3
        if many:
            bulk = np6.events.stream_many(contacts, on_error="collect", concurrency=6)
            try:
                async with bulk as events:
                    async for _ in events.batches() if by_batch else events:
                        count += 1
                        if count == stop:
                            if how == "return":
                                return count
                            if how == "raise":
                                raise Stopped
                            if how == "aclose":
                                await events.aclose()
                            break
            finally:
                if not all(worker.done() for worker in bulk._workers):
                    self.problems.append("workers outlive their async with")
            return count
        for contact in contacts[:3]:
            stream = np6.events.stream(contact)
            # A bare loop, too: only the garbage collector tells of its end.
            async with nullcontext() if self.rng.random() < 0.3 else stream:
                async for _ in stream.batches() if by_batch else stream:
                    count += 1
                    if count == stop:
                        if how == "return":
                            return count
                        if how == "raise":
                            raise Stopped
                        if how == "aclose":
                            await stream.aclose()
                        break
            if count == stop:
                break
        return count

    async def reader(self, np6: NP6Client, many: bool) -> None:
        """Reads until it is stopped from outside."""
        while True:
            with suppress(NP6Error):
                await self.read(np6, many)
            np6._runtime.lifetime.check()

    async def some_time(self) -> None:
        """A moment, now in turns of the loop and now in time."""
        if self.rng.random() < 0.5:
            for _ in range(self.rng.randrange(40)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.rng.random() ** 2 * 0.03)

    # The ways to end

    async def inside(self, np6: NP6Client, many: bool, how: str) -> None:
        try:
            await self.read(np6, many, self.rng.randrange(1, 150), how)
        except Stopped:
            if how != "raise":
                self.problems.append("Stopped came from nowhere")
        except NP6Error:  # a contact that met too many faults
            pass

    async def cancel(self, np6: NP6Client, many: bool) -> None:
        task = asyncio.ensure_future(self.reader(np6, many))
        await self.some_time()
        if task.done():
            self.problems.append(f"ended before it was cancelled: {task!r}")
            return
        began = time.perf_counter()
        task.cancel()
        await asyncio.wait([task], timeout=10)
        self.slowest = max(self.slowest, time.perf_counter() - began)
        if not task.cancelled():
            self.problems.append(f"the cancellation was swallowed: {task!r}")

    async def timeout(self, np6: NP6Client, many: bool) -> None:
        seconds = self.rng.random() ** 2 * 0.03
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                await self.reader(np6, many)
        except TimeoutExceeded as error:
            self.problems.append(f"asyncio.timeout came out as {error!r}")
        except TimeoutError:
            self.slowest = max(self.slowest, time.perf_counter() - began - seconds)
        except BaseException as error:
            self.problems.append(f"asyncio.timeout came out as {error!r}")

    async def aclose(self, np6: NP6Client, many: bool) -> None:
        """From another task, while one reads."""
        contacts = self.rng.sample(list(self.server.contact_ids), 12)
        stream: Any = np6.events.stream_many(contacts, on_error="collect") if many else np6.events.stream(contacts[0])

        async def read() -> None:
            async with stream:
                async for _ in stream:
                    pass

        task = asyncio.ensure_future(read())
        await self.some_time()
        await stream.aclose()
        began = time.perf_counter()
        await asyncio.wait([task], timeout=10)
        self.slowest = max(self.slowest, time.perf_counter() - began)
        error = task.exception() if task.done() and not task.cancelled() else None
        if not task.done() or not (error is None or isinstance(error, NP6Error)):
            self.problems.append(f"after aclose: {task!r}")

    async def close(self, np6: NP6Client, many: bool) -> None:
        tasks = [asyncio.ensure_future(self.reader(np6, many)) for _ in range(self.rng.randrange(1, 4))]
        await self.some_time()
        began = time.perf_counter()
        await np6.close()
        await asyncio.wait(tasks, timeout=10)
        self.slowest = max(self.slowest, time.perf_counter() - began)
        for task in tasks:
            if not task.done() or task.cancelled() or not isinstance(task.exception(), ClientClosed):
                self.problems.append(f"after close: {task!r}")

    async def end(self, np6: NP6Client, way: str, many: bool) -> None:
        if way in ("break", "return", "raise") or (way == "aclose" and self.rng.random() < 0.5):
            await self.inside(np6, many, way)
        else:
            await getattr(self, way)(np6, many)

    # What is left

    async def look(self, np6: NP6Client, where: str) -> None:
        """After each point: tasks, slots, responses and connections in use."""
        runtime = np6._runtime
        for _ in range(1_000):
            session = runtime.transport._session
            connector = None if session is None else session.connector
            left = {
                "tasks": len(asyncio.all_tasks()) - self.tasks,
                "slots": runtime.slots.in_use,
                "slots lent": runtime.slots._lent,
                "slots waited for": len(runtime.slots._waiting),
                "responses": len(runtime.transport._live),
                "connections in use": 0 if connector is None else len(connector._acquired),
                "waits": len(runtime.lifetime._scopes),
                "streams and runs": len(runtime.lifetime._on_close),
                "requests pending": runtime.rate_limiter._pending,
            }
            if not any(left.values()):
                return
            await asyncio.sleep(0.005)
        self.problems.append(f"{where}: left { ({name: count for name, count in left.items() if count}) }")

    async def closed(self, np6: NP6Client, where: str) -> None:
        """After a client: its connections, as the server sees them, and descriptors."""
        await np6.close()
        for _ in range(1_000):
            gone = not self.server.open_connections and descriptors() == self.descriptors
            if gone and len(asyncio.all_tasks()) == self.tasks:
                return
            await asyncio.sleep(0.005)
        self.problems.append(
            f"{where}: {self.server.open_connections} connections, {descriptors() - self.descriptors} descriptors, "
            f"{len(asyncio.all_tasks()) - self.tasks} tasks left"
        )

    async def still_works(self, np6: NP6Client, where: str) -> None:
        """A read of a contact, whatever its faults."""
        contact = self.rng.choice(list(self.server.contact_ids))
        try:
            async with asyncio.timeout(10):
                events = await np6.events.list(contact)
        except Exception as error:
            self.problems.append(f"{where}: the client does not work any more: {error!r}")
            return
        if len(events) != len(self.server.events(contact)):
            self.problems.append(f"{where}: {len(events)} of {len(self.server.events(contact))} events")

    async def run(self, way: str, points: int, seed: int) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.complain)
        # Bodies of up to 200 KB: most points are inside one.
        self.server = FakeNP6(contacts=40, events_per_contact=(0, 300), seed=seed, chunk_size=8_000)
        async with self.server as server:
            for contact in server.contact_ids:  # made when first asked for, which takes time
                server.events(contact)
            async with server.client() as np6:  # what the first request of a process makes once for all
                await np6.events.list(server.contact_ids[0])
            server.fault_rate(0.3, seed=seed)
            while server.open_connections:
                await asyncio.sleep(0.005)
            gc.collect()
            gc.freeze()  # what was imported: else a collection takes as long as the slowest end
            self.tasks, self.descriptors = len(asyncio.all_tasks()), descriptors()
            for many in (False, True):
                np6 = None
                for point in range(points):
                    where = f"{way}, {'many' if many else 'one'}, point {point}"
                    if np6 is None:
                        np6 = server.client(retry=RETRY, timeout=TIMEOUT, concurrency=4)
                    await self.end(np6, way, many)
                    await self.look(np6, where)
                    if way == "close":
                        await self.closed(np6, where)
                        np6 = None
                        continue
                    if point % 5 == 0:
                        await self.still_works(np6, where)
                    if point % PER_CLIENT == PER_CLIENT - 1 or point == points - 1:
                        await self.closed(np6, where)
                        np6 = None
            self.faults = server.faults_consumed.total()
        gc.collect()
        await asyncio.sleep(0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def main(way: str, seed: str, points: str) -> None:
    trial = Trial(int(seed))
    sys.unraisablehook = trial.unraisable
    asyncio.run(trial.run(way, int(points), int(seed)))
    gc.collect()
    report = {
        "problems": trial.problems,
        "complaints": trial.complaints,
        "slowest": trial.slowest,
        "faults": trial.faults,
    }
    print(json.dumps(report))


# -- D1 and D2: the tests ------------------------------------------------------------------------------

WAYS = ("break", "return", "raise", "cancel", "timeout", "aclose", "close")


@pytest.fixture(scope="module", name="reports")
def _reports() -> Iterator[dict[str, Future[Any]]]:
    """All ways to end, each in a process, two at a time."""

    def child(way: str) -> Any:
        command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", __file__, way, str(SEED), str(POINTS)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=1_200, check=False)
        print(" ".join(command))
        assert ended.returncode == 0, ended.stderr
        return {**json.loads(ended.stdout.splitlines()[-1]), "stderr": ended.stderr}

    with ThreadPoolExecutor(2) as pool:
        yield {way: pool.submit(child, way) for way in WAYS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("way", WAYS)
def test_D1_whatever_way_a_run_ends_nothing_is_left(way: str, reports: dict[str, Future[Any]], figure: Figure) -> None:
    """Left by break, return, an exception, cancellation, a timeout, aclose or the client's close, at any point and
    with faults on a third of the requests: no task, slot, connection or descriptor stays, the event loop has
    nothing to complain of, and the client still works."""
    report = reports[way].result()
    problems = report["problems"] + report["complaints"]
    figure(
        "D1",
        f"{way}, stream and stream_many, {POINTS} points each, {report['faults']} faults: left",
        "0",
        len(problems),
    )
    assert problems == []
    assert "Warning" not in report["stderr"]
    assert report["stderr"] == "" or "Executing" in report["stderr"]
    assert report["faults"] > POINTS // 5


@pytest.mark.parametrize("way", ["cancel", "timeout", "aclose", "close"])
def test_D2_an_end_from_outside_is_never_swallowed_and_comes_at_once(
    way: str, reports: dict[str, Future[Any]], figure: Figure
) -> None:
    """A task that reads ends with CancelledError, and within 100 ms; under asyncio.timeout with TimeoutError."""
    report = reports[way].result()
    figure("D2", f"slowest end by {way} of {2 * POINTS}, ms", "<= 100", report["slowest"] * 1000)
    assert not [problem for problem in report["problems"] if "swallowed" in problem or "came out" in problem]
    # A machine that is busy with other things is not a defect.
    assert report["slowest"] <= 0.5


# -- D2 and D3: every place where a read may wait ------------------------------------------------------


class Endless:
    """A rate limiter that lets nobody through."""

    async def __aenter__(self) -> None:
        await asyncio.sleep(3_600)

    async def __aexit__(self, *_: object) -> None: ...


async def no_contacts() -> AsyncIterator[str]:
    await asyncio.sleep(3_600)
    yield "never"


async def one(np6: NP6Client, contact: str) -> None:
    async with np6.events.stream(contact) as stream:
        async for _ in stream:
            pass


async def many(np6: NP6Client, contacts: Any) -> None:
    async with np6.events.stream_many(contacts) as events:
        async for _ in events:
            pass


WAITS: dict[str, Callable[[FakeNP6], dict[str, Any]]] = {
    "a slot": lambda server: server.script(Fault.hang(), times=None) or {"concurrency": 1},
    "the end of a pause": lambda server: server.script(Fault.rate_limited(60), times=None) or {},
    "the turn in a pause": lambda server: setattr(server, "rate_limit", RateLimit(limit=0, window=60)) or {},
    "a backoff": lambda server: (
        server.script(Fault.status(503), times=None)
        or {"retry": RetryPolicy(base_delay=60, max_delay=60, random=lambda: 1.0)}
    ),
    "a Retry-After": lambda server: server.script(Fault.status(503, retry_after=60), times=None) or {},
    "a rate limiter": lambda _: {"rate_limiter": Endless()},
    "headers": lambda server: server.script(Fault.hang(), times=None) or {},
    "a body": lambda server: server.script(Fault.stall(after=400), times=None) or {},
    "a full backlog": lambda _: {"base_url": "backlog"},
    "a TLS handshake": lambda _: {"base_url": "silent"},
}


@asynccontextmanager
async def waiting(where: str) -> AsyncIterator[tuple[NP6Client, FakeNP6, list[asyncio.Task[Any]]]]:
    """A client, and tasks that wait there: a list, streams, and a bulk run."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeNP6(contacts=20, events_per_contact=5, seed=SEED))
        options = WAITS[where](server)
        if options.get("base_url") == "backlog":
            options["base_url"] = stack.enter_context(full_backlog())
        elif options.get("base_url") == "silent":
            options["base_url"] = await stack.enter_async_context(silent())
        np6 = await stack.enter_async_context(server.client(**options))
        contacts = server.contact_ids
        reads: list[Any] = [
            np6.events.list(contacts[0]),
            one(np6, contacts[1]),
            many(np6, contacts[2:]),
            one(np6, contacts[3]),
        ]
        if where not in ("a full backlog", "a TLS handshake"):
            reads.append(many(np6, no_contacts()))
        tasks = [asyncio.ensure_future(read) for read in reads]
        await asyncio.sleep(0.15)
        try:
            yield np6, server, tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=10)


@contextmanager
def full_backlog() -> Iterator[str]:
    """The URL of a port that takes no more connections: the system does not even refuse them."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """The URL of a port that takes connections and says nothing, asked for TLS."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("where", WAITS)
async def test_D2_a_read_is_cancelled_wherever_it_waits(where: str, figure: Figure) -> None:
    """For a slot, a pause, a retry, a connection, headers or a body: it ends with CancelledError at once."""
    async with waiting(where) as (np6, _, tasks):
        assert not any(task.done() for task in tasks)
        began = time.perf_counter()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=10)
        seconds = time.perf_counter() - began
        figure("D2", f"cancelled while waiting for {where}, ms", "<= 100", seconds * 1000)
        assert all(task.cancelled() for task in tasks)
        assert seconds <= 0.5
        assert np6._runtime.slots.in_use == 0
        assert not np6._runtime.lifetime._scopes


@pytest.mark.parametrize("where", WAITS)
async def test_D3_close_ends_every_read_wherever_it_waits(where: str, figure: Figure) -> None:
    """close() returns within a second, and every read in flight raises ClientClosed."""
    async with waiting(where) as (np6, server, tasks):
        assert not any(task.done() for task in tasks)
        began = time.perf_counter()
        await np6.close()
        await asyncio.wait(tasks, timeout=10)
        seconds = time.perf_counter() - began
        figure("D3", f"closed while waiting for {where}, ms", "<= 1,000", seconds * 1000)
        assert [type(task.exception()) for task in tasks] == [ClientClosed] * len(tasks)
        assert seconds <= 1.0
        for _ in range(200):
            if not server.open_connections:
                break
            await asyncio.sleep(0.005)
        assert server.open_connections == 0


async def test_D3_close_ends_a_bulk_run_whose_consumer_is_busy(figure: Figure) -> None:
    """Workers that wait for the consumer end at once; the consumer hears of it at its next step."""
    async with (
        FakeNP6(contacts=20, events_per_contact=2_000, seed=SEED) as server,
        server.client() as np6,
        np6.events.stream_many(server.contact_ids) as events,
    ):
        await anext(events)
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        await np6.close()
        for _ in range(200):
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.005)
        figure("D3", "closed while the consumer is busy, ms", "<= 1,000", (time.perf_counter() - began) * 1000)
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(ClientClosed):
            async for _ in events:
                pass


# -- D5: what waits in memory -------------------------------------------------------------------------


async def no_pause(_: int) -> None: ...


async def turn_each(_: int) -> None:
    await asyncio.sleep(0)


async def slow(_: int) -> None:
    await asyncio.sleep(0.001)


async def jerky(count: int) -> None:
    if count % 100 == 1:
        await asyncio.sleep(0.1)


async def late(count: int) -> None:
    if count == 1:
        await asyncio.sleep(0.7)


SPEEDS = {"at once": no_pause, "a turn each": turn_each, "slow": slow, "by fits and starts": jerky, "late": late}
SIZES = {"small": (200, 1_500), "of 3 KB": (3_000, 150), "of 200 KB": (200_000, 4)}
WORKERS = 8
BUFFER = 256 * 1024
PIECE = 64 * 1024  # taken of a response at a time


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("speed", SPEEDS)
async def test_D5_events_that_wait_for_the_consumer_stay_below_the_bound(speed: str, size: str, figure: Figure) -> None:
    """However slowly they are taken: 256 KiB of events wait, and for each request in flight one batch and what its
    socket gave at once."""
    filler, number = SIZES[size]
    with FakeNP6(contacts=0) as server:
        events = [make_event(filler="x" * filler) for _ in range(number)]
        contacts = [server.add_contact(f"C{n}", events) for n in range(24)]
        queued = batch_size = held = taken = count = 0
        async with (
            server.client(concurrency=WORKERS) as np6,
            np6.events.stream_many(contacts) as stream,
        ):

            def look() -> None:
                nonlocal queued, batch_size, held
                waiting = stream._buffer._queues[0].items
                items = [sum(len(event.raw) for event in getattr(item, "events", ())) for item in waiting]
                batch_size = max(batch_size, *items, 0)
                queued = max(queued, sum(items))
                held = max(held, stream.stats.bytes - taken)

            async def watch() -> None:
                while True:
                    await asyncio.sleep(0.005)
                    look()

            watcher = asyncio.ensure_future(watch())
            async for _, batch in stream.batches():
                count += 1
                look()
                taken += sum(len(event.raw) + 1 for event in batch)
                await SPEEDS[speed](count)
            watcher.cancel()
        total = stream.stats.bytes
    most_queued = BUFFER + WORKERS * (batch_size + PIECE)
    most_held = BUFFER + WORKERS * (batch_size + BUFFER)
    figure("D5", f"KiB of events that wait, {size}, taken {speed}", f"<= {most_queued // 1024}", queued // 1024)
    figure("D5", f"KiB read and not taken, {size}, taken {speed}", f"<= {most_held // 1024}", held // 1024)
    assert stream.stats.events == 24 * number
    assert queued <= most_queued
    assert held <= most_held < total


# -- D12: slots that the consumer itself holds --------------------------------------------------------


async def test_D12_slots_held_by_streams_that_nobody_reads_are_no_deadlock(figure: Figure) -> None:
    """Where the caller's own unread streams hold every slot, another read raises TimeoutExceeded(limit="pool") after
    Timeout.pool, says why, and goes through once one of them is closed."""
    async with FakeNP6(contacts=4, events_per_contact=3_000, seed=SEED) as server:
        first, second, third, fourth = server.contact_ids
        async with server.client(concurrency=2, timeout=Timeout(pool=0.4)) as np6:
            streams = [np6.events.stream(first), np6.events.stream(second)]
            for stream in streams:
                await anext(stream)
            assert np6._runtime.slots.in_use == 2
            began = time.perf_counter()
            with pytest.raises(TimeoutExceeded, match="held by streams that are open and not being read") as caught:
                async with asyncio.timeout(10):
                    await np6.events.list(third)
            seconds = time.perf_counter() - began
            figure("D12", "seconds until the pool timeout of 0.4 s", "0.4 to 1.4", seconds)
            assert caught.value.limit == "pool"
            assert 0.35 <= seconds <= 1.4
            # A bulk run has its own slots: it is not in their way, nor they in its.
            async with np6.events.stream_many([fourth]) as events:
                assert len([event async for _, event in events]) == 3_000
            await streams[0].aclose()
            assert len(await np6.events.list(third)) == 3_000
            assert len([event async for event in streams[1]]) == 2_999
            assert np6._runtime.slots.in_use == 0


async def test_D12_inside_the_loop_of_a_stream_another_read_goes_through(figure: Figure) -> None:
    """With the two slots of nested loops in use, a third read inside them gets an error; inside one it is served."""
    async with (
        FakeNP6(contacts=3, events_per_contact=2_000, seed=SEED) as server,
        server.client(concurrency=2, timeout=Timeout(pool=0.3)) as np6,
    ):
        first, second, third = server.contact_ids
        async with np6.events.stream(first) as outer:
            async for _ in outer:
                assert len(await np6.events.list(second)) == 2_000
                break
            async for _ in outer:
                async with np6.events.stream(second) as inner:
                    async for _ in inner:
                        began = time.perf_counter()
                        with pytest.raises(TimeoutExceeded) as caught:
                            await np6.events.list(third)
                        figure("D12", "seconds, in nested loops", "0.3 to 1.3", time.perf_counter() - began)
                        assert caught.value.limit == "pool"
                        break
                break
        assert len(await np6.events.list(third)) == 2_000


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.exit()
