"""Points in time and lengths of time as they are typed."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from attrs import frozen

from .. import InvalidBound, InvalidInput
from .._models.time_bounds import Every, isoformat, to_millis
from ._messages import BadInput

_SPAN: Final = re.compile(r"([0-9]{1,9})([smhdwSHDW])")
_NONE: Final = re.compile(r"0+[smhdw]?", re.IGNORECASE)
_BARE_NUMBER: Final = re.compile(r"[0-9]{1,3}")  # an epoch in the first 17 minutes of 1970 is a forgotten unit
_DIGITS: Final = re.compile(r"[0-9]{4,18}")
_DATE: Final = re.compile(r"[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|[Ww][0-9]{2}(?:-?[0-9])?)(?:[Tt ][-0-9:.,Zz+]*)?")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EXPECTED: Final = (
    "expected a date (2026-01-01), a time (2026-01-01T08:00Z), an epoch, or a span back from now: 90m, 24h, 7d, 2w"
)


@frozen
class Span:
    """The bounds to ask for, as ISO 8601 or a time back from now; `future`: no event can be in it yet."""

    start: str | timedelta | None
    end: str | timedelta | None
    future: bool


def read_span(start: str | None, end: str | None, tz: tzinfo | None) -> Span:
    """What `--start` and `--end` mean, both seen from the same now; raises `BadInput`."""
    now = datetime.now(UTC)
    first = None if start is None else _millis("--start", start.strip(), now, tz)
    last = None if end is None else _millis("--end", end.strip(), now, tz)
    if first is not None and last is not None and first > last:
        raise BadInput(f"--start {start} is later than --end {end}")
    return Span(
        start=_bound(start, first),
        end=_bound(end, last),
        future=first is not None and first > to_millis(now, name="now", now=now, tz=None),
    )


def _bound(text: str | None, millis: int | None) -> str | timedelta | None:
    if text is None or millis is None:
        return None
    return _span(text) or isoformat(millis)


def _span(text: str) -> timedelta | None:
    match = _SPAN.fullmatch(text.strip())
    return timedelta(**{_UNITS[match[2].lower()]: int(match[1])}) if match else None


def _millis(option: str, text: str, now: datetime, tz: tzinfo | None) -> int:
    try:
        if (span := _span(text)) is not None:
            return to_millis(span, name=option, now=now, tz=tz)
        if not _BARE_NUMBER.fullmatch(text):
            return to_millis(text, name=option, now=now, tz=tz)
    except (InvalidBound, OverflowError):
        pass
    # Not the client's message, which is for a program: it names types of Python.
    why = "that is before 1970, the earliest time there is" if _SPAN.fullmatch(text) else _why(text, tz)
    raise BadInput(f"{option} {text[:40]!r}: {why}") from None


def _why(text: str, tz: tzinfo | None) -> str:
    if _BARE_NUMBER.fullmatch(text):
        return f"{text} of what? Write {text}d, {text}h or a date"
    if _DIGITS.fullmatch(text):
        try:
            as_epoch = isoformat(to_millis(int(text), name="", now=datetime.now(UTC), tz=None))
        except InvalidBound:
            return "too large for an epoch in seconds or milliseconds"
        return f"an epoch, or a date without dashes? Write a date as 2026-01-31, this epoch as {as_epoch}"
    if _DATE.fullmatch(text):
        zone = f" in {tz.key}" if isinstance(tz, ZoneInfo) else ""
        return f"there is no such day or time{zone} (from 1970 to 9999)"
    if text[1:] and text[0] == "-" and _SPAN.fullmatch(text[1:]):
        return f"a span always counts back from now: write {text[1:]}"
    if text[-1:] == "M" and text[:-1].isdigit():
        return f"months or minutes? Write 90d for three months, {text[:-1]}m for minutes"
    return _EXPECTED


def parse_every(text: str) -> timedelta | str:
    """The length of windows: 15m, 6h, or of the calendar 1d, 1w, 1mo."""
    try:
        every = Every.read(text, None)
    except InvalidInput:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a length of time above 0, such as 15m, 6h, 1d, 1w or 1mo"
        ) from None
    return timedelta(milliseconds=every.count) if every.unit == "ms" else every.text


def parse_length(text: str) -> timedelta:
    """A length of time, which may be 0."""
    try:
        length = timedelta() if _NONE.fullmatch(text.strip()) else _span(text)
    except OverflowError:
        length = None
    if length is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a length of time, such as 15m, 6h, 1d or 1w")
    return length


def length(every: timedelta) -> str:
    """Such as 6h: what `parse_every` reads."""
    unit, size = next((u, s) for u in "wdhms" if not every % (s := timedelta(**{_UNITS[u]: 1})))
    return f"{every // size}{unit}"


def parse_zone(text: str) -> ZoneInfo:
    """The time zone of this name."""
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # a bad name, a directory of the database, no such zone
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r} is not a time zone that this machine knows; Europe/Paris is one, "
            "and `pip install tzdata` installs them all"
        ) from None
