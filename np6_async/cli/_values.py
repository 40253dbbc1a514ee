"""What the values of options are read into; what cannot be read is refused in one sentence."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Final

from .. import ConfigError, EventKind, InvalidInput
from .._http.proxies import Proxy, parse_proxy
from .._models.actions import Action
from .._models.contacts import parse_segment
from ._messages import proxy_problem
from ._time_options import parse_length

_SIZE: Final = re.compile(r"([0-9]{1,9})([KMG]?)B?", re.IGNORECASE)
_RANGE: Final = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


_ON_A_COMMAND_LINE: Final = "other users of the machine can read a password on a command line, and shells keep it"


def proxy(text: str, reason: str = _ON_A_COMMAND_LINE) -> str | None:
    """The URL of a proxy without a password; ``none`` is none."""
    if text == "none":
        return None
    parsed = parse_proxy(text)
    if isinstance(parsed, ConfigError):
        raise argparse.ArgumentTypeError(f"it {proxy_problem(str(parsed).removeprefix('proxy '))}")
    if isinstance(parsed, Proxy) and parsed.has_credentials:
        raise argparse.ArgumentTypeError(f"{reason}; set HTTPS_PROXY to the URL instead")
    return text


def kind(text: str) -> str:
    """A kind of event."""
    try:
        return EventKind.parse(text).value
    except InvalidInput as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("kind=")) from None


def segment(text: str) -> str:
    """The id of a segment."""
    try:
        return parse_segment(text)
    except InvalidInput:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not the id of a segment; 'np6 segments' lists them"
        ) from None


def action(text: str) -> str:
    """The id of an action."""
    try:
        return Action(text).id or text
    except InvalidInput:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not the id of an action, such as 000PE4") from None


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0")
    return value


def fraction(text: str) -> float:
    """A number above 0 and up to 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number above 0 and up to 1")
    return value


def outage(text: str) -> float:
    """A length of time in seconds, such as 5m; 0 is not at all."""
    return parse_length(text).total_seconds()


def partitions(text: str) -> tuple[str, ...]:
    """Names of kind,day, each once."""
    names = tuple(text.split(","))
    if len(set(names)) != len(names) or not set(names) <= {"kind", "day"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not of kind,day, each once")
    return names


def size(text: str) -> int:
    """A size in bytes, such as 64M."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not size:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a size above 0, such as 512K, 64M or 1G")
    return size


def number_or_range(text: str) -> tuple[int, int]:
    """A whole number, or the least and the most, such as 0-40."""
    match = _RANGE.fullmatch(text.strip())
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if least > most:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number, such as 10, or a range, such as 0-40")
    return least, most
