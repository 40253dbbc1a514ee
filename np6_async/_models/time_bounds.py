"""Any way to write a time, as epoch milliseconds; and the half-open window between two of them.

============================================  ==========================================================
given                                         read as
============================================  ==========================================================
aware `datetime`                              that instant; in a repeated hour its `fold` decides
naive `datetime`                              refused without `tz`, else local time in `tz`, by its `fold`
`date`                                        its first instant in `tz`, at either end of a window
ISO 8601 string with `Z` or an offset         that instant
ISO 8601 string without either                local time in `tz`, the first one in a repeated hour
`int`, `float`, `Decimal`, digit string       epoch seconds, or milliseconds from 1e11 on; never above 1e14
string of 8 digits                            a basic ISO date, `20260101`
`timedelta`                                   that long before now; never negative
`numpy.datetime64`                            a date in units of a day or longer, else an instant in UTC
has `to_pydatetime` (pandas)                  what that returns
has `py_datetime` or `to_stdlib` (whenever)   what that returns
============================================  ==========================================================

Without `tz`, dates and strings are read in UTC. Fractions of a millisecond are rounded up, at both ends: events are
stamped in whole milliseconds, so this does not change which events lie inside.

- **Strings** take every form that `datetime.fromisoformat` reads, week dates included, with a `T`, `t` or one space
  between date and time, any number of decimals, and blanks around. `24:00` is the next midnight; a leap second is
  refused. The grammar is the same on all Python versions.
- **Digit strings** may have decimals. Those that look like another calendar notation (`2026`, `202601`, `260101`,
  `2026001`, `202601011200`, `20260101120000`, also `20260101.0`) are refused as ambiguous. Ten digits are always epoch
  seconds and 13 always milliseconds.
- **Floats** mean the decimal number that Python prints for them: `1700000000.7` is 700 ms past the second, although the
  nearest double lies a little above it and would round up to 701.
- **`numpy.datetime64`** is read by its number and unit, whatever these are. `numpy.datetime64("20260101")` is the year
  20,260,101 to NumPy, and so it is refused.
- **Range**: 1970-01-01T00:00Z up to the end of 9999 in UTC. Times after the last whole millisecond of 9999 count as
  that millisecond, so that an aware `datetime.max` may stand for "no end".
- **Dates**, and strings without a time, begin at midnight or, where clocks go forward at midnight, as in Santiago,
  Havana, Beirut and Cairo, at their first instant.
- **Local times that do not exist**, because clocks go forward, are refused.

`Every` is the length of windows: fixed, or a number of days, weeks or months of the calendar.
"""

from __future__ import annotations

import math
import operator
import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, Context, Decimal
from typing import Any, Final, Protocol, TypeAlias

from attrs import frozen

from .._errors import InvalidBound, InvalidInput


class SupportsToPydatetime(Protocol):  # pandas
    def to_pydatetime(self) -> datetime: ...


class SupportsPyDatetime(Protocol):  # whenever, at first
    def py_datetime(self) -> datetime: ...


class SupportsToStdlib(Protocol):  # whenever, now
    def to_stdlib(self) -> date | timedelta: ...


class NumpyScalar(Protocol):  # a datetime64, or an epoch as an integer or a float of 64 bits
    @property
    def dtype(self) -> Any: ...

    def item(self) -> Any: ...


Bound: TypeAlias = (
    date  # and so datetime
    | timedelta
    | str
    | int
    | float
    | Decimal
    | SupportsToPydatetime
    | SupportsPyDatetime
    | SupportsToStdlib
    | NumpyScalar
)
"""What `start` and `end` take; the module docstring says how each is read."""

_NO_TIME: Final = "is not a time (NaT). Drop it, or pass None for a window without this bound."

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_NAIVE: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - isoformat() of an aware one ends in +00:00
_MICROSECOND: Final = timedelta(microseconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

# Rounding up to 40 digits and then to an integer is rounding up, whatever the precision and traps of the caller's
# context, and however extreme the exponent.
_ROUND_UP: Final = Context(prec=40, rounding=ROUND_CEILING, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])

_EVERY: Final = re.compile(r"([0-9]{1,9})(ms|[sS]|mo|m|[hH]|[dD]|[wW])")
_DAY: Final = 86_400_000
_USUAL: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": _DAY, "w": 7 * _DAY, "mo": 30 * _DAY}
_MANY: Final = 100_000
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_CALENDAR: Final = re.compile(
    r"""
    (?: (?:19[7-9][0-9]|[2-9][0-9]{3})                              # a year, alone or followed by
        (?: (?:0[1-9]|1[0-2])                                       # ... a month, alone or followed by
            (?: (?:0[1-9]|[12][0-9]|3[01])                           # ... a day, alone or followed by
                (?: (?:[01][0-9]|2[0-4]) [0-5][0-9] (?:[0-5][0-9])? )? )?   # ... hour, minute, second
        | [0-3][0-9]{2}                                             # ... a day of the year
        )?
    | [0-9]{2} (?:0[1-9]|1[0-2]) (?:0[1-9]|[12][0-9]|3[01])         # YYMMDD
    )""",
    re.VERBOSE,
)
_ISO: Final = re.compile(
    r"""
    (?P<date> [0-9]{4} (?: -[0-9]{2}-[0-9]{2} | [0-9]{4} | -[Ww][0-9]{2}(?:-[0-9])? | [Ww][0-9]{2}[0-9]? ) )
    (?: [Tt ] (?P<hour>[0-9]{2})
        (?: (?P<colon>:?) (?P<minute>[0-9]{2})
            (?: (?P=colon) (?P<second>[0-9]{2}) (?: [.,] (?P<fraction>[0-9]+) )? )? )?
        (?: (?P<utc>[Zz])
          | (?P<sign>[+-]) (?P<hours>[01][0-9]|2[0-3])
            (?: (?P<colons>:?) (?P<minutes>[0-5][0-9])
                (?: (?P=colons) (?P<seconds>[0-5][0-9]) (?: [.,] (?P<micros>[0-9]{1,6}) )? )? )?
        )?
    )?""",
    re.VERBOSE,
)

# Of numpy.datetime64: the number that is not a time, the notation of its type, and its units below a day.
_NAT: Final = -(1 << 63)
_DATETIME64: Final = re.compile(r".M8\[(?P<count>[0-9]*)(?P<unit>[A-Za-z]+)\]")
_ATTOSECONDS: Final = {
    "h": 3600 * 10**18, "m": 60 * 10**18, "s": 10**18, "ms": 10**15, "us": 10**12, "ns": 10**9, "ps": 10**6,
    "fs": 10**3, "as": 1,
}  # fmt: skip

_WANTED: Final = (
    "Pass an aware datetime, a date, an ISO 8601 string such as '2026-01-01T00:00:00Z', epoch seconds or "
    "milliseconds, or a timedelta (that long before now)."
)


@frozen
class Window:
    """The half-open span `start <= t < end`, in epoch milliseconds; None is unbounded on that side."""

    start: int | None = None
    end: int | None = None

    @property
    def empty(self) -> bool:
        """True if no time lies inside, so there is nothing to fetch."""
        return self.start is not None and self.end is not None and self.start >= self.end

    def contains(self, ms: int) -> bool:
        """Whether the time `ms`, in epoch milliseconds, lies inside."""
        return (self.start is None or self.start <= ms) and (self.end is None or ms < self.end)

    def __str__(self) -> str:
        """In UTC, such as ``2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z``."""
        first, last = (None if ms is None else isoformat(ms).replace(".000Z", "Z") for ms in (self.start, self.end))
        return f"{first or 'any time'} to {last or 'any time'}"


def window(
    start: Bound | None,
    end: Bound | None,
    *,
    now: datetime,
    tz: tzinfo | None,
    names: tuple[str, str] = ("start", "end"),
) -> Window:
    """The window from `start` to `end`; None is unbounded, and equal bounds make an empty window.

    Both are measured against the same `now`; `names` is what messages call them. Raises `InvalidBound` for a bound that
    `to_millis` refuses and for a start later than the end.
    """
    start_name, end_name = names
    first = None if start is None else to_millis(start, name=start_name, now=now, tz=tz)
    last = None if end is None else to_millis(end, name=end_name, now=now, tz=tz)
    if first is not None and last is not None and first > last:
        raise InvalidBound(
            f"{start_name}={_shown(start)} is later than {end_name}={_shown(end)}: {isoformat(first)} > "
            f"{isoformat(last)}. "
            "Swap them, or correct the one that is wrong."
        )
    return Window(first, last)


def to_millis(bound: Bound, *, name: str, now: datetime, tz: tzinfo | None) -> int:
    """`bound` as epoch milliseconds, rounded up; read as the table of this module says.

    `name` is what messages call it. A timedelta is subtracted from `now`, which must be aware. `tz` is the zone of
    everything that has no offset; None means UTC for dates and strings, and refuses naive datetimes.

    Raises `InvalidBound`, and nothing else whatever the object: what was given, why it is refused, and what to pass.
    """
    try:
        micros = _micros(bound, now, tz)
        if not 0 <= micros <= (_LAST + 1) * 1000:
            raise OverflowError
        return min(-(-micros // 1000), _LAST)
    except InvalidBound as error:
        reason = str(error)
    except OverflowError:
        reason = "is out of range: the API takes times from 1970-01-01T00:00:00Z to the end of 9999."
    except Exception:  # objects run their own code here: utcoffset(), __index__(), to_pydatetime()
        reason = f"cannot be read as a point in time. {_WANTED}"
    raise InvalidBound(f"{name}={_shown(bound)} {reason}")


@frozen
class Every:
    """The length of the windows that time is cut into: `count` milliseconds, days, weeks or months.

    Days, weeks and months are those of the calendar of `zone`: a window of days ends at a midnight there, one of weeks
    as a Monday begins, one of months as a first of the month does, and the first window may therefore be shorter.
    """

    count: int
    unit: str  # ms, d, w or mo
    zone: tzinfo

    @classmethod
    def read(cls, every: timedelta | str, tz: tzinfo | None) -> Every:
        """`every` as it was given: a timedelta, or a text such as ``6h``, ``1d``, ``1w`` or ``1mo``.

        Raises `InvalidInput`.
        """
        if isinstance(every, timedelta) and every >= _MILLISECOND:
            return cls(every // _MILLISECOND, "ms", UTC)
        match = _EVERY.fullmatch(every.strip()) if isinstance(every, str) else None
        if match is None or not 0 < int(match[1]) * _USUAL[match[2].lower()] <= _LAST:
            raise InvalidInput(
                f"every must be a timedelta of a millisecond or more, or a text such as '6h', '1d', '1w' or '1mo', not "
                f"{_shown(every)}"
            )
        count, unit = int(match[1]), match[2].lower()
        if unit in ("d", "w", "mo"):
            return cls(count, unit, tz or UTC)
        return cls(count * _USUAL[unit], "ms", UTC)

    @property
    def text(self) -> str:
        """What `read` reads."""
        return f"{self.count}{self.unit}"

    def windows(self, start: int, end: int) -> int:
        """How many windows there are between two times, in epoch milliseconds; roughly, where they are many."""
        about = -(-(end - start) // (self.count * _USUAL[self.unit]))
        if self.unit == "ms" or about > _MANY:
            return about
        count = 0
        while start < end:
            start, count = self.following(start), count + 1
        return count

    def following(self, at: int) -> int:
        """The end of the window that begins at `at`, in epoch milliseconds; never later than the end of 9999."""
        if self.unit == "ms":
            return min(at + self.count, _LAST)
        count = self.count
        try:
            day = _wall_clock(at * 1000, self.zone).date()
            while (end := self._begin(day, count)) <= at:  # the day is skipped, or its clocks went back over midnight
                count += 1
        except (OverflowError, ValueError):
            return _LAST
        return end

    def _begin(self, day: date, after: int) -> int:
        """Where the unit begins that comes `after` units after that of the day."""
        if self.unit == "mo":
            months = day.year * 12 + day.month - 1 + after
            first = date(months // 12, months % 12 + 1, 1)
        elif self.unit == "w":
            first = day + timedelta(days=after * 7 - day.weekday())
        else:
            first = day + timedelta(days=after)
        return -(-_first_instant(first, self.zone) // 1000)


def isoformat(ms: int) -> str:
    """`ms`, in epoch milliseconds, as it is sent to the API: `2026-01-01T00:00:00.000Z`.

    Exact for the years 1970 to 9999; `InvalidBound` outside them.
    """
    if not 0 <= ms <= _LAST:
        raise InvalidBound(f"{ms} ms since 1970 is outside the years 1970 to 9999.")
    return f"{(_EPOCH_NAIVE + timedelta(milliseconds=ms)).isoformat(timespec='milliseconds')}Z"


def _micros(bound: object, now: datetime, tz: tzinfo | None) -> int:
    """Epoch microseconds, rounded up (so that rounding up to milliseconds is exact); the range is not checked yet."""
    if isinstance(bound, datetime):
        return _from_datetime(bound, tz)
    if isinstance(bound, date):
        return _first_instant(date(bound.year, bound.month, bound.day), tz or UTC)
    if isinstance(bound, timedelta):
        if bound < timedelta(0):
            raise InvalidBound("is negative, so in the future. A timedelta counts back from now: make it positive.")
        return _from_aware(now.astimezone(UTC) - bound)  # in a zone with DST, `-` counts wall-clock time
    if isinstance(bound, str):
        return _from_text(str.__str__(bound).strip(), tz)
    if isinstance(bound, bool):
        raise _wrong_type(bound)
    if isinstance(bound, int):
        return _from_epoch(bound)
    if isinstance(bound, float):
        return _from_epoch(Decimal(float.__repr__(bound)))
    if isinstance(bound, Decimal):
        return _from_epoch(bound)
    return _from_foreign(bound, now, tz)


def _from_datetime(given: datetime, tz: tzinfo | None) -> int:
    if given != given:  # pandas.NaT is an instance of datetime
        raise InvalidBound(_NO_TIME)
    local = given
    if type(given) is not datetime:  # a subclass may have its own arithmetic
        local = datetime(
            given.year, given.month, given.day, given.hour, given.minute, given.second, given.microsecond,
            tzinfo=given.tzinfo, fold=given.fold,
        )  # fmt: skip
    if local.utcoffset() is None:
        if tz is None:
            raise InvalidBound(
                "is naive: it may mean UTC or the local time of some machine. Pass an aware datetime, such as "
                "datetime.now(UTC), or give the client the zone to read it in, as tz=."
            )
        local = local.replace(tzinfo=tz)
    return _from_aware(local) + _below_a_microsecond(given)


def _from_aware(local: datetime) -> int:
    if local.tzinfo and not isinstance(local.tzinfo, timezone) and _is_skipped(local, local.tzinfo):
        raise InvalidBound(
            f"does not exist: in {_shown(local.tzinfo)} clocks skip that time. Pass an existing local time, "
            "or one in UTC. (A zone of pytz needs its localize() and normalize(); zoneinfo does not.)"
        )
    return (local - _EPOCH) // _MICROSECOND


def _first_instant(day: date, zone: tzinfo) -> int:
    """When the day begins in the zone, in epoch microseconds: at the end of what clocks skip, if that is midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    if isinstance(zone, timezone) or not _is_skipped(midnight, zone):
        return (midnight - _EPOCH) // _MICROSECOND
    wall = midnight.replace(tzinfo=None)
    # By the offset before the change it is an instant after it, and by the offset after the change one before it.
    early, late = sorted((midnight.replace(fold=fold) - _EPOCH) // _MICROSECOND for fold in (0, 1))
    while late - early > 1:
        between = (early + late) // 2
        if _wall_clock(between, zone) >= wall:
            late = between
        else:
            early = between
    return late


def _wall_clock(micros: int, zone: tzinfo) -> datetime:
    """The local time at an instant."""
    return (_EPOCH + micros * _MICROSECOND).astimezone(zone).replace(tzinfo=None)


def _is_skipped(local: datetime, zone: tzinfo) -> bool:
    """Whether no instant has this local time: converted to UTC and back, it is different."""
    wall = local.replace(tzinfo=None)
    utc = (wall - (local.utcoffset() or timedelta(0))).replace(tzinfo=zone)
    try:
        return zone.fromutc(utc).replace(tzinfo=None) != wall
    except (NotImplementedError, ValueError):  # a tzinfo with utcoffset() only: nothing to compare with
        return False


def _from_text(text: str, tz: tzinfo | None) -> int:
    whole, _, decimals = text.partition(".")
    if _NUMBER.fullmatch(text) and (len(whole) != 8 or decimals or whole[0] == "-"):
        if _CALENDAR.fullmatch(whole):
            raise InvalidBound(
                "may be an epoch or a date without separators. Write a date as '2026-01-01', or pass an "
                "epoch as a number."
            )
        return _from_epoch(Decimal(text))
    match = _ISO.fullmatch(text)
    if match is None:
        raise InvalidBound(f"is not an ISO 8601 date or time, nor an epoch. {_WANTED}")
    if match["second"] == "60":
        raise InvalidBound("is a leap second, which epoch time does not have. Pass the second after it.")
    fraction = match["fraction"] or ""
    try:
        day = date.fromisoformat(match["date"].upper())
        hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
        midnight = hour == 24 and not (minute or second or fraction.strip("0"))
        zone = _offset(match) or tz or UTC
        if midnight or match["hour"] is None:
            return _first_instant(day + timedelta(days=midnight), zone)
        local = datetime.combine(day, time(hour, minute, second, int(fraction[:6].ljust(6, "0"))), zone)
    except ValueError:
        raise InvalidBound("is a day or a time of day that does not exist.") from None
    return _from_aware(local) + bool(fraction[6:].strip("0"))


def _offset(match: re.Match[str]) -> timezone | None:
    if match["utc"]:
        return UTC
    if not match["sign"]:
        return None
    offset = timedelta(
        hours=int(match["hours"]),
        minutes=int(match["minutes"] or 0),
        seconds=int(match["seconds"] or 0),
        microseconds=int((match["micros"] or "").ljust(6, "0")),
    )
    return timezone(offset if match["sign"] == "+" else -offset)


def _from_epoch(value: int | Decimal) -> int:
    if isinstance(value, Decimal) and not value.is_finite():
        raise InvalidBound("is not a finite number. Pass None for a window without this bound.")
    if value < 0:
        raise OverflowError
    if value > 10**14:
        raise InvalidBound(
            "is too large for epoch seconds or milliseconds. If it is in micro- or nanoseconds, divide it by "
            "1_000 or 1_000_000 first."
        )
    scale = 1_000 if value >= 10**11 else 1_000_000  # to microseconds
    return value * scale if isinstance(value, int) else math.ceil(_ROUND_UP.multiply(value, scale))


def _from_foreign(bound: object, now: datetime, tz: tzinfo | None) -> int:
    dtype = getattr(bound, "dtype", None)
    if dtype is not None:
        return _from_numpy(bound, dtype, now, tz)
    for conversion in ("to_pydatetime", "py_datetime", "to_stdlib"):
        convert = getattr(bound, conversion, None)
        if callable(convert):
            converted = convert()
            if isinstance(converted, (date, timedelta)):
                return _micros(converted, now, tz) + _below_a_microsecond(bound)
    if hasattr(type(bound), "__index__"):
        return _from_epoch(operator.index(bound))  # type: ignore[arg-type]
    if hasattr(type(bound), "__float__"):
        return _from_epoch(Decimal(repr(float(bound))))  # type: ignore[arg-type]
    raise _wrong_type(bound)


def _from_numpy(scalar: Any, dtype: Any, now: datetime, tz: tzinfo | None) -> int:
    if scalar.shape != ():
        raise _wrong_type(scalar)
    if dtype.kind == "M":
        # Its number and unit, never its text: that of a year beyond 9999 is written like something else, '20260101'.
        number = int(scalar.astype("int64"))
        if number == _NAT:
            raise InvalidBound(_NO_TIME)
        match = _DATETIME64.fullmatch(dtype.str)
        if match is None:
            raise _wrong_type(scalar)
        number *= int(match["count"] or 1)
        if (length := _ATTOSECONDS.get(match["unit"])) is None:
            return _micros(_date_of(number, match["unit"]), now, tz)
        if not 0 <= number * length < (_LAST + 1) * _ATTOSECONDS["ms"]:
            raise OverflowError
        return -(-number * length // _ATTOSECONDS["us"])
    if dtype.kind in "iu":
        return _from_epoch(int(scalar))
    if dtype.kind == "f":
        if dtype.itemsize < 8:
            raise InvalidBound("has too few bits for an epoch, and is off by minutes. Use 64 bits.")
        return _from_epoch(Decimal(repr(float(scalar))))
    raise _wrong_type(scalar)


def _date_of(number: int, unit: str) -> date:
    """The first day of what is counted from 1970 on, in years, months, weeks or days; OverflowError beyond 9999."""
    if unit in "YM":
        year, month = divmod(number * (12 if unit == "Y" else 1), 12)
        if not 0 <= year <= 9999 - 1970:
            raise OverflowError
        return date(1970 + year, month + 1, 1)
    return _EPOCH.date() + timedelta(days=number * (7 if unit == "W" else 1))


def _below_a_microsecond(given: Any) -> int:
    """1 if the standard library's microseconds lose a part (pandas and whenever count nanoseconds), else 0."""
    if callable(with_fields := getattr(given, "to_fixed_offset", None)):  # whenever.Instant has no fields
        given = with_fields()
    return int(getattr(given, "nanosecond", 0) % 1000 > 0)


def _wrong_type(given: object) -> InvalidBound:
    return InvalidBound(f"is of type {type(given).__name__}, not a point in time. {_WANTED}")


def _shown(given: object) -> str:
    try:
        text = str.__str__(repr(given))
    except Exception:  # also an int of more than 4,300 digits
        return f"<{type(given).__name__}>"
    return text if len(text) <= 60 else f"{text[:59]}…"
