"""Points in time as one types them."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from attrs import frozen

from .. import InvalidBound
from .._models.time_bounds import isoformat, to_millis

_SPAN: Final = re.compile(r"([0-9]{1,9})([smhdwSHDW])")
_BARE_NUMBER: Final = re.compile(r"[0-9]{1,3}")  # an epoch in the first 17 minutes of 1970 is a forgotten unit
_DIGITS: Final = re.compile(r"[0-9]{4,18}")
_DATE: Final = re.compile(r"[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|[Ww][0-9]{2}(?:-?[0-9])?)(?:[Tt ][-0-9:.,Zz+]*)?")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EXPECTED: Final = (
    "expected a date (2026-01-01), a time (2026-01-01T08:00Z), an epoch, or a span back from now: 90m, 24h, 7d, 2w"
)


class BadBound(Exception):
    """No point in time, or not in this order; the message names the option."""


@frozen
class Span:
    """The bounds to ask for, in full; `future`: no event can be in it yet."""

    start: str | None
    end: str | None
    future: bool


def read_span(start: str | None, end: str | None, tz: tzinfo | None) -> Span:
    """What `--start` and `--end` mean, both seen from the same now; raises `BadBound`."""
    now = datetime.now(UTC)
    first = None if start is None else _millis("--start", start.strip(), now, tz)
    last = None if end is None else _millis("--end", end.strip(), now, tz)
    if first is not None and last is not None and first > last:
        raise BadBound(f"--start {start} is later than --end {end}")
    return Span(
        start=None if first is None else isoformat(first),
        end=None if last is None else isoformat(last),
        future=first is not None and first > to_millis(now, name="now", now=now, tz=None),
    )


def _millis(option: str, text: str, now: datetime, tz: tzinfo | None) -> int:
    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            length = timedelta(**{_UNITS[span[2].lower()]: int(span[1])})
            return to_millis(length, name=option, now=now, tz=tz)
        if not _BARE_NUMBER.fullmatch(text):
            return to_millis(text, name=option, now=now, tz=tz)
    except (InvalidBound, OverflowError):
        pass
    # Not the client's words, which are for a program: they name types of Python.
    why = "that long ago is before 1970, the earliest time there is" if span else _why(text, tz)
    raise BadBound(f"{option} {text[:40]!r}: {why}") from None


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
        return f"a span counts back from now as it is: write {text[1:]}"
    if text[-1:] == "M" and text[:-1].isdigit():
        return f"months or minutes? Write 90d for three months, {text[:-1]}m for minutes"
    return _EXPECTED


def is_span(text: str) -> bool:
    """Whether `text` counts back from now."""
    return _SPAN.fullmatch(text.strip()) is not None


def parse_every(text: str) -> timedelta:
    """A length of time: 15m, 6h, 1d, 1w."""
    span = _SPAN.fullmatch(text.strip())
    try:
        every = timedelta(**{_UNITS[span[2].lower()]: int(span[1])}) if span else timedelta()
    except OverflowError:
        every = timedelta()
    if not every:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no length of time above 0, such as 15m, 6h, 1d or 1w")
    return every


def parse_zone(text: str) -> ZoneInfo:
    """The time zone of this name."""
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # a bad name, a directory of the database, no such zone
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r} is no time zone that this machine knows; Europe/Paris is one, "
            "and `pip install tzdata` brings them all"
        ) from None
