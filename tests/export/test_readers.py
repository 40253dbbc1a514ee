"""Files of the oddest events are read by what people read them with, and hold what NP6 sent.

`docs/guide/reading-back.md` says how each is called.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import exported
from support.readers import CSV, NDJSON, PARQUET

from np6_async import NP6Client
from np6_async.export import Export, Format, SyncWriter
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6

pytestmark = pytest.mark.slow

# Texts as they are in the JSON of the server, and as everybody reads them afterwards.
TEXTS: dict[bytes, str] = {
    rb"mailbox \ud83d full": "mailbox \ufffd full",
    rb"\ude00": "\ufffd",
    rb"\uDE00\uD83D": "\ufffd\ufffd",
    rb"\ud83d\ud83d\ude00": "\ufffd\N{GRINNING FACE}",
    rb"\ud83d\ude00": "\N{GRINNING FACE}",
    rb"\\ud83d": r"\ud83d",
    b"caf\xe9": "caf\ufffd",
    b"\xed\xa0\xbd": "\ufffd\ufffd\ufffd",
    "\N{GRINNING FACE} d\xe9j\xe0 vu \N{NO-BREAK SPACE}".encode(): "\N{GRINNING FACE} d\xe9j\xe0 vu \N{NO-BREAK SPACE}",
    rb"\ufeffa": "\ufeffa",
    rb"a\uffffb": "a\uffffb",
    rb"a\u2028b\u2029c\u0085d": "a\u2028b\u2029c\x85d",
    rb"a\nb\r\nc\td": "a\nb\r\nc\td",
    rb"a\u0001b\u001fc": "a\x01b\x1fc",
    rb"\"quoted\", 'and'; cut|up \"": '"quoted", \'and\'; cut|up "',
    rb"0013E001": "0013E001",
    rb"NA": "NA",
    rb" blanks ": " blanks ",
}
CONTACT = "0013E001"  # to some readers the number 130


def event(number: int, text: bytes) -> bytes:
    """A bounce with this text in every kind of place: in a column, in the rest, and in the name of a member."""
    detail = b'{"bounce":{"status":{"diagnostic":"%b","code":{"enhanced":"5.1.1"}}},"other":"%b"}' % (text, text)
    head = b'{"id":"%d","timestamp":%d,"type":"bounce","identity":{"customer":"%b"}' % (number, 1_770_000_000_000, text)
    return head + b',"source":{"type":"email","detail":%b},"more":{"%b":"%b"}}' % (detail, text, text)


def body() -> bytes:
    return b"[%b]" % b",".join(event(number, text) for number, text in enumerate(TEXTS))


def expected() -> list[dict[str, Any]]:
    return [json.loads(event(number, json.dumps(text)[1:-1].encode())) for number, text in enumerate(TEXTS.values())]


@pytest.fixture(scope="module")
def server() -> Any:
    with FakeNP6(0) as running:
        running.set_raw(CONTACT, body())
        yield running


@pytest.fixture
async def np6(server: FakeNP6) -> Any:
    async with server.client() as client:
        yield client


async def export(np6: NP6Client, folder: Path, format: Format, *, gzip: bool = False) -> Path:
    report = await Export(np6, folder, [CONTACT], format=format, gzip=gzip).run()
    assert report.events == len(TEXTS)
    (file,) = report.parts
    return file


def cell_of(text: str) -> str:
    """As a cell of a CSV, where no cell is a formula."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r\n]", text) else text


# What is in the files


@pytest.mark.parametrize("gzip", [False, True])
async def test_ndjson_is_what_the_server_sent_for_strict_readers(np6: NP6Client, tmp_path: Path, gzip: bool) -> None:
    found = exported.rows(await export(np6, tmp_path / "out", "ndjson", gzip=gzip))
    assert found == [{"contact": CONTACT, "event": event} for event in expected()]


@pytest.mark.parametrize("format", ["csv", "parquet"])
async def test_columns_and_rest_are_what_the_server_sent(np6: NP6Client, tmp_path: Path, format: Format) -> None:
    rows = exported.rows(await export(np6, tmp_path / "out", format))
    convert = cell_of if format == "csv" else str
    assert [row["bounce_diagnostic"] for row in rows] == list(map(convert, TEXTS.values()))
    assert [row["identity_customer"] for row in rows] == list(map(convert, TEXTS.values()))
    for row, text in zip(rows, TEXTS.values(), strict=True):
        rest = msgspec.json.decode(row["rest"])
        assert rest == {"source": {"detail": {"other": text}}, "more": {text: text}}


@pytest.mark.parametrize("format", ["ndjson", "csv", "parquet"])
async def test_a_sync_writes_the_same(np6: NP6Client, tmp_path: Path, format: Format) -> None:
    async with Sync(np6, SQLiteStore(tmp_path / "s.db"), [CONTACT]).run(autocommit=False) as run:
        (file,) = await SyncWriter(tmp_path / "new", format=format).write(run)
    assert exported.rows(file) == exported.rows(await export(np6, tmp_path / "out", format))


# Who reads them


@pytest.mark.parametrize("reader", NDJSON)
async def test_ndjson_is_read_by(reader: str, np6: NP6Client, tmp_path: Path) -> None:
    rows = NDJSON[reader](await export(np6, tmp_path / "out", "ndjson"))
    assert [row["contact"] for row in rows] == [CONTACT] * len(TEXTS)
    events = [json.loads(row["event"]) if isinstance(row["event"], str) else row["event"] for row in rows]
    assert [each["source"]["detail"]["bounce"]["status"]["diagnostic"] for each in events] == list(TEXTS.values())


@pytest.mark.parametrize("reader", CSV)
async def test_csv_is_read_by(reader: str, np6: NP6Client, tmp_path: Path) -> None:
    rows = CSV[reader](await export(np6, tmp_path / "out", "csv"))
    assert [row["contact"] for row in rows] == [CONTACT] * len(TEXTS)
    assert [row["bounce_diagnostic"] for row in rows] == list(map(cell_of, TEXTS.values()))
    for row in rows:
        msgspec.json.decode(row["rest"])


@pytest.mark.parametrize("reader", PARQUET)
async def test_parquet_is_read_by(reader: str, np6: NP6Client, tmp_path: Path) -> None:
    rows = PARQUET[reader](await export(np6, tmp_path / "out", "parquet"))
    assert [row["contact"] for row in rows] == [CONTACT] * len(TEXTS)
    assert [row["bounce_diagnostic"] for row in rows] == list(TEXTS.values())
    for row in rows:
        msgspec.json.decode(row["rest"])
