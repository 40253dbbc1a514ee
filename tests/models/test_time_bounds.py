"""What users may rely on when they say from when to when."""

# ruff: noqa: DTZ001 - naive datetimes are half the subject here
from __future__ import annotations

import contextlib
import math
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from np6_async._errors import InvalidBound, InvalidInput
from np6_async._models.time_bounds import Every, Window, isoformat, to_millis, window

NOW = datetime(2026, 6, 15, 12, 0, 0, 123456, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = 253_402_300_799_999
MS = timedelta(milliseconds=1)

millis = st.integers(0, LAST)
offsets = st.integers(-86_399, 86_399).map(lambda s: timezone(timedelta(seconds=s)))
zones = st.sampled_from(
    ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "UTC"]
).map(ZoneInfo)
instants = st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))


def read(bound: Any, tz: tzinfo | None = None) -> int:
    return to_millis(bound, name="start", now=NOW, tz=tz)


def refused(bound: Any, tz: tzinfo | None = None) -> str:
    with pytest.raises(InvalidBound) as caught:
        read(bound, tz)
    message = str(caught.value)
    assert message.startswith("start=")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return message


def iso(bound: Any, tz: tzinfo | None = None) -> str:
    return isoformat(read(bound, tz))


def rounded_up(instant: datetime) -> int:
    return -((EPOCH - instant) // MS)


# --- laws --------------------------------------------------------------------------------------------


@given(millis)
def test_what_is_sent_reads_back_as_the_same_millisecond(ms: int) -> None:
    text = isoformat(ms)
    assert len(text) == 24
    assert text.endswith("Z")
    assert read(text) == ms
    assert datetime.fromisoformat(text) == EPOCH + ms * MS


@given(instants, st.one_of(offsets, zones))
def test_an_aware_datetime_is_its_instant_rounded_up_to_the_millisecond(instant: datetime, tz: tzinfo) -> None:
    local = instant.astimezone(tz)
    ms = read(local)
    assert ms == rounded_up(instant)
    assert instant <= EPOCH + ms * MS < instant + MS
    assert read(local, PARIS) == ms, "its own offset counts more than the client's tz"


@given(instants, offsets)
def test_an_aware_datetime_and_its_isoformat_are_the_same_bound(instant: datetime, tz: tzinfo) -> None:
    local = instant.astimezone(tz)
    for text in (local.isoformat(), local.isoformat(" "), f" {local.isoformat('t')}\n"):
        assert read(text) == read(local)


@given(instants, instants)
def test_a_later_instant_is_never_an_earlier_bound(first: datetime, second: datetime) -> None:
    assert (first <= second) <= (read(first) <= read(second))


@given(st.integers(10**8, 10**11 - 1))
def test_epoch_seconds_and_milliseconds_are_the_same_bound(seconds: int) -> None:
    assert read(seconds) == read(seconds * 1000) == seconds * 1000
    assert read(float(seconds)) == read(Decimal(seconds)) == seconds * 1000
    assert read(seconds * 1000.0) == seconds * 1000


@given(st.integers(10**9, 10**10 - 1))
def test_strings_of_10_and_13_digits_are_always_seconds_and_milliseconds(seconds: int) -> None:
    assert read(str(seconds)) == read(f"{seconds}000") == read(f"{seconds}.000") == seconds * 1000


@given(st.integers(0, 10**14 - 1))
def test_the_timestamp_of_a_datetime_in_whole_milliseconds_is_exact(ms: int) -> None:
    """int(dt.timestamp() * 1000) is off for some of them; no float is here."""
    instant = EPOCH + ms * MS
    assert read(instant.timestamp()) == read(instant) == ms


@given(st.datetimes(datetime(1973, 3, 4), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_time_time_and_the_datetime_it_came_from_are_the_same_bound(instant: datetime) -> None:
    assert read(instant.timestamp()) == read(str(instant.timestamp())) == read(instant)


@given(st.decimals(0, 10**14, allow_nan=False, allow_infinity=False), st.integers(1, 60))
def test_a_decimal_is_exact_whatever_the_callers_context(value: Decimal, precision: int) -> None:
    scale = 1 if value >= 10**11 else 1000
    with localcontext() as context:
        context.prec = precision
        assert read(value) == math.ceil(Fraction(value) * scale)


@given(millis.filter(lambda ms: ms < LAST), st.text("0123456789", min_size=1, max_size=30))
def test_no_decimal_of_a_string_is_lost(ms: int, decimals: str) -> None:
    text = isoformat(ms)[:-1] + decimals
    assert read(text + "Z") == ms + (decimals.strip("0") != "")


@given(st.timedeltas(timedelta(0), timedelta(days=20_000)))
def test_a_timedelta_is_that_long_before_now(ago: timedelta) -> None:
    assert read(ago) == rounded_up(NOW - ago)


@given(st.dates(date(1970, 1, 2), date(9999, 12, 30)))
def test_a_date_is_its_midnight(day: date) -> None:
    midnight = datetime.combine(day, time.min, UTC)
    for given_as in (day, day.isoformat(), day.strftime("%Y%m%d").zfill(8), isoweek(day)):
        assert read(given_as) == read(midnight)
    assert read(f"{day.isoformat()}T24:00") - read(day) == 86_400_000


def isoweek(day: date) -> str:
    year, week, weekday = day.isocalendar()
    return f"{year:04}-W{week:02}-{weekday}"


@given(st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 29)), zones, st.integers(0, 1))
def test_local_times_are_read_in_the_clients_tz(wall: datetime, tz: tzinfo, fold: int) -> None:
    """By the naive datetime's own fold; and refused exactly if the zone never shows that time."""
    local = wall.replace(tzinfo=tz, fold=fold)
    instant = local.astimezone(UTC)
    if instant.astimezone(tz).replace(tzinfo=None) != wall:
        assert "clocks skip" in refused(wall.replace(fold=fold), tz)
        assert "clocks skip" in refused(local)
    else:
        assert read(wall.replace(fold=fold), tz) == read(local) == rounded_up(instant)
        assert read(wall.isoformat(), tz) == rounded_up(wall.replace(tzinfo=tz).astimezone(UTC))


@given(instants, instants)
def test_a_window_never_starts_after_its_end(first: datetime, second: datetime) -> None:
    early, late = sorted((first, second))
    span = window(early, late, now=NOW, tz=None)
    assert span == Window(read(early), read(late))
    if read(early) < read(late):
        with pytest.raises(InvalidBound, match="is later than end="):
            window(late, early, now=NOW, tz=None)


@given(st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))
def test_a_window_holds_its_start_and_not_its_end(start: int | None, end: int | None) -> None:
    span = Window(start, end)
    inside = [ms for ms in range(10) if span.contains(ms)]
    assert inside == list(range(10))[start:end]
    if span.empty:
        assert not inside


@given(st.dates(date(1970, 1, 2), date(9990, 1, 1)), st.integers(1, 300))
def test_windows_between_dates_tile(day: date, length: int) -> None:
    """The end of one is the start of the next, so an event lies in exactly one."""
    middle, last = day + timedelta(days=length), day + timedelta(days=2 * length)
    assert window(day, middle, now=NOW, tz=None).end == window(middle, last, now=NOW, tz=None).start


# --- hostile input -----------------------------------------------------------------------------------


class Hostile:
    """Raises at whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError

    def __index__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class BareZone(tzinfo):
    """A tzinfo that tells an offset, or raises, and can do nothing else."""

    def __init__(self, offset: timedelta | Exception | None) -> None:
        self.offset = offset

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        if isinstance(self.offset, Exception):
            raise self.offset
        return self.offset

    def dst(self, when: datetime | None) -> timedelta | None:
        return None

    def tzname(self, when: datetime | None) -> str | None:
        return None


anything = st.one_of(
    st.from_type(object),
    st.text(),
    st.text("0123456789-+:.,TtZzWw ", max_size=30),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.datetimes(timezones=st.none() | st.timezones(), allow_imaginary=True),
    st.dates(),
    st.times(),
    st.timedeltas(),
)


@given(anything, st.sampled_from([None, UTC, PARIS]))
def test_whatever_is_given_the_result_is_a_bound_or_invalid_bound(bound: Any, tz: tzinfo | None) -> None:
    try:
        ms = read(bound, tz)
    except InvalidBound as error:
        assert len(str(error)) < 400  # noqa: PT017
    else:
        assert 0 <= ms <= LAST
        assert read(isoformat(ms)) == ms


@pytest.mark.parametrize(
    "bound",
    [
        Hostile(),
        Hostile,
        datetime(2026, 1, 1, tzinfo=BareZone(RuntimeError())),
        [1],
        {},
        b"2026-01-01",
        1j,
        time(1),
        None,
    ],
    ids=lambda bound: type(bound).__name__,
)
def test_anything_but_a_time_is_refused_saying_what_to_pass(bound: Any) -> None:
    assert "Pass an aware datetime" in refused(bound)


def test_a_message_quotes_sixty_characters_at_most() -> None:
    assert len(refused("x" * 10_000)) < 300
    assert "start=<int> is too large" in refused(10**5000)


# --- datetimes and dates -----------------------------------------------------------------------------


def test_a_naive_datetime_is_refused_unless_there_is_a_tz() -> None:
    message = refused(datetime(2026, 1, 1))
    assert "is naive" in message
    assert "datetime.now(UTC)" in message
    assert iso(datetime(2026, 1, 1), PARIS) == "2025-12-31T23:00:00.000Z"


def test_dates_and_strings_without_offset_are_utc_unless_there_is_a_tz() -> None:
    for bound in (date(2026, 1, 1), "2026-01-01", "20260101", "2026-01-01T00:00"):
        assert iso(bound) == "2026-01-01T00:00:00.000Z"
        assert iso(bound, PARIS) == "2025-12-31T23:00:00.000Z"
    assert iso("2026-01-01T00:00Z", PARIS) == "2026-01-01T00:00:00.000Z"


def test_a_repeated_hour_is_the_first_one_unless_fold_says_otherwise() -> None:
    wall = datetime(2026, 10, 25, 2, 30)
    assert iso("2026-10-25T02:30", PARIS) == iso(wall, PARIS) == "2026-10-25T00:30:00.000Z"
    assert iso(wall.replace(fold=1), PARIS) == "2026-10-25T01:30:00.000Z"
    assert iso(wall.replace(fold=1, tzinfo=PARIS)) == "2026-10-25T01:30:00.000Z"


@pytest.mark.parametrize(
    "bound", ["2026-03-29T02:30", datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 2, 30, tzinfo=PARIS)]
)
def test_a_local_time_that_does_not_exist_is_refused(bound: Any) -> None:
    assert "does not exist" in refused(bound, PARIS)


@pytest.mark.parametrize(
    ("day", "zone", "first"),
    [
        (date(2018, 11, 4), "America/Sao_Paulo", "2018-11-04T03:00:00.000Z"),
        (date(2026, 9, 6), "America/Santiago", "2026-09-06T04:00:00.000Z"),
        (date(2026, 3, 8), "America/Havana", "2026-03-08T05:00:00.000Z"),
        (date(2026, 3, 29), "Asia/Beirut", "2026-03-28T22:00:00.000Z"),
        (date(2026, 4, 24), "Africa/Cairo", "2026-04-23T22:00:00.000Z"),
        (date(2026, 11, 1), "America/Havana", "2026-11-01T04:00:00.000Z"),  # midnight comes twice
        (date(2011, 12, 30), "Pacific/Apia", "2011-12-30T10:00:00.000Z"),  # the whole day does not exist
        (date(1981, 12, 31), "Asia/Kuala_Lumpur", "1981-12-30T16:30:00.000Z"),
        (date(1982, 1, 1), "Asia/Kuala_Lumpur", "1981-12-31T16:00:00.000Z"),  # clocks skipped from 23:30 on... of 1981
    ],
)
def test_a_date_begins_at_its_first_instant(day: date, zone: str, first: str) -> None:
    """Where clocks go forward at midnight, that is later than midnight would be."""
    tz = ZoneInfo(zone)
    assert iso(day, tz) == iso(day.isoformat(), tz) == iso(f"{day - timedelta(days=1)}T24:00", tz) == first
    instant = datetime.fromisoformat(first)
    assert instant.astimezone(tz).date() >= day > (instant - timedelta(milliseconds=1)).astimezone(tz).date()


def test_a_midnight_that_does_not_exist_is_refused_as_a_time() -> None:
    """It was written on purpose, and is no day."""
    for bound in ("2018-11-04T00:00", datetime(2018, 11, 4)):
        assert "does not exist" in refused(bound, ZoneInfo("America/Sao_Paulo"))


class TestEvery:
    """The length of windows."""

    @pytest.mark.parametrize(
        ("every", "unit", "count"),
        [
            (timedelta(days=1), "ms", 86_400_000),
            ("1ms", "ms", 1),
            ("90s", "ms", 90_000),
            ("15m", "ms", 900_000),
            ("24h", "ms", 86_400_000),
            (" 1d ", "d", 1),
            ("1D", "d", 1),
            ("2w", "w", 2),
            ("3mo", "mo", 3),
        ],
    )
    def test_what_is_read(self, every: Any, unit: str, count: int) -> None:
        read = Every.read(every, PARIS)
        assert (read.unit, read.count, read.zone) == (unit, count, UTC if unit == "ms" else PARIS)
        assert Every.read(read.text, PARIS) == read

    @pytest.mark.parametrize(
        "every",
        [
            None,
            7,
            "",
            "1",
            "d",
            "0d",
            "-1d",
            "1.5h",
            "1y",
            "1M",
            "1 d",
            "1d1h",
            "999999999w",
            timedelta(),
            b"1d",
            "1²d",
        ],
    )
    def test_everything_else_is_refused(self, every: Any) -> None:
        with pytest.raises(InvalidInput, match="every must be a timedelta of a millisecond or more, or a text such as"):
            Every.read(every, None)

    @given(
        st.datetimes(datetime(1970, 1, 3), datetime(2100, 1, 1)),
        st.sampled_from(
            ["Europe/Paris", "America/Santiago", "Pacific/Apia", "America/St_Johns", "Africa/Cairo", "UTC"]
        ),
        st.integers(1, 40),
    )
    def test_days_end_with_the_date(self, wall: datetime, zone: str, count: int) -> None:
        """At the first instant of the date that follows, whatever the time they begin at; and so do their multiples."""
        tz = ZoneInfo(zone)
        at = wall.replace(tzinfo=tz).astimezone(UTC)
        for every in (f"{count}d", f"{count}w", f"{count}mo"):
            length = Every.read(every, tz)
            ms = length.following(read(at))
            assert ms > read(at)
            end = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
            before = (end - timedelta(milliseconds=1)).astimezone(tz).date()
            after = end.astimezone(tz).date()
            assert before < after
            if length.unit == "d":
                assert after - at.astimezone(tz).date() in (timedelta(days=count), timedelta(days=count + 1))
            if zone != "Pacific/Apia":
                assert after.weekday() == 0 or length.unit != "w"
                assert after.day == 1 or length.unit != "mo"

    def test_time_ends_with_the_year_9999(self) -> None:
        last = read("9999-12-31T12:00Z")
        for every in ("1d", "1w", "1mo", "20000h", timedelta(days=2)):
            assert Every.read(every, None).following(last) == 253_402_300_799_999


def test_a_zone_that_knows_offsets_only_is_taken_at_its_word() -> None:
    bound = datetime(2026, 1, 1, 2, tzinfo=BareZone(timedelta(hours=2)))
    assert iso(bound) == "2026-01-01T00:00:00.000Z"


def test_a_zone_that_knows_no_offset_leaves_a_datetime_naive() -> None:
    assert "is naive" in refused(datetime(2026, 1, 1, tzinfo=BareZone(None)))


def test_subclasses_are_read_as_what_they_extend() -> None:
    class Stamp(datetime):
        def __sub__(self, other: Any) -> Any:
            raise AssertionError

    class Text(str):
        __slots__ = ()

        def strip(self, *args: Any) -> str:
            raise AssertionError

    assert iso(Stamp(2026, 1, 1, 1, tzinfo=PARIS)) == iso(Text("2026-01-01")) == "2026-01-01T00:00:00.000Z"


# --- range -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bound",
    [
        -1,
        -0.001,
        "-5",
        Decimal("-1E-999999"),
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00+00:01",
        "9999-12-31T24:00:00.000",
        "9999-12-31T23:59:59-00:01",
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
        date.min,
        timedelta.max,
        timedelta(days=365 * 60),
    ],
)
def test_times_outside_1970_to_9999_are_refused(bound: Any) -> None:
    assert "out of range" in refused(bound)


def test_the_last_possible_datetime_may_mean_no_end() -> None:
    assert iso(datetime.max.replace(tzinfo=UTC)) == "9999-12-31T23:59:59.999Z"
    assert iso(date.max) == "9999-12-31T00:00:00.000Z"


@pytest.mark.parametrize("ms", [-1, LAST + 1, 10**30])
def test_only_years_of_four_digits_are_formatted(ms: int) -> None:
    with pytest.raises(InvalidBound, match="1970 to 9999"):
        isoformat(ms)


# --- numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "ms"),
    [
        (0, 0),
        ("0", 0),
        (-0.0, 0),
        (10**11 - 1, 99_999_999_999_000),
        (10**11, 10**11),
        (10**14, 10**14),
        (1_700_000_000.1, 1_700_000_000_100),
        (1_700_000_000.7, 1_700_000_000_700),  # the double is 1700000000.7000000477
        (1_700_000_000.7001, 1_700_000_000_701),
        (1_700_000_000_000.25, 1_700_000_000_001),
        ("1700000000.5", 1_700_000_000_500),
        (" 1700000000123 ", 1_700_000_000_123),
        (5e-324, 1),
        (Decimal("1E-999999999999"), 1),
        (Fraction(3_400_000_001, 2), 1_700_000_000_500),
    ],
)
def test_numbers_are_epoch_seconds_or_milliseconds_by_their_size(bound: Any, ms: int) -> None:
    assert read(bound) == ms


@pytest.mark.parametrize("bound", [10**14 + 1, 1e15, "1700000000123456", 1_700_000_000_123_456_789, Decimal("1E30")])
def test_micro_and_nanoseconds_are_refused(bound: Any) -> None:
    assert "divide it" in refused(bound)


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), -math.inf, Decimal("NaN"), Decimal("sNaN")])
def test_what_is_not_finite_is_refused(bound: Any) -> None:
    assert "not a finite number" in refused(bound)


@pytest.mark.parametrize("bound", [True, False])
def test_a_bool_is_refused(bound: bool) -> None:
    assert "is of type bool" in refused(bound)


@pytest.mark.parametrize(
    "bound", ["2026", "202601", "260131", "2026001", "202601011200", "20260101120000", "20260101.0"]
)
def test_digits_that_may_be_a_date_or_an_epoch_are_refused(bound: str) -> None:
    assert "may be an epoch or a date" in refused(bound)


@pytest.mark.parametrize("bound", ["12", "99999", "1234567", "999999999", "2026010112", "99991313131313"])
def test_other_digits_are_an_epoch(bound: str) -> None:
    assert read(bound) == read(int(bound))


@pytest.mark.parametrize("bound", ["20261301", "20260230", "00000000", "99999999"])
def test_eight_digits_are_a_date_or_nothing(bound: str) -> None:
    assert "does not exist" in refused(bound)


# --- strings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01t00:00:00z", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01 00:00:00+00:00", "2026-01-01T00:00:00.000Z"),
        ("\t2026-01-01T00Z\n", "2026-01-01T00:00:00.000Z"),
        ("20260101T000000Z", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01T00:00:00,0001Z", "2026-01-01T00:00:00.001Z"),
        ("2026-01-01T00:00:00.9990000001Z", "2026-01-01T00:00:01.000Z"),
        ("2026-01-01T05:30+0530", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01T00:09:21+00:09:21", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01T00:00:00-00:00", "2026-01-01T00:00:00.000Z"),
        ("2026-W01-4", "2026-01-01T00:00:00.000Z"),
        ("2026w014T00:00Z", "2026-01-01T00:00:00.000Z"),
        ("2026-W01", "2025-12-29T00:00:00.000Z"),
        ("2025-12-31T24:00:00.0000000Z", "2026-01-01T00:00:00.000Z"),
        ("2025-12-31T24:00+01:00", "2025-12-31T23:00:00.000Z"),
        ("2024-02-29", "2024-02-29T00:00:00.000Z"),
    ],
)
def test_iso_strings(text: str, expected: str) -> None:
    assert iso(text) == expected


def test_midnight_of_24_00_is_read_in_the_clients_tz_of_the_next_day() -> None:
    assert iso("2026-03-28T24:00", PARIS) == "2026-03-28T23:00:00.000Z"
    assert iso("2026-03-29T24:00", PARIS) == "2026-03-29T22:00:00.000Z"


def test_a_leap_second_is_refused_by_name() -> None:
    assert "leap second" in refused("2016-12-31T23:59:60Z")


@pytest.mark.parametrize(
    "text",
    ["2026-02-30", "2026-00-01", "2026-W54", "2026-01-01T25:00", "2026-01-01T24:00:00.0000001", "0000-01-01"],
)
def test_days_and_times_that_do_not_exist_are_refused(text: str) -> None:
    assert "does not exist" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "now",
        "nan",
        "1e9",
        "1_700_000_000",
        "+1700000000",
        "0x10",
        "17.",
        "2026-01",
        "2026-1-1",
        "01/02/2026",
        "2026-01-01Z",
        "2026-01-01T",
        "2026-01-01x00:00",
        "2026-01-01T00:0000",
        "2026-01-01T00:00:00 02:00",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00ZZ",
        "+02026-01-01",
        "\u0662\u0660\u0662\u0666-01-01",
        "2026-01-01\x00",
        "\ud800",
    ],
)
def test_other_strings_are_refused(text: str) -> None:
    assert "is not an ISO 8601 date or time" in refused(text)


# --- durations and windows ---------------------------------------------------------------------------


def test_a_negative_timedelta_is_refused_not_taken_for_the_future() -> None:
    assert "make it positive" in refused(timedelta(days=-7))
    assert read(timedelta(0)) == rounded_up(NOW)


def test_a_timedelta_counts_hours_that_passed_not_hours_on_the_clock() -> None:
    after_the_change = datetime(2026, 3, 29, 12, tzinfo=PARIS)
    ms = to_millis(timedelta(days=1), name="start", now=after_the_change, tz=PARIS)
    assert isoformat(ms) == "2026-03-28T10:00:00.000Z"


def test_both_bounds_are_measured_against_the_same_now() -> None:
    week = timedelta(days=7)
    assert window(week, week, now=NOW, tz=None).empty


def test_a_window_without_bounds_holds_everything() -> None:
    span = window(None, None, now=NOW, tz=None)
    assert span == Window(None, None) == Window()
    assert not span.empty
    assert span.contains(0)
    assert span.contains(LAST)


def test_january_is_from_its_first_to_the_first_of_february() -> None:
    january = window("2026-01-01", "2026-02-01", now=NOW, tz=None)
    assert january.contains(read("2026-01-31T23:59:59.999Z"))
    assert not january.contains(read("2026-02-01T00:00:00Z"))


def test_a_refused_bound_is_named_by_its_side() -> None:
    with pytest.raises(InvalidBound, match=r"^end=True"):
        window(0, True, now=NOW, tz=None)
    with pytest.raises(InvalidBound, match=r"^start='2026-01-02' is later than end='2026-01-01'.*Swap"):
        window("2026-01-02", "2026-01-01", now=NOW, tz=None)


# --- other libraries ---------------------------------------------------------------------------------


class Nanos(datetime):
    """A datetime with nanoseconds, as pandas.Timestamp is."""

    nanosecond = 1

    def to_pydatetime(self) -> datetime:
        raise UserWarning("Discarding nonzero nanoseconds in conversion.")


class NaT(datetime):
    """Not a time, yet an instance of datetime, as pandas.NaT is."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = datetime.__hash__


@pytest.mark.parametrize("method", ["to_pydatetime", "py_datetime", "to_stdlib"])
def test_what_converts_to_the_stdlib_is_read_as_what_it_converts_to(method: str) -> None:
    def convertible(result: Any, **fields: Any) -> Any:
        return type("Convertible", (), {method: lambda self: result, **fields})()

    instant = datetime(2026, 1, 1, tzinfo=UTC)
    assert read(convertible(instant)) == read(instant)
    assert read(convertible(date(2026, 1, 1)), PARIS) == read(date(2026, 1, 1), PARIS)
    assert read(convertible(timedelta(days=1))) == read(timedelta(days=1))
    assert read(convertible(instant, nanosecond=1)) == read(instant) + 1
    assert read(convertible(instant, nanosecond=1_000)) == read(instant)
    assert "is naive" in refused(convertible(datetime(2026, 1, 1)))
    assert "is of type Convertible" in refused(convertible("2026-01-01"))


def test_nanoseconds_of_a_datetime_subclass_round_up() -> None:
    assert iso(Nanos(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.001Z"


def test_not_a_time_is_refused() -> None:
    assert "NaT" in refused(NaT(2026, 1, 1, tzinfo=UTC))


def scalar(kind: str, text: str, number: float = 0, **fields: Any) -> Any:
    """A stand-in for a NumPy number."""
    dtype = type("DType", (), {"kind": kind, "itemsize": 8, **fields})()
    members = {
        "dtype": dtype,
        "shape": fields.get("shape", ()),
        "__str__": lambda self: text,
        "__int__": lambda self: int(number),
        "__float__": lambda self: float(number),
        "item": lambda self: 1_767_225_600_000_000_000,
    }
    return type("Scalar", (), members)()


# How many attoseconds the units of a fixed length have.
FIXED = {
    "W": 604_800 * 10**18,
    "D": 86_400 * 10**18,
    "h": 3_600 * 10**18,
    "m": 60 * 10**18,
    "s": 10**18,
    "ms": 10**15,
    "us": 10**12,
    "ns": 10**9,
    "ps": 10**6,
    "fs": 10**3,
    "as": 1,
}


def datetime64(number: int, unit: str, count: int = 1) -> Any:
    """A stand-in for NumPy's. Whatever its text is, nobody is to read it."""
    code = f"<M8[{unit}]" if count == 1 else f"<M8[{count}{unit}]"
    dtype = type("DType", (), {"kind": "M", "itemsize": 8, "str": code})()
    members = {"dtype": dtype, "shape": (), "__str__": lambda self: "2026-01-01", "astype": lambda self, to: number}
    return type("datetime64", (), members)()


def milliseconds(number: int, unit: str) -> Fraction | None:
    """Since 1970; None: in no year from 1 to 9999."""
    if unit in FIXED:
        exact = Fraction(number * FIXED[unit], 10**15)
        return exact if exact < LAST + 1 else None
    months = number * 12 if unit == "Y" else number
    if not 1 - 1970 <= months // 12 <= 9999 - 1970:
        return None
    return Fraction((datetime(1970 + months // 12, months % 12 + 1, 1, tzinfo=UTC) - EPOCH) // MS)


@st.composite
def datetimes64(draw: st.DrawFn) -> tuple[int, str, int]:
    """A number, a unit and how many of it are counted: of any age, and often near the bounds."""
    unit = draw(st.sampled_from(["Y", "M", *FIXED]))
    count = draw(st.sampled_from([1, 1, 7, 25]))
    length = FIXED.get(unit, FIXED["D"] * (365 if unit == "Y" else 30)) * count
    most = (1 << 63) - 1
    near = st.sampled_from([0, (LAST + 1) * 10**15, 1_767_225_600 * 10**18]).map(lambda at: min(at // length, most))
    number = draw(st.integers(-most, most) | st.builds(int.__add__, near, st.integers(-400, 400)))
    return max(-most, min(number, most)), unit, count


@given(datetimes64())
def test_a_datetime64_of_any_unit_is_its_instant_or_refused(given: tuple[int, str, int]) -> None:
    """Compared with exact arithmetic: from 1970 to the end of 9999, rounded up to the millisecond."""
    number, unit, count = given
    bounds = [datetime64(*given)]
    with contextlib.suppress(ImportError):
        import numpy

        bounds.append(numpy.datetime64(number, (unit, count)))
    expected = milliseconds(number * count, unit)
    for bound in bounds:
        if expected is None or expected < 0:
            assert "is out of range" in refused(bound)
        else:
            assert read(bound) == min(math.ceil(expected), LAST)


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        (56, "Y", "2026-01-01T00:00:00.000Z"),
        (56 * 12 + 2, "M", "2026-03-01T00:00:00.000Z"),
        (2922, "W", "2026-01-01T00:00:00.000Z"),
        (20_516, "D", "2026-03-04T00:00:00.000Z"),
        (20_516 * 24 + 5, "h", "2026-03-04T05:00:00.000Z"),
        (1_767_225_600_000_000_001, "ns", "2026-01-01T00:00:00.001Z"),
        (1_767_225_600_000_000_000, "ns", "2026-01-01T00:00:00.000Z"),
        (9_000_000_000_000_000_001, "as", "1970-01-01T00:00:09.001Z"),
        (253_402_300_799_999_999, "us", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_datetime64_is_exact_in_every_unit(number: int, unit: str, expected: str) -> None:
    assert iso(datetime64(number, unit)) == expected


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (20_260_101 - 1970, "Y"),  # numpy.datetime64("20260101"), which looks like a date
        (1_767_225_600 - 1970, "Y"),
        (8_030, "Y"),
        (-1, "Y"),
        (-1, "M"),
        (-1, "D"),
        (-1, "ns"),
        (-1, "as"),
        (253_402_300_800, "s"),
        (10**15, "D"),
        ((1 << 63) - 1, "Y"),
        (-(1 << 63) + 1, "M"),
    ],
)
def test_a_datetime64_outside_the_years_1970_to_9999_is_refused(number: int, unit: str) -> None:
    for tz in (None, PARIS, timezone(timedelta(hours=-23))):
        assert "is out of range" in refused(datetime64(number, unit), tz)


def test_a_datetime64_of_days_is_a_date_and_a_finer_one_an_instant_in_utc() -> None:
    for number, unit in ((20_454, "D"), (2922, "W"), (56, "Y"), (56 * 12, "M")):
        assert iso(datetime64(number, unit), PARIS) == "2025-12-31T23:00:00.000Z"
    assert iso(datetime64(20_454 * 24, "h"), PARIS) == "2026-01-01T00:00:00.000Z"


def test_numpy_numbers_are_epochs_if_they_are_wide_enough() -> None:
    assert read(scalar("i", "", 1_700_000_000)) == 1_700_000_000_000
    assert read(scalar("f", "", 1_700_000_000.7)) == 1_700_000_000_700
    assert "too few bits" in refused(scalar("f", "", 1_700_000_000.0, itemsize=4))
    for other in (scalar("b", "True", 1), scalar("m", "1 days", 1), scalar("i", "[1]", 1, shape=(1,))):
        assert "not a point in time" in refused(other)
    assert "NaT" in refused(datetime64(-(1 << 63), "ns"))


def test_with_the_real_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert read(numpy.datetime64("2026-01-01T00:00:00.000000001")) == read("2026-01-01") + 1
    assert read(numpy.datetime64(2**40, "us")) == math.ceil(Fraction(2**40, 1000))
    assert read(numpy.datetime64("2026")) == read(numpy.datetime64("2026-01-01")) == read("2026-01-01")
    assert read(numpy.int64(1_700_000_000)) == read(numpy.float64(1_700_000_000)) == 1_700_000_000_000
    for wrong in ("NaT", "300000", "1969-12-31"):
        refused(numpy.datetime64(wrong, "D"))
    for compact in ("20260101", "20261231", "1767225600"):  # years to NumPy
        assert "is out of range" in refused(numpy.datetime64(compact))
    assert read(numpy.array("2026-01-01T00:00:01", ">M8[s]")) == read("2026-01-01T00:00:01Z")
    assert "is of type" in refused(numpy.array(5).view("M8"))
    for bad in (numpy.float32(1.7e9), numpy.bool_(True), numpy.timedelta64(1, "D"), numpy.array([1])):
        refused(bad)


def test_with_the_real_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    assert read(pandas.Timestamp("2026-01-01T00:00:00.000000001Z")) == read("2026-01-01") + 1
    assert read(pandas.Timestamp("2026-01-01", tz="Europe/Paris")) == read("2026-01-01", PARIS)
    assert read(pandas.Timestamp("2026-01-01"), PARIS) == read("2026-01-01", PARIS)
    assert read(pandas.Timedelta(days=1)) == read(timedelta(days=1))
    for wrong in (pandas.NaT, pandas.NA, pandas.Timestamp("2026-01-01"), pandas.Series([1])):
        refused(wrong)


def test_with_the_real_whenever() -> None:
    whenever = pytest.importorskip("whenever")
    assert read(whenever.Instant.from_utc(2026, 1, 1, nanosecond=1)) == read("2026-01-01") + 1
    assert read(whenever.ZonedDateTime(2026, 1, 1, tz="Europe/Paris")) == read("2026-01-01", PARIS)
