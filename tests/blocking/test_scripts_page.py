"""What docs/how-to/scripts.md says of asyncio.run, and where the error leads; its other programs run in tests/docs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import np6_async
from np6_async.testing import FakeNP6

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/scripts.md"


@pytest.mark.slow
def test_the_second_asyncio_run_fails_with_an_error_that_names_the_page(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "program.py").write_text(code)
    with FakeNP6(contacts=0) as server:
        server.add_contact("000MLGPR")
        server.add_contact("0013KDC0")
        done = subprocess.run(
            [sys.executable, "program.py"],
            cwd=tmp_path,
            env={**os.environ, "NP6_API_KEY": server.api_key, "NP6_BASE_URL": server.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "[]\n"
    assert re.search(
        r"ClientClosed: this NP6Client belongs to another event loop; .*docs/how-to/scripts\.md", done.stderr
    )


def test_every_page_that_an_error_names_exists() -> None:
    package = Path(np6_async.__file__).parent
    named = {
        name for file in package.rglob("*.py") for name in re.findall(r"docs/[\w/-]+\.md", file.read_text("utf-8"))
    }
    assert "docs/how-to/scripts.md" in named
    assert all((ROOT / name).is_file() for name in named)
