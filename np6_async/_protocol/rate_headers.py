"""What response headers say about the account's rate limit, about when to try again, and what time it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from attrs import frozen

# A longer wait is a mistake of the server; any shorter one may be meant.
_DECADE: Final = 10 * 365 * 86_400.0
# A member of the structured field RateLimit: a policy's name, and what is left of it (r) until when (t).
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_POLICY: Final = re.compile(rf'\s*(?:{_STRING}|[A-Za-z*][^;,\s"]*)\s*((?:;[^;,"]*(?:{_STRING}\s*)?)*)\s*(?:,|$)')
_PARAMETER: Final = re.compile(r";\s*([rt])\s*=\s*([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*(?=;|$)")


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
    """What the headers say about the rate limit, None where they say nothing.

    That is ``X-RateLimit-*`` or, where there are none of them, ``RateLimit-*``, or the structured field ``RateLimit``
    (``"default";r=0;t=5``), which may hold several policies: the one with the least remaining counts.

    The unit of ``X-RateLimit-Reset`` is not published: seconds from now, epoch seconds, epoch milliseconds
    and HTTP dates are told apart by their size, and the server's own ``Date`` corrects for skewed clocks.
    """
    texts = headers.get("X-RateLimit-Limit"), headers.get("X-RateLimit-Remaining"), headers.get("X-RateLimit-Reset")
    prefix = "X-RateLimit-"
    if texts == (None, None, None):
        field = headers.get("RateLimit")
        if field is not None and (state := _least(field)) is not None:
            return state
        if "RateLimit-Remaining" not in headers:
            return None
        prefix = "RateLimit-"
        limit_text = headers.get("RateLimit-Limit")
        # Drafts of the standard add the policies: 100, 100;w=60
        texts = limit_text and re.split("[,;]", limit_text)[0], headers.get("RateLimit-Remaining"), None
    limit, remaining = _number(texts[0]), _number(texts[1])
    reset = _seconds_from_now(headers, prefix + "Reset", wall_clock)
    if limit is None and remaining is None and reset is None:
        return None
    return RateState(None if limit is None else int(limit), None if remaining is None else int(remaining), reset)


@lru_cache(maxsize=8)
def _least(field: str) -> RateState | None:
    """Of the policies in the structured field ``RateLimit`` the one with the least remaining, and that for longest."""
    found: list[tuple[int, float]] = []
    at = 0
    while at < len(field):
        policy = _POLICY.match(field, at)
        if policy is None:
            return None  # as a structured field it is not valid as a whole
        at = policy.end()
        values = dict(_PARAMETER.findall(re.sub(_STRING, "", policy[1])))
        if "r" in values:
            found.append((int(float(values["r"])), -float(values.get("t", -1))))
    if not found:
        return None
    remaining, until = min(found)
    return RateState(None, remaining, -until if 0 <= -until < _DECADE else None)


def _seconds_from_now(headers: Mapping[str, str], name: str, wall_clock: Callable[[], float]) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    wait = _number(text)
    moment = http_date(text) if wait is None else wait / 1000 if wait >= 1e11 else wait if wait >= 1e9 else None
    if moment is not None:
        now = http_date(headers.get("Date", ""))
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


@lru_cache(maxsize=8)  # the Date of a second comes with every response, and reading it takes 10 µs
def http_date(text: str) -> float | None:
    """An HTTP date in epoch seconds; None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, IndexError, OverflowError, TypeError):
        return None
