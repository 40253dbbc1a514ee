"""Laws of reading: the fast way and the tolerant way agree, and nothing that is JSON is too odd to read."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import strategies

from np6_async._errors import LimitExceeded, NP6Error
from np6_async._models import convert
from np6_async._models.details import (
    ActivationDetail,
    BounceAnalysis,
    BounceCode,
    BounceDetail,
    BounceStatus,
    BounceSubject,
    CancellationDetail,
    CancellationValue,
    ContactRef,
    Detail,
    ExecutionDetail,
    Identity,
    Link,
    Source,
    Stamp,
)


def read(source: Any) -> Source | None:
    return convert.structure_source(json.dumps({"source": source}).encode())


def read_tolerantly(source: Any) -> Source | None:
    return convert.converter.structure(source, Source | None)  # type: ignore[arg-type]


def read_detail(**detail: Any) -> Detail:
    source = read({"type": "email", "detail": detail})
    assert source is not None
    assert source == read_tolerantly({"type": "email", "detail": detail})
    assert source.detail is not None
    return source.detail


# --- the documented shapes ---------------------------------------------------------------------------

RECEIVERS = [
    ({"type": "id", "value": "0013KDC0"}, ContactRef(type="id", value="0013KDC0")),
    ({"type": "hash", "value": "ab" * 16}, ContactRef(type="hash", value="ab" * 16)),
    ({"type": "unicity", "value": ["a@b.c", "d"]}, ContactRef(type="unicity", value=["a@b.c", "d"])),
    ({"type": "unicity", "value": "a@b.c"}, ContactRef(type="unicity", value="a@b.c")),
    (
        {"type": "footprint", "id": "1", "unicity": "a@b.c", "hash": "cd"},
        ContactRef(type="footprint", id="1", unicity="a@b.c", hash="cd"),
    ),
    (
        {"type": "footprint", "id": "1", "unicity": ["a@b.c"], "hash": "cd"},
        ContactRef(type="footprint", id="1", unicity=["a@b.c"], hash="cd"),
    ),
    (
        {"type": "contact", "value": {"type": "id", "value": "1"}},
        ContactRef(type="contact", value=ContactRef(type="id", value="1")),
    ),
    (
        {"type": "contact", "value": {"type": "unicity", "value": ["a", "b"]}},
        ContactRef(type="contact", value=ContactRef(type="unicity", value=["a", "b"])),
    ),
    ({"type": "someday", "value": None}, ContactRef(type="someday")),
]


@pytest.mark.parametrize(("sent", "expected"), RECEIVERS)
def test_every_notation_of_a_contact_is_read(sent: Any, expected: ContactRef) -> None:
    assert read_detail(activation={"receiver": sent}).activation == ActivationDetail(receiver=expected)
    assert read_detail(execution={"recipient": sent}).execution == ExecutionDetail(recipient=expected)


def test_an_activation_is_read() -> None:
    stamp = {"time": 1614089576625, "id": "i", "thread": "t", "set": "s"}
    sent = {"id": "000PE4", "kind": "message", "version": 3, "stamp": stamp, "recipient": "a@b.c", "new": [1]}
    expected = ActivationDetail(
        id="000PE4", kind="message", version=3, stamp=Stamp(1614089576625, "i", "t", "s"), recipient="a@b.c"
    )
    assert read_detail(activation=sent) == Detail(activation=expected)


@pytest.mark.parametrize("version", ["1.2", 3, 1.5, None])
def test_a_version_is_text_or_a_number(version: Any) -> None:
    activation = read_detail(activation={"version": version}).activation
    assert activation is not None
    assert activation.version == version
    assert type(activation.version) is type(version)


def test_the_data_of_an_execution_is_free_form() -> None:
    data = {"a": [1, {"b": None}], "": "é"}
    assert read_detail(execution={"data": data}) == Detail(execution=ExecutionDetail(data=data))


def test_a_bounce_is_read() -> None:
    sent = {
        "status": {"type": "sync", "code": {"enhanced": "5.4.4"}, "diagnostic": "no mail hosts", "mta": ""},
        "analysis": {"verdict": "soft", "subject": {"type": "mailbox", "detail": {"type": "full"}}},
    }
    expected = BounceDetail(
        status=BounceStatus(type="sync", code=BounceCode("5.4.4"), diagnostic="no mail hosts", mta=""),
        analysis=BounceAnalysis(verdict="soft", subject=BounceSubject("mailbox", BounceSubject("full"))),
    )
    assert read_detail(bounce=sent) == Detail(bounce=expected)


def test_a_link_and_a_cancellation_are_read() -> None:
    assert read_detail(link={"type": "open", "url": "https://x"}) == Detail(link=Link("open"))
    value = {"type": "render", "message": "missing field"}
    expected = CancellationDetail("user defined policy", CancellationValue("render", "missing field"))
    sent = {"type": "user defined policy", "value": value}
    assert read_detail(cancellation=sent) == Detail(cancellation=expected)


@pytest.mark.parametrize("channel", ["email", "sms", "notification", "display", "pigeon"])
def test_a_channel_is_whatever_the_server_sent(channel: str) -> None:
    assert read({"type": channel}) == Source(type=channel)


def test_no_source_is_none() -> None:
    assert convert.structure_source(b"{}") is None
    assert read(None) is None


# --- laws --------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(strategies.sources)
def test_the_documented_shape_is_read_the_fast_way_and_equal_to_the_tolerant_way(source: Any) -> None:
    raw = json.dumps({"source": source}).encode()
    assert convert._decode_source(raw).source == read_tolerantly(source)
    assert convert.structure_source(raw) == read_tolerantly(source)


def _all_types(value: Any) -> Any:
    """`value` with the type of every part, since 1 == 1.0 == True."""
    if hasattr(value, "__attrs_attrs__"):
        return type(value), [_all_types(getattr(value, a.name)) for a in value.__attrs_attrs__]
    if isinstance(value, list):
        return [_all_types(item) for item in value]
    if isinstance(value, dict):
        return {key: _all_types(item) for key, item in value.items()}
    return type(value), value


@given(strategies.odd_sources | strategies.json_values)
def test_what_the_fast_way_accepts_it_reads_like_the_tolerant_way(source: Any) -> None:
    raw = json.dumps({"source": source}).encode()
    slowly = read_tolerantly(convert.loads(raw)["source"])
    assert _all_types(convert.structure_source(raw)) == _all_types(slowly)


def test_a_member_sent_twice_is_read_alike_in_both_ways() -> None:
    raw = b'{"source":{"type":"a","detail":null,"type":"b"}}'
    assert convert.structure_source(raw) == read_tolerantly(json.loads(raw)["source"]) == Source(type="b")
    raw = b'{"source":5,"source":{"type":"b"}}'
    assert convert.structure_source(raw) == Source(type="b")


@given(strategies.odd_sources | strategies.json_values)
def test_no_json_is_too_odd_to_be_read(source: Any) -> None:
    found = read(source)
    assert found is None or isinstance(found, Source)


@pytest.mark.parametrize("odd", [5, "x", [], True, [{}], 1.5, ""])
def test_parts_of_another_shape_are_none_and_the_others_stay(odd: Any) -> None:
    good = {"id": "1", "stamp": {"time": 5}}
    assert read(odd) is None
    assert read({"type": "sms", "detail": odd}) == Source(type="sms")
    for name in ("execution", "bounce", "link", "cancellation"):
        assert read_detail(activation=good, **{name: odd}) == Detail(ActivationDetail(id="1", stamp=Stamp(time=5)))
    for name in ("receiver", "stamp"):
        activation = read_detail(activation=good | {"id": "1", "kind": "k"} | {name: odd}).activation
        assert activation is not None
        assert (activation.id, activation.kind, getattr(activation, name)) == ("1", "k", None)


@pytest.mark.parametrize(
    ("sent", "time"),
    [
        (5, 5),
        (5.0, 5),
        ("5", 5),
        (" 5 ", 5),
        ("5.0", 5),
        ("-5", -5),
        (5.5, None),
        (True, None),
        ("x", None),
        ([], None),
        ({}, None),
        ("", None),
    ],
)
def test_whole_numbers_are_read_in_every_notation(sent: Any, time: int | None) -> None:
    assert read_detail(activation={"stamp": {"time": sent}}) == Detail(ActivationDetail(stamp=Stamp(time=time)))


@pytest.mark.parametrize("sent", ["9" * 5000, "inf", "nan", "1e999", "", "-", "+-1", "²", "5\x00"])
def test_what_only_looks_like_a_number_is_none(sent: str) -> None:
    assert convert.whole_number(sent) is None


@pytest.mark.parametrize(("sent", "text"), [(5, "5"), (1.5, "1.5"), (True, None), ([], None), ({}, None), (None, None)])
def test_numbers_are_read_as_text_where_text_belongs(sent: Any, text: str | None) -> None:
    assert read_detail(activation={"id": sent}) == Detail(ActivationDetail(id=text))


def test_an_identity_is_read_tolerantly() -> None:
    assert convert.structure_identity({"type": "customer", "agency": 7, "customer": [], "new": 1}) == Identity(
        "customer", "7", None
    )
    assert convert.structure_identity("x") is None


# --- JSON and what is nearly JSON --------------------------------------------------------------------


@given(strategies.json_values)
def test_plain_json_types_round_trip(value: Any) -> None:
    assert convert.loads(convert.dumps(value)) == value


odd_values = st.recursive(
    strategies.odd_texts | strategies.texts | st.text("?\0\ud800\ufffd") | strategies.scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strategies.odd_texts, inner, max_size=4),
    max_leaves=8,
)


@given(odd_values)
def test_half_an_emoji_is_the_replacement_character_and_all_else_stays(value: Any) -> None:
    """Two halves of a pair become the character that they stand for, as in any JSON."""
    raw = json.dumps(value).encode()
    read = convert.loads(raw)
    assert read == strategies.whole(json.loads(raw))
    json.dumps(read, ensure_ascii=False).encode()


@given(odd_values)
def test_whatever_text_is_written_every_reader_takes_it(value: Any) -> None:
    written = convert.dumps(value)
    assert msgspec.json.decode(written) == convert.loads(written) == convert.loads(json.dumps(value).encode())


@given(
    st.lists(st.sampled_from(["\\ud83d", "\\uDE00", "\\\\", "\\n", "\\u00e9", "ud83d", "x", '\\"', "\\ud83"])).map(
        "".join
    )
)
def test_half_an_emoji_is_told_from_what_looks_like_it(inside: str) -> None:
    """An escaped backslash before `ud83d` is just that."""
    raw = f'"{inside}"'
    try:
        expected = json.loads(raw)
    except ValueError:
        with pytest.raises(ValueError):
            convert.loads(raw.encode())
    else:
        assert convert.loads(raw.encode()) == strategies.whole(expected)


@given(strategies.json_values, st.booleans())
def test_json_is_read_as_the_standard_library_reads_it(value: Any, ascii: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii, indent=1).encode()
    assert convert.loads(raw) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"[NaN, Infinity, -Infinity, 1]", [None, None, None, 1]),
        (b"[1e999, -1e999, 1e3]", [None, None, 1000.0]),
        (b"[" + b"9" * 5000 + b", 7]", [None, 7]),
        (b"[-" + b"9" * 5000 + b"]", [None]),
        (b'["\\ud800", "\\udfff\\ud800"]', ["\ufffd", "\ufffd\ufffd"]),
        (b'["caf\xe9"]', ["caf\ufffd"]),
        (b'["a\nb\x01"]', ["a\nb\x01"]),
    ],
)
def test_odd_characters_and_numbers_do_not_make_json_unreadable(raw: bytes, value: Any) -> None:
    assert convert.loads(raw) == value


def test_integers_of_hundreds_of_digits_are_exact() -> None:
    assert convert.loads(b"9" * 400) == 10**400 - 1


@pytest.mark.parametrize(
    "raw", [b"", b"[1,]", b"{'a':1}", b"[1] [2]", b'{"a":01}', b'"\\q"', b"tru", b"\xff\xfe[\0]\0"]
)
def test_invalid_json_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        convert.loads(raw)


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0019aeE-+.nul', max_size=60).map(str.encode))
def test_reading_any_bytes_gives_json_types_or_a_value_error(raw: bytes) -> None:
    try:
        value = convert.loads(raw)
    except ValueError:
        return
    assert _finite(value)


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _finite(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_finite, value))
    return value is None or isinstance(value, str | int)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_hostile_nesting_is_a_limit_and_not_a_recursion_error(opening: bytes, closing: bytes) -> None:
    raw = opening * 500_000 + b"1" + closing * 500_000
    with pytest.raises(LimitExceeded):
        convert.loads(raw)
    with pytest.raises(NP6Error):
        convert.structure_source(b'{"source":%b}' % raw)


def test_a_contact_nested_too_deeply_for_records_is_a_limit() -> None:
    raw = b'{"source":{"detail":{"activation":{"receiver":%b}}}}' % (b'{"type":1,"value":' * 600 + b"1" + b"}" * 600)
    with contextlib.suppress(LimitExceeded):
        assert isinstance(convert.structure_source(raw), Source)


def test_the_fast_way_takes_the_shapes_that_the_api_documents() -> None:
    """Without it every first look at a source costs ten times as much."""
    for sent, _ in RECEIVERS:
        raw = json.dumps({"source": {"type": "email", "detail": {"activation": {"receiver": sent}}}}).encode()
        assert msgspec.json.decode(raw, type=convert._SourceOnly).source == read(json.loads(raw)["source"])


def test_identities_that_are_kept_are_few_and_small() -> None:
    """Whatever servers send: some hundred KiB at most."""
    identities = convert.Identities()
    for number in range(5_000):
        assert identities[b'{"agency":"%d"}' % number] == Identity(agency=str(number))
    assert len(identities) == 1_000
    large = convert.Identities()
    assert large[b'{"agency":"%b"}' % (b"x" * 10_000)] is not None
    assert not large
