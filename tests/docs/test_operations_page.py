"""docs/operations.md is what its generator makes of the description of NP6's API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_operations_is_up_to_date() -> None:
    """If not: python docs/operations_reference.py > docs/operations.md"""
    made = subprocess.run(
        [sys.executable, "-W", "error", DOCS / "operations_reference.py"], capture_output=True, check=True
    )
    assert made.stdout.decode() == (DOCS / "operations.md").read_text(encoding="utf-8")
