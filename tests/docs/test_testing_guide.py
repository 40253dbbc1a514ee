"""What docs/testing.md says is true. tests/docs/test_docs.py runs the tests it shows."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from np6_async.testing import FakeNP6, Fault

TEXT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
FILES = {block.partition("\n")[0].removeprefix("# "): block for block in BLOCKS}


def test_every_block_names_its_file() -> None:
    assert len(FILES) == len(BLOCKS) == TEXT.count("```python")
    assert all(re.fullmatch(r"[a-z_]+\.py", name) for name in FILES)


def test_the_first_example_has_the_ten_lines_it_promises() -> None:
    lines = [line for line in FILES["test_cleaning.py"].splitlines()[1:] if line]
    assert len(lines) <= 10


def test_every_fault_is_in_the_table() -> None:
    """A reader need not look for more."""
    made = {name for name, _ in inspect.getmembers(Fault, inspect.ismethod) if not name.startswith("_")}
    assert made - {"apply"} == set(
        re.findall(r"Fault\.([a-z_]+)\(", TEXT.partition("| fault |")[2].partition("\n\n")[0])
    )


async def test_the_diff_that_it_shows_is_what_a_failure_prints() -> None:
    (shown,) = re.findall(r"^```text\nAssertionError: (.*?)\n```$", TEXT, re.MULTILINE | re.DOTALL)
    async with FakeNP6(contacts=0) as server, server.client() as np6:
        for contact in ("ANNE", "BILL"):
            server.add_contact(contact)
        await np6.events.list("ANNE")
        server.script(Fault.status(503), times=2)
        await np6.events.list("BILL", kind="bounces")
        server._app.requests.pop()  # the retry that succeeded
        with pytest.raises(AssertionError) as caught:
            server.assert_requests("GET /targets/ANNE/events", "GET /targets/BILL/events/bounces -> 200")
    assert str(caught.value) == shown
