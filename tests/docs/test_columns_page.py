"""docs/columns.md is what its generator makes of the columns of today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from np6_async.export import COLUMNS, COLUMNS_VERSION

pytest.importorskip("pyarrow")

from np6_async.integrations.arrow import SCHEMA

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_the_columns_is_up_to_date() -> None:
    """If not: python docs/columns_reference.py > docs/columns.md"""
    command = [sys.executable, "-W", "error", DOCS / "columns_reference.py"]
    made = subprocess.run(command, capture_output=True, check=True)
    assert made.stdout.decode() == (DOCS / "columns.md").read_text(encoding="utf-8")


def test_the_table_of_the_columns_is_that_of_the_code() -> None:
    """Row by row: name, Arrow type, where it comes from, when it is null, and what it tells of a person."""
    page = (DOCS / "columns.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.+) \| (.+) \| (whole|inside|no) \|$", page, re.MULTILINE)
    assert [(name, kind) for name, kind, *_ in rows] == [(field.name, str(field.type)) for field in SCHEMA]
    assert [(source.strip("`"), empty, personal) for _, _, source, empty, personal in rows] == [
        (column.member, column.empty or "never", column.personal or "no") for column in COLUMNS
    ]
    assert f"version {COLUMNS_VERSION} of" in page


def test_every_text_of_a_column_is_one_line_of_a_table() -> None:
    for column in COLUMNS:
        assert not set("|\n") & set(column.member + column.empty)
