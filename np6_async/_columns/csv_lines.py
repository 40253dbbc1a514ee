"""The lines of a CSV file from Arrow columns, many at once; `CsvWriter` says what they are like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from . import buffers
from .csv_cells import safe
from .schema import COLUMNS

pc: Final[Any] = pyarrow.compute  # whose functions type checkers do not see
# What a formula, or one with a ' in front, begins with.
_SUSPICIOUS: Final = np.isin(np.arange(256), list(b"=+-@\t\r\n'"))


def lines(arrays: Sequence[Any], delimiter: str) -> Any:
    """A buffer of lines, each with a cell of every one of these columns of `COLUMNS`; times are timestamps."""
    cells = [
        _times(array) if column.type == "time" else _quoted(_safe(array), delimiter, always=column.type == "json")
        for column, array in zip(COLUMNS, arrays, strict=True)
    ]
    count = len(arrays[0])
    signs = [buffers.repeated(sign, count) for sign in (delimiter, "\r\n", "")]
    joined = pc.binary_join_element_wise(*cells, signs[0], null_handling="replace", null_replacement="")
    return _data(pc.binary_join_element_wise(joined, *signs[1:]))


def _times(array: Any) -> Any:
    """As ISO 8601 in UTC. Without a zone Arrow writes them twenty times as fast, with a space where that has a T."""
    if array.null_count == len(array):
        return pa.nulls(len(array), pa.string())
    cells = array.view(pa.timestamp("ms")).cast(pa.string())
    size = len("1970-01-01 00:00:00.000")
    valid, _, data = cells.buffers()
    text = np.full((len(cells) - cells.null_count, size + 1), ord("Z"), dtype=np.uint8)
    text[:, :size] = np.frombuffer(data, np.uint8, count=size * len(text)).reshape(-1, size)
    text[:, len("1970-01-01")] = ord("T")
    offsets = buffers.offsets_of(cells) // size * (size + 1)
    return pa.Array.from_buffers(pa.string(), len(cells), [valid, pa.py_buffer(offsets), pa.py_buffer(text)])


def _safe(array: Any) -> Any:
    """Without formulas."""
    offsets = buffers.offsets_of(array)
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    if not len(filled):
        return array
    data = np.frombuffer(array.buffers()[2], np.uint8)
    rows = filled[_SUSPICIOUS[data[offsets[filled]]]]
    if not len(rows):
        return array
    mask = np.zeros(len(array), dtype=bool)
    mask[rows] = True
    unsafe = pc.take(array, buffers.numbers(rows, pa.int64())).to_pylist()
    return pc.replace_with_mask(array, buffers.booleans(mask), buffers.texts(list(map(safe, unsafe))))


def _quoted(array: Any, delimiter: str, *, always: bool) -> Any:
    """In quotes where they are needed. JSON needs them `always`."""
    if array.null_count == len(array):
        return array
    if not always:
        data = bytes(_data(array))
        if not any(sign in data for sign in (b'"', delimiter.encode(), b"\r", b"\n")):
            return array
    quote, nothing = buffers.repeated('"', len(array)), buffers.repeated("", len(array))
    needed = pc.match_substring_regex(array, f'["\r\n{delimiter}]')
    doubled = pc.replace_substring(array, '"', '""')
    return pc.if_else(needed, pc.binary_join_element_wise(quote, doubled, quote, nothing), array)


def _data(array: Any) -> Any:
    """The bytes of all texts, one after the other."""
    offsets = buffers.offsets_of(array)
    return array.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
