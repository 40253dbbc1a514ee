"""The cells of docs/how-to/notebooks.md, run by IPython one after the other, as the kernel of a notebook does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.needs import needs

from np6_async.testing import FakeNP6

needs("IPython", "pyarrow")

from IPython.core.interactiveshell import InteractiveShell

PAGE = Path(__file__).parents[2] / "docs/how-to/notebooks.md"
CELLS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    yield shell
    shell.reset(new_session=False)
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


async def test_every_cell_runs_as_it_stands(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `await` in them, and the client without asyncio while the kernel's loop runs; each has a value to show."""
    with FakeNP6(contacts=0) as server:
        other = FakeNP6(contacts=1, events_per_contact=60)
        for contact in ("000MLGPR", "0013KDC0"):
            server.add_contact(contact, other.events(other.contact_ids[0]))
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setenv("NP6_BASE_URL", server.url)
        results = []
        for cell in CELLS:
            result = await shell.run_cell_async(cell, transformed_cell=cell, store_history=False)
            result.raise_error()
            results.append(result.result)
    shown = [result for result in results if result is not None]
    assert len(CELLS) == 6
    assert "<caption" in (table := shown[0]._repr_html_())
    assert "000MLGPR" not in table
    assert shown[1:2] == [(120, [])]
    assert shown[-1] == 120
