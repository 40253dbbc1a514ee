"""Files of the events of many contacts: each event goes under the id of its own recipient."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Container
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from np6_async import InvalidInput, NP6Client, UsageError, structure, unstructure
from np6_async._columns.recipients import of_contacts, recipient_ids, texts
from np6_async.export import SyncWriter, make_writer, ndjson
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6, make_activation, make_hit

NOTATIONS = [
    ({"type": "id", "value": "000MLGPR"}, "000MLGPR"),
    ({"type": "id", "value": "a:b.c"}, "a:b.c"),
    ({"type": "id", "value": ["000MLGPR"]}, "000MLGPR"),
    ({"type": "id", "value": 17}, "17"),
    ({"type": "id", "value": "../x"}, None),
    ({"type": "footprint", "id": "000MLGPR", "unicity": "a@b.c", "hash": "0" * 32}, "000MLGPR"),
    ({"type": "footprint", "unicity": "a@b.c"}, None),
    ({"type": "hash", "value": "0" * 32}, None),
    ({"type": "contact", "value": {"type": "id", "value": "000MLGPR"}}, "000MLGPR"),
    (None, None),
    ("odd", None),
]


def event(receiver: Any, place: str = "activation") -> Any:
    name = "receiver" if place == "activation" else "recipient"
    return structure({"type": "hit", "timestamp": 1, "source": {"type": "email", "detail": {place: {name: receiver}}}})


@pytest.mark.parametrize("place", ["activation", "execution"])
def test_the_id_of_a_recipient_is_found_in_every_notation_alone_and_among_others(place: str) -> None:
    events = [event(receiver, place) for receiver, _ in NOTATIONS]
    expected = [found for _, found in NOTATIONS]
    assert [recipient_ids([each])[0] for each in events] == expected
    assert recipient_ids(events) == expected
    usual = [each for each in events if each.recipient is not None]
    assert recipient_ids(usual) == [
        each.recipient.contact.value if each.recipient.contact and each.recipient.contact.kind == "id" else None
        for each in usual
    ]


_members = st.sampled_from([None, "", "A1", "../x", "x" * 256, "x" * 257, 1, True, [], ["A1"], [["x"]], {}, "0" * 32])
_kinds = st.sampled_from([None, "id", "footprint", "unicity", "hash", "contact", "odd", 1, ["x"], {}])


def _reference(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    optional = {"type": _kinds, "id": _members, "unicity": _members, "hash": _members, "value": value}
    return st.one_of(_members, st.fixed_dictionaries({}, optional=optional))


@settings(max_examples=300, deadline=None)
@example([{"type": "contact", "value": {"type": ["x"], "value": "A"}}], "activation")
@example([{"id": "A", "value": {}}], "activation")
@given(
    st.lists(_reference(_reference(_reference(_members))), min_size=1, max_size=3),
    st.sampled_from(["activation", "execution"]),
)
def test_whatever_a_recipient_looks_like_its_id_is_that_of_the_events_own_contact(
    receivers: list[Any], place: str
) -> None:
    events = [event(receiver, place) for receiver in receivers]
    contacts = [each.recipient and each.recipient.contact for each in events]
    assert recipient_ids(events) == [each.value if each and each.kind == "id" else None for each in contacts]


def test_events_of_contacts_that_are_not_wanted_are_left_out_and_the_unnamed_are_counted() -> None:
    events = [event(receiver) for receiver, _ in NOTATIONS]
    kept, unnamed = of_contacts(events, {"000MLGPR"})
    assert len(kept) == 4
    assert unnamed == 5


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"hit","timestamp":1}',
        b'{"type":"hit","timestamp":1,"more":["\\ud83d\\ude00",{"a":1.5e3}]}',
        '{"type":"hit","timestamp":1,"more":"é"}'.encode(),
        b'{ "type" : "hit", "timestamp" : 1 }',
        b'{"type":"hit",\n"timestamp":1}',
        b'{"type":"hit",\r"timestamp":1}',
        b'{"type":"hit","timestamp":"1"}',
        b'{"type":"hit","timestamp":1.0}',
        b'{"timestamp":1}',
        b'{"type":null,"timestamp":1}',
        b'{"type":"hit","timestamp":1,"more":"\\ud83d half"}',
        b'{"type":"hit","timestamp":1,"more":"\xff"}',
    ],
)
async def test_a_line_is_what_unstructure_returns_whether_it_is_copied_or_made(raw: bytes) -> None:
    async with FakeNP6(0) as server, server.client() as np6:
        server.set_raw("A", b"[%b]" % raw)
        (found,) = await np6.events.list("A", "hits")
    line = ndjson("A", [found])
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"contact": "A", "event": unstructure(found)}
    assert ndjson(None, [found]) == line.replace(b'"A"', b"null", 1)
    two = ndjson("A", [found, structure({"timestamp": 2, "type": "hit"})])
    assert two.startswith(line) or json.loads(two.splitlines()[0]) == json.loads(line)


def test_usual_events_are_written_as_they_came() -> None:
    events = [structure(make_hit()), structure(make_activation())]
    assert all(text is event.raw for text, event in zip(texts(events), events, strict=True))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_has_the_recipient_of_each_event_as_its_contact(form: Any) -> None:
    file = io.BytesIO()
    writer = make_writer(form, file)
    writer.add(None, [event(receiver) for receiver, _ in NOTATIONS])
    writer.close()
    if form == "csv":
        found = [line["contact"] or None for line in csv.DictReader(io.StringIO(file.getvalue().decode()))]
    else:
        import pyarrow.parquet as pq

        found = pq.read_table(io.BytesIO(file.getvalue()))["contact"].to_pylist()
    assert found == [name for _, name in NOTATIONS]


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(30, (0, 12)) as server:
        yield server


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client() as np6:
        yield np6


async def test_a_sync_of_the_account_writes_each_event_under_its_contact(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), account=True)
    async with sync.run(autocommit=False) as run:
        files = await SyncWriter(tmp_path / "new", part_bytes=10_000).write(run)
    assert len(files) > 1
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    truth = {each["id"]: contact for contact in server.contact_ids for each in server.events(contact)}
    assert len(lines) == len(truth)
    for line in lines:
        assert line["contact"] in (truth[line["event"]["id"]], None)
    assert sum(line["contact"] is None for line in lines) < len(lines) / 2


async def test_only_the_contacts_that_are_named_are_written_and_the_others_count_as_delivered(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    wanted = server.add_contact("WANTED")
    server.add_events(wanted, [make_hit(at=timedelta(hours=1), contact=wanted) for _ in range(3)])
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), account=True)
    async with sync.run(autocommit=False) as run:
        writer = SyncWriter(tmp_path / "new", only={wanted})
        files = await writer.write(run)
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [line["contact"] for line in lines] == [wanted] * 3
    async with sync.run(autocommit=False) as run:
        assert await SyncWriter(tmp_path / "new", only={"NOBODY"}).write(run) == []
        assert run.stats.events == 0


async def test_events_that_are_left_out_are_not_fetched_again(server: FakeNP6, np6: NP6Client, tmp_path: Path) -> None:
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), account=True, overlap=timedelta(0))
    async with sync.run(autocommit=False) as run:
        assert await SyncWriter(tmp_path / "new", only={"NOBODY"}).write(run) == []
        assert run.stats.events > 50
    async with sync.run(autocommit=False) as run:
        files = await SyncWriter(tmp_path / "new").write(run)
    assert files == []


async def test_events_that_could_not_be_written_are_not_committed(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    """Whatever the reason, and whether there is a part already: the next run delivers them."""
    server.add_contact("OTHER", [make_hit(contact="OTHER", at=timedelta(hours=2)) for _ in range(900)])
    server.add_contact("MANY", [make_hit(contact="MANY", at=timedelta(hours=1)) for _ in range(2_000)])
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), account=True)
    for before in (0, 700, 2_000):
        async with sync.run(autocommit=False) as run:
            with pytest.raises(LookupError):
                await SyncWriter(tmp_path / "new", only=_Fails("MANY", before)).write(run)
    async with sync.run(autocommit=False) as run:
        await SyncWriter(tmp_path / "new", only={"MANY"}).write(run)
    lines = [json.loads(line) for file in (tmp_path / "new").iterdir() for line in file.read_text().splitlines()]
    assert Counter(line["event"]["id"] for line in lines) == Counter(each["id"] for each in server.events("MANY"))


async def test_a_writer_refuses_a_run_that_it_cannot_be_right_about(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    """One that takes each batch for written when the next is asked for, and ids where contacts were named."""
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), server.contact_ids)
    async with sync.run() as run:
        with pytest.raises(UsageError, match="autocommit=False"):
            await SyncWriter(tmp_path / "new").write(run)
    async with sync.run(autocommit=False) as run:
        with pytest.raises(InvalidInput, match="give the Sync the contacts themselves"):
            await SyncWriter(tmp_path / "new", only={"A"}).write(run)
    assert server.request_count == 0
    assert not (tmp_path / "new").exists()


class _Fails(Container[str]):
    """Has one id, and fails after so many look-ups."""

    def __init__(self, wanted: str, after: int) -> None:
        self._wanted = wanted
        self._left = after

    def __contains__(self, id: object) -> bool:
        self._left -= 1
        if self._left < 0:
            raise LookupError
        return id == self._wanted
