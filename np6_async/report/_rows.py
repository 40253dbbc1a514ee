"""Counts by a key of which there may be any number, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

# What is counted, in the order of a row.
SERIES: Final = ("sent", "bounced", "opened", "clicked", "stopped")
SENT, BOUNCED, OPENED, CLICKED, STOPPED = range(len(SERIES))
Row: TypeAlias = list[int]

_LONGEST: Final = 80  # characters of a key
_TOO_LONG: Final = "(too long)"


def new_row() -> Row:
    """Nothing counted."""
    return [0] * len(SERIES)


class Rows:
    """A row for each key, exact while there are no more than twice `most` keys.

    Beyond that, all but the `most` largest are added to `others`, as often as it takes. A key that comes again after
    that begins anew, so the row of a kept key may lack what was added to `others` before. Nothing is lost: `others` and
    all rows together are what was counted.
    """

    def __init__(self, most: int, on_fold: Callable[[set[str]], None] | None = None) -> None:
        self.others = new_row()
        self.folded = 0  # keys
        self._most = most
        self._on_fold = on_fold
        self._kept: dict[str, Row] = {}

    def of(self, key: str) -> Row:
        """The row of a key, to count in."""
        row = self._kept.get(key)
        return self._begin(key) if row is None else row

    def _begin(self, key: str) -> Row:
        if len(key) > _LONGEST:
            key = _TOO_LONG
        if key not in self._kept and len(self._kept) >= 2 * self._most:
            self._fold()
        return self._kept.setdefault(key, new_row())

    def _fold(self) -> None:
        largest = self.largest()
        self._kept = dict(largest[: self._most])
        self.folded += len(largest) - self._most
        for _, row in largest[self._most :]:
            add(self.others, row)
        if self._on_fold is not None:
            self._on_fold(set(self._kept))

    def largest(self) -> list[tuple[str, Row]]:
        """All rows that are kept, the largest first."""
        return sorted(self._kept.items(), key=lambda item: (-sum(item[1]), item[0]))

    def shown(self, most: int, may: Callable[[str], bool] = lambda _: True) -> tuple[list[tuple[str, Row]], Row, int]:
        """The largest rows whose key `may` be shown, those that were sent most first; all others in one, and how many
        they are."""
        shown: list[tuple[str, Row]] = []
        others, count = list(self.others), self.folded
        for key, row in self.largest():
            if len(shown) < most and may(key):
                shown.append((key, row))
            else:
                add(others, row)
                count += 1
        return sorted(shown, key=lambda item: (item[1][SENT], sum(item[1])), reverse=True), others, count


def add(to: Row, row: Row) -> None:
    """Add a row to another."""
    for at, number in enumerate(row):
        to[at] += number
