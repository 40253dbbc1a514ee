"""The cells of many events at once, by their shapes: each column in one pass over the JSON of all of them.

All offsets are computed by NumPy, and the texts copied by Arrow: no Python object is made of an event or a cell. Events
that have no shape go through `row`, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .._models.convert import loads
from .._models.events import Event
from .one_event import row
from .schema import COLUMNS, INDEX
from .shapes import DIGITS, Piece, Shape, Template, learn

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_SPACE: Final = ord(" ")
_MOST_ATTEMPTS: Final = 500  # to learn a shape, which takes as long as a hundred events
_POWERS: Final = 10 ** np.arange(DIGITS - 1, -1, -1, dtype=np.int64)
_WEIGHTS: Final = np.random.default_rng(0).integers(1, 1 << 40, 1024)  # by the place of a text in its event
_CONTACT: Final = INDEX["contact"]
_TIMESTAMP: Final = INDEX["timestamp"]
_TYPE: Final = INDEX["type"]
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
# An escaped quote or backslash, or half of a surrogate pair: what can be unescaped is anything else.
_NOT_PLAIN: Final = re.compile(rb'\\(?:["\\]|u[dD][89a-fA-F])')
_timestamp: Final = attrgetter("timestamp")
_type: Final = attrgetter("type")


class _Pattern:
    """A shape, as NumPy compares and fills in many events of it at once: eight bytes a word."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        words = [word for piece in shape.pieces for word in _words(piece)]
        self.quotes = np.array([quote for quote, _, _ in words])
        self.offsets = np.array([offset for _, offset, _ in words])
        self.bytes = np.array([each.ljust(8, b"\0") for _, _, each in words], dtype="S8").view(np.uint64)
        self.masks = np.array([(b"\xff" * len(each)).ljust(8, b"\0") for _, _, each in words], "S8").view(np.uint64)
        self.digit_quotes = np.array([piece.quote for piece in shape.digits])
        self.digit_offsets = np.array([piece.offset for piece in shape.digits])
        self.columns = np.array([column for column, _ in shape.texts], dtype=np.int64)
        self.texts = np.array([quote for _, quote in shape.texts], dtype=np.int64)


def _words(piece: Piece) -> list[tuple[int, int, bytes]]:
    """A piece in words, of which the last may overlap the one before: quote, offset, up to eight bytes."""
    size = len(piece.bytes)
    begins = [*range(0, size - 8, 8), max(size - 8, 0)]
    return [(piece.quote, piece.offset + begin, piece.bytes[begin : begin + 8]) for begin in begins]


class Shapes:
    """The shapes that were learned, by a digest of the distances between the texts of their events."""

    def __init__(self) -> None:
        self._by_digest: dict[int, list[_Pattern]] = {}
        self._attempts = 0

    def of(self, digest: int) -> list[_Pattern]:
        """Those of events with this digest."""
        return self._by_digest.get(digest, [])

    def learn(self, digest: int, raw: bytes) -> _Pattern | None:
        """The shape of an event that has none of the known ones; None where it has no shape, or there are too many."""
        if self._attempts == _MOST_ATTEMPTS:
            return None
        self._attempts += 1
        shape = learn(raw)
        if shape is None:
            return None
        pattern = _Pattern(shape)
        self._by_digest.setdefault(digest, []).append(pattern)
        return pattern


class _Texts:
    """The texts that cells are made of, by number: those between the quotes of the JSON, and others that are added."""

    def __init__(self, json: bytes, quotes: Any) -> None:
        self._json = json
        self._quotes = quotes
        self._others: dict[str, int] = {}
        self._array: Any = None
        self._unescaped: Any = None  # the number of what each text means, where one has a backslash

    def number(self, text: str) -> int:
        """That of another text, before the first `take`."""
        return self._others.setdefault(text, len(self._quotes) + len(self._others))

    def take(self, numbers: Any, pool: Any, *, raw: bool = False) -> Any:
        """The texts of these numbers; null for -1. `raw`: as they are in the JSON."""
        if self._array is None:
            self._unescape()
            self._array = self._made()
        if self._unescaped is not None and not raw:
            numbers = self._unescaped[numbers]
        null = len(self._array) - 1
        return pc.take(self._array, pa.array(np.where(numbers < 0, null, numbers)), memory_pool=pool)

    def _unescape(self) -> None:
        backslashes = np.flatnonzero(np.frombuffer(self._json, np.uint8) == _BACKSLASH)
        if len(backslashes):
            count = len(self._quotes)
            means = np.arange(count + 1 + len(self._others) + len(backslashes))
            for number in np.unique(np.searchsorted(self._quotes, backslashes) - 1).tolist():
                means[number] = self.number(loads(self._json[self._quotes[number] : self._quotes[number + 1] + 1]))
            means[-1] = -1
            self._unescaped = means

    def _made(self) -> Any:
        others = [text.encode() for text in self._others]
        # Every second text ends at a quote, and the next begins after one.
        offsets = np.zeros(len(self._quotes) + len(others) + 2, dtype=np.int32)
        offsets[: len(self._quotes)] = self._quotes
        offsets[: len(self._quotes) : 2] += 1
        sizes = np.fromiter(map(len, others), np.int64, len(others))
        offsets[len(self._quotes) : -1] = len(self._json) + np.cumsum([0, *sizes])
        offsets[-1] = offsets[-2]
        count = len(offsets) - 1
        valid = np.full(count // 8 + 1, 0xFF, dtype=np.uint8)
        valid[(count - 1) // 8] &= 0xFF ^ (1 << (count - 1) % 8)  # the last is null
        data = self._json + b"".join(others)
        return pa.Array.from_buffers(
            pa.string(), count, [pa.py_buffer(valid), pa.py_buffer(offsets), pa.py_buffer(data)]
        )


class _Table:
    """The columns of events, which are filled shape by shape.

    A column of texts has the numbers of its cells in `_Texts`, a column of times their values; -1 is null.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._raws = _readable(events)
        joined = b",".join(self._raws)
        self._bytes = np.frombuffer(joined + bytes(DIGITS), np.uint8)
        sizes = np.fromiter(map(len, self._raws), np.int64, len(events))
        self._ends = np.cumsum(sizes + 1) - 1
        self._starts = self._ends - sizes
        self._quotes = np.flatnonzero(self._bytes == _QUOTE)
        self._first = np.searchsorted(self._quotes, self._starts)  # quote of each event
        self._texts = _Texts(joined, self._quotes)
        self._numbers = np.full((len(events), len(COLUMNS)), -1, dtype=np.int32)  # of texts
        self._times: dict[int, Any] = {}
        self._joins: dict[int, list[tuple[Any, Template]]] = {}  # by column: of these rows, cells that are joined
        self._singly: list[int] = []  # rows that have no shape

    def fill(self, shapes: Shapes) -> None:
        """Fill in the cells of all events that have a shape."""
        counts = np.diff(self._first, append=len(self._quotes))
        digests = self._digests(counts)
        order = np.argsort(digests, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(digests[order])) + 1):
            if len(rows):
                self._fill_rows(rows, int(counts[rows[0]]), int(digests[rows[0]]), shapes)

    def _digests(self, counts: Any) -> Any:
        """For each event a number that tells its shape from most others: from the bytes between its texts."""
        begins, ends = self._quotes[1::2], np.append(self._quotes[2::2], len(self._bytes))
        texts = counts // 2
        place = np.arange(len(begins)) - np.repeat(self._first // 2, texts)
        weighted = np.append((ends - begins) * _WEIGHTS[place % len(_WEIGHTS)], 0)
        # The distance after the last text leads into the next event.
        sums = np.append(0, np.cumsum(weighted))
        last = np.maximum(self._first // 2 + texts - 1, self._first // 2)
        return sums[last] - sums[self._first // 2] + texts * _WEIGHTS[-1]

    def fill_singly(self, contacts: Sequence[str | None]) -> None:
        """Fill in the cells of the others."""
        for index in self._singly:
            for column, cell in enumerate(row(contacts[index], self._events[index])):
                if cell is not None:
                    if isinstance(cell, int):
                        self._time(column)[index] = cell
                    else:
                        self._numbers[index, column] = self._texts.number(cell)

    def arrays(self, contacts: Sequence[str | None], pool: Any) -> list[Any]:
        """The columns as Arrow arrays; those of times are int64."""
        arrays = []
        for index, column in enumerate(COLUMNS):
            if index == _CONTACT:
                array = pa.array(contacts, pa.string(), memory_pool=pool)
            elif index == _TYPE:
                array = pa.array(list(map(_type, self._events)), pa.string(), memory_pool=pool)
            elif index == _TIMESTAMP:
                array = pa.array(np.fromiter(map(_timestamp, self._events), np.int64, len(self._events)))
            elif column.type == "time":
                values = self._time(index)
                array = pa.array(values, mask=values < 0, memory_pool=pool)
            else:
                array = self._join(index, pool)
            arrays.append(array)
        return arrays

    def _time(self, column: int) -> Any:
        if column not in self._times:
            self._times[column] = np.full(len(self._events), -1, dtype=np.int64)
        return self._times[column]

    def _fill_rows(self, rows: Any, count: int, digest: int, shapes: Shapes) -> None:
        """Fill in rows of events that have this digest and number of quotes."""
        if not count:
            self._singly += rows.tolist()
            return
        quotes = self._quotes[self._first[rows][:, None] + np.arange(count)]
        known = iter([*shapes.of(digest)])
        while len(rows):
            pattern = next(known, None) or shapes.learn(digest, self._raws[rows[0]])
            if pattern is None:
                self._singly.append(int(rows[0]))
                rows, quotes = rows[1:], quotes[1:]
                continue
            same = self._match(pattern, rows, quotes)
            if same.all():
                self._fill_shape(pattern, rows, quotes)
                return
            if same.any():
                self._fill_shape(pattern, rows[same], quotes[same])
                rows, quotes = rows[~same], quotes[~same]

    def _match(self, pattern: _Pattern, rows: Any, quotes: Any) -> Any:
        """Which of the events are of the shape."""
        first, last = pattern.shape.pieces[0], pattern.shape.pieces[-1]
        same = quotes[:, 0] + first.offset == self._starts[rows]
        same &= quotes[:, last.quote] + last.offset + len(last.bytes) == self._ends[rows]
        words = self._cut(quotes[:, pattern.quotes] + pattern.offsets, 8).view(np.uint64)
        same &= ((words & pattern.masks) == pattern.bytes).all(axis=1)
        digits = self._digits(pattern, quotes)
        same &= (digits <= 9).all(axis=(1, 2)) & (digits[:, :, 0] > 0).all(axis=1)
        return same

    def _fill_shape(self, pattern: _Pattern, rows: Any, quotes: Any) -> None:
        """Fill in rows of events of one shape."""
        self._numbers[rows[:, None], pattern.columns] = self._first[rows][:, None] + pattern.texts
        times = self._digits(pattern, quotes) @ _POWERS
        for column, index in pattern.shape.times:
            self._time(column)[rows] = times[:, index]
        for column, template in pattern.shape.templates:
            match template:
                case (str(text),):
                    self._numbers[rows, column] = self._texts.number(text)
                case _:
                    self._joins.setdefault(column, []).append((rows, template))

    def _cut(self, at: Any, size: int) -> Any:
        """The bytes of this size at each of these places."""
        last = len(self._bytes) - size
        cuts = np.ndarray((last + 1,), f"S{size}", self._bytes, strides=(1,))
        return cuts[np.minimum(np.maximum(at, 0), last)]  # events of other shapes would lead beyond the ends

    def _digits(self, pattern: _Pattern, quotes: Any) -> Any:
        """The values of the digits of each time of each event; other characters are above 9."""
        at = np.ascontiguousarray(quotes[:, pattern.digit_quotes] + pattern.digit_offsets)
        return self._cut(at, DIGITS).view(np.uint8).reshape(*at.shape, DIGITS) - ord("0")

    def _join(self, index: int, pool: Any) -> Any:
        """A column of texts."""
        cells = self._texts.take(self._numbers[:, index], pool)
        if index not in self._joins:
            return cells
        made, order, count = [cells], np.arange(len(cells)), len(cells)
        for rows, template in self._joins[index]:
            first = self._first[rows]
            parts = [
                part if isinstance(part, str) else self._texts.take(first + part, pool, raw=True) for part in template
            ]
            made.append(pc.binary_join_element_wise(*parts, "", memory_pool=pool))
            order[rows] = np.arange(count, count + len(rows))
            count += len(rows)
        return pc.take(pa.concat_arrays(made, pool), pa.array(order), memory_pool=pool)


def _readable(events: Sequence[Event]) -> list[bytes]:
    """The JSON of each event; empty where it is not text of UTF-8, or where a text is not what is between quotes."""
    raws = [event.raw for event in events]
    joined = b"".join(raws)
    if not joined.isascii() and not _is_utf8(joined):
        raws = [raw if _is_utf8(raw) else b"" for raw in raws]
    if b"\\" in joined:
        raws = [b"" if b"\\" in raw and _NOT_PLAIN.search(raw) else raw for raw in raws]
    if (np.frombuffer(joined, np.uint8) < _SPACE).any():
        raws = [b"" if _CONTROL.search(raw) else raw for raw in raws]
    types = list(map(_type, events))
    return [b"" if type_ is None else raw for type_, raw in zip(types, raws, strict=True)] if None in types else raws


def _is_utf8(raw: bytes) -> bool:
    offsets = pa.py_buffer(np.array([0, len(raw)], dtype=np.int32))
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(raw)]).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def columns(contacts: Sequence[str | None], events: Sequence[Event], shapes: Shapes, pool: Any) -> list[Any]:
    """The columns as Arrow arrays in the order of `COLUMNS`, each with a cell for every event; times are int64.

    Raises `LimitExceeded` for an event that is nested too deeply.
    """
    table = _Table(events)
    table.fill(shapes)
    table.fill_singly(contacts)
    return table.arrays(contacts, pool)
