"""`SyncWriter` with an `executor`: contacts that are lent to workers, with their progress. The workers are threads."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support import exported, synced
from support.executors import Threads
from support.sync_world import MINUTE, NOON, Clock, MemoryStore

from np6_async import (
    AuthError,
    BulkError,
    ConfigError,
    Contact,
    EndpointNotFound,
    Failure,
    InvalidInput,
    NP6Client,
    RetryPolicy,
    ServiceUnavailable,
    StoreError,
    UsageError,
)
from np6_async.export import Counts, FolderError, NoteError, SyncWriter, WorkersLost, _worker
from np6_async.export._storage import LocalStorage
from np6_async.export._sync_fleet import SyncFleet
from np6_async.sync import Sync
from np6_async.testing import FakeNP6, Fault, make_event


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNP6]:
    with FakeNP6(60, (0, 12)) as running:
        monkeypatch.setenv("NP6_API_KEY", running.api_key)  # that of the workers
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def np6(server: FakeNP6, clock: Clock) -> AsyncIterator[NP6Client]:
    async with client_of(server, clock) as client:
        yield client


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new"


def client_of(server: FakeNP6, clock: Clock) -> NP6Client:
    return NP6Client(base_url=server.url, retry=RetryPolicy(base_delay=0.001, wall_clock=clock))


def sync_of(np6: NP6Client, store: MemoryStore, contacts: Any, **options: Any) -> Sync[Any]:
    return Sync(np6, store, contacts, **({"safety": timedelta(), "overlap": timedelta(hours=1)} | options))


async def write(
    np6: NP6Client,
    store: MemoryStore,
    contacts: Any,
    folder: Path,
    executor: Threads | None,
    *,
    sync: Mapping[str, Any] | None = None,
    **options: Any,
) -> SyncWriter:
    writer = SyncWriter(folder, **({"executor": executor, "shard_size": 7} | options))
    async with sync_of(np6, store, contacts, **(sync or {})).run(autocommit=False) as run:
        await writer.write(run)
    return writer


def publish(server: FakeNP6, clock: Clock, draw: random.Random) -> None:
    """Time passes; new events, and late ones."""
    clock.now += 3 * MINUTE
    for contact in draw.sample(list(server.contact_ids), 15):
        ages = [draw.randrange(50 * MINUTE) + 1 for _ in range(draw.randint(1, 4))]
        server.add_events(contact, [make_event(at=clock.now - age) for age in ages])


def states(store: MemoryStore) -> dict[str, bytes]:
    """What is kept of contacts."""
    return {name: value for name, value in store.values.items() if not name.startswith("sync/")}


def absent(folder: Path) -> bool:
    """A folder that was created for nothing is removed."""
    return not folder.exists() and not exported.beside(folder).exists()


def left(folder: Path) -> list[Path]:
    """What lies beside the files."""
    beside = exported.beside(folder)
    return list(beside.iterdir()) if beside.exists() else []


def whole(folder: Path, server: FakeNP6) -> None:
    """Every event is there, once, and nothing is left beside the files."""
    assert synced.events(folder) == exported.truth(server, server.contact_ids)
    assert left(folder) == []


# The same as one process


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"format": "csv", "gzip": True},
        {"format": "parquet"},
        {"partition_by": ("kind", "day")},
        {"part_bytes": 2_000},
        {"personal": "hash", "personal_key": b"0123456789abcdef"},
    ],
    ids=lambda options: ",".join(options) or "as it is",
)
async def test_run_after_run_workers_write_what_one_process_writes(
    options: dict[str, Any], np6: NP6Client, server: FakeNP6, clock: Clock, tmp_path: Path
) -> None:
    """And leave the same progress behind, byte for byte."""
    draw = random.Random(5)
    fleet, alone = MemoryStore(), MemoryStore()
    executor = Threads()
    for number in range(3):
        first = await write(np6, fleet, server.contact_ids, tmp_path / "fleet", executor, name="all", **options)
        second = await write(np6, alone, server.contact_ids, tmp_path / "alone", None, name="all", **options)
        assert synced.events(tmp_path / "fleet") == synced.events(tmp_path / "alone")
        assert states(fleet) == states(alone)
        assert first.written == second.written > 0
        if "part_bytes" not in options:  # where parts end at a size, the order of arrival decides how many there are
            assert len(first.files) >= len(second.files)
        assert left(tmp_path / "fleet") == [], number
        publish(server, clock, draw)
    assert executor.calls == executor.entered * 9


async def test_names_of_files_say_the_time_the_shard_and_the_part(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    writer = await write(np6, store, server.contact_ids, folder, Threads(), name="hits/open", part_bytes=2_000)
    names = [Path(file).name.split("-") for file in writer.files]
    assert {tuple(name[:3]) for name in names} == {("hits", "open", "20260101T120000.000Z")}
    assert {int(name[3]) for name in names} == set(range(1, 10))
    assert max(int(name[4]) for name in names) > 1
    assert len({name[5] for name in names}) == 9


async def test_whoever_goes_on_delivers_what_is_new(
    np6: NP6Client, server: FakeNP6, clock: Clock, store: MemoryStore, folder: Path
) -> None:
    """A fleet and one process, in turn, with one state."""
    draw = random.Random(8)
    for number in range(5):
        await write(np6, store, server.contact_ids, folder, Threads() if number % 2 else None)
        publish(server, clock, draw)
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


async def test_a_run_without_news_writes_no_file_and_asks_for_the_overlap_alone(
    np6: NP6Client, server: FakeNP6, clock: Clock, store: MemoryStore, folder: Path
) -> None:
    await write(np6, store, server.contact_ids, folder, Threads())
    asked, before = server.request_count, synced.files(folder)
    clock.now += MINUTE
    writer = await write(np6, store, server.contact_ids, folder, Threads())
    assert (writer.files, writer.written) == ([], 0)
    assert synced.files(folder) == before
    assert {request.query["start"] for request in server.requests[asked:]} == {"2026-01-01T11:00:00.000Z"}


async def test_a_start_before_now_is_one_time_for_all_workers(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    await write(np6, store, server.contact_ids, folder, Threads(), sync={"start": timedelta(days=30)})
    assert {request.query["start"] for request in server.requests} == {"2025-12-02T12:00:00.000Z"}
    assert {request.query["end"] for request in server.requests} == {"2026-01-01T12:00:00.000Z"}


async def test_a_contact_that_is_named_twice_is_delivered_once(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    """Whether a worker has it just then, or has had it."""
    ids = [each for contact in server.contact_ids for each in (contact, contact)]
    await write(np6, store, ids + ids, folder, Threads(), shard_size=5)
    whole(folder, server)
    assert server.request_count == len(server.contact_ids)


@pytest.mark.slow
async def test_contacts_are_read_when_a_worker_is_about_to_need_them(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    for number in range(1_440):
        server.add_contact(f"C{number:04d}", [make_event(at=NOON - MINUTE)])
    read = done = most = 0

    def ids() -> Iterator[str]:
        nonlocal read, most
        for contact in server.contact_ids:
            read += 1
            most = max(most, read - done)
            yield contact

    def progress(counts: Counts) -> None:
        nonlocal done
        done = counts.done

    await write(np6, store, ids(), folder, Threads(2), shard_size=50, on_progress=progress)
    whole(folder, server)
    assert most <= 500 + 50 * 9  # what is read ahead, two that are fetched, and what is back and being recorded


# Accidents


async def test_a_shard_that_is_fetched_twice_counts_once(
    np6: NP6Client, server: FakeNP6, clock: Clock, store: MemoryStore, folder: Path
) -> None:
    """As where a worker was thought dead, and goes on."""
    draw = random.Random(2)
    for _ in range(3):
        await write(np6, store, server.contact_ids, folder, Threads(twice=lambda _: True), part_bytes=2_000)
        whole(folder, server)
        publish(server, clock, draw)


async def test_workers_that_are_lost_lose_nothing_and_double_nothing(
    np6: NP6Client, server: FakeNP6, clock: Clock, store: MemoryStore, folder: Path
) -> None:
    draw = random.Random(11)
    lost = 0
    for _ in range(12):
        executor = Threads(lost=lambda _: draw.random() < 0.15, twice=lambda _: draw.random() < 0.3)
        try:
            await write(np6, store, server.contact_ids, folder, executor, shard_size=draw.choice([4, 9, 40]))
        except WorkersLost:
            lost += 1
        assert not synced.events(folder) - exported.truth(server, server.contact_ids)
        publish(server, clock, draw)
    assert lost > 3
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


class Gone(BaseException):
    """A process was killed: nothing that it does afterwards has an effect."""


class Killed:
    """Counts what changes the disk or the state, and kills before or after the call of a number."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.at = 0
        self.after = False

    def call(self, what: str) -> None:
        self.calls.append(what)
        if self.at and len(self.calls) >= self.at + self.after:
            raise Gone

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("hold", "write", "release", "remove_other"):
            true = getattr(LocalStorage, name)

            def counted(storage: LocalStorage, *args: Any, name: str = name, true: Any = true) -> Any:
                self.call(name)
                done = true(storage, *args)
                if self.at and self.after and len(self.calls) == self.at:
                    raise Gone
                return done

            monkeypatch.setattr(LocalStorage, name, counted)

    def store(self, values: dict[str, bytes]) -> MemoryStore:
        killed = self

        class Store(MemoryStore):
            async def write(self, values: Mapping[str, bytes]) -> None:
                killed.call("note" if "sync/note" in values else "state")
                await super().write(values)
                if killed.at and killed.after and len(killed.calls) == killed.at:
                    raise Gone

        return Store(values)


@pytest.mark.slow
@pytest.mark.parametrize("partition_by", [(), ("kind",)])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_nothing_is_missing_and_nothing_twice(
    *, after: bool, partition_by: Any, server: FakeNP6, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before and after each change of the disk and of the state, by the coordinator and by workers; what goes on is a
    fleet or one process."""
    ids = server.contact_ids
    truth = exported.truth(server, ids)
    killed = Killed()
    killed.patch(monkeypatch)

    def run(values: dict[str, bytes], folder: Path, executor: Threads | None) -> None:
        async def main() -> None:
            async with client_of(server, clock) as np6:
                store = killed.store(values)
                await write(np6, store, ids, folder, executor, shard_size=20, partition_by=partition_by)

        asyncio.run(main())  # it waits for the threads of workers

    run({}, tmp_path / "whole", Threads())
    steps, seen = len(killed.calls), Counter(killed.calls)
    assert seen["hold"] >= 3
    assert seen["release"] >= 3
    for at in range(1, steps + 1):
        values: dict[str, bytes] = {}
        folder = tmp_path / f"out-{at}"
        killed.calls, killed.at, killed.after = [], at, after
        try:
            run(values, folder, Threads())
        except Gone:
            pass
        else:
            assert len(killed.calls) < at + after  # this time more shards were recorded at once
        killed.calls, killed.at = [], 0
        if folder.exists():
            assert not synced.events(folder) - truth
        run(values, folder, Threads() if at % 2 else None)
        assert synced.events(folder) == truth, (at, after)
        assert left(folder) == [], (at, after)


async def test_a_state_that_cannot_be_written_ends_the_run_and_no_file_of_it_counts(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    store.die(after=2)  # its query and its note
    with pytest.raises(StoreError, match="killed"):
        await write(np6, store, server.contact_ids, folder, Threads())
    assert absent(folder)
    store.die(after=1_000)
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


async def test_a_file_that_this_process_does_not_see_does_not_count(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each machine has a folder of its own by that name."""
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "has_other", lambda *_: False)
        with pytest.raises(FolderError, match="does not have what a worker has written there"):
            await write(np6, store, server.contact_ids, folder, Threads())
    assert states(store) == {}
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


async def test_a_file_that_vanishes_when_it_was_noted_is_missed(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that follows says which one: it is not taken for delivered."""
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "release", lambda *_: False)
        with pytest.raises(NoteError, match="neither there nor in the folder"):
            await write(np6, store, server.contact_ids, folder, Threads(1), shard_size=60)
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


# Failures


async def test_contacts_that_fail_in_workers_go_on_in_the_next_run(
    server: FakeNP6, clock: Clock, store: MemoryStore, folder: Path
) -> None:
    """What was delivered of them before counts."""
    broken = server.add_contact("BROKEN", [make_event(at=NOON - MINUTE - number) for number in range(300)])
    server.script(Fault.cut(after=60_000), contact=broken)
    server.script(Fault.status(404), contact=server.contact_ids[30])
    contacts = [*server.contact_ids, "no/id"]
    async with (
        NP6Client(base_url=server.url, retry=RetryPolicy(max_attempts=1, wall_clock=clock)) as np6,
        sync_of(np6, store, contacts).run(autocommit=False) as run,
    ):
        await SyncWriter(folder, executor=Threads(), shard_size=7).write(run)
    assert (run.stats.done, run.stats.failed) == (59, 3)
    assert {str(failure.contact) for failure in run.failures} == {"BROKEN", server.contact_ids[30], "no/id"}
    assert all(failure.error.contact == failure.contact for failure in run.failures)
    assert 0 < sum(key[0] == broken for key in synced.events(folder)) < 300
    async with client_of(server, clock) as np6:
        await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


@pytest.mark.parametrize("policy", ["collect", "skip", "callable", "coroutine"])
async def test_on_error_is_asked_about_each_failure(
    policy: str, np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    """One at a time, as without an executor."""
    bad = [server.contact_ids[number] for number in (3, 20, 21, 50)]
    for contact in bad:
        server.script(Fault.status(404), contact=contact)
    asked: list[str] = []
    at_once = 0

    def decide(failure: Failure) -> Any:
        asked.append(str(failure.contact))
        return "collect" if failure.contact == bad[0] else "skip"

    async def decide_later(failure: Failure) -> Any:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        await asyncio.sleep(0)
        at_once -= 1
        return decide(failure)

    on_error: Any = {"callable": decide, "coroutine": decide_later}.get(policy, policy)
    async with sync_of(np6, store, server.contact_ids, on_error=on_error).run(autocommit=False) as run:
        await SyncWriter(folder, executor=Threads(), shard_size=7).write(run)
    assert (run.stats.done, run.stats.failed) == (56, 4)
    assert len(run.failures) == {"collect": 4, "skip": 0}.get(policy, 1)
    if callable(on_error):
        assert sorted(asked) == sorted(bad)
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


@pytest.mark.parametrize("invalid", [False, True], ids=["in a worker", "not valid"])
async def test_on_error_raise_ends_the_run_with_what_is_whole(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path, *, invalid: bool
) -> None:
    ids = list(server.contact_ids)
    if invalid:
        ids[20] = "no/id"
    else:
        server.script(Fault.status(404), contact=ids[20])
        server.script(Fault.status(404), contact=ids[21])
    async with sync_of(np6, store, ids, on_error="raise").run(autocommit=False) as run:
        writer = SyncWriter(folder, executor=Threads(1), shard_size=7)
        with pytest.raises(BulkError) as raised:
            await writer.write(run)
    assert [error.contact for error in raised.value.exceptions] == [ids[20]]
    assert run.stats.failed == 1
    if not invalid:
        assert synced.events(folder).total() == writer.written > 0
    server.reset()
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


@pytest.mark.parametrize("where", ["on_error", "on_progress", "contacts"])
async def test_what_a_caller_raises_ends_the_run_with_what_is_whole(
    where: str, np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    def fail(_: object) -> None:
        raise LookupError(where)

    def ids() -> Iterator[str]:
        yield from server.contact_ids
        if where == "contacts":
            fail(None)

    server.script(Fault.status(404), contact=server.contact_ids[20])
    with pytest.raises(LookupError, match=where):
        await write(
            np6,
            store,
            ids(),
            folder,
            Threads(2),
            sync={"on_error": fail if where == "on_error" else "collect"},
            on_progress=fail if where == "on_progress" else None,
        )
    assert states(store) or where == "contacts"
    assert not synced.events(folder) - exported.truth(server, server.contact_ids)
    server.reset()
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


async def test_what_ends_one_worker_ends_the_run_and_the_others_keep_what_is_whole(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    server.script(Fault.status(401), contact=server.contact_ids[40])
    with pytest.raises(AuthError):
        await write(np6, store, server.contact_ids, folder, Threads())
    assert states(store)
    assert left(folder) == []
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


async def test_an_outage_ends_the_run_and_no_contact_fails(
    server: FakeNP6, clock: Clock, store: MemoryStore, folder: Path
) -> None:
    policy = RetryPolicy(base_delay=0.001, outage=0, wall_clock=clock)
    async with NP6Client(base_url=server.url, retry=policy) as np6:
        server.script(Fault.status(503), skip=30, times=None)
        async with sync_of(np6, store, server.contact_ids).run(autocommit=False) as run:
            with pytest.raises(ServiceUnavailable):
                await SyncWriter(folder, executor=Threads(), shard_size=7).write(run)
        assert run.stats.failed == 0
        server.reset()
    async with client_of(server, clock) as np6:
        await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


async def test_unknown_contacts_at_the_beginning_of_a_shard_are_no_wrong_address(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    """Those at the beginning of the run are, as without an executor."""
    unknown = [f"GONE{number}" for number in range(25)]
    async with sync_of(np6, store, [*server.contact_ids, *unknown]).run(autocommit=False) as run:
        await SyncWriter(folder, executor=Threads(), shard_size=30).write(run)
    assert (run.stats.done, run.stats.failed) == (60, 25)
    whole(folder, server)
    async with sync_of(np6, store, unknown * 2 + list(server.contact_ids)).run(autocommit=False) as run:
        with pytest.raises(EndpointNotFound):
            await SyncWriter(folder, executor=Threads(1), shard_size=30).write(run)


async def test_a_damaged_state_is_named_as_that(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    await write(np6, store, server.contact_ids, folder, Threads())
    store.values[f"id:{server.contact_ids[5]}"] = b"?"
    with pytest.raises(StoreError, match="the state of a contact is damaged"):
        await write(np6, store, server.contact_ids, folder, Threads())


# Ends


async def test_a_fleet_that_is_stopped_keeps_what_is_whole(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    """Workers end in the middle of their shards; the rest of each is fetched by the next run."""
    async with sync_of(np6, store, server.contact_ids, concurrency=1).run(autocommit=False) as run:
        task = asyncio.create_task(SyncWriter(folder, executor=Threads(2), shard_size=25).write(run))
        while server.request_count < 10:
            await asyncio.sleep(0)
        run.stop()
        await task
    done = run.stats.done
    assert 0 < done < 60
    assert len(states(store)) == done
    assert left(folder) == []
    asked = server.request_count
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)
    assert server.request_count - asked == 60 - done


async def test_a_stop_keeps_what_is_done_where_a_contact_in_flight_does_not_end(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left to the next run; the others of its shard are not."""
    monkeypatch.setattr(_worker, "_STOP_SECONDS", 0.0)
    server.script(Fault.stall(after=0), contact=server.contact_ids[2])
    async with sync_of(np6, store, server.contact_ids).run(autocommit=False) as run:
        task = asyncio.create_task(SyncWriter(folder, executor=Threads(1), shard_size=25).write(run))
        while server.request_count < 25:
            await asyncio.sleep(0)
        run.stop()
        await task
    assert run.stats.done > 0
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


async def test_a_run_that_is_stopped_before_it_begins_asks_for_nothing(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    async with sync_of(np6, store, server.contact_ids).run(autocommit=False) as run:
        run.stop()
        assert await SyncWriter(folder, executor=Threads()).write(run) == []
        run.stop()
    assert server.request_count == 0


async def test_a_cancelled_fleet_can_be_resumed(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    task = asyncio.create_task(write(np6, store, server.contact_ids, folder, Threads(1)))
    while server.request_count < 20:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await write(np6, store, server.contact_ids, folder, Threads())
    whole(folder, server)


# Counts


async def test_a_sync_of_workers_shows_how_far_they_are(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    """The counts never fall, and end at what is in the files."""
    seen: list[Counts] = []
    server.script(Fault.status(503), skip=5)
    server.script(Fault.status(503), skip=25)
    writer = await write(np6, store, server.contact_ids, folder, Threads(), shard_size=20, on_progress=seen.append)
    for name in ("done", "events", "retries"):
        numbers = [getattr(counts, name) for counts in seen]
        assert numbers == sorted(numbers)
    assert seen[0].done < 60
    assert seen[-1] == Counts(60, 0, writer.written, retries=2)


async def test_one_process_counts_what_it_sends_again(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    seen: list[Counts] = []
    server.script(Fault.status(503), skip=5)
    await write(np6, store, server.contact_ids, folder, None, on_progress=seen.append)
    assert seen[-1].retries == 1


async def test_a_run_whose_clock_is_ahead_ends_at_the_servers_time(
    server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    """That of the workers' responses: nothing is called delivered that is yet to be published."""
    ahead = Clock(4_102_444_800_000)  # 2100-01-01
    async with (
        client_of(server, ahead) as np6,
        sync_of(np6, store, server.contact_ids).run(autocommit=False) as run,
    ):
        assert run.end == ahead.now
        writer = SyncWriter(folder, executor=Threads(), shard_size=7)
        await writer.write(run)
        assert run.end < ahead.now
    assert not any("2100" in Path(file).name for file in writer.files)
    whole(folder, server)


# Refusals


async def test_a_worker_with_another_api_key_is_refused(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write the events of another account."""
    monkeypatch.setenv("NP6_API_KEY", "another")
    with pytest.raises(ConfigError, match="a worker has another API key"):
        await write(np6, store, server.contact_ids, folder, Threads())
    monkeypatch.delenv("NP6_API_KEY")
    with pytest.raises(ConfigError, match="no API key"):
        await write(np6, store, server.contact_ids, folder, Threads())
    assert states(store) == {}
    assert absent(folder)


@pytest.mark.parametrize("subjects", [{"account": True}, {"actions": ["A1"]}])
async def test_events_of_actions_are_for_one_process(
    subjects: dict[str, Any], np6: NP6Client, store: MemoryStore, folder: Path
) -> None:
    async with Sync(np6, store, **subjects).run(autocommit=False) as run:
        with pytest.raises(InvalidInput, match="executor= is for contacts: the events of actions are one response"):
            await SyncWriter(folder, executor=Threads()).write(run)
    assert absent(folder)


async def test_a_client_that_cannot_be_made_elsewhere_is_refused(store: MemoryStore, folder: Path) -> None:
    async with (
        NP6Client("key", base_url="http://127.0.0.1:1", retry=RetryPolicy(random=lambda: 0.5)) as np6,
        sync_of(np6, store, ["A"]).run(autocommit=False) as run,
    ):
        with pytest.raises(InvalidInput, match="cannot have the retry of this one: it cannot be pickled"):
            await SyncWriter(folder, executor=Threads()).write(run)
    assert absent(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": object()}, "executor must be an Executor"),
        ({"executor": Threads}, "executor must be an Executor"),
        ({"shard_size": 0}, "shard_size must be a whole number of contacts from 1"),
    ],
)
def test_what_is_no_executor_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        SyncWriter("new", **({"executor": Threads()} | options))


async def test_a_run_is_read_or_lent_and_not_both(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, folder: Path
) -> None:
    sync = sync_of(np6, store, server.contact_ids)
    async with sync.run(autocommit=False) as run:
        await anext(run.batches())
        with pytest.raises(UsageError, match="this run is being read"):
            await SyncWriter(folder, executor=Threads()).write(run)
    async with sync.run(autocommit=False) as run:
        await SyncWriter(folder, executor=Threads()).write(run)
        with pytest.raises(UsageError, match="the contacts of this run are fetched by workers"):
            await anext(run.batches())


async def test_a_shard_shows_neither_contacts_nor_keys(
    store: MemoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    async def show(fleet: SyncFleet) -> None:
        loan = await fleet.lending.lend(5)
        shown.extend(map(repr, (fleet.shard, fleet.lending, loan, fleet)))
        shown.append(fleet.name)

    monkeypatch.setattr(SyncFleet, "fill", show)
    async with NP6Client("canary-key", base_url="http://127.0.0.1:1") as np6:
        contacts = ["CANARY", Contact.by_unicity("canary@example.com")]
        async with sync_of(np6, store, contacts).run(autocommit=False) as run:
            options: dict[str, Any] = {"personal": "hash", "personal_key": b"canary-personal-key"}
            await SyncWriter(folder, executor=Threads(), **options).write(run)
    assert len(shown) == 5
    assert "canary" not in " ".join(shown).lower()
