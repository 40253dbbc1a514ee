"""What response headers are taken to say of rate limits and waits."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from np6_async._protocol.rate_headers import RateState, parse_rate, parse_retry_after

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def clock() -> float:
    return NOW


def headers(**values: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in values.items()})


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
        """Seconds, epoch seconds, epoch milliseconds or a date are a wait; the past and values below 0 are 0;
        text and what lies more than a week ahead are unknown."""
        rate = parse_rate(headers(X_RateLimit_Reset=text), clock)
        assert (rate.reset if rate else None) == wait
        assert parse_retry_after(headers(Retry_After=text), clock) == wait

    def test_without_a_header_there_is_no_wait(self) -> None:
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

    @pytest.mark.parametrize(
        ("field", "remaining", "reset"),
        [
            ('"default";r=0;t=5', 0, 5.0),
            ('"default";t=5;r=0', 0, 5.0),
            ('"default"; r=50; t=30', 50, 30.0),
            ("default;r=7;t=1", 7, 1.0),
            ('"a";r=50;t=30, "b";r=3;t=60', 3, 60.0),
            ('"b";r=3;t=60,"a";r=50;t=30', 3, 60.0),
            ('"a";r=0;t=5, "b";r=0;t=60', 0, 60.0),
            ('"a";r=0, "b";r=0;t=2', 0, 2.0),
            ('"a";r=4', 4, None),
            ('"tricky, \\" ;r=9";r=1;t=2', 1, 2.0),
            ('"a";pk=:c2VjcmV0:;r=2;t=3', 2, 3.0),
            ('"a";r=2;t=3;pk="x;r=9"', 2, 3.0),
            ('"a";q=100;w=60', None, None),
            ('"a"', None, None),
            ("", None, None),
            ("10", None, None),
            ('"a;r=1', None, None),
            ('"a";r=-1;t=x', None, None),
            ('"a";r=1;t=999999999999', 1, None),
        ],
    )
    def test_the_structured_field(self, field: str, remaining: int | None, reset: float | None) -> None:
        """What is left, and for how long: of several policies that with the least, and of those the longest."""
        expected = None if remaining is None else RateState(None, remaining, reset)
        assert parse_rate(headers(RateLimit=field), clock) == expected

    def test_the_headers_of_the_standards_drafts(self) -> None:
        """Without X-; seconds from now, and a limit that may name its policies."""
        given_headers = headers(RateLimit_Limit="100, 100;w=60", RateLimit_Remaining="7", RateLimit_Reset="30")
        assert parse_rate(given_headers, clock) == RateState(100, 7, 30.0)
        assert parse_rate(headers(RateLimit_Remaining="7"), clock) == RateState(None, 7, None)

    def test_those_with_an_x_go_first(self) -> None:
        given_headers = headers(
            X_RateLimit_Remaining="7", X_RateLimit_Reset="3", RateLimit_Remaining="1", RateLimit='"a";r=0;t=9'
        )
        assert parse_rate(given_headers, clock) == RateState(None, 7, 3.0)

    @given(
        text=st.text() | st.from_regex(r"[-+]?[0-9._]{1,30}(e[-+]?[0-9]{1,4})?", fullmatch=True) | st.floats().map(str),
        date=st.text() | st.datetimes().map(lambda d: d.strftime("%a, %d %b %Y %H:%M:%S GMT")),
        field=st.sampled_from(
            ["Retry-After", "X-RateLimit-Reset", "X-RateLimit-Limit", "X-RateLimit-Remaining", "RateLimit-Remaining"]
        ),
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

    @given(text=st.text(alphabet='"\\;,=rt0123456789.a :', max_size=60))
    def test_no_structured_field_does_harm(self, text: str) -> None:
        """Texts close to one, too, in no time."""
        rate = parse_rate(CIMultiDict({"RateLimit": text}), clock)
        assert rate is None or ((rate.remaining or 0) >= 0 and 0 <= (rate.reset or 0) < 3_650 * 86_400)
