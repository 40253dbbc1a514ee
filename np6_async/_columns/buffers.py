"""Arrow arrays of memory that is there.

`pyarrow.array` and `pyarrow.scalar` import pandas where it is installed, which takes longer than a small export and 30
MiB. `pyarrow.Array.from_buffers` does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def numbers(values: Any, kind: Any, valid: Any = None) -> Any:
    """An array of a NumPy array; null where `valid` is False."""
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def booleans(values: Any) -> Any:
    """An array of a NumPy array of booleans."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))])


def texts(values: Sequence[str | None]) -> Any:
    """An array of texts."""
    data = [b"" if value is None else value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, data)], dtype=np.int32)
    valid = np.array([value is not None for value in values], dtype=bool)
    bits = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.string(), len(values), [bits, pa.py_buffer(offsets), pa.py_buffer(b"".join(data))])


def repeated(value: str, count: int) -> Any:
    """An array of the same text, for functions: a text as their argument would import pandas, too."""
    data = value.encode()
    offsets = np.arange(0, len(data) * count + 1, len(data), dtype=np.int32) if data else np.zeros(count + 1, np.int32)
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data * count)])


def offsets_of(array: Any) -> Any:
    """Where each text of an array begins in its data, and the last ends."""
    return np.frombuffer(array.buffers()[1], np.int32, count=len(array) + 1, offset=4 * array.offset)
