"""Events for a person at a terminal: a row each, as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo
from shutil import get_terminal_size
from typing import Final
from unicodedata import combining, east_asian_width

from .. import Contact, Event
from .._columns.recipients import recipient_ids
from .._models import event_words as words
from ._messages import printable

_TIME: Final = 19
_TYPE: Final = 12
_ACTION: Final = 6
_CONTACT: Final = (8, 18)  # as wide as those that are known, within these; more in a wide terminal
_GAP: Final = "  "
_LEAST: Final = 80
_MOST_LINES: Final = 4


class EventTable:
    """Rows of a table whose columns have their widths from the start, so that none waits for those to come.

    What a cell cannot hold ends in an ellipsis, and the last column goes on in the next line. Control characters that
    the server sent are replaced. Addresses are shown only where contacts were named by them.
    """

    def __init__(self, tz: tzinfo | None, *, contact: int | None) -> None:
        """`contact` is how long the names of contacts are; None: there is one only, and no column for it."""
        self._tz = tz or UTC
        self._named = contact is not None
        self._begun = False
        columns = max(get_terminal_size((_LEAST, 24)).columns, _LEAST)
        least, most = _CONTACT
        named = [] if contact is None else [min(max(contact, least), most + (columns - _LEAST) // 2)]
        widths = [_TIME, *named, _TYPE, _ACTION]
        # The last cell of a line stays empty: some terminals begin a new line there by themselves.
        self._widths = [*widths, columns - 1 - sum(width + len(_GAP) for width in widths)]

    def rows(self, contact: str | Contact | None, events: Sequence[Event]) -> bytes:
        """These events of one contact or, if that is None, each of its recipient; with the head in front at first."""
        lines: list[str] = []
        if not self._begun and events:
            self._begun = True
            lines += self._lines([f"TIME ({_zone(self._tz)})", "CONTACT", "TYPE", "ACTION", "WHAT"])
        if contact is None:
            names: Sequence[str | None] = recipient_ids(events)
        else:
            names = [contact.value if isinstance(contact, Contact) else contact] * len(events)
        for name, event in zip(names, events, strict=True):
            lines += self._lines([self._time(event), name, event.type, words.action(event), words.what(event)])
        text = "".join(f"{line}\n" for line in lines)
        return text.encode(getattr(sys.stdout, "encoding", None) or "utf-8", errors="replace")

    def _time(self, event: Event) -> str:
        try:
            return f"{event.at.astimezone(self._tz):%Y-%m-%d %H:%M:%S}"
        except OverflowError:  # in the last hours of the year 9999
            return f"{event.at:%Y-%m-%dT%H:%MZ}"

    def _lines(self, cells: Sequence[str | None]) -> Iterator[str]:
        time, contact, *rest = map(printable, cells)
        *first, what = [time, *([contact] if self._named else []), *rest]
        *widths, width = self._widths
        begin = "".join(_padded(_cut(cell, room), room) + _GAP for cell, room in zip(first, widths, strict=True))
        for line in _wrapped(what, width) or [""]:
            yield f"{begin}{line}".rstrip()
            begin = " " * (sum(widths) + len(widths) * len(_GAP))


def _zone(tz: tzinfo) -> str:
    """The name of the zone, or its last part where that is long."""
    name = getattr(tz, "key", None) or str(tz)
    return name if len(name) <= _TIME - len("TIME ()") else name.rpartition("/")[2]


# Text in the cells of a terminal


def _width(text: str) -> int:
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return f"{text}\N{HORIZONTAL ELLIPSIS}"


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines, broken at spaces; the last of them is cut where there are too many."""
    lines: list[str] = []
    for word in text.split():
        if lines and _width(lines[-1]) + 1 + _width(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(_cut(word, width))
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1 :] = [_cut(" ".join(lines[_MOST_LINES - 1 :]), width)]
    return lines
