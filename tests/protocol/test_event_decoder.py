"""What the decoder promises: any chunks in, the same events out; a broken body never passes for a whole one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import strategies

from np6_async._config import DecodeLimits
from np6_async._errors import DecodeError, LimitExceeded, NP6Error, ProtocolError, StreamInterrupted
from np6_async._models.events import Bounce, Event, EventKind, UnknownEvent, is_structured, structure
from np6_async._protocol import array_decoder
from np6_async._protocol.event_decoder import Demand, EventDecoder, decode_whole
from np6_async.testing import make_bounce

KIB = 1024
MIB = 1024 * KIB
SECRET = "someone@example.com"

limits = st.builds(
    DecodeLimits,
    slice_bytes=st.sampled_from([1, 7, 64, 500, 32 * KIB]),
    batch_events=st.sampled_from([1, 2, 256]),
)


def run(
    chunks: Iterable[bytes], limits: DecodeLimits | None = None, kind: str = "all"
) -> tuple[list[Event], NP6Error | None]:
    """The events of a body that arrives in `chunks`, and the error that followed them, if any.

    What reads most responses at once must read the same, or leave it to the decoder.
    """
    decoder: EventDecoder[Event] = EventDecoder(EventKind(kind), limits or DecodeLimits())
    events: list[Event] = []
    fault = None
    body = b""
    try:
        for chunk in chunks:
            body += chunk if len(body) < MIB else b""
            decoder.feed(chunk)
            while (batch := decoder.next_batch()) is not None:
                assert 1 <= len(batch) <= (limits or DecodeLimits()).batch_events
                events += batch
        decoder.finish()
    except NP6Error as error:
        fault = error
    if fault is not None:
        assert fault.__cause__ is fault.__context__ is None
        assert SECRET not in str(fault)
    whole = decode_whole(body, EventKind(kind), limits or DecodeLimits())
    if whole is not None:
        assert fault is None
        assert [(type(e), e, e.raw) for e in whole] == [(type(e), e, e.raw) for e in events]
    return events, fault


def event(number: int, **others: Any) -> dict[str, Any]:
    return {"type": "hit", "id": str(number), "timestamp": number, **others}


def dump(*items: Any) -> bytes:
    """The body of a response of `items`, given as JSON types or as bytes."""
    return b"[" + b",".join(i if isinstance(i, bytes) else json.dumps(i).encode() for i in items) + b"]"


def by_size(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)]


def ids(events: list[Event]) -> list[str | None]:
    return [e.id for e in events]


SIZES = [1, 2, 3, 7, 50, 1000, 10**9]

# Everything a cutter could fall for.
TRICKY = [
    event(1, s="},{", t='\\"},{\\"', u="]", v="\\", w="\\\\", x='"', y="}]", z="é🎉\ud83d"),
    event(2, a=[{"b": 1}, {"c": [{}, {}]}, []], d=[[], [[]], [{}]]),
    event(3, source={"type": "email", "detail": {"execution": {"data": {"list": [{"n": 1}, {"n": 2}, {"n": 3}]}}}}),
    event(4, a="", b=None, c=True, d=-1.5e-7, e={}, f=[]),
    event(5, a=[{"b": 1}, {"b": "},{"}, {"b": 3}]),
    event(6),
]


# --- chunks -------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.data(), st.lists(strategies.events(), max_size=6), strategies.styles, limits)
def test_any_chunks_of_any_body_give_its_events(
    data: st.DataObject, sent: list[Any], style: Any, limits: DecodeLimits
) -> None:
    body = style.body(sent)
    cuts = data.draw(strategies.chunkings(len(body)))
    events, error = run(strategies.chunks(body, cuts), limits)
    assert error is None
    assert [e.data for e in events] == sent
    assert events == [structure(item) for item in sent]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("slice_bytes", [1, 20, 32 * KIB])
@pytest.mark.parametrize("indent", [None, 1, 40])
def test_brackets_commas_and_quotes_inside_events_do_not_mislead(size: int, slice_bytes: int, indent: Any) -> None:
    body = json.dumps(TRICKY, indent=indent, ensure_ascii=True).encode()
    events, error = run(by_size(body, size), DecodeLimits(slice_bytes=slice_bytes))
    assert error is None
    assert [e.data for e in events] == strategies.whole(TRICKY)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 16 * KIB, 64 * KIB, 10**9])
@pytest.mark.parametrize(
    "filling",
    ["x" * 900 * KIB, "},{" * 300 * KIB, [{"a": "é"}] * 50_000, ['"\\'] * 100_000, {str(n): {} for n in range(80_000)}],
    ids=["text", "text of braces", "objects", "quotes", "members"],
)
def test_one_event_may_be_much_larger_than_a_chunk(size: int, filling: Any) -> None:
    sent = [event(1), event(2, filling=filling), event(3), event(4)]
    body = dump(*sent)
    assert len(body) > 600 * KIB
    events, error = run(by_size(body, size))
    assert error is None
    assert ids(events) == ["1", "2", "3", "4"]
    assert events[1].data == sent[1]


@pytest.mark.slow
@pytest.mark.parametrize("indent", [None, 1])
def test_an_event_is_returned_as_soon_as_its_last_byte_has_arrived(indent: Any) -> None:
    """A slow server does not hold back what it has sent, wherever its writes end."""
    body = json.dumps(TRICKY[:4], indent=indent).encode()
    ends = ends_of_objects(body)
    assert len(ends) == 4
    for cut in range(len(body) + 1):
        expected = sum(end <= cut for end in ends)
        for size in (1, 10**9):
            assert len(run(by_size(body[:cut], size))[0]) == expected


@pytest.mark.slow
def test_events_before_an_unfinished_one_of_many_members_are_returned_at_once() -> None:
    items = [event(1), event(2), event(3, members={str(n): {"n": n} for n in range(200)})]
    body = json.dumps(items, separators=(",", ":")).encode()
    for cut in range(body.index(b'"members"'), len(body) - 3):
        assert ids(run([body[:cut]])[0]) == ["1", "2"]


def ends_of_objects(body: bytes) -> list[int]:
    """Where the objects of the array `body`, in ASCII, end."""
    decoder, text, ends, at = json.JSONDecoder(), body.decode("ascii"), [], 0
    while (at := text.find("{", at)) >= 0:
        at = decoder.raw_decode(text, at)[1]
        ends.append(at)
    return ends


@pytest.mark.parametrize("size", [1, 2, 3, 10**9])
@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"\r\n[\t]\n", b"\xef\xbb\xbf[]", b"\xef\xbb\xbf [\n] "])
def test_an_empty_array_has_no_events(body: bytes, size: int) -> None:
    assert run(by_size(body, size)) == ([], None)


def test_empty_chunks_change_nothing() -> None:
    events, error = run([b"", b"[", b"", *by_size(dump(event(1))[1:], 3), b"", b""])
    assert error is None
    assert ids(events) == ["1"]


def test_most_responses_are_decoded_at_once() -> None:
    """Those of up to 64 KiB and 256 events, whose events have the documented shape."""
    body = dump(*[event(number, note="x" * 180) for number in range(250)])
    assert 50 * KIB < len(body) < 64 * KIB
    assert len(decode_whole(body, EventKind.ALL, DecodeLimits()) or ()) == 250
    assert decode_whole(b"[]", EventKind.ALL, DecodeLimits()) == []
    for other in (b"", b"{}", b"[1]", body + b" ", body[:-1], dump(*[event(n) for n in range(257)])):
        assert decode_whole(other, EventKind.ALL, DecodeLimits()) is None


def test_events_of_one_account_share_their_identity() -> None:
    """A retained event costs that much less."""
    who = {"type": "customer", "agency": "DEMO", "customer": "028"}
    items = [event(1, identity=who), event(2, identity=who), event(3, identity=None), event(4)]
    for events, fault in (run([dump(*items)]), run(by_size(dump(*items), 10))):
        assert fault is None
        assert events[0].identity is events[1].identity
        assert [e.identity and e.identity.customer for e in events] == ["028", "028", None, None]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_batches_are_bounded_and_full_where_they_can_be(count: int) -> None:
    decoder: EventDecoder[Event] = EventDecoder(EventKind.ALL, DecodeLimits(slice_bytes=10**6))
    decoder.feed(dump(*map(event, range(count))))
    sizes = []
    while (batch := decoder.next_batch()) is not None:
        sizes.append(len(batch))
    decoder.finish()
    assert sizes == [256] * (count // 256) + ([count % 256] if count % 256 else [])


@pytest.mark.slow
def test_a_chunk_of_very_many_events_comes_in_bounded_batches() -> None:
    body = b'[{"timestamp":1}' + b',{"timestamp":1}' * 199_999 + b"]"
    events, error = run([body])
    assert error is None
    assert len(events) == 200_000


# --- what an event becomes ----------------------------------------------------------------------------


@pytest.mark.slow
@given(st.data(), st.sampled_from(list(EventKind)))
def test_an_event_from_the_wire_equals_the_one_from_plain_types(data: st.DataObject, kind: EventKind) -> None:
    odd = data.draw(
        strategies.events(
            id=strategies.texts | st.integers() | st.booleans(),
            timestamp=strategies.timestamps | strategies.timestamps.map(str),
            type=strategies.texts | st.integers(),
            identity=strategies.json_values,
            source=strategies.odd_sources,
        )
    )
    (event,), error = run([dump(odd)], kind=kind)
    expected = structure(odd, kind)
    assert error is None
    assert type(event) is type(expected)
    assert event == expected
    assert (event.id, event.timestamp, event.type, event.identity, event.source) == (
        expected.id,
        expected.timestamp,
        expected.type,
        expected.identity,
        expected.source,
    )
    assert event.raw == json.dumps(odd).encode()


def test_an_endpoint_of_one_kind_gives_events_without_a_type_its_own() -> None:
    events, _ = run([dump({"timestamp": 1}, {"timestamp": 2, "type": "new"}, {"timestamp": "3"})], kind="bounces")
    assert [(type(e), e.type) for e in events] == [(Bounce, "bounce"), (Bounce, "new"), (Bounce, "bounce")]
    events, _ = run([dump({"timestamp": 1}, {"timestamp": 2, "type": "new"})])
    assert [(type(e), e.type) for e in events] == [(UnknownEvent, None), (UnknownEvent, "new")]


ODD_EVENTS = {
    "lone surrogate in id": b'{"timestamp":1,"id":"\\ud800"}',
    "lone surrogate in source": b'{"timestamp":1,"source":{"type":"\\udc00"}}',
    "NaN": b'{"timestamp":1,"source":NaN}',
    "Infinity": b'{"timestamp":1,"a":[-Infinity,Infinity]}',
    "number out of range": b'{"timestamp":1,"source":{"type":1e999}}',
    "integer of 5,000 digits": b'{"timestamp":1,"source":' + b"1" * 5000 + b"}",
    "id of 5,000 digits": b'{"timestamp":1,"id":' + b"1" * 5000 + b"}",
    "bad UTF-8 in id": b'{"timestamp":1,"id":"\xff"}',
    "bad UTF-8 in source": b'{"timestamp":1,"source":{"type":"\xc0\x80","\xff":"\xed\xa0\x80"}}',
    "control characters": b'{"timestamp":1,"source":{"type":"a\nb\x00"}}',
    "float": b'{"timestamp":1.0}',
    "text": b'{"timestamp":"1"}',
    "exponent": b'{"timestamp":1e0}',
    "id twice": b'{"id":"a","timestamp":1,"id":"b"}',
    "timestamp twice": b'{"timestamp":true,"timestamp":1}',
    "null everywhere": b'{"timestamp":1,"type":null,"id":null,"identity":null,"source":null}',
    "missing id": b'{"timestamp":1}',
    "empty names": b'{"timestamp":1,"":{"":""}}',
}


@pytest.mark.parametrize("name", ODD_EVENTS)
def test_an_odd_event_is_delivered_with_its_neighbours(name: str) -> None:
    raw = ODD_EVENTS[name]
    for size in SIZES:
        events, error = run(by_size(dump(event(1), event(2), raw, raw, event(3)), size))
        assert error is None
        assert [e.id for e in events if e.raw not in raw] == ["1", "2", "3"]
        assert events[2].raw == events[3].raw == raw
    odd = events[2]
    assert odd.timestamp == 1
    # Nothing that is looked at later fails.
    assert isinstance(odd.data, dict)
    assert odd.source is None or odd.detail is not None
    assert odd == events[3]
    repr(odd)


UNREADABLE_EVENTS = {
    "bool timestamp": b'{"timestamp":true}',
    "no timestamp": b"{}",
    "null timestamp": b'{"timestamp":null}',
    "date": b'{"timestamp":"2021-02-23T14:13:02Z"}',
    "fraction": b'{"timestamp":1.5}',
    "negative": b'{"timestamp":-1}',
    "year 10000": b'{"timestamp":253402300800000}',
    "5,000 digits": b'{"timestamp":' + b"1" * 5000 + b"}",
    "5,000 digits as text": b'{"timestamp":"' + b"1" * 5000 + b'"}',
    "NaN": b'{"timestamp":NaN}',
    "trailing comma": b'{"timestamp":1,}',
    "no colon": b'{"timestamp" 1}',
    "no value": b'{"timestamp":}',
    "leading zero": b'{"timestamp":01}',
    "single quotes": b"{'timestamp':1}",
    "wrong bracket": b'{"timestamp":1]',
    "wrong brackets": b'{"timestamp":1,"a":[1}}',
    "bad escape": b'{"timestamp":1,"a":"\\q"}',
    "comment": b'{"timestamp":1/*x*/}',
    "null byte": b'{"timestamp":\x001}',
    "array": b'[{"timestamp":1}]',
    "number": b"5",
    "text element": b'"' + SECRET.encode() + b'"',
    "null element": b"null",
    "nothing": b"",
    "another closing brace": b'}{"timestamp":1}',
    "cut": b'{"timestamp":1',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNREADABLE_EVENTS)
def test_an_unreadable_event_is_an_error_with_its_position_after_the_events_before_it(name: str) -> None:
    # Also bodies of several batches: the place is counted over all of them.
    for before, size in [(0, 1), (0, 10**9), (1, 1), (1, 30), (1, 10**9), (2, 3), (2, 10**9), (300, 50), (300, 10**9)]:
        good = [event(n, a=[{}, {}], b=SECRET) for n in range(before)]
        body = dump(*good, UNREADABLE_EVENTS[name], event(before + 1), event(before + 2))
        events, error = run(by_size(body, size))
        assert [e.data for e in events] == good
        assert isinstance(error, DecodeError)
        assert error.position == before
        assert f"(element {before} of the response)" in str(error)


def test_after_an_error_there_are_no_more_events() -> None:
    decoder: EventDecoder[Event] = EventDecoder(EventKind.ALL, DecodeLimits())
    decoder.feed(dump(event(1), b"5", event(2)))
    assert ids(decoder.next_batch() or []) == ["1"]
    for _ in range(3):
        with pytest.raises(DecodeError):
            decoder.next_batch()
        decoder.feed(dump(event(3)))
    with pytest.raises(DecodeError):
        decoder.finish()


def test_events_after_an_unreadable_one_are_never_delivered() -> None:
    events, error = run([b'[{"timestamp":1},5' + b',{"timestamp":2}' * 1000 + b"]"])
    assert len(events) == 1
    assert isinstance(error, DecodeError)
    assert error.position == 1


# --- anything but an array ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 10**9])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><html>[]</html>", "an HTML or XML page"),
        (b' {"error":"x"}', "a JSON object"),
        (b"{}", "a JSON object"),
        (b"null", "a single JSON value"),
        (b"true", "a single JSON value"),
        (b"-5", "a single JSON value"),
        (b"12", "a single JSON value"),
        (b'"' + SECRET.encode() + b'"', "a single JSON value"),
        (SECRET.encode(), "plain text"),
        (b"]", "plain text"),
        ("[]".encode("utf-16"), "neither JSON nor text in UTF-8"),
        (b"\xef\xbb\xbf\xef\xbb\xbf[]", "neither JSON nor text in UTF-8"),
        (b" \xef\xbb\xbf[]", "neither JSON nor text in UTF-8"),
        (b"\x1f\x8b\x08\x00", "neither JSON nor text in UTF-8"),
        (b"\x00[]", "neither JSON nor text in UTF-8"),
    ],
)
def test_a_response_that_is_not_an_array_is_described_and_not_quoted(body: bytes, kind: str, size: int) -> None:
    events, error = run(by_size(body, size))
    assert events == []
    assert type(error) is ProtocolError
    if size > len(body) or "single" not in kind:
        assert kind in str(error)


@pytest.mark.parametrize("body", [b"", b" ", b"\xef\xbb\xbf", b"\xef\xbb", b"\n\n", b"[", b"[ ", b"\xef\xbb\xbf["])
def test_an_empty_body_counts_as_interrupted(body: bytes) -> None:
    for size in (1, 10**9):
        events, error = run(by_size(body, size))
        assert events == []
        assert type(error) is StreamInterrupted


ONE = dump(event(1))[1:-1]
TWO = dump(event(2))[1:-1]


@pytest.mark.parametrize("space", [b"", b" ", b" \r\n\t" * 40])
@pytest.mark.parametrize(
    ("parts", "count", "expected"),
    [
        ([b"[", ONE, b",", b"]"], 1, DecodeError),
        ([b"[", ONE, b",", b",", TWO, b"]"], 1, DecodeError),
        ([b"[", ONE, b"]", b"]"], 1, ProtocolError),
        ([b"[", ONE, b"]", b","], 1, ProtocolError),
        ([b"[", ONE, b"]", b"[", TWO, b"]"], 1, ProtocolError),
        ([b"[", ONE, b"]", b",", b"[", TWO, b"]"], 1, ProtocolError),
        ([b"[", ONE, b"]", b"garbage"], 1, ProtocolError),
        ([b"[", ONE, b"]", TWO], 1, ProtocolError),
        ([b"[", ONE, b",", TWO, b"]", b'{"error":1}'], 2, ProtocolError),
        ([b"[", ONE, b"]", b"\x00"], 1, ProtocolError),
        ([b"[", ONE, b"]", b"<html>}"], 1, ProtocolError),
        ([b"[", ONE, TWO, b"]"], 1, ProtocolError),
        ([b"[", ONE, b"}", b",", TWO, b"]"], 1, ProtocolError),
        ([b"[", ONE, b"x", b",", TWO, b"]"], 1, ProtocolError),
        ([b"[", ONE, b";", TWO, b"]"], 1, ProtocolError),
        ([b"[", ONE, b",", b'"text"', b"]"], 1, DecodeError),
        ([b"[", ONE, b",", b"garbage"], 1, DecodeError),
        ([b"[", b",", ONE, b"]"], 0, DecodeError),
        ([b"[", b"[", ONE, b"]", b"]"], 0, DecodeError),
        ([b"[", b"}", b"]"], 0, DecodeError),
        ([b"[", b"]", b"]"], 0, ProtocolError),
        ([b"[", b"]", b"[", b"]"], 0, ProtocolError),
        ([b"[", ONE, b","], 1, StreamInterrupted),
        ([b"[", ONE], 1, StreamInterrupted),
        ([b"[", ONE, b",", b"{"], 1, StreamInterrupted),
    ],
)
def test_broken_punctuation_is_an_error_after_the_events_before_it(
    parts: list[bytes], count: int, expected: type[NP6Error], space: bytes
) -> None:
    for size in SIZES:
        events, error = run(by_size(space.join(parts) + space, size))
        assert ids(events) == ["1", "2"][:count]
        assert type(error) is expected


@pytest.mark.slow
@pytest.mark.parametrize("indent", [None, 1])
def test_a_body_cut_at_any_byte_is_interrupted_and_gives_a_prefix(indent: Any) -> None:
    """The closing bracket is the one proof of a complete response; white space after it may be missing."""
    body = json.dumps(TRICKY, indent=indent, ensure_ascii=False).encode(errors="surrogatepass") + b" \n"
    whole = body.rindex(b"]") + 1
    expected, error = run([body])
    assert error is None
    assert len(expected) == len(TRICKY)
    for cut in range(len(body)):
        for size in (13, 10**9):
            events, error = run(by_size(body[:cut], size))
            if cut >= whole:
                assert error is None
                assert events == expected
            else:
                assert type(error) is StreamInterrupted
                assert [e.raw for e in events] == [e.raw for e in expected[: len(events)]]


# --- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 10**9])
@pytest.mark.parametrize("filling", ["x" * 5000, [[]] * 2000, [{"a": 1}, {}] * 500])
def test_an_event_over_the_limit_is_refused_after_the_events_before(size: int, filling: Any) -> None:
    limits = DecodeLimits(event_bytes=2000, slice_bytes=500)
    body = dump(event(1), event(2, x="y" * 1000), event(3, filling=filling), event(4))
    events, error = run(by_size(body, size), limits)
    assert ids(events) == ["1", "2"]
    assert type(error) is LimitExceeded
    assert "2000 bytes" in str(error)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'[{},{"a":['])
@pytest.mark.parametrize("size", [1000, 10**9])
def test_hostile_nesting_is_refused_after_the_events_before(opening: bytes, size: int) -> None:
    body = dump(event(1))[:-1] + b',{"timestamp":1,"x":' + opening * 50_000
    events, error = run(by_size(body, size))
    assert ids(events) == ["1"]
    assert type(error) is LimitExceeded
    assert "128" in str(error)


def test_hostile_nesting_is_refused_in_an_event_that_is_complete() -> None:
    deep = b'{"timestamp":1,"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}"
    events, error = run([dump(event(1), deep, event(2))], DecodeLimits(slice_bytes=10**7))
    assert ids(events) == ["1"]
    assert type(error) is LimitExceeded


@pytest.mark.parametrize("size", [1, 50, 10**9])
def test_nesting_up_to_the_limit_is_fine(size: int) -> None:
    deep = b'{"timestamp":1,"x":' + b"[" * 127 + b"]" * 127 + b"}"
    events, error = run(by_size(dump(event(1), deep, event(2)), size), DecodeLimits(slice_bytes=10))
    assert error is None
    assert len(events) == 3
    assert run(by_size(dump(deep), 1), DecodeLimits(slice_bytes=10, depth=127))[1] is not None


@pytest.mark.parametrize("opening", [b"", b"\xef\xbb\xbf", b"[", b"[" + ONE, b"[" + ONE + b",", b"[" + ONE + b"]"])
def test_a_flood_of_white_space_is_refused_and_takes_no_memory(opening: bytes) -> None:
    decoder: EventDecoder[Event] = EventDecoder(EventKind.ALL, DecodeLimits())
    decoder.feed(opening)
    while decoder.next_batch():
        pass
    with pytest.raises(LimitExceeded):
        drown(decoder, b" \t\r\n" * 16 * KIB, pending=100)


def drown(decoder: EventDecoder[Event], chunk: bytes, *, pending: int) -> None:
    """Feed `chunk` again and again, 10 MB of it; never are more than `pending` bytes kept."""
    for _ in range(10**7 // len(chunk)):
        decoder.feed(chunk)
        assert decoder.next_batch() is None
        assert len(decoder._pending) <= pending


@pytest.mark.parametrize("flood", [b"x", b"\\n", b'","', b" ", b"},{", b"1"])
@pytest.mark.parametrize("opening", [b'[{"a":"', b'[{"a":'])
def test_an_endless_event_is_refused_with_bounded_memory(flood: bytes, opening: bytes) -> None:
    decoder: EventDecoder[Event] = EventDecoder(EventKind.ALL, DecodeLimits(event_bytes=300_000))
    decoder.feed(opening)
    assert decoder.next_batch() is None
    with pytest.raises(ProtocolError):
        drown(decoder, flood * 10_000, pending=300_000 + 33 * KIB)


# --- work ---------------------------------------------------------------------------------------------


class Work:
    """Counts the bytes that are looked at: copied, searched, split by msgspec, scanned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.calls = 0
        split, end, last_boundary = array_decoder.split, array_decoder._end, array_decoder._last_boundary
        punctuation = EventDecoder._punctuation

        def counting_split(piece: bytes) -> Any:
            self.count(len(piece))
            return split(piece)

        def counting_end(pattern: Any, buffer: Any, offset: int) -> int:
            found = end(pattern, buffer, offset)
            self.count(found - offset)
            return found

        def counting_last_boundary(body: bytes) -> int | None:
            self.count(len(body))
            return last_boundary(body)

        def counting_punctuation(decoder: Any, buffer: bytes) -> bytes:
            self.count(len(buffer))
            return punctuation(decoder, buffer)

        monkeypatch.setattr(array_decoder, "split", counting_split)
        monkeypatch.setattr(array_decoder, "_end", counting_end)
        monkeypatch.setattr(array_decoder, "_last_boundary", counting_last_boundary)
        monkeypatch.setattr(EventDecoder, "_punctuation", counting_punctuation)

    def count(self, bytes: int) -> None:
        self.bytes += bytes
        self.calls += 1


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


SMALL_BODIES: dict[str, list[Any]] = {
    "plain": [event(1, s="x" * 500)],
    "arrays of objects": [event(1, a=[{"b": 1}, {"b": 2}], c=[{}] * 10)],
    "arrays of objects at the end": [event(1, a="x" * 50, c=[{}, {}, {}])],
    "braces in strings": [event(1, a="},{", b='"},{"timestamp":1},{"', c="}")],
    "NaN": [b'{"timestamp":1,"a":NaN}'],
    "one NaN in ten": [*[event(1, s="x" * 50)] * 9, b'{"timestamp":1,"a":NaN}'],
    "lone surrogates and braces": [event(1, a="\ud800", b=[{}, {}, {}])],
    "white space before commas": [ONE + b" " * 100],
    "white space everywhere": [json.dumps(event(1, a=[{}, {}]), indent=70).encode() + b" " * 70],
    "tiny": [b'{"timestamp":1}'],
    "many braces": [b'{"timestamp":1,"a":[' + b"{}," * 300 + b"{}]}"],
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [4 * KIB, 32 * KIB, 10**9])
@pytest.mark.parametrize("name", SMALL_BODIES)
def test_the_work_is_linear_in_a_body_of_many_events(name: str, size: int, work: Work) -> None:
    events = SMALL_BODIES[name]
    one = len(dump(*events)) - 1
    body = dump(*events * (300_000 // one))
    found, error = run(by_size(body, size))
    assert error is None
    assert len(found) == len(events) * (300_000 // one)
    assert work.bytes < 12 * len(body)


GIANTS: dict[str, Any] = {
    "text": "x" * 300_000,
    "braces in text": "},{" * 100_000,
    "quotes": '"' * 150_000,
    "backslashes": "\\" * 150_000,
    "objects": [{}] * 80_000,
    "arrays": [[]] * 80_000,
    "objects with text": [{"a": "},{", "b": "]"}] * 12_000,
    "members": {str(n): {"n": n} for n in range(12_000)},
    "numbers": [1] * 100_000,
}


@pytest.mark.parametrize("size", [1000, 32 * KIB, 10**9])
@pytest.mark.parametrize("name", GIANTS)
def test_the_work_is_linear_in_a_giant_event(name: str, size: int, work: Work) -> None:
    body = dump(event(1), event(2, a=GIANTS[name]), event(3))
    events, error = run(by_size(body, size))
    assert error is None
    assert ids(events) == ["1", "2", "3"]
    # As long as an event fits in a slice, its bytes are looked at with each chunk.
    chunk = min(size, 32 * KIB)
    assert work.bytes < 8 * len(body) + 3 * (32 * KIB) ** 2 // chunk


@pytest.mark.parametrize("name", GIANTS)
def test_a_giant_event_is_collected_in_place_and_not_copied_for_each_chunk(name: str) -> None:
    decoder: EventDecoder[Event] = EventDecoder(EventKind.ALL, DecodeLimits())
    body = dump(event(1, a=GIANTS[name]))
    buffers = set()
    for chunk in by_size(body[:-2], 10 * KIB):
        decoder.feed(chunk)
        assert decoder.next_batch() is None
        if len(decoder._pending) > 64 * KIB:
            buffers.add(id(decoder._pending))
    assert len(buffers) == 1


def test_the_search_for_a_place_to_cut_gives_up_early() -> None:
    """However many braces a chunk holds: looking at each costs far more than the bytes in between."""
    assert array_decoder._last_boundary(b'{"a":' * 1000) is None
    assert array_decoder._last_boundary(b"{}, {" + b'"a":{' * 10) == 2


def test_small_chunks_cost_a_bounded_amount_each(work: Work) -> None:
    body = dump(*[event(1, s="x" * 400)] * 400)
    events, error = run(by_size(body, 10))
    assert error is None
    assert len(events) == 400
    assert work.bytes < 150 * len(body)
    assert work.calls < 8 * len(body) / 10


def test_a_large_chunk_is_not_copied_for_each_slice() -> None:
    decoder: EventDecoder[Event] = EventDecoder(EventKind.ALL, DecodeLimits())
    body = dump(*[event(1, s="x" * 400)] * 1000)
    decoder.feed(body)
    while decoder.next_batch() is not None:
        assert decoder._received is body
    decoder.finish()


# --- damage -------------------------------------------------------------------------------------------


def as_documented(body: bytes) -> Any:
    """`body` by the standard library, with the leniency that the decoder documents."""

    def whole(digits: str) -> int | None:
        return int(digits) if len(digits) < 4000 else None

    def fraction(digits: str) -> float | None:
        return None if float(digits) in (float("inf"), float("-inf")) else float(digits)

    text = body.decode(errors="replace").removeprefix("\ufeff")
    read = json.loads(text, parse_constant=lambda _: None, parse_int=whole, parse_float=fraction, strict=False)
    return strategies.whole(read)


def check_damaged(body: bytes, cuts: list[int], limits: DecodeLimits) -> str:
    events, error = run([body], limits)
    others, other_error = run(strategies.chunks(body, cuts), limits)
    assert (error is None) == (other_error is None)
    for one, other in zip(events, others, strict=False):
        assert one.raw == other.raw
    if error is None:
        assert len(events) == len(others)
        assert [e.data for e in events] == as_documented(body)
        return "whole"
    # Nothing that the standard library reads as events is refused.
    try:
        parsed = json.loads(body)
    except ValueError:
        return "refused"
    assert not isinstance(parsed, list) or not all(isinstance(i, dict) and _usable(i) for i in parsed)
    return "odd"


def _usable(data: dict[str, Any]) -> bool:
    try:
        structure(data)
    except DecodeError:
        return False
    return True


def damage(rng: random.Random, body: bytes) -> bytes:
    damaged = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(damaged) + 1)
        span = rng.choice((1, 1, 1, 2, 20))
        match rng.randrange(5):
            case 0 if at < len(damaged):
                damaged[at] ^= 1 << rng.randrange(8)
            case 1:
                damaged[at:at] = rng.choice((b"{", b"}", b"[", b"]", b",", b'"', b"\\", b" ", b"0", b"\xff", b"},{"))
            case 2:
                del damaged[at : at + span]
            case 3:
                damaged[at:at] = damaged[at : at + span]
            case _:
                damaged[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(damaged)


@pytest.mark.slow
def test_a_damaged_body_is_read_as_standard_json_or_refused_and_never_skipped() -> None:
    rng = random.Random(20_000)
    bodies = [
        dump(*[event(n, a=[{}, {"b": "},{"}]) for n in range(4)]),
        json.dumps(TRICKY).encode() + b"\n",
        b"\xef\xbb\xbf" + json.dumps(TRICKY[1:4], indent=1).encode(),
        json.dumps([event(1, s="é🎉"), event(2, s="\\")], ensure_ascii=False).encode(),
        dump(),
        dump(event(1)),
    ]
    outcomes: dict[str, int] = {"whole": 0, "refused": 0, "odd": 0}
    for _ in range(10_000):
        body = damage(rng, rng.choice(bodies))
        cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.choice((1, 3, 10))))
        limits = DecodeLimits(slice_bytes=rng.choice((5, 100, 32 * KIB)))
        outcomes[check_damaged(body, cuts, limits)] += 1
    assert min(outcomes.values()) > 100, outcomes


@pytest.mark.slow
@given(st.data(), limits)
@settings(max_examples=400)
def test_any_text_of_json_tokens_is_read_as_standard_json_or_refused(data: st.DataObject, limits: DecodeLimits) -> None:
    tokens = st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"1", b"null", b"NaN", b'"a"', b"\xff", b"},{"),
            *(b'{"timestamp":1}', b'"timestamp":1', b'{"a":[{},{}],', b"\xef\xbb\xbf"),
        ]
    )
    body = b"[" + b"".join(data.draw(st.lists(tokens, max_size=30)))
    check_damaged(body, data.draw(strategies.chunkings(len(body))), limits)


@given(st.lists(st.binary(max_size=40), max_size=5), limits)
@example([b"[{", b"}", b"]"], DecodeLimits())
def test_no_bytes_raise_anything_else(chunks: list[bytes], limits: DecodeLimits) -> None:
    run(chunks, limits)
    run([b'[{"timestamp":1},', *chunks], limits)


def test_an_odd_event_of_too_many_values_is_refused() -> None:
    """What is not read in the fast way is bounded, since it is read at once."""
    for count, expected in ((49_000, type(None)), (51_000, LimitExceeded)):
        _, error = run(by_size(b'[{"timestamp":1,"a":[' + b"{}," * count + b"NaN]}]", 10_000))
        assert type(error) is expected


# --- details --------------------------------------------------------------------------------------


def detailed(kind: EventKind = EventKind.ALL) -> Demand:
    """The demand of a consumer that reads details."""
    demand = Demand()
    [event] = decode_whole(b'[{"timestamp":1}]', kind, DecodeLimits(), demand) or [None]
    assert event.source is None
    return demand


@pytest.mark.parametrize("kind", ["all", "bounces", "hits"])
@given(st.lists(strategies.events(), max_size=5).map(lambda events: json.dumps(events).encode()))
def test_details_decoded_with_the_events_are_those_that_are_decoded_later(kind: str, body: bytes) -> None:
    limits = DecodeLimits()
    later = decode_whole(body, EventKind(kind), limits)
    demand = detailed(EventKind(kind))
    at_once = decode_whole(body, EventKind(kind), limits, demand)
    assert (at_once is None) is (later is None)
    for one, other in zip(at_once or (), later or (), strict=True):
        assert type(one) is type(other)
        assert one == other
        assert (one.raw, one.source, one.identity) == (other.raw, other.source, other.identity)


def test_details_are_decoded_with_the_events_while_somebody_reads_them() -> None:
    demand, limits = Demand(), DecodeLimits()
    body = b"[" + json.dumps(make_bounce("hard")).encode() + b"]"
    decoded_at_once = []
    for number in range(100):
        [event] = decode_whole(body, EventKind.ALL, limits, demand) or [None]
        decoded_at_once.append(is_structured(event))
        if number < 50:
            assert event.verdict == "hard"
    assert decoded_at_once[0] is False
    assert decoded_at_once[1:33] == [True] * 32
    assert decoded_at_once[33] is False  # a sample: is it still read?
    assert decoded_at_once[34:66] == [True] * 32
    assert not any(decoded_at_once[66:])  # it was not


def test_it_shows_late_that_details_are_read_where_events_wait_for_their_consumer() -> None:
    demand, limits = Demand(), DecodeLimits()
    batches = [decode_whole(b'[{"timestamp":1}]', EventKind.ALL, limits, demand) or [] for _ in range(10)]
    assert not any(is_structured(event) for [event] in batches)
    for [event] in batches:
        assert event.source is None
    [event] = decode_whole(b'[{"timestamp":1}]', EventKind.ALL, limits, demand) or [None]
    assert is_structured(event)


def test_details_of_an_undocumented_shape_do_not_keep_the_events_from_being_read() -> None:
    demand = detailed()
    body = b'[{"timestamp":1,"source":"odd"},{"timestamp":2,"source":{"type":"email"}}]'
    events = decode_whole(body, EventKind.ALL, DecodeLimits(), demand) or []
    assert [event.source and event.source.type for event in events] == [None, "email"]
