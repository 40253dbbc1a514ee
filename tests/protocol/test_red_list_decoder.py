"""The entries of the red list: in order and once, whatever the chunks; in bounded memory; members as they come."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory import peak as peak_of

from np6_async import DecodeError, DecodeLimits, LimitExceeded, NP6Error, ProtocolError, RedListEntry, RedListOrigin
from np6_async._models.account import read_red_list_entry
from np6_async._models.time_bounds import Window
from np6_async._protocol.red_list import RedListDecoder, RedListQuery

AT = 1_614_089_582_000


def decode(pieces: Iterable[bytes], limits: DecodeLimits | None = None) -> list[RedListEntry]:
    decoder, entries = RedListDecoder(limits or DecodeLimits()), list[RedListEntry]()
    for piece in pieces:
        decoder.feed(piece)
        while (batch := decoder.next_batch()) is not None:
            entries += batch
    decoder.finish()
    return entries


members = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.lists(st.integers(), max_size=2)
entry = st.dictionaries(st.sampled_from(["id", "timestamp", "origin", "detail", "more"]), members)


@given(st.lists(entry), st.lists(st.integers(0, 10_000), max_size=8), st.integers(1, 200))
def test_entries_come_out_as_they_went_in_however_the_response_is_cut_into_pieces(
    entries: list[dict[str, Any]], at: list[int], size: int
) -> None:
    """Whatever their members are."""
    body = b"\xef\xbb\xbf " + json.dumps(entries).encode() + b" \n"
    places = [0, *sorted(place % (len(body) + 1) for place in at), len(body)]
    found = decode([body[start:end] for start, end in pairwise(places)], DecodeLimits(slice_bytes=size))
    assert [each.data for each in found] == entries


@pytest.mark.parametrize(
    "value", [AT, float(AT), str(AT), 1_614_089_582, "1614089582", "2021-02-23T14:13:02Z", "2021-02-23T15:13:02+01:00"]
)
def test_a_timestamp_is_epoch_milliseconds_in_whatever_notation_it_came(value: Any) -> None:
    (found,) = decode([json.dumps([{"timestamp": value}]).encode()])
    assert found.timestamp == AT
    assert found.at == datetime(2021, 2, 23, 14, 13, 2, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, True, "", "soon", -1, 1e300, 10**40, [], {}, "NaN"])
def test_a_timestamp_that_is_no_time_is_none(value: Any) -> None:
    found = read_red_list_entry({"timestamp": value})
    assert (found.timestamp, found.at) == (None, None)
    assert found.data == {"timestamp": value}


@pytest.mark.parametrize("origin", list(RedListOrigin))
def test_an_origin_has_a_name(origin: RedListOrigin) -> None:
    for value in (int(origin), float(origin), str(int(origin))):
        found = read_red_list_entry({"origin": value}).origin
        assert found is origin
        assert found == int(origin)


def test_the_numbers_of_origins_are_those_of_the_api() -> None:
    assert [(each.value, each.name) for each in RedListOrigin] == [
        (0, "UNKNOWN"),
        (1, "API"),
        (2, "IMPORT"),
        (3, "FORM"),
        (4, "LIST_UNSUBSCRIBE"),
        (5, "COMPLAINT"),
        (6, "SMS_STOP"),
        (7, "SMS_BLACKLIST"),
        (8, "SMS_ADMINISTRATIVE"),
        (9, "SMS_SPECIFIC"),
    ]


@pytest.mark.parametrize("number", [10, 4_711, -1, 2**70])
def test_an_origin_that_is_not_documented_keeps_its_number(number: int) -> None:
    """And is a member like others: it equals its number, can be a key, be copied and pickled, and has a name."""
    found = read_red_list_entry({"origin": number}).origin
    assert isinstance(found, RedListOrigin)
    assert found == number == found.value
    assert {found: 1}[RedListOrigin(number)] == {number: 1}[found] == 1
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found  # noqa: S301
    assert (found.name, repr(found)) == (f"ORIGIN_{number}", f"<RedListOrigin.ORIGIN_{number}: {number}>")
    assert found not in list(RedListOrigin)


@pytest.mark.parametrize("value", [None, True, "complaint", 5.5, [], {}])
def test_an_origin_that_is_not_a_number_is_none(value: Any) -> None:
    assert read_red_list_entry({"origin": value}).origin is None


def test_the_repr_of_an_entry_leaves_out_what_may_be_personal() -> None:
    found = read_red_list_entry({"id": "A", "timestamp": AT, "origin": 5, "detail": "anne@x.fr", "mail": "anne@x.fr"})
    assert repr(found) == "RedListEntry(id='A', timestamp=1614089582000, origin=<RedListOrigin.COMPLAINT: 5>)"
    assert found.detail == "anne@x.fr"
    assert found == copy.deepcopy(found)
    assert len({found, copy.deepcopy(found)}) == 1


@pytest.mark.parametrize(
    ("body", "error", "match"),
    [
        (b"<html>", ProtocolError, "an HTML or XML page, not a JSON array of red list entries"),
        (b'{"error":1}', ProtocolError, "a JSON object, not"),
        (b'[{"id":"a"},{"id":"b"},"c"]', DecodeError, "element 2"),
        (b'[{"id":"a"},{"id":"b"},null,{"id":"c"}]', DecodeError, "element 2"),
        (b'[{"id":"a"},{"id":"b"}{"id":"c"}]', ProtocolError, "comma"),
        (b'[{"id":"a"},{"id":"b"}]x', ProtocolError, "after the end"),
        (b'[{"id":"a"},{"id":"b"},{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", LimitExceeded, "nested"),
        (b'[{"id":"a"},{"id":"b"},{"x":"' + b"x" * 3_000_000, LimitExceeded, "no complete element"),
    ],
)
@pytest.mark.parametrize("size", [9, 64 * 1024])
def test_anything_but_an_array_of_objects_is_an_error_after_the_entries_before_it(
    body: bytes, error: type[NP6Error], match: str, size: int
) -> None:
    decoder, ids = RedListDecoder(DecodeLimits(slice_bytes=size)), list[str | None]()
    with pytest.raises(error, match=match) as caught:
        decoder.feed(body)
        while (batch := decoder.next_batch()) is not None:
            ids += [each.id for each in batch]
        decoder.finish()
    assert type(caught.value) is error
    if isinstance(caught.value, DecodeError):
        assert (caught.value.position, ids) == (2, ["a", "b"])


def test_what_strict_readers_refuse_is_read() -> None:
    """A control character, half an emoji, a number that JSON does not have."""
    (found,) = decode([b'[{"id":"A","detail":"a\x01b\\ud83d","timestamp":NaN}]'])
    assert (found.id, found.detail, found.timestamp) == ("A", "a\x01b\ufffd", None)


@pytest.mark.slow
@pytest.mark.slow
def test_two_hundred_thousand_entries_take_no_more_memory_than_two_thousand() -> None:
    def body(thousands: int) -> Iterable[bytes]:
        yield b"[{}"
        for thousand in range(thousands):
            yield b"".join(
                b',{"id":"%08d","timestamp":1614089582000,"origin":%d}' % (thousand * 1000 + n, n % 11)
                for n in range(1000)
            )
        yield b"]"

    def peak(thousands: int) -> int:
        size, count = peak_of(
            RedListDecoder(DecodeLimits()), RedListQuery("mail", Window(None, None)).progress(), body(thousands)
        )
        assert count == thousands * 1000 + 1
        return size

    peak(1)
    assert peak(200) < 1.5 * peak(2)
