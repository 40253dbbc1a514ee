"""Hostile contacts and mutated bodies, many of them: only NP6Errors get out, and nothing is lost silently.

NP6_FUZZ=10 makes it ten times as many. A failure names its seed.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from conftest import Figure
from support import strategies
from support.raw_server import Connection, raw_server, response
from yarl import URL

from np6_async import Contact, InvalidContact, NP6Client, NP6Error
from np6_async._config import DecodeLimits
from np6_async._models.contacts import parse, target_path
from np6_async._models.events import Event, EventKind
from np6_async._protocol.event_decoder import EventDecoder, decode_whole

TIMES = int(os.environ.get("NP6_FUZZ", "1"))
CONTACTS = 100_000 * TIMES
BODIES = 20_000 * TIMES
SEED = 20_260_101

# --- contacts -----------------------------------------------------------------------------------------

ALLOWED = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._~:+=-"
PARTS = [
    *["..", ".", "/", "\\", "//", "?", "#", "&", "=", "%", ";", ":", "@", "%2F", "%2e%2e", "%252F", "%00", "%", "%zz"],
    *["\r\n", "\n", "\r", "\x00", "\t", " ", "\x7f", "\x85", "\u2028", "\u200b", "\u202e", "\ufeff", "\xad"],
    *[
        "\ud800",
        "\udfff",
        "é",
        "e\u0301",
        "\uff0e\uff0e",
        "\uff0f",
        "\uff1f",
        "\uff05\uff12\uff26",
        "ß",
        "İ",
        "🎉",
        "\u0663",
        "1",
        "\u0660",
    ],
    *[" HTTP/1.1\r\nX-Evil: 1\r\n\r\n", "http://evil.example/", "user:pass@", "?start=0", "/events/../../x", "null"],
    *["000MLGPR", "A", "z", "-", "~", "+", "{id}", "'", '"', "<script>", "$(id)", "`id`", "${jndi:ldap://x}", "*", "|"],
]


class Shouting(str):
    """A str that says something else when formatted."""

    __slots__ = ()

    def __str__(self) -> str:
        return "../../evil"

    def __format__(self, spec: str) -> str:
        return "../../evil"


OTHERS: list[Any] = [None, 0, 12345678, -1, 1.5, True, b"000MLGPR", bytearray(b"A"), [], ["A"], {}, object(), ("A",)]


def hostile_contact(chance: random.Random) -> Any:
    match chance.randrange(12):
        case 0:
            return chance.choice(OTHERS)
        case 1:
            return "".join(chr(chance.choice([chance.randrange(128), chance.randrange(0x110000)])) for _ in range(4))
        case 2:
            return chance.choice(ALLOWED) * chance.choice([1, 255, 256, 257, 1024, 1025, 5000])
        case 3:
            return Shouting("".join(chance.choices(ALLOWED, k=8)))
        case 4 | 5 | 6:  # an id, with or without something wrong about it
            text = "".join(chance.choices(ALLOWED, k=chance.randrange(1, 12)))
            at = chance.randrange(len(text) + 1)
            return text[:at] + chance.choice(["", "", *PARTS]) + text[at:]
        case _:
            return "".join(chance.choices(PARTS, k=chance.randrange(1, 5)))


def on_the_wire(contact: Contact) -> str:
    """The target of the request line, as it is built for `contact`."""
    path, query = target_path(contact, "/events")
    parameters = f"{query}&sort=asc" if query else "sort=asc"
    return URL.build(
        scheme="https", authority="api-cm.np6.com", path=path, query_string=parameters, encoded=True
    ).raw_path_qs


def says(target: str, kind: str, value: str) -> bool:
    """Whether `target`, read by another library, asks for this contact and for nothing else."""
    if not target.isascii() or not target.isprintable() or " " in target:
        return False
    parts = urlsplit(target)
    parameters = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    if parts.scheme or parts.netloc or parts.fragment or parameters.pop("sort") != ["asc"]:
        return False
    if kind == "id":
        segments = parts.path.split("/")
        return segments == ["", "targets", value, "events"] and unquote(value) == value and not parameters
    return parts.path == "/targets/events" and parameters == {kind: [value]}


def test_E4_hostile_contacts_are_refused_or_sent_verbatim(figure: Figure) -> None:
    """Whatever is given for a contact, InvalidContact is raised, or it is sent to the letter, as one path segment or
    as one parameter."""
    chance = random.Random(SEED)
    refused = accepted = quoted = other = 0
    began = time.perf_counter()
    for number in range(CONTACTS):
        given = hostile_contact(chance)
        for kind in ("id", "unicity", "hash", "parsed"):
            try:
                contact = parse(given) if kind == "parsed" else getattr(Contact, f"by_{kind}")(given)
            except InvalidContact as error:
                refused += 1
                quoted += isinstance(given, str) and len(given) > 12 and str.__str__(given) in str(error)
                continue
            except Exception as error:
                raise AssertionError(f"seed {SEED}, contact {number}: {given!r} as {kind}") from error
            accepted += 1
            value = str.__str__(given)
            if not says(on_the_wire(contact), contact.kind, value):
                other += 1
                print(f"seed {SEED}, contact {number}: {given!r} as {kind} was sent as {on_the_wire(contact)!r}")
    seconds = time.perf_counter() - began
    figure("E4", f"{CONTACTS:,} hostile contacts ({accepted:,} sent, {refused:,} refused): anything else", "0", other)
    figure("B3", f"{CONTACTS:,} hostile contacts in {seconds:.1f} s: other errors than InvalidContact", "0", 0)
    assert min(accepted, refused) > CONTACTS / 10
    assert (other, quoted) == (0, 0)


async def test_E4_hostile_contacts_over_a_real_socket(figure: Figure) -> None:
    """The same where a server reads the request line; what is refused is refused before any I/O."""
    chance = random.Random(SEED + 1)
    sent: list[tuple[str, str]] = []
    refused = 0

    async def answer(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(response(b"[]"))

    async with raw_server(answer) as server, NP6Client("k", base_url=server.url) as np6, asyncio.timeout(60):
        while len(sent) < 1_500:
            given = hostile_contact(chance)
            kind = chance.choice(["id", "unicity"])
            try:
                contact = given if kind == "id" else Contact.by_unicity(given)
                await np6.events.list(contact)
            except InvalidContact:
                refused += 1
                continue
            sent.append((kind, str.__str__(given)))
        assert len(server.requests) == len(sent)
        wrong = [
            (given, request.target)
            for given, request in zip(sent, server.requests, strict=True)
            if not says(request.target, *given)
        ]
        # A run tells the contacts that it refuses like others that fail.
        mixed = [hostile_contact(chance) for _ in range(500)]
        async with np6.events.stream_many(mixed, on_error="collect") as run:
            async for _ in run:
                pass
        assert run.stats.done + run.stats.failed == 500
        assert all(type(failure.error) is InvalidContact for failure in run.failures)
    figure("E4", f"{len(sent):,} hostile contacts over a socket ({refused:,} refused): anything else", "0", len(wrong))
    assert wrong == []


# --- bodies -------------------------------------------------------------------------------------------

TOKENS = [
    *[b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b'\\"', b"},{", b"}]", b"[{", b"null", b"true", b"NaN", b"-"],
    *[b"Infinity", b"1e999", b"1.0", b"9" * 30, b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\n"],
    *[
        b'"timestamp":',
        b'"timestamp":1,',
        b'"id":"x",',
        b'{"timestamp":5}',
        b'{"timestamp":5},',
        b"[[]]",
        b"{}",
        b"/**/",
    ],
    *[b" " * 40, b'"source":{"type":1},', b'"a":[{"b":1},{"b":2}],', b"\xc3\xa9", b'"},{"', b"'", b"0", b"1"],
]


def original(chance: random.Random) -> bytes:
    """A body as the API gives it, more or less."""
    events = [
        {
            "type": chance.choice(["hit", "bounce", "new", None]),
            "id": chance.choice([f"{number:08x}", None, number, "},{", 'é\\"]']),
            "timestamp": chance.choice([number, str(number), float(number), 10**12 + number, 253_402_300_799_999]),
            "identity": {"type": "customer", "agency": "DEMO"},
            "source": {"type": "email", "detail": {"link": {"type": "open"}, "x": [{}, [], {"y": [1, {}]}]}},
            "text": chance.choice(["", "[{}]", '"', "\\", "a" * chance.choice([10, 500])]),
        }
        for number in range(chance.choice([0, 1, 2, 3, 8, 30]))
    ]
    text = json.dumps(events, indent=chance.choice([None, None, 1]), ensure_ascii=chance.random() < 0.5)
    return text.encode()


def mutated(body: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 6])):
        at = chance.randrange(len(body) + 1)
        to = min(len(body), at + chance.choice([1, 1, 2, 10, 100]))
        match chance.randrange(6):
            case 0:
                body = body[:at] + body[to:]
            case 1:
                body = body[:at] + chance.choice(TOKENS) + body[at:]
            case 2:
                body = body[:at] + chance.choice(TOKENS) + body[to:]
            case 3:
                body = body[:to] + body[at:]
            case 4 if at < len(body):
                body = body[:at] + bytes([body[at] ^ 1 << chance.randrange(8)]) + body[at + 1 :]
            case 5 if chance.random() < 0.2:
                body = body[:at]
    return body


def in_chunks(body: bytes, chance: random.Random) -> list[bytes]:
    size = chance.choice([1, 2, 7, 50, 300, 10**9]) if len(body) < 2_000 else chance.choice([100, 10**9])
    if chance.random() < 0.5:
        return [body[at : at + size] for at in range(0, len(body), size)]
    cuts = sorted(chance.randrange(len(body) + 1) for _ in range(chance.randrange(5)))
    return [body[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def decoded(chunks: list[bytes], kind: EventKind, limits: DecodeLimits) -> tuple[list[Event], NP6Error | None]:
    decoder: EventDecoder[Event] = EventDecoder(kind, limits)
    events: list[Event] = []
    try:
        for chunk in chunks:
            decoder.feed(chunk)
            while (batch := decoder.next_batch()) is not None:
                events += batch
        decoder.finish()
    except NP6Error as error:
        return events, error
    return events, None


def finite(digits: str) -> float | None:
    """As documented, a number that Python does not hold is null."""
    return float(digits) if math.isfinite(float(digits)) else None


def strictly(body: bytes) -> list[dict[str, Any]] | None:
    """What the standard library reads, where it is an array of objects, each with a usable timestamp; U+FFFD in place
    of lone surrogates."""
    try:
        read = json.loads(body.decode().removeprefix("\ufeff"), parse_float=finite, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, list) or not all(isinstance(each, dict) for each in read):
        return None
    for each in read:
        stamp = each.get("timestamp")
        if type(stamp) not in (int, float) or not 0 <= stamp <= 253_402_300_799_999:
            return None
        if stamp != int(stamp):
            return None
    whole: list[dict[str, Any]] = strategies.whole(read)
    return whole


def leniently(body: bytes) -> Any:
    """What the standard library makes of it, odd characters let pass."""
    return json.loads(body.decode(errors="replace").removeprefix("\ufeff"), strict=False)


def test_B3_mutated_bodies_are_read_whole_or_fail(figure: Figure) -> None:
    """Of whatever bytes a response is made, only NP6Errors get out; an array of events is never silently shortened,
    and what is none never passes for one."""
    began = time.perf_counter()
    good = odd = failed = shortened = passed = 0
    for number in range(BODIES):
        chance = random.Random(SEED + number)
        body = mutated(original(chance), chance)
        kind = chance.choice([EventKind.ALL, EventKind.ALL, EventKind.BOUNCES])
        limits = DecodeLimits(slice_bytes=chance.choice([1, 30, 200, 32 * 1024]))
        try:
            events, fault = decoded(in_chunks(body, chance), kind, limits)
            whole = decode_whole(body, kind, DecodeLimits())
            for each in events:  # nothing that is looked at later fails
                assert each.data is not None
                assert each.source is None or each.detail is not None
        except Exception as error:
            raise AssertionError(f"seed {SEED + number}: {body!r}") from error
        if whole is not None and (fault is not None or [e.raw for e in whole] != [e.raw for e in events]):
            raise AssertionError(f"seed {SEED + number}: read at once it is another: {body!r}")
        expected = strictly(body)
        if expected is not None:
            good += 1
            if fault is not None or [each.data for each in events] != expected:
                shortened += 1
                print(f"seed {SEED + number}: {len(events)} of {len(expected)} events, {fault!r}: {body!r}")
        elif fault is None:
            odd += 1
            try:
                read = leniently(body)
                same = isinstance(read, list) and len(read) == len(events)
            except ValueError:
                same = False
            if not same:
                passed += 1
                print(f"seed {SEED + number}: {len(events)} events of a body that is not an array: {body!r}")
        else:
            failed += 1
    seconds = time.perf_counter() - began
    what = f"{BODIES:,} mutated bodies ({good:,} good, {odd:,} odd, {failed:,} failed) in {seconds:.1f} s"
    figure("B3", f"{what}: other errors than NP6Error", "0", 0)
    figure("B3", f"{what}: silently shortened", "0", shortened)
    figure("B3", f"{what}: passed for an array", "0", passed)
    assert min(good, odd, failed) > BODIES / 100
    assert (shortened, passed) == (0, 0)
