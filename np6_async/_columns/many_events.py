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
import pyarrow.compute

from .._models.convert import dumps, loads
from .._models.events import Event
from .._models.mail_status import meaning
from . import buffers
from .one_event import row
from .schema import COLUMNS, INDEX
from .shapes import DIGITS, Piece, Shape, Template, learn

pc: Final[Any] = pyarrow.compute  # whose functions type checkers do not see
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_SPACE: Final = ord(" ")
# To learn a shape takes as long as a hundred events, so there are so many attempts at first, and then one for so many
# events.
_ATTEMPTS: Final = 500
_EVENTS: Final = 200
_MOST_DIGESTS: Final = 256  # whose shapes are kept
_MOST_ALIKE: Final = 8  # shapes of a digest, with all of which its events may be compared
_MOST_BYTES: Final = 1 << 30  # of JSON at once: offsets into it have 32 bits
_POWERS: Final = 10 ** np.arange(DIGITS - 1, -1, -1, dtype=np.int64)
_PADDING: Final = b" " * 16  # after the last event, whose last word may be cut from there
_WORD: Final = 16  # bytes that are compared at once
_SAMPLES: Final = 14  # distances between the texts of an event that go into its digest
_WEIGHTS: Final = np.random.default_rng(0).integers(1, 1 << 40, _SAMPLES + 1)
_CONTACT: Final = INDEX["contact"]
_TIMESTAMP: Final = INDEX["timestamp"]
_TYPE: Final = INDEX["type"]
_CODE: Final = INDEX["bounce_code"]
_MEANING: Final = INDEX["bounce_meaning"]
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
# An escaped quote or backslash, or half of a surrogate pair: what can be unescaped is anything else.
_NOT_PLAIN: Final = re.compile(rb'\\(?:["\\]|u[dD][89a-fA-F])')
_TIME: Final = pa.timestamp("ms", "UTC")
_timestamp: Final = attrgetter("timestamp")
_type: Final = attrgetter("type")


class _Pattern:
    """A shape, as NumPy compares it with many events, and fills in their cells, at once."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.used = 0  # for so many events
        words = [word for piece in shape.pieces for word in _words(piece)]
        # Of each word the quote before it, its distance from that, its bytes, and which of them count.
        self.quotes = np.array([quote for quote, _, _ in words])
        self.offsets = np.array([offset for _, offset, _ in words])
        self.bytes = _integers([each.ljust(_WORD, b"\0") for _, _, each in words])
        self.masks = _integers([(b"\xff" * len(each)).ljust(_WORD, b"\0") for _, _, each in words])
        self.last = len(words[-1][-1])  # bytes of the word that an event ends with
        self.digit_quotes = np.array([piece.quote for piece in shape.digits])
        self.digit_offsets = np.array([piece.offset for piece in shape.digits])
        self.columns = np.array([column for column, _ in shape.texts], dtype=np.int64)
        self.texts = np.array([quote for _, quote in shape.texts], dtype=np.int64)


def _words(piece: Piece) -> list[tuple[int, int, bytes]]:
    """A piece in words, of which the last may overlap the one before: quote, offset, bytes."""
    size = len(piece.bytes)
    begins = [*range(0, size - _WORD, _WORD), max(size - _WORD, 0)]
    return [(piece.quote, piece.offset + begin, piece.bytes[begin : begin + _WORD]) for begin in begins]


def _integers(words: list[bytes]) -> Any:
    return np.frombuffer(b"".join(words), dtype=np.uint64)


class Shapes:
    """The shapes that were learned, by a digest of the distances between the texts of their events.

    However many shapes there are, the memory and the time that they take are bounded: the least used are forgotten.
    """

    def __init__(self) -> None:
        self._by_digest: dict[int, list[_Pattern]] = {}  # the last used are the last
        self._attempts = _ATTEMPTS

    def expect(self, events: int) -> None:
        """Allow for the attempts that so many more events are worth."""
        self._attempts = min(_ATTEMPTS, self._attempts + events // _EVENTS)

    def of(self, digest: int) -> list[_Pattern]:
        """Those of events with this digest."""
        known = self._by_digest.pop(digest, None)
        if known is None:
            return []
        self._by_digest[digest] = known
        return [*known]

    def learn(self, digest: int, raw: bytes) -> _Pattern | None:
        """The shape of an event that has none of the known ones; None where it has no shape, or it is not the time."""
        if not self._attempts:
            return None
        self._attempts -= 1
        shape = learn(raw)
        if shape is None:
            return None
        known = self._by_digest.setdefault(digest, [])
        if len(known) == _MOST_ALIKE:
            known.remove(min(known, key=lambda pattern: pattern.used))
        if len(self._by_digest) > _MOST_DIGESTS:
            del self._by_digest[next(iter(self._by_digest))]
        known.append(pattern := _Pattern(shape))
        return pattern


class _Texts:
    """The texts that cells are made of, by number: those between the quotes of the JSON, and others that are added."""

    def __init__(self, json: bytes, quotes: Any) -> None:
        self._json = json
        self._quotes = quotes
        self._others: dict[str, int] = {}
        self._array: Any = None
        # Where one has a backslash, for each the number of what it means, and of how that is written in JSON.
        self._unescaped: Any = None
        self._escaped: Any = None

    def number(self, text: str | None) -> int:
        """That of another text, before the first `take`; 0 is null."""
        return self._others.setdefault(text, 1 + len(self._quotes) + len(self._others)) if text is not None else 0

    def take(self, numbers: Any, pool: Any, *, json: bool = False) -> Any:
        """The texts of these numbers; null for 0. `json`: as they are written in JSON."""
        if self._array is None:
            self._unescape()
            self._array = self._made()
        if self._unescaped is not None:
            numbers = (self._escaped if json else self._unescaped)[numbers]
        return pc.take(self._array, buffers.numbers(numbers, pa.int32(), numbers > 0), memory_pool=pool)

    def _unescape(self) -> None:
        backslashes = np.flatnonzero(np.frombuffer(self._json, np.uint8) == _BACKSLASH)
        if len(backslashes):
            quotes = np.unique(np.searchsorted(self._quotes, backslashes) - 1).tolist()
            texts = [loads(self._json[self._quotes[n] : self._quotes[n + 1] + 1]) for n in quotes]
            unescaped = [self.number(text) for text in texts]
            escaped = [self.number(dumps(text)[1:-1].decode()) for text in texts]
            self._unescaped = np.arange(1 + len(self._quotes) + len(self._others), dtype=np.int32)
            self._escaped = self._unescaped.copy()
            self._unescaped[np.array(quotes) + 1] = unescaped
            self._escaped[np.array(quotes) + 1] = escaped

    def _made(self) -> Any:
        others = [text.encode() for text in self._others]
        # Nothing is the first. Every second of the next ends at a quote, and the one after it begins behind that.
        count = 1 + len(self._quotes) + len(others)
        offsets = np.zeros(count + 1, dtype=np.int32)
        between = offsets[1 : 1 + len(self._quotes)]
        between[:] = self._quotes
        between[::2] += 1
        sizes = np.fromiter(map(len, others), np.int64, len(others))
        offsets[1 + len(self._quotes) :] = len(self._json) + np.cumsum([0, *sizes])
        data = self._json + b"".join(others)
        return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


class _Table:
    """The columns of events, which are filled shape by shape.

    A column of texts has the numbers of its cells in `_Texts`, 0 for null; a column of times has their values, -1 for
    null.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._types = list(map(_type, events))
        raws = [event.raw for event in events]
        joined = b",".join([*raws, _PADDING])
        self._raws = _readable(raws, joined, self._types)
        if self._raws is not raws:
            joined = b",".join([*self._raws, _PADDING])
        self._bytes = np.frombuffer(joined, np.uint8)
        sizes = np.fromiter(map(len, self._raws), np.int64, len(events))
        self._ends = np.cumsum(sizes + 1) - 1
        self._starts = self._ends - sizes
        self._quotes = np.flatnonzero(self._bytes == _QUOTE)
        self._first = np.searchsorted(self._quotes, self._starts)  # quote of each event
        self._texts = _Texts(joined, self._quotes)
        self._numbers = np.zeros((len(COLUMNS), len(events)), dtype=np.int32)  # of texts
        self._times: dict[int, Any] = {}
        self._joins: dict[int, list[tuple[Any, Template]]] = {}  # by column: of these rows, cells that are joined
        self._singly: list[int] = []  # rows that have no shape

    def fill(self, shapes: Shapes) -> None:
        """Fill in the cells of all events that have a shape."""
        counts = np.diff(self._first, append=len(self._quotes))
        digests = self._digests(counts)
        order = np.argsort(digests, kind="stable")
        shapes.expect(len(order))
        for rows in sorted(np.split(order, np.flatnonzero(np.diff(digests[order])) + 1), key=len, reverse=True):
            if len(rows):
                alike = counts[rows] == counts[rows[0]]
                self._singly += rows[~alike].tolist()  # by chance of the same digest
                self._fill_rows(rows[alike], int(counts[rows[0]]), int(digests[rows[0]]), shapes)

    def _digests(self, counts: Any) -> Any:
        """For each event a number that tells its shape from most others: of distances between its texts."""
        texts = counts // 2
        last = np.maximum(texts - 2, 0)[:, None]  # the distance after the last text leads into the next event
        place = np.concatenate([last * np.arange(4) // 4, np.maximum(last - np.arange(_SAMPLES - 4), 0)], axis=1)
        at = np.minimum(self._first[:, None] + 2 * place + 1, max(len(self._quotes) - 2, 0))
        between = self._quotes.take(at + 1) - self._quotes.take(at) if len(self._quotes) else at
        return (between * _WEIGHTS[:-1]).sum(axis=1) + counts * _WEIGHTS[-1]

    def fill_singly(self, contacts: Sequence[str | None]) -> None:
        """Fill in the cells of the others."""
        for index in self._singly:
            for column, cell in enumerate(row(contacts[index], self._events[index])):
                if cell is not None:
                    if column == _TYPE:
                        self._types[index] = str(cell)
                    elif isinstance(cell, int):
                        self._time(column)[index] = cell
                    else:
                        self._numbers[column, index] = self._texts.number(cell)

    def arrays(self, contacts: Sequence[str | None], pool: Any) -> list[Any]:
        """The columns as Arrow arrays."""
        for index, texts in ((_CONTACT, contacts), (_TYPE, self._types)):
            numbers = {text: self._texts.number(text) for text in set(texts)}
            self._numbers[index] = np.fromiter(map(numbers.__getitem__, texts), np.int32, len(texts))
        arrays = []
        for index, column in enumerate(COLUMNS):
            if index == _TIMESTAMP:
                values = np.fromiter(map(_timestamp, self._events), np.int64, len(self._events))
                arrays.append(buffers.numbers(values, _TIME))
            elif column.type == "time":
                values = self._time(index)
                arrays.append(buffers.numbers(values, _TIME, values >= 0))
            elif index == _MEANING:
                arrays.append(_meanings(arrays[_CODE], pool))
            else:
                arrays.append(self._join(index, pool))
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
        for pattern in shapes.of(digest):
            rows = self._fill_those(pattern, rows, count)
        for _ in range(_MOST_ALIKE):
            if not len(rows):
                break
            first = rows[0]
            learned = shapes.learn(digest, self._raws[first])
            if learned is not None:
                rows = self._fill_those(learned, rows, count)
            else:
                self._singly.append(int(first))
                rows = rows[1:]
        self._singly += rows.tolist()

    def _fill_those(self, pattern: _Pattern, rows: Any, count: int) -> Any:
        """Fill in those of the rows that are of a shape; the others."""
        if pattern.shape.quotes != count or not len(rows):
            return rows
        same, times = self._match(pattern, rows)
        if same.all():
            self._fill_shape(pattern, rows, times)
            return rows[:0]
        if same.any():
            self._fill_shape(pattern, rows[same], times[same])
        return rows[~same]

    def _match(self, pattern: _Pattern, rows: Any) -> tuple[Any, Any]:
        """Which of the events are of the shape, and the times of each."""
        first = self._first[rows][:, None]
        at = self._quotes.take(first + pattern.quotes) + pattern.offsets
        same = (at[:, 0] == self._starts[rows]) & (at[:, -1] + pattern.last == self._ends[rows])
        other = (self._cut(at, _WORD).view(np.uint64) & pattern.masks) != pattern.bytes
        if other.any():
            same &= ~other.any(axis=1)
        digits = self._cut(self._quotes.take(first + pattern.digit_quotes) + pattern.digit_offsets, DIGITS)
        values = digits.view(np.uint8).reshape(len(rows), -1, DIGITS) - ord("0")
        other = (values > 9).any(axis=2) | (values[:, :, 0] == 0)
        if other.any():
            same &= ~other.any(axis=1)
        return same, values @ _POWERS

    def _fill_shape(self, pattern: _Pattern, rows: Any, times: Any) -> None:
        """Fill in rows of events of one shape."""
        pattern.used += len(rows)
        self._numbers[pattern.columns[:, None], rows] = pattern.texts[:, None] + self._first[rows] + 1
        for column, index in pattern.shape.times:
            if column != _TIMESTAMP:
                self._time(column)[rows] = times[:, index]
        for column, template in pattern.shape.templates:
            match template:
                case (str(text),):
                    self._numbers[column, rows] = self._texts.number(text)
                case _:
                    self._joins.setdefault(column, []).append((rows, template))

    def _cut(self, at: Any, size: int) -> Any:
        """The bytes of this size at each of these places."""
        last = len(self._bytes) - size
        if at.min() < 0 or at.max() > last:
            at = np.minimum(np.maximum(at, 0), last)  # an event of another shape leads beyond the ends
        return np.ascontiguousarray(np.ndarray((last + 1,), f"S{size}", self._bytes, strides=(1,))[at])

    def _join(self, index: int, pool: Any) -> Any:
        """A column of texts."""
        numbers = self._numbers[index]
        cells = self._texts.take(numbers, pool) if numbers.any() else pa.nulls(len(numbers), pa.string(), pool)
        if index not in self._joins:
            return cells
        made, order, count = [cells], np.arange(len(cells)), len(cells)
        for rows, template in self._joins[index]:
            first = self._first[rows]
            parts = [
                buffers.repeated(part, len(rows))
                if isinstance(part, str)
                else self._texts.take((first + (part + 1)).astype(np.int32), pool, json=True)
                for part in template
            ]
            parts.append(buffers.repeated("", len(rows)))
            made.append(pc.binary_join_element_wise(*parts, memory_pool=pool))
            order[rows] = np.arange(count, count + len(rows))
            count += len(rows)
        return pc.take(pa.concat_arrays(made, pool), buffers.numbers(order, pa.int64()), memory_pool=pool)


def _meanings(codes: Any, pool: Any) -> Any:
    """What each of these codes means: looked up once for each that differs."""
    if codes.null_count == len(codes):
        return pa.nulls(len(codes), pa.string(), pool)
    encoded = pc.dictionary_encode(codes, memory_pool=pool)
    words = buffers.texts([meaning(code) for code in encoded.dictionary.to_pylist()])
    return pc.take(words, encoded.indices, memory_pool=pool)


def _readable(raws: list[bytes], joined: bytes, types: list[str | None]) -> list[bytes]:
    """The JSON of each event; empty where it is not text of UTF-8, where a text is not what is between quotes, and for
    an event without a type. The very same list if none is."""
    if not joined.isascii() and not _is_utf8(joined):
        raws = [raw if _is_utf8(raw) else b"" for raw in raws]
    if b"\\" in joined:
        raws = [b"" if b"\\" in raw and _NOT_PLAIN.search(raw) else raw for raw in raws]
    if (np.frombuffer(joined, np.uint8) < _SPACE).any():
        raws = [b"" if _CONTROL.search(raw) else raw for raw in raws]
    if None in types:
        raws = [b"" if kind is None else raw for kind, raw in zip(types, raws, strict=True)]
    return raws


def _is_utf8(raw: bytes) -> bool:
    offsets = pa.py_buffer(np.array([0, len(raw)], dtype=np.int32))
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(raw)]).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def columns(contacts: Sequence[str | None], events: Sequence[Event], size: int, shapes: Shapes, pool: Any) -> list[Any]:
    """The columns as Arrow arrays in the order of `COLUMNS`, each with a cell for every event.

    `size` is the bytes of their JSON. Raises `LimitExceeded` for an event that is nested too deeply.
    """
    if size > _MOST_BYTES and len(events) > 1:
        half = len(events) // 2
        first = sum(len(event.raw) for event in events[:half])
        pairs = zip(
            columns(contacts[:half], events[:half], first, shapes, pool),
            columns(contacts[half:], events[half:], size - first, shapes, pool),
            strict=True,
        )
        return [pa.concat_arrays(pair, pool) for pair in pairs]
    table = _Table(events)
    table.fill(shapes)
    table.fill_singly(contacts)
    return table.arrays(contacts, pool)
