"""Columns of many events at once: whatever the events are, each cell is the one that it would have alone."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies

from np6_async import Event, EventKind, NP6Error, structure
from np6_async._columns import many_events
from np6_async._columns.arrow import FEW_VALUES, BatchBuilder
from np6_async._columns.many_events import Shapes
from np6_async._columns.one_event import row
from np6_async._columns.schema import COLUMNS, INDEX
from np6_async._columns.shapes import learn
from np6_async._config import DecodeLimits
from np6_async._protocol.event_decoder import EventDecoder
from np6_async.testing import FakeNP6, make_bounce


def cells_of(events: Iterable[Event], builder: BatchBuilder | None = None) -> list[list[Any]]:
    """The rows of a batch of these events; JSON as plain types."""
    builder = builder or BatchBuilder()
    listed = list(events)
    for number, event in enumerate(listed):
        builder.add(f"C{number}", [event])
    batch = builder.build()
    batch.validate(full=True)
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    return [plain(cells) for cells in zip(*(column.to_pylist() for column in columns), strict=True)]


def alone(events: Iterable[Event]) -> list[list[Any]]:
    return [plain(row(f"C{number}", event)) for number, event in enumerate(events)]


def plain(cells: Iterable[Any]) -> list[Any]:
    return [
        json.loads(cell) if column.type == "json" and cell is not None else cell
        for column, cell in zip(COLUMNS, cells, strict=True)
    ]


def sent(raw: bytes, kind: EventKind = EventKind.ALL) -> list[Event]:
    """The event of this JSON as it arrives, if it is one."""
    decoder: EventDecoder[Event] = EventDecoder(kind, DecodeLimits())
    decoder.feed(b"[%b]" % raw)
    try:
        return decoder.next_batch() or []
    except NP6Error:
        return []


@pytest.fixture(scope="module")
def realistic() -> list[bytes]:
    with FakeNP6(20, 60) as server:
        return [
            json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
            for contact in server.contact_ids
            for event in server.events(contact)
        ]


def test_realistic_events_all_have_shapes(realistic: list[bytes]) -> None:
    """The fast way is taken: what is slow is the exception."""
    assert all(learn(raw) for raw in realistic)
    assert len({learn(raw) for raw in realistic}) < 100


def test_realistic_events_have_the_cells_that_they_have_alone(realistic: list[bytes]) -> None:
    events = [event for raw in realistic for event in sent(raw)]
    assert cells_of(events) == alone(events)


@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (" , ", " : ")}], ids=str)
def test_any_style_of_json_is_read(realistic: list[bytes], style: dict[str, Any]) -> None:
    events = [event for raw in realistic[:200] for event in sent(json.dumps(json.loads(raw), **style).encode())]
    assert len(events) == 200
    assert cells_of(events) == alone(events)


def test_batches_of_any_size_share_their_shapes(realistic: list[bytes]) -> None:
    """What was learned in one batch is right in the next."""
    events = [event for raw in realistic for event in sent(raw)]
    random.Random(1).shuffle(events)
    builder = BatchBuilder()
    while events:
        some, events = events[: len(events) // 2 + 1], events[len(events) // 2 + 1 :]
        assert cells_of(some, builder) == alone(some)


def test_more_than_offsets_can_count_are_read_in_pieces(
    realistic: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_events, "_MOST_BYTES", 5_000)
    events = [event for raw in realistic[:100] for event in sent(raw)]
    assert cells_of(events) == alone(events)


def test_codes_of_every_kind_are_told_in_words() -> None:
    """Registered, a provider's, unknown, none, and what is no code: in one batch, and in several."""
    codes = ["5.1.1", "4.7.650", "5.1.10", "4.2.999", "", "no code", None, 5, "5.1.1"]
    bounces = [make_bounce() for _ in codes]
    for bounce, code in zip(bounces, codes, strict=True):
        bounce["source"]["detail"]["bounce"]["status"]["code"] = {"enhanced": code}
    events = [structure(bounce) for bounce in bounces]
    told = [cells[INDEX["bounce_meaning"]] for cells in cells_of(events)]
    assert told[0] == told[-1] == "The mailbox does not exist (permanent)"
    assert [words is None for words in told] == [False, False, False, False, True, True, True, True, False]
    assert cells_of(events) == alone(events)


def test_columns_of_few_values_are_columns() -> None:
    assert set(FEW_VALUES) <= {column.name for column in COLUMNS}


def test_no_events_are_an_empty_batch() -> None:
    assert cells_of([]) == []


def _edited(raw: bytes, chance: random.Random) -> bytes:
    """An event that is nearly of the same shape, or of the same with other values."""
    at = chance.randrange(len(raw))
    match chance.randrange(7):
        case 0:
            return raw[:at] + bytes([chance.choice(b'"\\{}[],: x0-\x01\xc3')]) + raw[at + 1 :]
        case 1:
            return raw[:at] + raw[at + 1 :]
        case 2:
            return raw[:at] + chance.choice([b"x", b" ", b'"', b"\\n", b"\\u00e9", b"\\ud83d", b"\xc3\xa9"]) + raw[at:]
        case 3:
            texts = list(re.finditer(rb'"[^"]*"', raw))
            start, end = chance.choice(texts).span()
            return raw[:start] + chance.choice([b'""', b"null", b"1", b"{}", b'"\\""', b'"=1"', b"[]"]) + raw[end:]
        case 4:
            time = str(chance.choice([5, 10**12, 10**13, -1, 1.5])).encode()
            return re.sub(rb"1[67]\d{11}", time, raw, count=1)
        case 5:
            names = list(re.finditer(rb'"(id|type|time|value|thread|unicity|kind|activation|stamp)":', raw))
            start, end = chance.choice(names).span(1)
            return raw[:start] + chance.choice([b"id", b"type", b"x", b"time"]) + raw[end:]
        case _:
            return raw.replace(b'","', b'", "', 1)


@pytest.mark.parametrize("seed", range(8))
def test_events_that_are_nearly_of_a_shape_are_not_taken_for_it(realistic: list[bytes], seed: int) -> None:
    """A byte more or less, a text that is a number, an escape, another name: among those that they resemble."""
    chance = random.Random(seed)
    events = []
    for raw in chance.sample(realistic, 150):
        events += sent(raw)
        events += sent(_edited(raw, chance))
        events += sent(_edited(_edited(raw, chance), chance))
    assert len(events) > 200
    assert cells_of(events) == alone(events)


@pytest.mark.parametrize("kind", [EventKind.BOUNCES, EventKind.HITS, EventKind.STOPS])
def test_a_type_that_only_the_endpoint_knows_is_in_its_column(realistic: list[bytes], kind: EventKind) -> None:
    untyped = [re.sub(rb'^\{"type":"[a-z]+",', chance, raw) for raw in realistic for chance in (b"{", b'{"type":null,')]
    events = [event for raw in untyped for event in sent(raw, kind)]
    assert {event.type for event in events} == {kind.default_type}
    assert cells_of(events) == alone(events)


events = strategies.events(source=strategies.sources | strategies.odd_sources, identity=strategies.json_values)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(events, max_size=6), st.booleans())
def test_events_of_any_shape_have_the_cells_that_they_have_alone(data: list[dict[str, Any]], ascii: bool) -> None:
    arrived = [event for each in data for event in sent(json.dumps(each, ensure_ascii=ascii).encode(errors="replace"))]
    listed = [*arrived, *map(structure, data), *arrived]
    assert cells_of(listed) == alone(listed)


_TIME = 1_614_089_582_000


def _event(source: Any, **members: Any) -> bytes:
    return json.dumps({"type": "hit", "id": "a", "timestamp": _TIME, "source": source, **members}).encode()


def test_a_time_where_no_column_looks_stays_as_it_was_sent() -> None:
    events = sent(_event([{"detail": {"activation": {"stamp": {"time": _TIME}}}}]))
    assert cells_of(events) == alone(events)
    assert str(_TIME) in str(row(None, events[0])[-1])


@pytest.mark.parametrize("kind", [None, "", "id", "unicity", "footprint"])
def test_a_receiver_without_a_value_is_a_receiver(kind: str | None) -> None:
    """Whether the text is empty decides nothing: the columns of two events that differ in values are the same."""
    events = []
    for text in ("000MLGPR", "", "0013KDC0"):
        receiver = {"type": kind, "id": text} if kind else {"id": text}
        events += sent(
            _event({"detail": {"activation": {"receiver": receiver}, "execution": {"recipient": {"type": "id"}}}})
        )
    assert len(events) == 3
    assert cells_of(events) == alone(events)
    assert [cells[9] for cells in alone(events)] == ["000MLGPR", "", "0013KDC0"] or kind == "id"


@pytest.mark.parametrize(
    "time", ["null", "true", "{}", "[1614089582000]", '"1614089582000"', "1614089582000.0", "0", "-1"]
)
def test_any_time_has_the_cell_that_it_has_alone(time: str) -> None:
    raw = _event({"detail": {"activation": {"stamp": {"time": 0}}}}).replace(b'"time": 0', f'"time": {time}'.encode())
    events = [*sent(raw), *sent(raw.replace(b'"a"', b'"bc"'))]
    assert len(events) == 2
    assert cells_of(events) == alone(events)


@pytest.mark.parametrize("escape", [r"\r\n", r"\u0022", r"\/", r"\u00e9", r"\u0000", r"\u2028", r"\u005c"])
def test_an_event_with_an_escape_in_a_text_has_a_shape(escape: str) -> None:
    """As a server has that escapes what is not ASCII, or a diagnostic of two lines."""
    raw = _event({"detail": {"bounce": {"status": {"diagnostic": "#", "mta": ""}}, "execution": {"data": {"k": "#"}}}})
    events = sent(raw.replace(b"#", escape.encode()))
    assert learn(events[0].raw) == learn(raw)
    assert cells_of(events) == alone(events)


@pytest.mark.parametrize("mark", ["\ue0001\ue001", r"\ue0001\ue001", r"\uE0001\ue001"])
def test_characters_of_private_use_are_read_as_any_other(mark: str) -> None:
    receiver = {"type": "#", "id": "000MLGPR"}
    raw = _event({"#": "#", "detail": {"activation": {"receiver": receiver}}})
    events = sent(raw.replace(b"#", mark.encode()))
    assert cells_of(events) == alone(events)
    assert alone(events)[0][8] == "\ue0001\ue001"


def test_json_is_the_same_text_however_the_server_escapes() -> None:
    """Columns of JSON can be compared and grouped by."""
    texts = [b'{"a/b": "\xc3\xa9\xe2\x80\xa8"}', rb'{ "a\/b" :"\u00e9\u2028"}', rb'{"\u0061/b":"\u00E9\u2028"}']
    events = [
        e
        for t in texts
        for e in sent(
            _event({"detail": {"execution": {"data": 0}, "x": 0}})
            .replace(b"0}", b"%b}" % t)
            .replace(b": 0", b": %b" % t)
        )
    ]
    builder = BatchBuilder()
    builder.add("A", events)
    batch = builder.build()
    assert {*batch["execution_data"].to_pylist()} == {'{"a/b":"é\u2028"}'}
    assert {*batch["rest"].to_pylist()} == {row(None, event)[-1] for event in events}
    assert len({*batch["rest"].to_pylist()}) == 1


def test_a_member_with_an_escape_in_its_name_is_read() -> None:
    events = [
        event
        for name in (b"source", b"s\\u006furce", b"x\\nxxxx")
        for event in sent(_event({"type": "email"}).replace(b"source", name))
    ]
    assert len(events) == 3
    assert cells_of(events) == alone(events)


def _varied(number: int, chance: random.Random) -> Event:
    """An event whose shape few others have: as many texts as the others, or not, and a number that is none's."""
    data = {"n": chance.randrange(10**5, 10**6), **{f"{number}-{each}": "" for each in range(chance.randrange(3))}}
    (event,) = sent(_event({"detail": {"execution": {"data": data}}}))
    return event


def test_shapes_without_end_leave_the_usual_ones_their_place(realistic: list[bytes]) -> None:
    """Free members that are never the same again: what is kept is bounded, and what comes often is learned."""
    chance = random.Random(1)
    shapes = Shapes()

    def slow(events: list[Event]) -> int:
        table = many_events._Table(events)
        table.fill(shapes)
        return len(table._singly)

    for begin in range(0, 8_000, 1_000):
        slow([_varied(number, chance) for number in range(begin, begin + 1_000)])
    kept = shapes._by_digest
    assert len(kept) <= 256
    assert max(map(len, kept.values())) <= 8
    usual = [event for raw in realistic[:60] for event in sent(raw)] * 20
    mixed = [*usual, *(_varied(number, chance) for number in range(1_000))]
    for _ in range(40):
        slow(usual)
    assert slow(usual) == 0
    assert slow(mixed) <= 1_000


def test_what_is_learned_of_an_event_is_small() -> None:
    """An event of any size is read, but one that is mostly names and punctuation has no shape."""
    raw = _event({"detail": {"execution": {"data": {f"member {number}": "" for number in range(30_000)}}}})
    events = sent(raw)
    assert len(events) == 1
    assert learn(raw) is None
    assert cells_of(events) == alone(events)
    assert learn(_event({"type": "e" * 1_000_000})) == learn(_event({"type": "e"}))


def test_events_that_have_the_same_digest_by_chance_are_told_apart(
    realistic: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_events, "_WEIGHTS", 0 * many_events._WEIGHTS)
    events = [event for raw in realistic for event in sent(raw)]
    assert cells_of(events) == alone(events)
