"""`np6 segments`: the segments of the account."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from .. import NP6Client, Segment
from .._models.convert import dumps
from ._command import Command
from ._exit import HUNG_UP
from ._messages import printable
from ._progress import is_terminal


class SegmentsCommand(Command):
    """One run of `np6 segments`."""

    async def fetch(self, np6: NP6Client) -> int:
        code, stopped = await self.ended(self._list(np6))
        if stopped is not None:
            self.say(stopped if code >= HUNG_UP else f"error: {stopped}")
        return code

    async def _list(self, np6: NP6Client) -> None:
        segments = await np6.segments.list()
        lines = _table(segments) if is_terminal(sys.stdout) else (dumps(segment.data).decode() for segment in segments)
        for line in lines:
            print(line)
        sys.stdout.flush()


def _table(segments: Sequence[Segment]) -> Iterator[str]:
    rows = [("ID", "CONTACTS", "TYPE", "NAME"), *map(_row, segments)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for number, count, kind, name in rows:
        yield f"{number:>{widths[0]}}  {count:>{widths[1]}}  {kind:<{widths[2]}}  {name}"


def _row(segment: Segment) -> tuple[str, str, str, str]:
    count = "" if segment.targets_count is None else f"{segment.targets_count:,}"
    kind = f"{segment.type or ''}{' (test)' if segment.is_test else ''}"
    return printable(segment.id), count, printable(kind), printable(segment.name)
