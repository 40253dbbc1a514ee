"""Runs of a sync, on real sockets: each event once, whatever comes between two runs and however they end."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.sync_world import MINUTE, NOON, SECOND, Clock, MemoryStore, key, taken, truth

from np6_async import (
    AuthError,
    BulkError,
    ClientClosed,
    Contact,
    InvalidBound,
    InvalidContact,
    InvalidInput,
    NotFound,
    NP6Client,
    OrderError,
    RetryPolicy,
    StoreError,
    StreamInterrupted,
    UsageError,
)
from np6_async.sync import SQLiteStore, Store, Sync
from np6_async.testing import FakeNP6, Fault, make_event, make_hit


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=0) as server:
        for number in range(4):
            times = [NOON - 60 * MINUTE, *[NOON - 10 * MINUTE] * 3, NOON - 3 * MINUTE, NOON - MINUTE]
            server.add_contact(f"C{number}", [make_hit(at=at) for at in times])
        yield server


def hits(*times: int) -> list[Any]:
    return [make_hit(at=at) for at in times]


def asked(server: FakeNP6, contact: str) -> list[tuple[str | None, str | None]]:
    """The windows of the requests for a contact."""
    return [
        (request.query.get("start"), request.query.get("end"))
        for request in server.requests
        if request.path.split("/")[2] == contact
    ]


async def test_two_runs_with_new_and_late_events_between_them_deliver_each_event_once(
    server: FakeNP6, clock: Clock, np6: NP6Client, store: Store
) -> None:
    """New ones, late ones of the overlap and of the very times of earlier ones."""
    sync = Sync(np6, store, server.contact_ids)
    first = await taken(sync.run())
    assert first == truth(server, NOON - 2 * MINUTE)
    clock.now += 10 * MINUTE
    late = [NOON - 3 * MINUTE, NOON - 3 * MINUTE, NOON - 6 * MINUTE, NOON - 7 * MINUTE]
    for contact in ("C0", "C2"):
        server.add_events(contact, hits(*late, NOON, NOON + MINUTE, NOON + 7 * MINUTE, NOON + 8 * MINUTE))
    second = await taken(sync.run())
    assert first + second == truth(server, NOON + 8 * MINUTE)
    assert second.total() == 4 + 2 * (4 + 3)
    assert not await taken(sync.run())


async def test_a_run_requests_events_from_the_overlap_on_up_to_safety_before_now(
    server: FakeNP6, clock: Clock, np6: NP6Client
) -> None:
    """The first time from `start` on, or from the beginning."""
    overlap, safety = timedelta(minutes=7), timedelta(minutes=1)
    sync = Sync(np6, MemoryStore(), ["C0"], overlap=overlap, safety=safety)
    from_noon = Sync(np6, MemoryStore(), ["C1"], overlap=overlap, safety=safety, start=timedelta(hours=12))
    for _ in range(2):
        await taken(sync.run())
        await taken(from_noon.run())
        clock.now += 30 * MINUTE
    ends = ["2026-01-01T11:59:00.000Z", "2026-01-01T12:29:00.000Z"]
    assert asked(server, "C0") == [(None, ends[0]), ("2026-01-01T11:52:00.000Z", ends[1])]
    assert asked(server, "C1") == [("2026-01-01T00:00:00.000Z", ends[0]), ("2026-01-01T11:52:00.000Z", ends[1])]


async def test_a_run_right_after_another_requests_nothing(server: FakeNP6, np6: NP6Client) -> None:
    """There is nothing that may be there already."""
    sync = Sync(np6, MemoryStore(), server.contact_ids)
    await taken(sync.run())
    server.reset()
    assert not await taken(sync.run())
    assert server.request_count == 0


async def test_a_contact_that_is_added_later_gets_its_whole_history(
    server: FakeNP6, clock: Clock, np6: NP6Client, store: Store
) -> None:
    first = await taken(Sync(np6, store, ["C0", "C1"]).run())
    clock.now += MINUTE
    second = await taken(Sync(np6, store, ["C0", "C1", "C2", "C3"]).run())
    assert first + second == truth(server, NOON - MINUTE)


async def test_before_a_start_in_the_future_nothing_is_requested(
    clock: Clock, server: FakeNP6, np6: NP6Client, store: Store
) -> None:
    sync = Sync(np6, store, ["C0"], start="2026-01-01T13:00Z")
    assert not await taken(sync.run())
    assert server.request_count == 0
    server.add_contact("C0", [make_event(at=NOON + minute * MINUTE) for minute in (-1, 59, 60, 61)])
    clock.now += 90 * MINUTE
    assert [at for _, (at, _) in await taken(sync.run())] == [NOON + 60 * MINUTE, NOON + 61 * MINUTE]


@pytest.mark.slow
async def test_a_contact_that_failed_before_it_is_named_again_is_tried_again(
    server: FakeNP6, np6: NP6Client, store: Store
) -> None:
    """The progress it made before is not made twice."""
    server.script(Fault.status(400), contact="C0")
    others = [f"X{number}" for number in range(1_000)]
    for other in others:
        server.add_contact(other, [])
    async with Sync(np6, store, ["C0", *others, "C0"], concurrency=1).run() as run:
        seen = [event.id async for _, events in run.batches() for event in events]
    assert [failure.contact for failure in run.failures] == ["C0"]
    before = NOON - 2 * MINUTE
    assert sorted(seen) == sorted(event["id"] for event in server.events("C0") if event["timestamp"] < before)


async def test_events_without_an_id_are_counted(clock: Clock, store: Store) -> None:
    """Equal ones of one time are one more or one less, also where one of them comes late."""
    same: Any = {"type": "hit", "timestamp": NOON - 4 * MINUTE}
    async with FakeNP6(contacts=0) as server, clock.client(server) as np6:
        server.add_contact("A", [same, same, {**same, "id": ""}, *hits(NOON - 4 * MINUTE)])
        sync = Sync(np6, store, ["A"])
        first = await taken(sync.run())
        assert first == truth(server)
        clock.now += MINUTE
        assert not await taken(sync.run())
        server.add_events("A", [same])
        clock.now += MINUTE
        assert first + await taken(sync.run()) == truth(server)


@pytest.mark.parametrize("cut", [1_500, 2_300, 2_900])
async def test_a_contact_that_failed_resumes_after_what_was_written(
    server: FakeNP6, clock: Clock, np6: NP6Client, store: Store, cut: int
) -> None:
    """Cut between its events or among those of one time; a late event before the cut comes as well."""
    server.script(Fault.cut(after=cut), contact="C1")
    sync = Sync(np6, store, server.contact_ids)
    async with sync.run() as run:
        first = Counter([("C1", key(e)) async for c, events in run.batches() if c == "C1" for e in events])
        assert [(failure.contact, type(failure.error)) for failure in run.failures] == [("C1", StreamInterrupted)]
        assert run.stats.failed == 1
    assert 0 < first.total() < 5
    clock.now += MINUTE
    server.add_events("C1", hits(NOON - 11 * MINUTE))
    second = await taken(sync.run())
    wanted = Counter({what: n for what, n in truth(server, NOON - MINUTE).items() if what[0] == "C1"})
    assert first + Counter({what: n for what, n in second.items() if what[0] == "C1"}) == wanted


async def test_a_contact_that_is_unknown_gets_everything_once_it_is_known(
    server: FakeNP6, clock: Clock, np6: NP6Client, store: Store
) -> None:
    sync = Sync(np6, store, ["C0", "NEW"])
    async with sync.run() as run:
        got = [str(contact) async for contact, _ in run.batches()]
        assert set(got) == {"C0"}
        assert [type(failure.error) for failure in run.failures] == [NotFound]
    server.add_contact("NEW", hits(NOON - 600 * MINUTE, NOON - MINUTE))
    clock.now += MINUTE
    assert (await taken(sync.run()))["NEW", key_of(server, "NEW", 0)] == 1


def key_of(server: FakeNP6, contact: str, index: int) -> tuple[int, Any]:
    event = server.events(contact)[index]
    return event["timestamp"], event["id"]


@pytest.mark.slow
async def test_a_contact_named_twice_in_any_way_is_fetched_once(server: FakeNP6, np6: NP6Client, store: Store) -> None:
    """Also where it comes again after its state was written: a thousand contacts later."""
    many = [f"N{number}" for number in range(1_100)]
    for contact in many:
        server.add_contact(contact)
    contacts = ["C0", Contact.by_id("C0"), "C1", "C1", *many, "C0"]
    assert await taken(Sync(np6, store, contacts).run()) == Counter(
        {what: n for what, n in truth(server, NOON - 2 * MINUTE).items() if what[0] in ("C0", "C1")}
    )
    assert server.request_count == 2 + len(many)


async def test_contacts_of_the_same_value_and_another_kind_are_others(
    server: FakeNP6, np6: NP6Client, store: Store
) -> None:
    name = server.unicity("C0")
    contacts = [Contact.by_unicity(name), Contact.by_hash(server.hash("C0")), "C0"]
    got: Counter[Any] = Counter()
    async with Sync(np6, store, contacts).run() as run:
        async for contact, events in run.batches():
            got[contact] += len(events)
    assert got == dict.fromkeys(contacts, 5)


async def test_anything_but_a_contact_is_a_failure(np6: NP6Client, store: Store) -> None:
    async with Sync(np6, store, ["C0", "a/b", 7]).run() as run:  # type: ignore[list-item]
        async for _ in run.batches():
            pass
        assert [type(failure.error) for failure in run.failures] == [InvalidContact] * 2


async def test_the_states_of_contacts_are_read_many_at_a_time(server: FakeNP6) -> None:
    store = MemoryStore()
    contacts = [f"N{number}" for number in range(1_200)]
    for contact in contacts:
        server.add_contact(contact)
    stopped = RetryPolicy(clock=lambda: 0.0)  # or more is written, about every second
    async with server.client(retry=stopped) as np6, Sync(np6, store, contacts, concurrency=8).run() as run:
        async for _ in run.batches():
            pass
    assert [len(names) for names in store.reads] == [2, 500, 500, 200]
    assert store.writes <= 5
    assert len(store.values) == 1_201


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_contacts_are_read_again_in_each_run(
    server: FakeNP6, clock: Clock, np6: NP6Client, asynchronous: bool
) -> None:
    class Given:
        def __iter__(self) -> Iterator[str]:
            return iter(server.contact_ids)

    class GivenLater:
        async def __aiter__(self) -> AsyncIterator[str]:
            for contact in server.contact_ids:
                yield contact

    sync = Sync(np6, MemoryStore(), GivenLater() if asynchronous else Given())
    got = await taken(sync.run())
    clock.now += MINUTE
    assert got + await taken(sync.run()) == truth(server, NOON - MINUTE)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_iterator_of_contacts_works_for_one_run_only(
    server: FakeNP6, np6: NP6Client, store: Store, asynchronous: bool
) -> None:
    """A second one would find nothing, and says so. Another Sync continues with the state."""
    contacts: Any = np6.segments.contacts(1) if asynchronous else iter(server.contact_ids)
    sync = Sync(np6, store, contacts)
    assert await taken(sync.run()) == truth(server, NOON - 2 * MINUTE)
    with pytest.raises(UsageError, match="iterator"):
        await taken(sync.run())
    assert not await taken(Sync(np6, store, np6.segments.contacts(1)).run())


# -- how a run ends ----------------------------------------------------------------------------------


async def test_a_batch_counts_as_written_when_the_next_one_is_requested(
    server: FakeNP6, np6: NP6Client, store: Store
) -> None:
    """After a break or an exception the last one is delivered again, and no other."""
    sync = Sync(np6, store, server.contact_ids)
    got: Counter[Any] = Counter()
    for leave in (True, False):
        with nullcontext() if leave else pytest.raises(ZeroDivisionError):
            async with sync.run() as run:
                written = 0
                async for contact, events in run.batches():
                    if written == 1:
                        if leave:
                            break
                        raise ZeroDivisionError
                    got.update((contact, key(event)) for event in events)
                    written += 1
    assert got + await taken(sync.run()) == truth(server, NOON - 2 * MINUTE)


async def test_commit_before_a_break_confirms_the_last_batch(server: FakeNP6, np6: NP6Client, store: Store) -> None:
    sync = Sync(np6, store, server.contact_ids)
    got: Counter[Any] = Counter()
    async with sync.run() as run:
        async for contact, events in run.batches():
            got.update((contact, key(event)) for event in events)
            await run.commit()
            break
    assert got.total() >= 1
    assert got + await taken(sync.run()) == truth(server, NOON - 2 * MINUTE)


@pytest.mark.slow
@pytest.mark.parametrize("at", range(12))
async def test_a_cancelled_run_loses_nothing_and_doubles_nothing(
    server: FakeNP6, np6: NP6Client, tmp_path: Path, at: int
) -> None:
    """Cancelled at any await, as by SIGTERM; nothing is left over."""
    # A consumer that awaits before it writes: cancelled there, it has not written.
    got: Counter[Any] = Counter()
    steps = 0
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), server.contact_ids, concurrency=2)
    task: asyncio.Task[None]

    async def consume() -> None:
        nonlocal steps
        async with sync.run() as run:
            async for contact, events in run.batches():
                steps += 1
                if steps == at // 3 + 1:
                    if at % 3 == 0:
                        task.cancel()  # met at the next await: here, or while the next batch is waited for
                    if at % 3 == 1:
                        asyncio.get_running_loop().call_soon(task.cancel)
                    if at % 3 == 2:
                        asyncio.get_running_loop().call_later(
                            0, lambda: asyncio.get_running_loop().call_soon(task.cancel)
                        )
                    if at % 2:
                        await asyncio.sleep(0)
                got.update((contact, key(event)) for event in events)

    threads = threading.active_count()
    task = asyncio.create_task(consume())
    await asyncio.wait([task])
    assert task.cancelled()
    assert threading.active_count() == threads
    assert len(asyncio.all_tasks()) == 1
    assert got + await taken(sync.run()) == truth(server, NOON - 2 * MINUTE)
    gc.collect()


async def test_without_autocommit_events_are_delivered_again_until_they_are_committed(
    server: FakeNP6, clock: Clock, np6: NP6Client, store: Store
) -> None:
    """All of them, even where the run ends by itself; contacts without new events need no commit."""
    sync = Sync(np6, store, server.contact_ids)
    wanted = truth(server, NOON - 2 * MINUTE)
    assert await taken(sync.run(autocommit=False)) == wanted
    async with sync.run(autocommit=False) as run:
        got = Counter([(contact, key(event)) async for contact, events in run.batches() for event in events])
        await run.commit()
    assert got == wanted
    clock.now += 6 * SECOND
    assert not await taken(sync.run(autocommit=False))
    server.reset()
    assert not await taken(sync.run())
    assert server.request_count == 0


async def test_the_note_is_kept_with_the_progress(server: FakeNP6, np6: NP6Client, store: Store) -> None:
    sync = Sync(np6, store, server.contact_ids)
    async with sync.run(autocommit=False) as run:
        assert run.note is None
        async for _ in run.batches():
            pass
        await run.commit("part-000001")
        await run.commit()
        assert run.note == "part-000001"
    async with sync.run(autocommit=False) as run:
        assert run.note == "part-000001"
        await run.commit(note="pärt-2")
    async with sync.run() as run:
        assert run.note == "pärt-2"
        assert [batch async for batch in run.batches()] == []


async def test_a_commit_that_fails_commits_nothing(server: FakeNP6, np6: NP6Client) -> None:
    """Neither then nor when the run ends: the sink's file is not named by the note."""
    store = MemoryStore()
    with pytest.raises(StoreError):
        async with Sync(np6, store, server.contact_ids).run(autocommit=False) as run:
            async for _ in run.batches():
                store.die()
                await run.commit("part-000001")
    store = MemoryStore(store.values)
    async with Sync(np6, store, server.contact_ids).run() as run:
        assert run.note is None
        got = Counter([(contact, key(event)) async for contact, events in run.batches() for event in events])
    assert got == truth(server, NOON - 2 * MINUTE)


async def test_a_refused_key_ends_the_run_and_what_was_written_stays(
    server: FakeNP6, clock: Clock, np6: NP6Client, store: Store
) -> None:
    sync = Sync(np6, store, server.contact_ids, concurrency=1)
    got: Counter[Any] = Counter()
    server.script(Fault.status(401), contact="C2")
    with pytest.raises(AuthError):
        async with sync.run() as run:
            async for contact, events in run.batches():
                got.update((contact, key(event)) for event in events)
    assert {contact for contact, _ in got} == {"C0", "C1"}
    assert got + await taken(sync.run()) == truth(server, NOON - 2 * MINUTE)


async def test_on_error_raise_ends_the_run_at_the_first_failure(server: FakeNP6, np6: NP6Client, store: Store) -> None:
    server.script(Fault.status(400), contact="C0")
    got: Counter[Any] = Counter()
    sync = Sync(np6, store, server.contact_ids, on_error="raise", concurrency=1)
    with pytest.raises(BulkError):
        async with sync.run() as run:
            async for contact, events in run.batches():
                got.update((contact, key(event)) for event in events)
    assert got + await taken(sync.run()) == truth(server, NOON - 2 * MINUTE)


async def test_a_server_that_breaks_the_order_makes_the_contact_fail(
    server: FakeNP6, np6: NP6Client, store: Store
) -> None:
    server.set_raw("C0", b'[{"id":"a","timestamp":2,"type":"hit"},{"id":"b","timestamp":1,"type":"hit"}]')
    async with Sync(np6, store, ["C0"]).run() as run:
        assert [batch async for batch in run.batches()] == []
        assert [type(failure.error) for failure in run.failures] == [OrderError]


@pytest.mark.slow
async def test_faults_on_a_third_of_the_requests_change_nothing(clock: Clock, store: Store) -> None:
    """With retries as usual: two runs, each event once."""
    async with FakeNP6(contacts=150, events_per_contact=(0, 12), chunk_size=1_024) as server:
        server.fault_rate(0.35, [Fault.cut(), Fault.status(500), Fault.drop(), Fault.html()])
        async with clock.client(server, max_attempts=30, max_protocol_attempts=30, base_delay=0) as np6:
            sync = Sync(np6, store, server.contact_ids)
            got = await taken(sync.run())
            for contact in server.contact_ids[:50]:
                server.add_events(contact, hits(NOON - MINUTE, NOON - 6 * MINUTE))
            clock.now += 2 * MINUTE
            assert got + await taken(sync.run()) == truth(server)
        assert server.faults_consumed.total() > 50


async def test_a_contact_that_is_unknown_may_count_as_empty(clock: Clock, server: FakeNP6, np6: NP6Client) -> None:
    """With missing="empty": up to now, and from the overlap on it is asked about as any other."""
    sync = Sync(np6, MemoryStore(), ["NEW"], missing="empty")
    async with sync.run() as run:
        assert [batch async for batch in run.batches()] == []
        assert run.stats.done == 1
        assert not run.failures
    server.add_contact("NEW", hits(NOON - 8 * MINUTE, NOON - 7 * MINUTE, NOON))
    clock.now += 10 * MINUTE
    assert [at for (_, (at, _)) in await taken(sync.run())] == [NOON - 7 * MINUTE, NOON]


async def test_the_state_is_written_about_every_second(server: FakeNP6, clock: Clock) -> None:
    """By the clock of the client's policy: what a kill can make come again is bounded."""
    now = 0.0
    store = MemoryStore()
    async with clock.client(server, clock=lambda: now) as np6:
        async with Sync(np6, store, server.contact_ids, concurrency=1).run() as run:
            batches = run.batches()
            await anext(batches)
            writes = [store.writes]
            for pause in (0.5, 0.6, 0.1):
                now += pause
                await anext(batches)
                writes.append(store.writes)
        assert [count - writes[0] for count in writes] == [0, 0, 1, 1]


async def test_a_closed_client_ends_the_run_and_closes_the_store(
    server: FakeNP6, np6: NP6Client, clock: Clock, store: Store
) -> None:
    """Before it began, and in its middle; what was written stays."""
    got: Counter[Any] = Counter()
    with pytest.raises(ClientClosed):
        async with Sync(np6, store, server.contact_ids, concurrency=1).run() as run:
            async for contact, events in run.batches():
                got.update((contact, key(event)) for event in events)
                await np6.close()
    with pytest.raises(ClientClosed):
        await taken(Sync(np6, store, server.contact_ids).run())
    async with clock.client(server) as another:
        assert got + await taken(Sync(another, store, server.contact_ids).run()) == truth(server, NOON - 2 * MINUTE)


async def test_an_iterable_of_contacts_that_fails_ends_the_run(server: FakeNP6, np6: NP6Client, store: Store) -> None:
    """With its own error; what was written before stays, and the next run resumes."""

    class Given:
        broken = True

        def __iter__(self) -> Iterator[str]:
            yield from ["C0", "C1"]
            if self.broken:
                raise OSError("the list broke off")
            yield from ["C2", "C3"]

    given = Given()
    sync = Sync(np6, store, given)
    with pytest.raises(OSError, match="broke off"):
        await taken(sync.run())
    given.broken = False
    assert await taken(sync.run()) == truth(server, NOON - 2 * MINUTE)


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"store": "state.db"}, InvalidInput, "SQLiteStore"),
        ({"store": MemoryStore}, InvalidInput, r"the class MemoryStore: pass an instance, MemoryStore\(\.\.\.\)"),
        ({"client": "key"}, InvalidInput, "NP6Client"),
        ({"contacts": 7}, InvalidInput, "iterable"),
        ({"kind": "nonsense"}, InvalidInput, "nonsense"),
        ({"classification": "mpp"}, InvalidInput, "classification"),
        ({"overlap": timedelta(seconds=-1)}, InvalidInput, "overlap"),
        ({"overlap": 300}, InvalidInput, "overlap"),
        ({"safety": None}, InvalidInput, "safety"),
        ({"safety": timedelta(days=100_000)}, InvalidBound, "safety"),
        ({"start": "yesterday"}, InvalidBound, "start"),
        ({"missing": "maybe"}, InvalidInput, "missing"),
        ({"concurrency": 0}, InvalidInput, "concurrency"),
        ({"on_error": "explode"}, InvalidInput, "on_error"),
    ],
)
async def test_bad_arguments_are_refused_before_any_io(
    server: FakeNP6, np6: NP6Client, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    given: dict[str, Any] = {"client": np6, "store": MemoryStore(), "contacts": ["C0"], **arguments}
    with pytest.raises(error, match=words):
        Sync(**given)
    assert server.request_count == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"kind": "bounces"}, {"kind": "hits"}),
        ({"kind": "hits"}, {"kind": "hits", "classification": "mpp"}),
        ({"kind": "hits", "classification": "mpp"}, {"kind": "hits", "classification": ["mpp", "gsr"]}),
    ],
)
async def test_a_state_belongs_to_its_query(np6: NP6Client, store: Store, first: Any, second: Any) -> None:
    """Another kind or classification is refused, and the state continues to serve its own."""
    await taken(Sync(np6, store, ["C0"], **first).run())
    with pytest.raises(InvalidInput, match=first["kind"]):
        await taken(Sync(np6, store, ["C0"], **second).run())
    await taken(Sync(np6, store, ["C0"], **first).run())


async def test_the_order_of_robot_classes_does_not_matter(np6: NP6Client, store: Store) -> None:
    await taken(Sync(np6, store, ["C0"], kind="hits", classification=["mpp", "gsr"]).run())
    await taken(Sync(np6, store, ["C0"], kind="hits", classification="gsr,mpp").run())


@pytest.mark.parametrize("note", [7, "x" * 4_097, "\ud800"])
async def test_a_note_is_a_short_text(np6: NP6Client, store: Store, note: Any) -> None:
    async with Sync(np6, store, ["C0"]).run() as run:
        with pytest.raises(InvalidInput, match="4096"):
            await run.commit(note)


async def test_a_run_is_used_inside_its_context_once_and_by_one_task(np6: NP6Client, store: Store) -> None:
    run = Sync(np6, store, ["C0"]).run()
    for use in (run.batches, lambda: run.note):
        with pytest.raises(UsageError, match="async with"):
            use()
    async with run:
        batches = run.batches()
        await anext(batches)
        waiting = asyncio.create_task(anext(batches))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="another task"):
            await anext(batches)
        with pytest.raises(UsageError, match="commit"):
            await run.commit()
        with pytest.raises(StopAsyncIteration):
            await waiting
    with pytest.raises(UsageError):
        await anext(batches)
    with pytest.raises(UsageError):
        await run.commit()
    with pytest.raises(UsageError, match="once"):
        await run.__aenter__()


async def test_a_state_that_is_damaged_ends_the_run(server: FakeNP6, np6: NP6Client) -> None:
    """A clear error; nothing is guessed, and the state stays as it is."""
    store = MemoryStore()
    await taken(Sync(np6, store, ["C0"]).run())
    kept = store.values["id:C0"]
    for damage in (b"", b"\x01", kept + b"x", b"\x02" + kept[1:], kept[:1] + b"\xff" * (len(kept) - 1)):
        store.values["id:C0"] = damage
        with pytest.raises(StoreError, match="state of a contact"):
            await taken(Sync(np6, store, ["C0"]).run())
        assert store.values["id:C0"] == damage


@pytest.mark.parametrize("name", ["sync/query", "sync/note", "id:C0"])
@pytest.mark.parametrize("value", ["text", 17, None])
async def test_a_store_that_returns_anything_but_what_was_written_is_an_error_that_says_so(
    server: FakeNP6, np6: NP6Client, name: str, value: Any
) -> None:
    """Such as text for bytes, as a client of Redis does that decodes; the store is let go of."""
    store = MemoryStore()
    await taken(Sync(np6, store, ["C0"]).run())
    store.values[name] = value
    with pytest.raises(StoreError, match=f"{type(value).__name__} where bytes were written.*decode_responses=False"):
        await taken(Sync(np6, store, ["C0"]).run())
    assert not store.is_open


@pytest.mark.parametrize("name", ["sync/query", "sync/note"])
async def test_texts_that_are_damaged_are_an_error(np6: NP6Client, name: str) -> None:
    store = MemoryStore({name: b"\xff"})
    with pytest.raises(StoreError, match="damaged"):
        await taken(Sync(np6, store, ["C0"]).run())


async def test_a_store_may_return_bytes_of_any_kind(server: FakeNP6, np6: NP6Client) -> None:
    """psycopg gives a memoryview."""
    store = MemoryStore()
    events = await taken(Sync(np6, store, ["C0"]).run())
    store.values: dict[str, Any] = {name: memoryview(value) for name, value in store.values.items()}
    assert events
    assert not await taken(Sync(np6, store, ["C0"]).run())


async def test_other_types_of_events_come_with_their_kind(server: FakeNP6, np6: NP6Client, store: Store) -> None:
    server.add_contact("B", [make_event("bounce", at=NOON - 9 * MINUTE), *hits(NOON - 8 * MINUTE)])
    async with Sync(np6, store, ["B"], "bounces").run() as run:
        batches = [events async for _, events in run.batches()]
    assert [event.verdict for events in batches for event in events] == ["soft"]


async def test_nothing_is_requested_before_the_first_batch(server: FakeNP6, np6: NP6Client, store: Store) -> None:
    """So that whoever finds in the note that files are missing can leave without having fetched anything."""
    async with Sync(np6, store, server.contact_ids).run():
        assert await np6.contacts.count() == 4
        assert [request.path for request in server.requests] == ["/targets/count"]
