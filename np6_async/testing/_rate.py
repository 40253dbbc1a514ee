"""The fake's rate limit."""

from __future__ import annotations

import math
from email.utils import formatdate
from typing import Literal

import attrs

Reset = Literal["delta", "epoch_s", "epoch_ms", "http_date"]


@attrs.frozen(kw_only=True)
class RateLimit:
    """At most `limit` requests in a window of `window` seconds; the others are answered 429.

    A window opens with the first request after the last one closed. The API does not say how it
    announces its limits, so the fake can do it in every way: `reset` is how `X-RateLimit-Reset`
    is written (seconds from now, epoch seconds, epoch milliseconds, an HTTP date, or None for no
    such header), `headers=False` leaves all three `X-RateLimit-…` headers out, and `retry_after=False`
    leaves `Retry-After` (whole seconds, at least 1) out of the 429.
    """

    limit: int = attrs.field(default=50, validator=attrs.validators.ge(0))
    window: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    reset: Reset | None = attrs.field(
        default="delta",
        validator=attrs.validators.in_(("delta", "epoch_s", "epoch_ms", "http_date", None)),
    )
    retry_after: bool = True
    headers: bool = True


class RateWindow:
    """The window that is open; time is given with each call, in epoch seconds."""

    def __init__(self, rule: RateLimit) -> None:
        self.rule = rule
        self._end = -math.inf
        self._used = 0

    def admit(self, now: float) -> tuple[bool, dict[str, str]]:
        """Whether a request at `now` is within the limit, and the headers its answer carries."""
        rule = self.rule
        if now >= self._end:
            self._end = now + rule.window
            self._used = 0
        allowed = self._used < rule.limit
        self._used += allowed
        headers: dict[str, str] = {}
        if rule.headers:
            headers["X-RateLimit-Limit"] = str(rule.limit)
            headers["X-RateLimit-Remaining"] = str(rule.limit - self._used)
            if rule.reset is not None:
                headers["X-RateLimit-Reset"] = self._reset(rule.reset, now)
        if rule.retry_after and not allowed:
            headers["Retry-After"] = str(max(1, math.ceil(self._end - now)))
        return allowed, headers

    def _reset(self, notation: Reset, now: float) -> str:
        # Rounded up: who waits that long must find the window closed.
        match notation:
            case "delta":
                return str(math.ceil(self._end - now))
            case "epoch_s":
                return str(math.ceil(self._end))
            case "epoch_ms":
                return str(math.ceil(self._end * 1000))
            case "http_date":
                return formatdate(math.ceil(self._end), usegmt=True)
