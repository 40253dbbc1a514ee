"""What people read files of events with, called so that it keeps everything: each gives the rows.

Those that are not installed skip the test. The calls of `docs/guide/reading-back.md`, right and wrong, are run by
`tests/docs/test_reading_back.py`.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from np6_async._columns.schema import COLUMNS

Read = Callable[[Path], list[dict[str, Any]]]


def by_jq(file: Path) -> list[dict[str, Any]]:
    jq = shutil.which("jq") or pytest.skip("jq is not installed")
    done = subprocess.run([jq, "-c", ".", str(file)], capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def duckdb(query: str) -> Read:
    def read(file: Path) -> list[dict[str, Any]]:
        module = pytest.importorskip("duckdb")
        with module.connect() as database:
            relation = database.sql(query.format(f"'{file}'"))
            return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]

    return read


def frames(module: str, read: Callable[[Any, Path], Any]) -> Read:
    """By pandas or polars."""

    def rows(file: Path) -> list[dict[str, Any]]:
        library = pytest.importorskip(module)
        frame = read(library, file)
        found: list[dict[str, Any]] = frame.to_dict("records") if module == "pandas" else frame.to_dicts()
        return found

    return rows


_ALL_TEXT = pyarrow.csv.ConvertOptions(column_types={column.name: pa.string() for column in COLUMNS})
_LINES_IN_CELLS = pyarrow.csv.ParseOptions(newlines_in_values=True)

NDJSON: dict[str, Read] = {
    "jq": by_jq,
    "duckdb": duckdb("select * from read_ndjson({})"),
    "duckdb, objects": duckdb(
        "select (json->>'contact') as contact, json->'event' as event from read_ndjson_objects({})"
    ),
    "pandas": frames("pandas", lambda pd, file: pd.read_json(file, lines=True, dtype=False)),
    "polars": frames("polars", lambda pl, file: pl.read_ndjson(file, infer_schema_length=None)),
    "pyarrow": lambda file: pyarrow.json.read_json(file).to_pylist(),
}
CSV: dict[str, Read] = {
    "csv": lambda file: list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline=""), strict=True)),
    "duckdb": duckdb("select * from read_csv({}, all_varchar=true, header=true, delim=',', quote='\"', escape='\"')"),
    "pandas": frames("pandas", lambda pd, file: pd.read_csv(file, dtype=str, keep_default_na=False)),
    "polars": frames("polars", lambda pl, file: pl.read_csv(file, infer_schema=False)),
    "pyarrow": lambda file: pyarrow.csv.read_csv(
        file, convert_options=_ALL_TEXT, parse_options=_LINES_IN_CELLS
    ).to_pylist(),
}
PARQUET: dict[str, Read] = {
    "duckdb": duckdb("select * from read_parquet({})"),
    "pandas": frames("pandas", lambda pd, file: pd.read_parquet(file)),
    "polars": frames("polars", lambda pl, file: pl.read_parquet(file)),
    "pyarrow": lambda file: pq.read_table(file).to_pylist(),
}
