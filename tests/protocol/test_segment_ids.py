"""The ids of a segment: in order and once, whatever the chunks; in bounded memory; checked against a first response."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory import peak as peak_of

from np6_async import DecodeError, DecodeLimits, LimitExceeded, NP6Error, OrderError, ProtocolError, StreamInterrupted
from np6_async._protocol.prefix import Prefix
from np6_async._protocol.segment_ids import IdDecoder

SMALL = DecodeLimits(slice_bytes=16)
texts = st.text(max_size=12)


def ids_delivered() -> Prefix[str]:
    return Prefix("ids", "the segment")


def decode(pieces: Iterable[bytes], limits: DecodeLimits = SMALL) -> list[str]:
    decoder, ids = IdDecoder(limits), list[str]()
    for piece in pieces:
        decoder.feed(piece)
        while (batch := decoder.next_batch()) is not None:
            ids += batch
    decoder.finish()
    return ids


def cut(body: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(body) + 1) for place in at), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


@given(
    st.lists(texts | st.integers(0, 2**70)),
    st.lists(st.integers(0, 10_000), max_size=8),
    st.booleans(),
    st.sampled_from([(",", ":"), (" , ", ":"), ("\n,\r\t", ":")]),
    st.integers(1, 40),
)
def test_ids_come_out_as_they_went_in_however_the_response_is_cut_into_pieces(
    ids: list[str | int], at: list[int], escaped: bool, separators: tuple[str, str], size: int
) -> None:
    """Numbers as text, escapes and commas inside of ids included."""
    body = b"\xef\xbb\xbf " + json.dumps(ids, ensure_ascii=escaped, separators=separators).encode() + b" \n"
    assert decode(cut(body, at), DecodeLimits(slice_bytes=size)) == [str(each) for each in ids]


@given(st.lists(texts, min_size=1, max_size=20), st.data())
def test_a_response_that_ends_early_is_never_taken_for_complete(ids: list[str], data: st.DataObject) -> None:
    body = json.dumps(ids).encode()
    body = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(StreamInterrupted):
        decode([body])


@pytest.mark.parametrize(
    ("body", "error", "match"),
    [
        (b"<html>", ProtocolError, "HTML"),
        (b'{"error":1}', ProtocolError, "object"),
        (b"12", ProtocolError, "single JSON value"),
        (b'"a"', ProtocolError, "single JSON value"),
        (b'["a"]x', ProtocolError, "after the end"),
        (b'["a"]]', ProtocolError, "after the end"),
        (b'["a","b" "c"]', ProtocolError, "comma"),
        (b'["a","b"1]', ProtocolError, "comma"),
        (b'["a",]', ProtocolError, "JSON"),
        (b'["a",,"b"]', ProtocolError, "JSON"),
        (b"[,]", ProtocolError, "JSON"),
        (b'["a":"b"]', ProtocolError, "comma"),
        (b'["a","b",null]', DecodeError, "element 2"),
        (b'["a","b",true,"c"]', DecodeError, "element 2"),
        (b'["a","b",{"id":"c"}]', DecodeError, "element 2"),
        (b'["a","b",["c"]]', DecodeError, "element 2"),
        (b'["a","b",c]', DecodeError, "element 2"),
        (b'["a","b","\\x"]', DecodeError, "element 2"),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1024])
def test_anything_but_an_array_of_ids_is_an_error_after_the_ids_before_it(
    body: bytes, error: type[NP6Error], match: str, size: int
) -> None:
    decoder, ids = IdDecoder(DecodeLimits(slice_bytes=size)), list[str]()
    with pytest.raises(error, match=match) as caught:
        decoder.feed(body)
        while (batch := decoder.next_batch()) is not None:
            ids += batch
        decoder.finish()
    assert type(caught.value) is error
    if isinstance(caught.value, DecodeError):
        assert caught.value.position == 2
        assert ids == ["a", "b"]
    assert set(ids) <= {"a", "b"}


@pytest.mark.parametrize("endless", [b'["' + b"a," * 8192, b"[" + b"1" * 8192, b'["\\'])
def test_what_can_never_become_an_id_is_not_collected(endless: bytes) -> None:
    with pytest.raises(LimitExceeded, match="no complete contact id"):
        decode([endless + b"\\" * 8192])


@pytest.mark.slow
@pytest.mark.parametrize("size", [7, 1000, 1024 * 1024])
@pytest.mark.parametrize(("head", "tail"), [('"', '"'), ('"\\"', ',"'), ("1", "2")])
def test_an_id_of_4096_bytes_is_one_and_a_longer_one_is_not_however_it_is_cut(head: str, tail: str, size: int) -> None:
    """With its quotes, and an escaped character counted once."""

    def ids(count: int) -> list[str]:
        body = f'["a",{head}{"7" * count}{tail},"b"]'.encode()
        return decode((body[at : at + size] for at in range(0, len(body), size)), DecodeLimits())

    most = 4096 - len(head.replace("\\", "")) - len(tail)
    first, long, last = ids(most)
    assert (first, long.count("7"), last) == ("a", most, "b")
    with pytest.raises(LimitExceeded, match="no complete contact id within 4096 bytes"):
        ids(most + 1)


@pytest.mark.parametrize("size", [1, 1024 * 1024])
def test_blanks_between_ids_are_not_part_of_them(size: int) -> None:
    body = b'["a"' + b" " * 9000 + b"," + b"\n" * 9000 + b"12" + b"\t" * 9000 + b"]"
    assert decode(body[at : at + size] for at in range(0, len(body), size)) == ["a", "12"]


@pytest.mark.parametrize("size", [1, 3, 1024])
def test_an_id_that_is_not_valid_utf_8_is_refused_and_not_altered(size: int) -> None:
    body = '["a","é",'.encode() + b'"A\xff","c"]'
    decoder, ids = IdDecoder(DecodeLimits(slice_bytes=size)), list[str]()
    with pytest.raises(DecodeError, match="element 2"):
        decoder.feed(body)
        while (batch := decoder.next_batch()) is not None:
            ids += batch
    assert ids == ["a", "é"]


def test_a_response_may_not_be_larger_than_the_limit() -> None:
    with pytest.raises(LimitExceeded, match="100 bytes"):
        decode([b'["a"', b"," + b'"a",' * 100], DecodeLimits(answer_bytes=100))


@pytest.mark.slow
def test_four_hundred_thousand_ids_take_no_more_memory_than_four_thousand() -> None:
    def body(thousands: int) -> Iterable[bytes]:
        yield b"["
        for thousand in range(thousands):
            yield b",".join(b'"%08d"' % (thousand * 1000 + n) for n in range(1000)) + b","
        yield b'"last"]'

    def peak(thousands: int) -> int:
        size, count = peak_of(IdDecoder(DecodeLimits()), ids_delivered(), body(thousands))
        assert count == thousands * 1000 + 1
        return size

    peak(1)
    assert peak(400) < 1.5 * peak(4)


batched = st.lists(st.lists(texts, min_size=1, max_size=5), max_size=6)


@given(st.lists(texts, min_size=1, max_size=30), st.data())
def test_after_a_break_only_the_missing_ids_are_delivered(ids: list[str], data: st.DataObject) -> None:
    """At any number of breaks, whatever the batches."""
    delivered, got = ids_delivered(), list[str]()
    for end in [*data.draw(st.lists(st.integers(0, len(ids)), max_size=4)), len(ids)]:
        delivered.restart()
        at = 0
        while at < end:
            size = data.draw(st.integers(1, end - at))
            got += delivered.accept(ids[at : at + size])
            at += size
    assert got == ids
    delivered.finish()


@given(st.lists(texts, min_size=1, max_size=12), st.lists(texts, max_size=12))
def test_a_response_that_begins_with_other_ids_is_refused_before_any_of_it_is_delivered(
    ids: list[str], other: list[str]
) -> None:
    delivered = ids_delivered()
    assert delivered.accept(ids) == ids
    delivered.restart()
    if other[: len(ids)] == ids:
        assert delivered.accept(other) == other[len(ids) :]
        delivered.finish()
    else:
        with pytest.raises(OrderError, match="start again"):
            delivered.accept(other)
            delivered.finish()


def test_the_boundary_between_two_ids_matters() -> None:
    delivered = ids_delivered()
    delivered.accept(['a","b', "c"])
    delivered.restart()
    with pytest.raises(OrderError):
        delivered.accept(["a", 'b","c'])
