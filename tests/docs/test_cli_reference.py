"""docs/cli.md is what its generator makes of the parser of today."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_reference_is_up_to_date(columns: str) -> None:
    """Whatever the width of the terminal. If not: python docs/cli_reference.py > docs/cli.md"""
    command = [sys.executable, "-W", "error", DOCS / "cli_reference.py"]
    made = subprocess.run(command, env={**os.environ, "COLUMNS": columns}, capture_output=True, check=True)
    assert made.stdout.decode() == (DOCS / "cli.md").read_text(encoding="utf-8")
