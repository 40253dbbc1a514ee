"""The rate limit of a fake server."""

from __future__ import annotations

import math
from email.utils import formatdate
from typing import Literal, get_args

import attrs

Reset = Literal["delta", "epoch_s", "epoch_ms", "http_date"]


@attrs.frozen(kw_only=True)
class RateLimit:
    """At most `limit` requests (default 50) in a window of `window` seconds (default 1); any more get a 429.

    A window opens with the first request after the last one has closed. NP6 does not document how it announces its
    limits, so the fake can do it in every way. `reset` is the notation of `X-RateLimit-Reset`: "delta" (seconds from
    now, the default), "epoch_s", "epoch_ms", "http_date", or None for no such header. `headers=False` leaves out all
    three `X-RateLimit-…` headers, and `retry_after=False` leaves `Retry-After` (whole seconds, at least 1) out of
    the 429.
    """

    limit: int = attrs.field(default=50, validator=attrs.validators.ge(0))
    window: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    reset: Reset | None = attrs.field(default="delta", validator=attrs.validators.in_((*get_args(Reset), None)))
    retry_after: bool = True
    headers: bool = True


class RateWindow:
    """The open window; each call is given the time, in epoch seconds."""

    def __init__(self, rule: RateLimit) -> None:
        self.rule = rule
        self._end = -math.inf
        self._used = 0

    def admit(self, now: float) -> tuple[bool, dict[str, str]]:
        """Whether a request at `now` is within the limit, and the headers of its response."""
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
        # Rounded up: the window must be closed for a client that waits that long.
        match notation:
            case "delta":
                return str(math.ceil(self._end - now))
            case "epoch_s":
                return str(math.ceil(self._end))
            case "epoch_ms":
                return str(math.ceil(self._end * 1000))
            case "http_date":
                return formatdate(math.ceil(self._end), usegmt=True)
