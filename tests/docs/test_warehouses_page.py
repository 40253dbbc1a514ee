"""docs/how-to/warehouses.md: what its program makes of the files of a sync."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from np6_async.export._writers import ndjson
from np6_async.testing import FakeNP6

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "warehouses.md"


async def test_the_lines_of_a_sync_become_singer_messages() -> None:
    (code,) = [each for each in PAGE.read_text(encoding="utf-8").split("```python\n") if "def messages" in each]
    names: dict[str, Any] = {"__name__": "tap"}
    exec(code.split("```")[0], names)  # noqa: S102 - our own code
    async with FakeNP6(contacts=1) as server, server.client() as np6:
        (contact,) = server.contact_ids
        events = await np6.events.list(contact)
    schema, *records = names["messages"](ndjson(contact, events).decode().splitlines())
    assert schema["type"] == "SCHEMA"
    assert set(schema["schema"]["properties"]) == {"id", "contact", "timestamp", "event"}
    assert [record["record"]["id"] for record in records] == [event.id for event in events]
    assert all(record["record"].keys() == schema["schema"]["properties"].keys() for record in records)
