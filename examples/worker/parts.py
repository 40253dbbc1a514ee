"""A batch of contacts becomes one file, which is complete or absent: this makes a task safe to run twice."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from np6_async import NP6Client, unstructure


async def fetch_part(np6: NP6Client, directory: Path, contacts: Sequence[str], start: str, end: str) -> str:
    """Write the events of `contacts` from `start` to `end`, a line of JSON each, and return the file's name.

    The name follows from the arguments, so that a second run replaces the file with an equal one. For this, `start`
    and `end` must be points in time, such as ``2026-01-01``, and `end` must be in the past.
    """
    query = json.dumps([list(contacts), start, end])
    name = hashlib.sha256(query.encode()).hexdigest()[:32] + ".ndjson"
    with whole_file(directory / name) as file:
        async with np6.events.stream_many(contacts, start=start, end=end, missing="empty") as events:
            async for contact, batch in events.batches():
                for event in batch:
                    file.write(json.dumps({"contact": contact, "event": unstructure(event)}) + "\n")
    return name


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A file that is given its name when everything is written, and removed if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
