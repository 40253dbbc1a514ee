"""Texts that no reader should have to take, in every place of an event and in every format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from _pytest.outcomes import Skipped
from support import exported
from support.readers import CSV, NDJSON, PARQUET, Read
from support.strategies import whole

from np6_async.export import Export, Format
from np6_async.testing import FakeNP6

Figure = Callable[[str, str, str, object], None]

_EVENTS = 3_000
# Pieces of strings in JSON: halves of emojis, whole ones, what looks like them, and bytes that are not UTF-8.
_PIECES = [
    *(rb"\ud83d", rb"\uDE00", rb"\ud83d\ude00", rb"\\", rb"\\ud83d", rb"\n", rb"\r\n", rb"\u2028", rb"\"", rb"\u0000"),
    *(b"a", b" ", b",", b"'", "\N{GRINNING FACE}".encode(), "\xe9".encode(), b"\xe9", b"\xff", b"\xed\xa0\xbd"),
    b"\xf0\x9f",
]
READERS: dict[Format, dict[str, Read]] = {"ndjson": NDJSON, "csv": CSV, "parquet": PARQUET}


async def test_F5_an_odd_text_spoils_no_file(tmp_path: Path, figure: Figure) -> None:
    """Strict readers and those that people use find every row as the server sent it, with U+FFFD in place of what is no
    character."""
    draw = random.Random(3)
    texts = [b"x%bx" % b"".join(draw.choices(_PIECES, k=draw.randint(0, 6))) for _ in range(_EVENTS)]
    expected = [whole(json.loads((b'"%b"' % text).decode(errors="replace"))) for text in texts]
    wrong: list[str] = []
    read = 0
    with FakeNP6(0) as server:
        server.set_raw("A", b"[%b]" % b",".join(event(number, text) for number, text in enumerate(texts)))
        async with server.client() as np6:
            for form, readers in READERS.items():
                (file,) = (await Export(np6, tmp_path / form, ["A"], format=form).run()).parts
                for name, rows_of in {"strictly": exported.rows, **readers}.items():
                    try:
                        found = [text_of(row) for row in rows_of(file)]
                    except Skipped:
                        continue
                    read += 1
                    if found != expected:
                        wrong.append(f"{form} by {name}")
    figure("F5", "readers of files with odd texts, that failed or read something else", "0", f"{len(wrong)} of {read}")
    assert not wrong


def event(number: int, text: bytes) -> bytes:
    detail = b'{"bounce":{"status":{"diagnostic":"%b"}}}' % text
    head = b'{"id":"%d","timestamp":%d,"type":"bounce"' % (number, 1_700_000_000_000 + number)
    return head + b',"source":{"type":"email","detail":%b},"more":"%b"}' % (detail, text)


def text_of(row: dict[str, Any]) -> str:
    if "event" in row:
        data = json.loads(row["event"]) if isinstance(row["event"], str) else row["event"]
        text: str = data["source"]["detail"]["bounce"]["status"]["diagnostic"]
        assert data["more"] == text
    else:
        text = row["bounce_diagnostic"]
        assert msgspec.json.decode(row["rest"])["more"] == text
    return text
