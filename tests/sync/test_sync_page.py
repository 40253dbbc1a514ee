"""docs/how-to/sync.md is executed: what it shows works, twice in a row and in one folder."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from np6_async.testing import FakeNP6

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "sync.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the docs are not part of this distribution")
def test_every_block_of_the_page_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    with FakeNP6(contacts=0) as server:
        other = FakeNP6(contacts=1, events_per_contact=60)
        for contact in ("000MLGPR", "0013KDC0"):
            server.add_contact(contact, other.events(other.contact_ids[0]))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setenv("NP6_BASE_URL", server.url)
        for number, block in enumerate([*blocks, *blocks]):
            exec(compile(block, f"sync.md, block {number}", "exec"), {"__name__": "page"})  # noqa: S102
        lines = [
            json.loads(line) for part in tmp_path.glob("out/part-*.ndjson") for line in part.read_bytes().splitlines()
        ]
        assert Counter((line["contact"], line["id"]) for line in lines) == Counter(
            (contact, event["id"]) for contact in server.contact_ids for event in server.events(contact)
        )
        assert {part.name for part in tmp_path.glob("out/*")} == {"part-000001.ndjson", "part-000002.ndjson"}
