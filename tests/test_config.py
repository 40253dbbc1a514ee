"""Which failures a policy retries, and after what wait."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from np6_async import RetryPolicy
from np6_async._errors import (
    AuthError,
    BadRequest,
    ClientClosed,
    ConfigError,
    ConnectError,
    DecodeError,
    EndpointNotFound,
    InvalidContact,
    LimitExceeded,
    NotFound,
    NP6Error,
    OrderError,
    ProtocolError,
    ProxyError,
    RateLimited,
    ServerError,
    StreamInterrupted,
    TimeoutExceeded,
    TLSError,
    UnexpectedRedirect,
)


class TestClassification:
    @pytest.mark.parametrize(
        ("error", "attempts"),
        [
            (ConnectError("x"), 5),
            (TimeoutExceeded("x"), 5),
            (StreamInterrupted("x"), 5),
            (ServerError("x", status=503), 5),
            (TimeoutExceeded("x", limit="connect"), 5),
            (TimeoutExceeded("x", limit="pool"), 1),
            (TimeoutExceeded("x", limit="deadline"), 1),
            (ProtocolError("x"), 3),
            (ProxyError("x"), 5),
            (ProxyError("x", status=502), 5),
            (ProxyError("x", status=429), 5),
            (ProxyError("x", status=407), 1),
            (ProxyError("x", status=403), 1),
            (DecodeError("x"), 3),
            (TLSError("x"), 1),
            (OrderError("x"), 1),
            (LimitExceeded("x"), 1),
            (AuthError("x", status=401), 1),
            (NotFound("x", status=404), 1),
            (EndpointNotFound("x", status=404), 1),
            (BadRequest("x", status=400), 1),
            (RateLimited("x", status=429), 1),
            (UnexpectedRedirect("x", status=302), 1),
            (ClientClosed("x"), 1),
            (InvalidContact("x"), 1),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, NP6Error) else str(value),
    )
    def test_temporary_errors_are_retried(self, error: NP6Error, attempts: int) -> None:
        """Broken connections and server failures get 5 attempts, responses that make no sense 3, all else 1."""
        assert RetryPolicy().attempts(error) == attempts

    def test_one_attempt_means_no_retry_at_all(self) -> None:
        """max_attempts=1 also holds for responses that make no sense."""
        policy = RetryPolicy(max_attempts=1)
        assert policy.attempts(ConnectError("x")) == policy.attempts(ProtocolError("x")) == 1


class TestBackoff:
    @given(
        failures=st.integers(1, 10_000),
        chance=st.floats(0, 1),
        base=st.floats(0, 100),
        most=st.floats(0, 1000),
    )
    def test_the_wait_is_within_its_bounds(self, failures: int, chance: float, base: float, most: float) -> None:
        """Between 0 and base_delay doubled per failure, never above max_delay."""
        policy = RetryPolicy(base_delay=base, max_delay=most, random=lambda: chance)
        delay = policy.backoff(failures)
        assert 0 <= delay <= most
        assert delay <= base * 2.0 ** min(failures - 1, 900)

    def test_full_jitter(self) -> None:
        """The waits of many clients spread from nothing up to 0.25, 0.5, 1, 2 ... 20 s."""
        highest = [RetryPolicy(random=lambda: 1.0).backoff(n) for n in range(1, 10)]
        assert highest == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]
        assert RetryPolicy(random=lambda: 0.0).backoff(3) == 0

    @pytest.mark.parametrize("name", ["base_delay", "max_delay", "max_wait", "budget", "refund"])
    @pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None, True])
    def test_a_setting_out_of_range_is_refused(self, name: str, value: Any) -> None:
        """With a ConfigError that names the setting."""
        with pytest.raises(ConfigError, match=rf"RetryPolicy\.{name} must be a number from 0"):
            RetryPolicy(**{name: value})

    @pytest.mark.parametrize("name", ["max_attempts", "max_protocol_attempts"])
    @pytest.mark.parametrize("value", [0, -1, 1.5, "5", None, True])
    def test_attempts_are_counted_in_whole_numbers(self, name: str, value: Any) -> None:
        """At least 1."""
        with pytest.raises(ConfigError, match=rf"RetryPolicy\.{name} must be a whole number from 1"):
            RetryPolicy(**{name: value})
