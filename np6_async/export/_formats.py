"""The formats of a file of events: which can be written, and by what."""

from __future__ import annotations

from importlib.util import find_spec
from typing import BinaryIO, Literal, TypeAlias, get_args

from .._errors import InvalidInput
from ._writers import CsvWriter, NdjsonWriter, Writer

Format: TypeAlias = Literal["ndjson", "csv", "parquet"]


def suffix(format: Format, *, gzip: bool) -> str:
    """What the names of its files end with."""
    return f".{format}{'.gz' * gzip}"


def make_writer(format: Format, file: BinaryIO) -> Writer:
    """A writer of `format` to `file`: ``"ndjson"``, ``"csv"`` or ``"parquet"``.

    Raises `InvalidInput` for another format, and where pyarrow is needed and not installed.
    """
    check_format(format)
    match format:
        case "ndjson":
            return NdjsonWriter(file)
        case "csv":
            return CsvWriter(file)
        case "parquet":
            from ._parquet import ParquetWriter

            return ParquetWriter(file)


def check_format(format: str, *, gzip: bool = False) -> None:
    """Raise `InvalidInput` where files of this format cannot be written."""
    if format not in get_args(Format):
        raise InvalidInput(f"format={format!r} is not known; use 'ndjson', 'csv' or 'parquet'")
    if format == "parquet" and gzip:
        raise InvalidInput("gzip is for ndjson and csv: parquet is compressed already")
    if format == "parquet" and find_spec("pyarrow") is None:
        raise InvalidInput("format='parquet' needs pyarrow: pip install 'np6_async[parquet]'")
