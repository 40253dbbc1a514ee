"""Events as Arrow record batches and tables, from every kind of source."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from np6_async import APIError, Contact, InvalidInput, NP6Client, UsageError
from np6_async.export import COLUMNS, COLUMNS_VERSION, make_writer
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6, Fault, make_bounce, make_hit

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from np6_async.integrations import arrow

START = "2025-01-01"


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=20, events_per_contact=40) as server:
        yield server


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client() as np6:
        yield np6


def pairs(table: Any) -> set[tuple[str, str]]:
    """Contact and id of each row."""
    return set(zip(table.column("contact").to_pylist(), table.column("id").to_pylist(), strict=True))


def truth(server: FakeNP6, kind: str = "all") -> set[tuple[str, str]]:
    return {(contact, event["id"]) for contact in server.contact_ids for event in server.events(contact, kind)}


def check(table: Any, expected: set[tuple[str, str]]) -> None:
    """The rows are these, each once, in the columns that are documented."""
    table.validate(full=True)
    assert table.schema.equals(arrow.SCHEMA, check_metadata=True)
    assert table.num_rows == len(expected)
    assert pairs(table) == expected


def test_the_schema_is_the_columns_with_their_version() -> None:
    assert arrow.SCHEMA.names == [column.name for column in COLUMNS]
    assert [field.name for field in arrow.SCHEMA if not field.nullable] == [c.name for c in COLUMNS if c.required]
    assert arrow.SCHEMA.metadata == {b"np6_async.columns": str(COLUMNS_VERSION).encode()}


async def test_a_table_of_one_contact_has_its_events_in_their_order(server: FakeNP6, np6: NP6Client) -> None:
    contact = server.contact_ids[0]
    table = await arrow.table(np6.events.stream(contact, start=START))
    check(table, {(contact, event["id"]) for event in server.events(contact)})
    times = table.column("timestamp").cast(pa.int64()).to_pylist()
    assert times == sorted(event["timestamp"] for event in server.events(contact))


async def test_a_table_of_a_contact_by_unicity_names_it_so(np6: NP6Client, server: FakeNP6) -> None:
    address = "jane@example.com"
    server.add_contact("JANE", [make_bounce(contact="JANE")], unicity=address)
    table = await arrow.table(np6.events.stream(Contact.by_unicity(address), start=START))
    assert table.column("contact").to_pylist() == [address]


async def test_a_table_of_many_contacts_has_all_events_of_all(server: FakeNP6, np6: NP6Client) -> None:
    async with np6.events.stream_many(server.contact_ids, start=START) as events:
        check(await arrow.table(events), truth(server))


def check_by_recipient(table: Any, events: list[Any]) -> None:
    """Of many contacts: each row is that of the recipient, if its event names it by id."""
    check(table, {(recipient(event), event.id) for event in events})
    assert table.column("contact").equals(table.column("receiver_id"))
    assert table.column("contact").null_count < table.num_rows


def recipient(event: Any) -> str | None:
    contact = event.recipient and event.recipient.contact
    return contact.value if contact and contact.kind == "id" else None


async def test_a_table_of_the_account_goes_by_recipient(server: FakeNP6, np6: NP6Client) -> None:
    events = [event async for event in np6.actions.stream("bounces", start=START)]
    assert len(events) == len(truth(server, "bounces"))
    check_by_recipient(await arrow.table(np6.actions.stream("bounces", start=START)), events)
    check_by_recipient(await arrow.table([(None, event) for event in events]), events)


async def test_a_table_of_many_actions_goes_by_recipient(np6: NP6Client) -> None:
    events = [event async for event in np6.actions.stream("bounces", start=START)]
    actions = {event.activation.id for event in events if event.activation and event.activation.id}
    async with np6.actions.stream_many(sorted(actions), "bounces", start=START) as stream:
        check_by_recipient(await arrow.table(stream), events)


async def test_a_table_of_a_campaign_goes_by_recipient(server: FakeNP6, np6: NP6Client) -> None:
    campaign = next(iter(server.campaigns))
    items = server.campaigns[campaign]
    events = [event async for event in np6.campaigns.events(campaign, items, start=START)]
    assert events
    check_by_recipient(await arrow.table(np6.campaigns.events(campaign, items, start=START)), events)


async def test_a_table_of_a_page_has_its_items(server: FakeNP6, np6: NP6Client) -> None:
    async with np6.events.pages(server.contact_ids, start=START, end="2027-01-01", every="365d") as pages:
        tables = [await arrow.table(page.items) async for page in pages]
    check(pa.concat_tables(tables), truth(server))


async def test_a_table_of_nothing_has_the_schema(np6: NP6Client, server: FakeNP6) -> None:
    server.add_contact("EMPTY", [])
    check(await arrow.table(np6.events.stream("EMPTY", start=START)), set())
    check(await arrow.table([]), set())
    assert [batch async for batch in arrow.record_batches(np6.events.stream("EMPTY", start=START))] == []


async def test_a_run_of_a_sync_delivers_once_what_is_committed(server: FakeNP6, np6: NP6Client, tmp_path: Path) -> None:
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), server.contact_ids, start=START)
    async with sync.run(autocommit=False) as run:
        await arrow.table(run)  # and no commit, as if killed
    async with sync.run(autocommit=False) as run:
        check(await arrow.table(run), truth(server))
        await run.commit()
    async with sync.run(autocommit=False) as run:
        check(await arrow.table(run), set())


async def test_a_run_for_the_account_goes_by_recipient(server: FakeNP6, np6: NP6Client, tmp_path: Path) -> None:
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), account=True, start=START)
    async with sync.run(autocommit=False) as run:
        table = await arrow.table(run)
    assert table.column("contact").equals(table.column("receiver_id"))
    assert set(table.column("id").to_pylist()) == {name for _, name in truth(server)}


async def test_a_run_that_commits_by_itself_is_refused_before_anything_is_requested(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), server.contact_ids, start=START)
    async with sync.run() as run:
        with pytest.raises(InvalidInput, match="autocommit=False"):
            arrow.record_batches(run)
        with pytest.raises(InvalidInput, match="autocommit=False"):
            await arrow.table(run)
    assert not server.requests


@pytest.mark.parametrize(
    "given",
    [
        {"rows": 0},
        {"rows": True},
        {"rows": "many"},
        {"rows": 2_000_000},
        {"personal": "hide"},
        {"personal": "hash"},
        {"personal_key": b"x" * 16},
    ],
)
async def test_wrong_options_are_refused_before_anything_is_requested(
    given: Any, server: FakeNP6, np6: NP6Client
) -> None:
    with pytest.raises(InvalidInput):
        arrow.record_batches(np6.events.stream(server.contact_ids[0]), **given)
    assert not server.requests


@pytest.mark.parametrize("given", [None, 17, [1], ["AB"]])
async def test_what_is_no_source_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput):
        await arrow.table(given)


async def test_batches_are_bounded_by_rows(server: FakeNP6, np6: NP6Client) -> None:
    async with np6.events.stream_many(server.contact_ids, start=START) as events:
        batches = [batch async for batch in arrow.record_batches(events, rows=100)]
    assert all(100 <= batch.num_rows < 100 + 256 for batch in batches[:-1])
    check(pa.Table.from_batches(batches), truth(server))


async def test_a_step_that_is_cancelled_loses_nothing(server: FakeNP6, np6: NP6Client) -> None:
    async with np6.events.stream_many(server.contact_ids, start=START, concurrency=2) as events:
        source = arrow.record_batches(events, rows=50)
        batches = []
        for turns in range(10_000):
            step = asyncio.ensure_future(anext(source))
            for _ in range(turns % 40):
                await asyncio.sleep(0)
            step.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    batches.append(await step)
            except StopAsyncIteration:
                break
        batches += [batch async for batch in source]
    check(pa.Table.from_batches(batches), truth(server))


async def test_an_error_of_the_stream_passes_through(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.status(403))
    with pytest.raises(APIError):
        await arrow.table(np6.events.stream(server.contact_ids[0], start=START))


async def test_the_events_before_an_error_come_first(server: FakeNP6, np6: NP6Client) -> None:
    """What was delivered is in a batch, and only then the error is raised, again at each step."""
    server.script(Fault.status(403), contact=server.contact_ids[-1], times=None)
    async with np6.events.stream_many(server.contact_ids, start=START, concurrency=1) as events:
        batches = arrow.record_batches(events)
        delivered = (await anext(batches)).num_rows
        assert delivered == events.stats.events > 0
        for _ in range(2):
            with pytest.raises(APIError):
                await anext(batches)


async def test_contacts_that_fail_are_with_the_stream(server: FakeNP6, np6: NP6Client) -> None:
    async with np6.events.stream_many([*server.contact_ids, "UNKNOWN1"], start=START, on_error="collect") as events:
        check(await arrow.table(events), truth(server))
    assert [failure.contact for failure in events.failures] == ["UNKNOWN1"]


async def test_two_readers_at_once_are_an_error_of_use(server: FakeNP6, np6: NP6Client) -> None:
    stream = np6.events.stream(server.contact_ids[0], start=START)
    first = asyncio.ensure_future(arrow.table(stream))
    await asyncio.sleep(0)
    with pytest.raises(UsageError):
        await arrow.table(stream)
    await first


async def test_a_table_is_what_is_read_from_a_parquet_file(server: FakeNP6, np6: NP6Client) -> None:
    contact = server.contact_ids[0]
    server.add_contact(contact, {event["timestamp"]: event for event in server.events(contact)}.values())  # no ties
    events = [event async for event in np6.events.stream(contact, start=START)]
    file = io.BytesIO()
    writer = make_writer("parquet", file)
    writer.add(contact, events)
    writer.close()
    read = pq.read_table(file)
    table = await arrow.table(np6.events.stream(contact, start=START))
    assert table.equals(read)
    assert table.schema.equals(read.schema, check_metadata=True)


@pytest.mark.parametrize("personal", ["hash", "drop"])
async def test_personal_data_is_masked_in_batches(personal: Any, server: FakeNP6, np6: NP6Client) -> None:
    key = b"sixteen bytes or more" if personal == "hash" else None
    async with np6.events.stream_many(server.contact_ids, start=START) as events:
        batches = [b async for b in arrow.record_batches(events, rows=100, personal=personal, personal_key=key)]
    table = pa.Table.from_batches(batches)
    check(table, truth(server))
    assert "@" not in str(table.to_pylist())


# What it is made for


ODD = [make_hit(id="0013E001"), make_bounce(id="00000042", diagnostic="NA"), make_bounce(id="null", code="5.10")]


async def table_of_odd_texts(np6: NP6Client, server: FakeNP6) -> Any:
    server.add_contact("0013E001", ODD)
    return await arrow.table(np6.events.stream("0013E001", start=START))


async def test_pandas_keeps_every_cell(np6: NP6Client, server: FakeNP6) -> None:
    pytest.importorskip("pandas")
    table = await table_of_odd_texts(np6, server)
    frame = table.to_pandas()
    assert sorted(frame["id"]) == ["0013E001", "00000042", "null"] or set(frame["id"]) == {
        "0013E001",
        "00000042",
        "null",
    }
    assert set(frame["contact"]) == {"0013E001"}
    assert pa.Table.from_pandas(frame, schema=arrow.SCHEMA, preserve_index=False).equals(table)


async def test_polars_keeps_every_cell(np6: NP6Client, server: FakeNP6) -> None:
    pl = pytest.importorskip("polars")
    table = await table_of_odd_texts(np6, server)
    assert pl.from_arrow(table).to_arrow().cast(arrow.SCHEMA).equals(table)


async def test_duckdb_keeps_every_cell(np6: NP6Client, server: FakeNP6) -> None:
    duckdb = pytest.importorskip("duckdb")
    odd = await table_of_odd_texts(np6, server)
    found = duckdb.from_arrow(odd).to_arrow_table()
    assert found.cast(arrow.SCHEMA).equals(odd)
