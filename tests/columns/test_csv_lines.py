"""CSV of many events at once is, byte for byte, what it is without pyarrow."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from np6_async import Contact, Event, EventKind, structure
from np6_async._columns.personal import Mask
from np6_async._config import DecodeLimits
from np6_async._protocol.event_decoder import EventDecoder
from np6_async.export._writers import ArrowCsvWriter, CsvDialect, CsvWriter, Writer
from np6_async.testing import FakeNP6

TEXTS = [
    *("", " ", "a", "'a", "=1", "'=1", "''=1", "+", "-", "@", "\t=", "\r", "\n", "\r\n=", "a\rb", "a\nb"),
    *(
        ";",
        ",",
        "a;b",
        "a,b",
        '"',
        'a"b',
        "=é;",
        "\0",
        "\x0b",
        "\x85",
        "\u2028",
        "\ufeff",
        "jane@example.com",
        "é" * 300,
    ),
]
TIMES = [0, 1, 999, 1_614_089_582_000, 253_402_300_799_999]


def everywhere(text: str, time: int = TIMES[3]) -> dict[str, Any]:
    """An event with this text in every column."""
    stamp = {"time": time, "id": text, "thread": text, "set": text}
    receiver = {"type": "footprint", "id": text, "unicity": text, "hash": text}
    detail = {
        "activation": {
            "id": text,
            "kind": text,
            "version": text,
            "receiver": receiver,
            "stamp": stamp,
            "recipient": text,
        },
        "execution": {"id": text, "kind": text, "data": {"k": text}, "stamp": stamp},
        "bounce": {
            "status": {"type": text, "code": {"enhanced": text}, "diagnostic": text, "mta": text},
            "analysis": {"verdict": text, "subject": {"type": text, "detail": {"type": text}}},
        },
        "link": {"type": text, "url": text},
        "cancellation": {"type": text, "value": {"type": text, "message": text}},
    }
    identity = {"type": text, "agency": text, "customer": text}
    source = {"type": text, "detail": detail}
    return {"type": text, "id": text, "timestamp": time, "identity": identity, "source": source}


def escaped(data: dict[str, Any]) -> Event:
    """As a server sends it that escapes what is not ASCII, and slashes."""
    decoder: EventDecoder[Event] = EventDecoder(EventKind.ALL, DecodeLimits())
    decoder.feed(json.dumps([data | {"a/b": "/"}]).replace("/", "\\/").encode())
    (event,) = decoder.next_batch() or []
    return event


def realistic() -> list[Event]:
    with FakeNP6(10, 30) as server:
        return [structure(event) for contact in server.contact_ids for event in server.events(contact)]


EVENTS = {
    "texts": [structure(everywhere(text)) for text in TEXTS],
    "escaped": [escaped(everywhere(text)) for text in TEXTS],
    "times": [structure(everywhere("a", time)) for time in TIMES] + [structure({"timestamp": time}) for time in TIMES],
    "bare": [structure({"timestamp": 0})],
    "empty": [structure(everywhere(""))],
    "realistic": realistic(),
    "none": [],
}


def written(writer: type[Writer], events: list[Event], contact: Any, mask: Mask | None, dialect: CsvDialect) -> bytes:
    file = io.BytesIO()
    made = writer(file, mask, dialect)  # type: ignore[call-arg]
    made.add(contact, events)
    made.add("000MLGPR", events[:1])
    made.close()
    return file.getvalue()


@pytest.mark.parametrize("dialect", ["rfc4180", "excel-fr"])
@pytest.mark.parametrize("mask", [None, Mask(b"k" * 32), Mask(None)], ids=["keep", "hash", "drop"])
@pytest.mark.parametrize("name", EVENTS)
def test_every_cell_is_written_as_without_pyarrow(name: str, mask: Mask | None, dialect: CsvDialect) -> None:
    for contact in (None, "", "=1", "a;b,c", '"', Contact("unicity", "jane@example.com")):
        given = (EVENTS[name], contact, mask, dialect)
        assert written(ArrowCsvWriter, *given) == written(CsvWriter, *given)
