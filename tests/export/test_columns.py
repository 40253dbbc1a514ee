"""The columns that CSV and Parquet share, and the writers of the three formats."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies

from np6_async import Event, structure, unstructure
from np6_async._columns.arrow import SCHEMA
from np6_async._columns.csv_cells import safe
from np6_async._columns.one_event import row
from np6_async._columns.schema import COLUMNS, Row
from np6_async._models.mail_status import meaning
from np6_async.export import Format, make_writer
from np6_async.testing import FakeNP6, make_bounce

NAMES = [column.name for column in COLUMNS]


def written(format: Format, contact: str, events: list[Event]) -> bytes:
    file = io.BytesIO()
    made = make_writer(format, file)
    made.add(contact, events)
    made.close()
    return file.getvalue()


def rebuilt(cells: Row, sent: dict[str, Any]) -> dict[str, Any]:
    """An event of its cells, and the rest on top. What was `sent` tells where the receiver was."""
    event: dict[str, Any] = json.loads(str(cells[-1])) if cells[-1] is not None else {}
    for column, cell in zip(COLUMNS, cells, strict=True):
        if cell is not None and column.path:
            node = event
            for name in column.path[:-1]:
                node = node.setdefault(name, {})
            node.setdefault(column.path[-1], json.loads(str(cell)) if column.type == "json" else cell)
    notation, *names = (cells[NAMES.index(f"receiver_{name}")] for name in ("type", "id", "unicity", "hash"))
    named = {name: cell for name, cell in zip(("id", "unicity", "hash"), names, strict=True) if cell is not None}
    for place, member in (("activation", "receiver"), ("execution", "recipient")):
        receiver = inner(sent, "source", "detail", place, member)
        if receiver is not None and inner(event, "source", "detail", place, member) is None:
            first = next(iter(named.items()), ("", None))
            made = {"type": notation, **named} if notation == "footprint" else {"type": first[0], "value": first[1]}
            made = {"type": "contact", "value": made} if notation == "contact" else made
            node = event.setdefault("source", {}).setdefault("detail", {}).setdefault(place, {})
            node[member] = listed(made, receiver)
    return event


def inner(node: Any, *names: str) -> Any:
    for name in names:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def listed(made: Any, sent: Any) -> Any:
    """`made` with a list of one text where that was sent for a text."""
    if isinstance(made, dict) and isinstance(sent, dict):
        return {name: listed(value, sent.get(name)) for name, value in made.items()}
    return [made] if isinstance(sent, list) else made


events = strategies.events(source=strategies.sources | strategies.odd_sources, identity=strategies.json_values)


@pytest.mark.slow
@settings(max_examples=60)
@given(events)
def test_columns_and_rest_together_are_the_event(data: dict[str, Any]) -> None:
    """Whatever its members are: nothing is lost, nothing is there that was not sent."""
    event = structure(data)
    assert rebuilt(row("000MLGPR", event), data) == unstructure(event)


def test_a_realistic_bounce_fills_its_columns() -> None:
    with FakeNP6(40, 30) as server:
        contact, data = next((c, e) for c in server.contact_ids for e in server.events(c, "bounces"))
    detail = data["source"]["detail"]
    cells = dict(zip(NAMES, row(contact, structure(data)), strict=True))
    assert cells["contact"] == contact
    assert (cells["id"], cells["timestamp"], cells["type"]) == (data["id"], data["timestamp"], "bounce")
    assert cells["channel"] == data["source"]["type"]
    assert cells["activation_id"] == detail["activation"]["id"]
    assert cells["activation_time"] == detail["activation"]["stamp"]["time"]
    assert cells["bounce_verdict"] == detail["bounce"]["analysis"]["verdict"]
    assert cells["bounce_code"] == detail["bounce"]["status"]["code"]["enhanced"]
    assert cells["bounce_meaning"] == meaning(str(cells["bounce_code"]))
    assert cells["bounce_diagnostic"] == detail["bounce"]["status"]["diagnostic"]
    assert cells["execution_id"] is cells["link_type"] is None


def test_what_is_of_another_type_is_converted_and_kept_as_it_was() -> None:
    data = {"id": 7, "timestamp": "1000", "source": {"type": "a\ud800", "detail": {"link": "x"}}}
    cells = dict(zip(NAMES, row("A", structure(data)), strict=True))
    assert (cells["id"], cells["timestamp"], cells["channel"], cells["link_type"]) == ("7", 1000, "a\ufffd", None)
    assert json.loads(str(cells["rest"])) == {"id": 7, "source": {"detail": {"link": "x"}}}


def test_ndjson_has_every_member() -> None:
    data = {"id": "1", "timestamp": 1, "extra": ["é", "\n"]}
    lines = written("ndjson", "jane\u2028@example.com", [structure(data)] * 2).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == [{"contact": "jane\u2028@example.com", "event": data}] * 2


class Name(str):
    """As numpy.str_."""


@pytest.mark.parametrize("format", ["ndjson", "csv", "parquet"])
def test_a_contact_may_be_any_text(format: Format) -> None:
    """Also of a subclass, as columns of ids hold, or with half an emoji."""
    event = structure({"timestamp": 1})
    for contact, name in ((Name("0013KDC0"), "0013KDC0"), ("a\ud83d", "a\ufffd")):
        assert written(format, contact, [event]) == written(format, name, [event])


# CSV


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+33 6", "'+33 6"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("'=1", "''=1"),
        ("it's = 1", "it's = 1"),
        ("'quoted'", "'quoted'"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text: str, cell: str) -> None:
    assert safe(text) == cell


@given(st.text(st.sampled_from("'=+-@\t\r\na\",")))
def test_a_safe_cell_can_be_taken_back(text: str) -> None:
    """Of a cell that begins with ' and then what a formula begins with, take one ' off."""
    cell = safe(text)
    assert not re.match(r"[=+\-@\t\r\n]", cell)
    assert (cell[1:] if re.match(r"'+[=+\-@\t\r\n]", cell) else cell) == text


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(events, max_size=4), strategies.texts)
def test_csv_reads_back_as_it_was(data: list[dict[str, Any]], contact: str) -> None:
    """By any reader of RFC 4180, line ends and quotes inside cells included."""
    written_events = [structure(each) for each in data]
    content = written("csv", contact, written_events)
    assert content.startswith(",".join(NAMES).encode() + b"\r\n")
    head, *records = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    assert head == NAMES
    assert len(records) == len(data)
    for record, event in zip(records, written_events, strict=True):
        for column, cell, value in zip(COLUMNS, record, row(contact, event), strict=True):
            if isinstance(value, str):
                assert cell == safe(value)
            elif value is None:
                assert cell == ""
            else:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", cell), column


# Parquet


def test_the_schema_is_the_same_whatever_events_there_are() -> None:
    with FakeNP6(10, 30) as server:
        some = [structure(event) for contact in server.contact_ids for event in server.events(contact)]
    empty = pq.read_table(io.BytesIO(written("parquet", "A", [])))
    full = pq.read_table(io.BytesIO(written("parquet", "A", some)))
    assert (empty.num_rows, full.num_rows) == (0, len(some))
    assert empty.schema.equals(full.schema, check_metadata=True)
    types = {field.name: field.type for field in full.schema}
    times = {"timestamp", "activation_time", "execution_time"}
    assert full.schema.metadata[b"np6_async.columns"] == b"1"
    assert types == {name: pa.timestamp("ms", tz="UTC") if name in times else pa.string() for name in NAMES}
    assert [field.name for field in full.schema if not field.nullable] == ["timestamp"]


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(events, min_size=1, max_size=3))
def test_parquet_reads_back_as_it_was(data: list[dict[str, Any]]) -> None:
    written_events = [structure(each) for each in data]
    table = pq.read_table(io.BytesIO(written("parquet", "A", written_events)))
    columns = [table.column(c.name).cast(pa.int64()) if c.type == "time" else table.column(c.name) for c in COLUMNS]
    read = list(zip(*(column.to_pylist() for column in columns), strict=True))
    assert read == [tuple(row("A", event)) for event in written_events]


@pytest.mark.slow
def test_row_groups_are_bounded() -> None:
    """By rows, and by bytes where events are large: what a writer and a reader keep in memory."""
    for count, length in ((70_000, 0), (5_000, 10_000)):
        event = structure({"id": "1" * length, "timestamp": 1})
        file = pq.ParquetFile(io.BytesIO(written("parquet", "A", [event] * count)))
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert sum(sizes) == count
        assert len(sizes) > 1
        assert max(sizes) <= min(64 * 1024, 16 * 1024 * 1024 // (length or 1) + 1024)


@pytest.mark.parametrize("reader", ["duckdb", "polars", "pyarrow"])
def test_files_of_an_earlier_release_are_read_with_those_of_this_one(tmp_path: Path, reader: str) -> None:
    """Each has the columns of its release: by name, what the earlier ones lack is null."""
    events = [structure(make_bounce(code="5.1.1"))]
    table = pq.read_table(io.BytesIO(written("parquet", "A", events)))
    pq.write_table(table.drop_columns(["bounce_meaning"]), tmp_path / "part-000001.parquet")
    pq.write_table(table, tmp_path / "part-000002.parquet")
    read = pytest.importorskip(reader)
    if reader == "duckdb":
        relation = read.read_parquet(f"{tmp_path}/*", union_by_name=True, filename=True).order("filename")
        found = [value for (value,) in relation.project("bounce_meaning").fetchall()]
    elif reader == "polars":
        files = sorted(tmp_path.iterdir())
        found = read.concat(map(read.scan_parquet, files), how="diagonal").collect()["bounce_meaning"].to_list()
    else:
        dataset = pytest.importorskip("pyarrow.dataset")
        found = dataset.dataset(tmp_path, schema=SCHEMA).to_table()["bounce_meaning"].to_pylist()
    assert found == [None, "The mailbox does not exist (permanent)"]
