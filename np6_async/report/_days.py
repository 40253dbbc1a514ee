"""Days of a calendar: which day an event belongs to, and days as the columns of a picture."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Literal, TypeAlias, get_args

from ._rows import Row, add, new_row

Unit: TypeAlias = Literal["day", "week", "month", "year"]

_HOUR: Final = 3_600_000  # milliseconds
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_HOURS: Final = 50_000  # whose days are remembered: five years
_MOST_DAYS: Final = 4_000  # that are counted apart: eleven years
_MOST_COLUMNS: Final = 62
_UNITS: Final[tuple[Unit, ...]] = get_args(Unit)


class Days:
    """A row for each day of the calendar of `tz`, in bounded memory.

    Where there are more than eleven years of days, weeks are counted in their place, then months, then years.
    """

    def __init__(self, tz: tzinfo) -> None:
        self.unit: Unit = "day"
        self._tz = tz
        self._rows: dict[date, Row] = {}
        self._hours: dict[int, date | None] = {}

    def of(self, timestamp: int) -> Row:
        """The row of the day of a time in epoch milliseconds, to count in."""
        hour = timestamp // _HOUR
        day = self._hours.get(hour) or self._day(hour, timestamp)
        row = self._rows.get(day)
        return self._begin(day) if row is None else row

    def _day(self, hour: int, timestamp: int) -> date:
        """The day of a time, which is that of its whole hour unless midnight is in it."""
        if hour not in self._hours:
            if len(self._hours) >= _HOURS:
                self._hours.clear()
            first, last = self._local(hour * _HOUR), self._local(hour * _HOUR + _HOUR - 1)
            self._hours[hour] = first if first == last else None
        return self._hours[hour] or self._local(timestamp)

    def _local(self, timestamp: int) -> date:
        try:
            day = (_EPOCH + timestamp * _MILLISECOND).astimezone(self._tz).date()
        except OverflowError:  # the last day of the year 9999, east of Greenwich
            day = date.max
        return begin(day, self.unit)

    def _begin(self, day: date) -> Row:
        if len(self._rows) >= _MOST_DAYS and self.unit != "year":
            self.unit = _UNITS[_UNITS.index(self.unit) + 1]
            self._rows = folded(self._rows, self.unit)
            self._hours.clear()
            day = begin(day, self.unit)
        return self._rows.setdefault(day, new_row())

    def columns(self) -> tuple[Unit, int, list[tuple[date, Row]]]:
        """The days as no more than 62 columns without a gap: of so many days, weeks, months or years each.

        Of each column the day that it begins with, and its row.
        """
        if not self._rows:
            return self.unit, 1, []
        first, last = min(self._rows), max(self._rows)
        fitting: list[Unit] = [
            each for each in _UNITS[_UNITS.index(self.unit) :] if _number(first, last, each) <= _MOST_COLUMNS
        ]
        unit: Unit = fitting[0] if fitting else "year"
        step = -(-_number(first, last, unit) // _MOST_COLUMNS)
        rows = folded(self._rows, unit)
        columns: list[tuple[date, Row]] = []
        at: date | None = begin(first, unit)
        while at is not None and at <= last:
            start, row = at, new_row()
            for _ in range(step):
                if at is not None:
                    add(row, rows.get(at, new_row()))
                    at = following(at, unit)
            columns.append((start, row))
        return unit, step, columns


def begin(day: date, unit: Unit) -> date:
    """The day that its day, week, month or year begins with; weeks begin on Monday."""
    match unit:
        case "day":
            return day
        case "week":
            return date.fromordinal(max(day.toordinal() - day.weekday(), 1))
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)


def following(day: date, unit: Unit) -> date | None:
    """The beginning of the next one; None after the last that there is."""
    try:
        match unit:
            case "day":
                return day + timedelta(1)
            case "week":
                return day + timedelta(7)
            case "month":
                return begin(day + timedelta(31), "month")
            case "year":
                return day.replace(year=day.year + 1)
    except (OverflowError, ValueError):
        return None


def folded(rows: dict[date, Row], unit: Unit) -> dict[date, Row]:
    """Rows of days, by weeks, months or years."""
    found: dict[date, Row] = {}
    for day, row in rows.items():
        add(found.setdefault(begin(day, unit), new_row()), row)
    return found


def _number(first: date, last: date, unit: Unit) -> int:
    """How many columns there are from one day to another."""
    match unit:
        case "day":
            return (last - first).days + 1
        case "week":
            return (begin(last, unit) - begin(first, unit)).days // 7 + 1
        case "month":
            return (last.year - first.year) * 12 + last.month - first.month + 1
        case "year":
            return last.year - first.year + 1
