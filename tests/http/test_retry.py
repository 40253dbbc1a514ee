"""Which failures are retried, how long the waits are, and what rate headers are taken to say."""

from __future__ import annotations

import math
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

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
    RateLimited,
    ServerError,
    StreamInterrupted,
    TimeoutExceeded,
    TLSError,
    UnexpectedRedirect,
)
from np6_async._http.retry import RateState, RetryBudget, parse_rate, parse_retry_after

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def clock() -> float:
    return NOW


def headers(**values: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in values.items()})


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
    def test_what_may_get_better_is_tried_again(self, error: NP6Error, attempts: int) -> None:
        """Broken connections and server failures get 5 attempts, answers that make no sense 3, all else 1."""
        assert RetryPolicy().attempts(error) == attempts

    def test_one_attempt_means_no_retry_at_all(self) -> None:
        """max_attempts=1 also holds for answers that make no sense."""
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


class TestBudget:
    def test_it_ends(self) -> None:
        """100 retries, then none."""
        budget = RetryBudget(RetryPolicy())
        assert [budget.spend() for _ in range(101)] == [True] * 100 + [False]

    def test_ten_successes_earn_a_retry(self) -> None:
        """A success gives a tenth back, and never more than the budget."""
        budget = RetryBudget(RetryPolicy(budget=1, refund=0.125))
        for _ in range(1000):
            budget.succeed()
        assert [budget.spend(), budget.spend()] == [True, False]
        for _ in range(7):
            budget.succeed()
        assert not budget.spend()
        budget.succeed()
        assert budget.spend()

    def test_idle_connections_that_were_closed_cost_nothing_while_the_server_answers(self) -> None:
        """One for each success, and a thousand at most: in an outage they are failures like others."""
        budget = RetryBudget(RetryPolicy())
        assert not budget.forgive()
        for _ in range(3):
            budget.succeed()
        assert [budget.forgive() for _ in range(4)] == [True] * 3 + [False]
        for _ in range(5_000):
            budget.succeed()
        assert sum(budget.forgive() for _ in range(5_000)) == 1_000

    def test_a_budget_of_nothing_allows_no_retry(self) -> None:
        """budget=0."""
        assert not RetryBudget(RetryPolicy(budget=0)).spend()


RESETS = [
    ("30", 30.0),
    ("0", 0.0),
    ("0.5", 0.5),
    (" 7 ", 7.0),
    (str(int(NOW) + 30), 30.0),
    (str((int(NOW) + 30) * 1000), 30.0),
    (formatdate(NOW + 30, usegmt=True), 30.0),
    (str(int(NOW) - 30), 0.0),
    (str((int(NOW) - 30) * 1000), 0.0),
    (formatdate(NOW - 30, usegmt=True), 0.0),
    ("Thu, 01 Jan 1970 00:10:00 GMT", 0.0),
    ("Wed, 31 Dec 1969 23:00:00 GMT", 0.0),
    ("-5", 0.0),
    ("-inf", 0.0),
    ("nan", 0.0),
    ("1e18", None),
    ("1e308", None),
    ("inf", None),
    ("", None),
    ("soon", None),
    ("12 monkeys", None),
    ("9" * 5000, None),
    ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ("\u0663\u0660", 30.0),
    ("8000000", 8_000_000.0),
]


class TestHeaders:
    @pytest.mark.parametrize(("text", "wait"), RESETS, ids=lambda value: repr(value)[:30])
    def test_every_notation_of_a_reset(self, text: str, wait: float | None) -> None:
        """Seconds, epoch seconds, epoch milliseconds or a date are a wait; the past and nonsense below 0 are 0;
        text and what lies more than a week ahead are unknown."""
        rate = parse_rate(headers(X_RateLimit_Reset=text), clock)
        assert (rate.reset if rate else None) == wait
        assert parse_retry_after(headers(Retry_After=text), clock) == wait

    def test_no_header_is_no_wait(self) -> None:
        """None, and not 0."""
        assert parse_retry_after(headers(), clock) is None
        assert parse_rate(headers(), clock) is None

    @pytest.mark.parametrize("ahead", [-7200.0, -90.0, 90.0, 7200.0])
    def test_a_clock_that_is_wrong_does_no_harm(self, ahead: float) -> None:
        """Moments are counted from the server's own Date, whatever this machine's clock says."""
        date = formatdate(NOW, usegmt=True)
        for text in (str(int(NOW) + 10), str(int(NOW + 10) * 1000), formatdate(NOW + 10, usegmt=True)):
            given_headers = headers(X_RateLimit_Reset=text, Retry_After=text, Date=date)
            rate = parse_rate(given_headers, lambda: NOW + ahead)
            assert rate is not None
            assert rate.reset == 10
            assert parse_retry_after(given_headers, lambda: NOW + ahead) == 10

    def test_a_broken_date_is_ignored(self) -> None:
        """This machine's clock counts then."""
        rate = parse_rate(headers(X_RateLimit_Reset=str(int(NOW) + 10), Date="yesterday"), clock)
        assert rate == RateState(None, None, 10)

    def test_counts(self) -> None:
        """Limit and Remaining are whole numbers from 0; unusable ones are unknown."""
        rate = parse_rate(headers(X_RateLimit_Limit="50", X_RateLimit_Remaining="-3"), clock)
        assert rate == RateState(50, 0, None)
        rate = parse_rate(headers(X_RateLimit_Limit="many", X_RateLimit_Remaining="1.0"), clock)
        assert rate == RateState(None, 1, None)
        assert parse_rate(headers(X_RateLimit_Limit="inf"), clock) is None

    def test_case_does_not_matter(self) -> None:
        """HTTP header names have none."""
        assert parse_retry_after(CIMultiDict({"retry-after": "3"}), clock) == 3

    @given(
        text=st.text() | st.from_regex(r"[-+]?[0-9._]{1,30}(e[-+]?[0-9]{1,4})?", fullmatch=True) | st.floats().map(str),
        date=st.text() | st.datetimes().map(lambda d: d.strftime("%a, %d %b %Y %H:%M:%S GMT")),
        field=st.sampled_from(["Retry-After", "X-RateLimit-Reset", "X-RateLimit-Limit", "X-RateLimit-Remaining"]),
    )
    def test_no_header_does_harm(self, text: str, date: str, field: str) -> None:
        """Whatever a header says: no exception, and each number None or from 0 up to ten years."""
        given_headers = CIMultiDict({field: text, "Date": date})
        wait = parse_retry_after(given_headers, clock)
        assert wait is None or 0 <= wait < 3_650 * 86_400
        rate = parse_rate(given_headers, clock)
        if rate is not None:
            assert rate.reset is None or 0 <= rate.reset < 3_650 * 86_400
            assert rate.limit is None or rate.limit >= 0
            assert rate.remaining is None or rate.remaining >= 0

    @given(text=st.text(alphabet="0123456789 :,GMTJanuryFebSWedn+-()", max_size=60))
    def test_no_date_does_harm(self, text: str) -> None:
        """Texts close to an HTTP date, too."""
        wait = parse_retry_after(CIMultiDict({"Retry-After": text, "Date": text}), clock)
        assert wait is None or 0 <= wait < 3_650 * 86_400
