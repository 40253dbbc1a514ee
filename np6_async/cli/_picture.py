"""Small pictures made of text: bars and sparklines, with plain characters where others cannot be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TextIO

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS: Final = "_.:-=+*#"


def can_draw(stream: TextIO | None) -> bool:
    """Whether `stream` can encode block characters."""
    try:
        (_EIGHTHS + _LEVELS).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar(value: int, most: int, width: int, *, blocks: bool) -> str:
    """A bar of at most `width` characters, full at `most`; something is seen of every value above 0."""
    if value <= 0 or most <= 0:
        return ""
    if not blocks:
        return "#" * max(1, round(value / most * width))
    whole, eighths = divmod(max(1, round(value / most * width * 8)), 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[eighths] if eighths else "")


def sparkline(values: Sequence[int], *, blocks: bool) -> str:
    """One character a value, the height relative to the greatest; a blank for 0."""
    levels = _LEVELS if blocks else _PLAIN_LEVELS
    most = max(values, default=0)
    return "".join(levels[(value * len(levels) - 1) // most] if value > 0 else " " for value in values)
