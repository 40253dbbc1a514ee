"""Points in time as one types them."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_AGO: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_BARE_NUMBER: Final = re.compile(r"[0-9]{1,3}")  # an epoch in the first 17 minutes of 1970 is a forgotten unit
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_bound(text: str) -> str | timedelta:
    """`7d` and the like as a timedelta; anything else as it is, for the client to read."""
    ago = _AGO.fullmatch(text.strip())
    if ago is None and _BARE_NUMBER.fullmatch(text.strip()):
        raise argparse.ArgumentTypeError(f"{text.strip()} of what? Write {text.strip()}d, {text.strip()}h or a date")
    if ago is None:
        return text
    try:
        length = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if datetime.now(UTC) - length < datetime(1970, 1, 1, tzinfo=UTC):
            raise OverflowError
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text.strip()} ago is before 1970, the earliest time there is") from None
    return length


def parse_zone(text: str) -> ZoneInfo:
    """The time zone of this name."""
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # a bad name, a directory of the database, no such zone
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r} is no time zone that this machine knows; Europe/Paris is one, "
            "and `pip install tzdata` brings them all"
        ) from None
