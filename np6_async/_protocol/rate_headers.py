"""What response headers say about the account's rate limit and about when to try again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import frozen

# A longer wait is a mistake of the server; any shorter one may be meant.
_DECADE: Final = 10 * 365 * 86_400.0


@frozen
class RateState:
    """What a response says about the account's rate limit. `reset` is in seconds from now; None is unknown."""

    limit: int | None
    remaining: int | None
    reset: float | None


def parse_retry_after(headers: Mapping[str, str], wall_clock: Callable[[], float]) -> float | None:
    """The wait in seconds that ``Retry-After`` asks for, as seconds or an HTTP date; None if unusable."""
    return _seconds_from_now(headers, "Retry-After", wall_clock)


def parse_rate(headers: Mapping[str, str], wall_clock: Callable[[], float]) -> RateState | None:
    """The ``X-RateLimit-*`` headers, None where there are none.

    The unit of ``X-RateLimit-Reset`` is not published: seconds from now, epoch seconds, epoch milliseconds
    and HTTP dates are told apart by their size, and the server's own ``Date`` corrects for skewed clocks.
    """
    texts = headers.get("X-RateLimit-Limit"), headers.get("X-RateLimit-Remaining"), headers.get("X-RateLimit-Reset")
    if texts == (None, None, None):
        return None
    limit, remaining = _number(texts[0]), _number(texts[1])
    reset = _seconds_from_now(headers, "X-RateLimit-Reset", wall_clock)
    if limit is None and remaining is None and reset is None:
        return None
    return RateState(None if limit is None else int(limit), None if remaining is None else int(remaining), reset)


def _seconds_from_now(headers: Mapping[str, str], name: str, wall_clock: Callable[[], float]) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    wait = _number(text)
    moment = _http_date(text) if wait is None else wait / 1000 if wait >= 1e11 else wait if wait >= 1e9 else None
    if moment is not None:
        now = _http_date(headers.get("Date", ""))
        wait = max(0.0, moment - (wall_clock() if now is None else now))
    return wait if wait is not None and wait < _DECADE else None


def _number(text: str | None) -> float | None:
    """A header as a number from 0; a negative or NaN counts as 0, anything else unusable as None."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value == math.inf else value if value > 0 else 0.0


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, IndexError, OverflowError, TypeError):
        return None
