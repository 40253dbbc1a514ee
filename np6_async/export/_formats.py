"""The formats of a part: what writes them, and how their files are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import BinaryIO, Final, Literal, Protocol, get_args

from .._models.events import Event
from ._csv import CsvWriter
from ._ndjson import NdjsonWriter

FormatName = Literal["ndjson", "csv", "parquet"]
FORMATS: Final[tuple[FormatName, ...]] = get_args(FormatName)


_SUFFIXES: Final[dict[FormatName, str]] = {"ndjson": ".ndjson", "csv": ".csv", "parquet": ".parquet"}


def suffix(name: FormatName, *, gzip: bool) -> str:
    """What the names of its files end with."""
    return _SUFFIXES[name] + ".gz" * gzip


class Writer(Protocol):
    """Writes events to a file that it does not close. Every method may raise OSError, after which `discard` is due."""

    def add(self, contact: str, events: Sequence[Event]) -> None:
        """Write some of a contact's events."""

    def close(self) -> None:
        """Write what a complete file ends with."""

    def discard(self) -> None:
        """Write nothing any more."""


def writer(name: FormatName) -> Callable[[BinaryIO], Writer]:
    """What makes a writer of this format; ImportError where pyarrow is wanted and not installed."""
    match name:
        case "ndjson":
            return NdjsonWriter
        case "csv":
            return CsvWriter
        case "parquet":
            from ._parquet import ParquetWriter

            return ParquetWriter


def is_installed(name: FormatName) -> bool:
    """Whether what the format needs is installed: the extra `parquet` for Parquet."""
    return name != "parquet" or find_spec("pyarrow") is not None
