"""Personal data in files: kept, hashed or left out, the same in every format."""

from __future__ import annotations

import csv
import hmac
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies

from np6_async import Contact, Event, InvalidInput, LimitExceeded, structure, unstructure
from np6_async._columns.addresses import replace_addresses
from np6_async._columns.personal import Mask, make_mask
from np6_async.export import Format, Personal, make_writer
from np6_async.integrations import arrow

KEY = b"sixteen bytes or more"
ADDRESS = "Jane.Canary@Example.com"
PHONE = "33612345678"
MD5 = "0f" * 16
MASKED: list[Personal] = ["hash", "drop"]
FORMATS: list[Format] = ["ndjson", "csv", "parquet"]


def hashed(text: str) -> str:
    return hmac.digest(KEY, text.strip().lower().encode(), "sha256").hex()


def event(number: int = 1, **detail: Any) -> dict[str, Any]:
    """An event with these parts of `source.detail`."""
    return {
        "type": "bounce",
        "id": f"id-{number}",
        "timestamp": 1_700_000_000_000 + number,
        "source": {"type": "email", "detail": detail},
    }


def canaries() -> list[dict[str, Any]]:
    """Everything that an event may hold of a person."""
    receivers: list[Any] = [
        {"type": "id", "value": "000MLGPR"},
        {"type": "footprint", "id": "000MLGPR", "unicity": ADDRESS, "hash": MD5},
        {"type": "footprint", "id": "000MLGPR", "unicity": [ADDRESS], "hash": MD5},
        {"type": "unicity", "value": [ADDRESS]},
        {"type": "unicity", "value": ADDRESS.upper()},
        {"type": "unicity", "value": [ADDRESS, PHONE]},
        {"type": "unicity", "value": int(PHONE)},
        {"type": "unicity", "value": {"field": "mobile", "value": PHONE}},
        {"type": "hash", "value": MD5},
        {"type": "contact", "value": {"type": "unicity", "value": ADDRESS}},
        {"type": "contact", "value": {"type": "contact", "value": {"type": "unicity", "value": [int(PHONE)]}}},
        {"type": "contact", "value": {"type": "footprint", "id": "000MLGPR", "unicity": PHONE}},
        {"unicity": ADDRESS},
        {"type": "id", "value": "000MLGPR", "mobile": PHONE, "more": [{"unicity": int(PHONE)}]},
        [{"type": "unicity", "value": ADDRESS}],
        ADDRESS,
        int(PHONE),
    ]
    texts = [
        f"550 5.1.1 <{ADDRESS}>: user unknown",
        f"to={ADDRESS},from=mailto:{ADDRESS};",
        f"user '{ADDRESS.upper()}' unknown.",
        "https://a.example/u?email=jane.canary%40example.com&x=1",
        "https://a.example/u?u=https%3A%2F%2Fb.example%2F%3Fe%3DJane.Canary%2540Example.com",
        f"https://a.example/{ADDRESS}/x",
        f'{{"email":"{ADDRESS}"}}',
    ]
    details: list[dict[str, Any]] = [
        *({"activation": {"receiver": receiver}} for receiver in receivers),
        *({"execution": {"recipient": receiver}} for receiver in receivers),
        {"activation": {"recipient": ADDRESS}},
        {"activation": {"recipient": PHONE}},
        {"activation": {"recipient": int(PHONE)}},
        *({"bounce": {"status": {"diagnostic": text}}} for text in texts),
        *({"cancellation": {"type": "x", "value": {"type": "render", "message": text}}} for text in texts),
        *({"link": {"type": "redirection", "url": text}} for text in texts),
        *({"execution": {"data": {"list": [text, {ADDRESS: text}], "contact": PHONE}}} for text in texts),
        {"unknown": {ADDRESS: 1, ADDRESS.upper(): 2, "target": {"type": "unicity", "value": PHONE}}},
        {"unknown": {"unicity": PHONE, "hash": MD5, "contact": {"fields": {"mobile": PHONE}}}},
    ]
    return [event(number, **detail) for number, detail in enumerate(details)]


CANARIES = [structure(each) for each in canaries()]


def written(format: Format, events: list[Event], mode: Personal, contact: str | Contact | None = "000MLGPR") -> bytes:
    file = io.BytesIO()
    writer = make_writer(format, file, personal=mode, personal_key=KEY if mode == "hash" else None)
    writer.add(contact, events)
    writer.close()
    return file.getvalue()


def rows(format: Format, content: bytes) -> list[dict[str, Any]]:
    if format == "parquet":
        return list(pq.read_table(io.BytesIO(content)).to_pylist())
    if format == "csv":
        return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
    return [json.loads(line) for line in content.splitlines()]


def strings(value: Any) -> Iterator[str]:
    """All texts of JSON, names of members too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    else:
        yield str(value)


def assert_nobody_is_named(text: str) -> None:
    for canary in ("canary", "jane", PHONE, MD5):
        assert canary not in text.lower(), text


@pytest.mark.parametrize("mode", MASKED)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("contact", ["000MLGPR", Contact.by_unicity(ADDRESS), Contact.by_hash(MD5), ADDRESS, None])
def test_no_person_is_named_anywhere_in_a_file(format: Format, mode: Personal, contact: Any) -> None:
    content = written(format, CANARIES, mode, contact)
    read = rows(format, content)
    assert len(read) == len(CANARIES)
    for text in strings(read):
        assert_nobody_is_named(text)
    for raw in [content] if format != "parquet" else [content, content[-100_000:]]:
        assert_nobody_is_named(raw.decode("latin-1"))


@pytest.mark.parametrize("mode", MASKED)
async def test_no_person_is_named_anywhere_in_an_arrow_table(mode: Personal) -> None:
    pairs = [(Contact.by_unicity(ADDRESS), each) for each in CANARIES]
    table = await arrow.table(pairs, personal=mode, personal_key=KEY if mode == "hash" else None)
    assert_nobody_is_named(str(table.to_pylist()))
    for column in table.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                assert_nobody_is_named(bytes(buffer or b"").decode("latin-1"))


@pytest.mark.parametrize("mode", MASKED)
@pytest.mark.parametrize("format", FORMATS)
def test_no_address_is_in_a_column_that_is_meant_for_ids_and_words(format: Format, mode: Personal) -> None:
    receiver = {"type": "id", "value": ADDRESS}
    data = event(activation={"id": ADDRESS, "receiver": receiver}, bounce={"status": {"mta": f"mx of {ADDRESS}"}})
    content = written(format, [structure(data | {"id": ADDRESS, "identity": {"customer": ADDRESS}})], mode)
    for text in strings(rows(format, content)):
        assert_nobody_is_named(text)


def test_the_canaries_are_in_the_files_where_they_are_kept() -> None:
    """Or the tests above would show nothing."""
    for each in FORMATS:
        found = " ".join(strings(rows(each, written(each, CANARIES, "keep")))).lower()
        assert all(canary in found for canary in ("jane.canary", PHONE, MD5))


@pytest.mark.parametrize("format", FORMATS)
def test_an_address_has_the_same_hash_wherever_it_stands(format: Format) -> None:
    whole = event(1, activation={"recipient": f" {ADDRESS.upper()}", "receiver": {"type": "unicity", "value": ADDRESS}})
    inside = event(
        2, bounce={"status": {"diagnostic": f"550 <{ADDRESS}>: unknown"}}, link={"url": "?e=jane.canary%40example.com"}
    )
    contact = Contact.by_unicity(ADDRESS.lower())
    read = rows(format, written(format, [structure(whole), structure(inside)], "hash", contact))
    first, second = (" ".join(strings(row)) for row in read)
    assert first.count(hashed(ADDRESS)) == 3
    assert second.count(hashed(ADDRESS)) == 3
    assert f"550 <{hashed(ADDRESS)}>: unknown" in second


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_changes_where_personal_data_is_kept(format: Format) -> None:
    file = io.BytesIO()
    writer = make_writer(format, file)
    writer.add("000MLGPR", CANARIES)
    writer.close()
    assert rows(format, written(format, CANARIES, "keep")) == rows(format, file.getvalue())
    if format == "ndjson":
        assert [row["event"] for row in rows(format, file.getvalue())] == [unstructure(each) for each in CANARIES]


@pytest.mark.parametrize("mode", MASKED)
@pytest.mark.parametrize("format", FORMATS)
def test_what_names_nobody_stays_as_it_is(format: Format, mode: Personal) -> None:
    detail = {"receiver": {"type": "id", "value": "000MLGPR"}, "id": "000PE4"}
    plain = [
        structure(event(n, activation=detail, link={"url": "https://a.example/?x=1", "n": [1.5, None]}))
        for n in range(3)
    ]
    assert rows(format, written(format, plain, mode)) == rows(format, written(format, plain, "keep"))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(strategies.events(source=strategies.sources | strategies.odd_sources), min_size=1, max_size=4),
    st.sampled_from(MASKED),
)
def test_no_event_id_and_time_is_lost(data: list[dict[str, Any]], mode: Personal) -> None:
    """Whatever the events: as many rows, in their order, and all of it JSON."""
    events = list(map(structure, data))
    for each in FORMATS:
        masked = rows(each, written(each, events, mode, None))
        kept = rows(each, written(each, events, "keep", None))
        for one, other in zip(masked, kept, strict=True):
            if each == "ndjson":
                one, other = ({"contact": row["contact"], **row["event"]} for row in (one, other))
            for name in ("contact", "id", "timestamp", "type"):
                assert one.get(name) == other.get(name)
            if one.get("rest"):
                json.loads(one["rest"])


_odd_texts = st.lists(
    st.sampled_from(
        [
            "jane",
            "@",
            "a.b",
            "=",
            "%40",
            "%",
            "25",
            "40",
            '"',
            "\\",
            "<",
            " ",
            "/",
            "?",
            "&",
            "https://",
            "é",
            "(",
            ")",
            ".",
        ]
    ),
    max_size=12,
).map("".join)


FOUND = [
    ("jane@example.com", "{jane@example.com}"),
    ("<Jane@Example.com>, <bob@example.com>", "<{Jane@Example.com}>, <{bob@example.com}>"),
    ("unknown: jane@example.com.", "unknown: {jane@example.com}."),
    ("'o'brien@example.com'", "'{o'brien@example.com}'"),
    ("jane+news@example.com", "{jane+news@example.com}"),
    ('550 "jane doe"@example.com', '550 {"jane doe"@example.com}'),
    ('"jane".doe@example.com', '{"jane".doe@example.com}'),
    ("jane(at home)@example.com", "{jane(at home)@example.com}"),
    ("bounce+jane=example.com@send.example", "{bounce+jane}={example.com@send.example}"),
    ("prvs=123=jane.doe@example.com", "{prvs=123}={jane.doe@example.com}"),
    ("to=jane.doe@example.com", "to={jane.doe@example.com}"),
    ("jane=doe@example.com", "{jane}={doe@example.com}"),
    ("jane%example.com@relay.example", "{jane%example.com@relay.example}"),
    ("<@relay.example:jane@example.com>", "<@relay.example:{jane@example.com}>"),
    ("jane@[192.0.2.1]", "{jane@}[192.0.2.1]"),
    ("cut off: jane@", "cut off: {jane@}"),
    ("«jane@exämple.fr»", "«{jane@exämple.fr}»"),
    ("jané@例え.jp", "{jané@例え.jp}"),
    ("mailto:jane@example.com?cc=bob@example.com", "mailto:{jane@example.com}?cc={bob@example.com}"),
    ("https://a.example/u?e=jane.doe%40example.com&x=1", "https://a.example/u?e={jane.doe@example.com}&x=1"),
    ("https://a.example/u?e=jane@example.com#x", "https://a.example/u?e={jane@example.com}#x"),
    ("https://a.example/?u=b%3Fe%3Djane%2540example.com", "https://a.example/?u=b%3Fe%3D{jane@example.com}"),
    ("/u?e=%22jane%20doe%22%40example.com", '/u?e={"jane doe"@example.com}'),
    ("jane&#64;example.com", "{jane@example.com}"),
    ("jane\\u0040example.com", "{jane@example.com}"),
    ("jane\uff20example.com", "{jane@example.com}"),
    ("+33612345678@sms.example", "{+33612345678@sms.example}"),
    ("tom/jerry&co@example.com", "{tom/jerry&co@example.com}"),
    ("jane@example.com@relay.example", "{jane@example.com@relay.example}"),
    ("lunch @ noon, @jane", "lunch @ noon, @jane"),
]


_addresses = st.sampled_from([text for text, _ in FOUND])
_between = st.sampled_from([" ", ", ", "; ", " <", "> ", "\n", "\t"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_addresses, _between), max_size=4))
def test_masking_a_text_again_changes_nothing(parts: list[tuple[str, str]]) -> None:
    text = "".join(map("".join, parts))
    for mask in (Mask(KEY), Mask(None)):
        once = mask.inside(text)
        assert mask.inside(once) == once


@settings(max_examples=300, deadline=None)
@given(_odd_texts, _odd_texts)
def test_an_address_is_found_in_any_surroundings(before: str, after: str) -> None:
    """Of which no more is asked than that they do not touch it."""
    assert "canary" not in Mask(None).inside(f"{before} jane.canary@example.com {after}")


_local = st.lists(
    st.sampled_from([*"!#$%&'*+-/=?^_`{|}~.aZ0é", "canary", "25", "40", "https"]), min_size=1, max_size=8
).map("".join)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(
    _local,
    _local,
    st.sampled_from([" ", "<", "to: ", "(", '"', "x;"]),
    st.sampled_from([" ", ">", ", ", ")", ".", '"']),
)
def test_an_address_of_any_valid_characters_is_found(first: str, second: str, before: str, after: str) -> None:
    """One that begins as a URL does, with ``/``, ``?``, ``&`` or ``#``, is taken for a URL."""
    local = f"{first}canary{second}".lstrip("/?&#")
    for at in ("@", "\uff20"):
        text = f"{before}{local}{at}mail.example.com{after}"
        masked = Mask(None).inside(text)
        assert "canary" not in masked
        assert masked.startswith(before)
        assert masked.endswith(after)


@pytest.mark.slow
@given(
    st.recursive(
        _addresses | strategies.scalars,
        lambda inner: st.dictionaries(
            _addresses | st.sampled_from(["recipient", "unicity", "type", "value"]), inner, max_size=3
        ),
    )
)
def test_what_was_dropped_from_json_stays_dropped(value: Any) -> None:
    mask = Mask(None)
    once = mask.data(value)
    assert mask.data(once) == once


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_addresses_are_found_in_unusual_forms(text: str, expected: str) -> None:
    assert replace_addresses(text, lambda address: f"{{{address}}}") == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "@",
        "a@",
        '"',
        '"\\',
        '"\\"."',
        '".',
        "(",
        "a=b@",
        "%25",
        "/?",
        "\u2014",
        '"a".',
        "%40",
        "http://",
        "=@",
        "a.",
        "(a)",
    ],
)
def test_no_text_takes_long(unit: str) -> None:
    """Ten times the text takes about ten times as long, in CPU time, and not a hundred."""

    def seconds(size: int) -> float:
        text = unit * (size // len(unit)) + "@"
        begin = time.process_time()
        Mask(None).inside(text)
        return time.process_time() - begin

    assert min(seconds(40_000) for _ in range(2)) < 30 * min(seconds(4_000) for _ in range(3)) + 0.01


def test_two_names_of_members_do_not_become_one() -> None:
    assert Mask(None).data({"a@b.c": 1, "d@e.f": 2}) == {"[e-mail]": 1, "[e-mail] 2": 2}
    assert sorted(Mask(KEY).data({"a@b.c": 1, "A@b.c": 2}).values()) == [1, 2]


def test_json_that_is_nested_too_deeply_is_a_limit() -> None:
    node: Any = "x"
    for _ in range(100_000):
        node = [node]
    with pytest.raises(LimitExceeded):
        Mask(None).data(node)


# The key


def test_a_key_in_a_file_and_as_bytes_is_the_same_key(tmp_path: Path) -> None:
    file = tmp_path / "np6.key"
    file.write_bytes(KEY + b"\n")
    for mask in (make_mask("hash", file), make_mask("hash", str(file)), make_mask("hash", KEY)):
        assert mask is not None
        assert mask.whole(ADDRESS) == hashed(ADDRESS)
        assert mask.fingerprint == Mask(KEY).fingerprint != Mask(b"another key of mine").fingerprint


@pytest.mark.parametrize(
    ("mode", "key", "message"),
    [
        ("hide", None, "use 'keep', 'hash' or 'drop'"),
        ("hash", None, "needs personal_key="),
        ("drop", KEY, "not for 'drop'"),
        ("keep", KEY, "not for 'keep'"),
        ("hash", b"short", "at least 16"),
        ("hash", "no/such/file", "cannot be read"),
        ("hash", "a\0b", "neither bytes nor the path"),
        ("hash", 17, "neither bytes nor the path"),
    ],
)
def test_a_wrong_key_or_word_is_refused(mode: Any, key: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        make_writer("ndjson", io.BytesIO(), personal=mode, personal_key=key)


def test_a_mask_shows_nothing_of_its_key() -> None:
    assert repr(Mask(KEY)) == "Mask(hash)"
    assert KEY.decode() not in Mask(KEY).fingerprint
