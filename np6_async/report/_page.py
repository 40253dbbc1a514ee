"""The page: HTML that stands alone, without scripts, and asks nobody for anything.

Whatever comes from a server or a command line goes through `_text`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from .._models.mail_status import meaning
from .._version import __version__
from ._days import Unit
from ._domains import LEAST, UNKNOWN
from ._pictures import bar, columns
from ._rows import BOUNCED, SENT, SERIES, Row
from ._tally import NO_CODE, Tally, Totals

_MOST_ACTIONS: Final = 30
_MOST_DOMAINS: Final = 20
_MOST_CODES: Final = 15
_NAMES: Final = {"sent": "Sent", "bounced": "Bounced", "opened": "Opened", "clicked": "Clicked", "stopped": "Stopped"}
# Not `strftime`, which follows the locale of the process.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Nothing is loaded from anywhere, and no script runs, whatever stands in the page.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, tally: Tally, tz: tzinfo, notes: Sequence[str], period: tuple[str, str] | None) -> str:
    """The whole page."""
    head = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>{escape(_clean(title))}</title>
<style>
{_style()}</style>
</head>
"""
    parts = [
        _header(title, tally, tz, notes, period),
        _totals(tally.totals),
        _over_time(tally),
        _actions(tally),
        _domains(tally),
        _bounces(tally),
        _footer(tally, tz),
    ]
    return f"{head}<body>\n<main>\n{''.join(parts)}</main>\n</body>\n</html>\n"


@cache
def _style() -> str:
    return files("np6_async.report").joinpath("page.css").read_text(encoding="utf-8")


def _clean(text: str) -> str:
    """`text` without characters that are not for reading."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _text(text: str) -> str:
    """`text` as HTML; whatever its direction, it does not touch what stands beside it."""
    return f"<bdi>{escape(_clean(text))}</bdi>"


def _header(title: str, tally: Tally, tz: tzinfo, notes: Sequence[str], period: tuple[str, str] | None) -> str:
    if period is not None:
        when = f"{period[0]} to {period[1]}"
    elif tally.first is not None and tally.last is not None:
        first, last = _day(tally.first, tz), _day(tally.last, tz)
        when = first if first == last else f"{first} to {last}"
    else:
        when = "no events"
    listed = "".join(f"<li>{_text(note)}</li>\n" for note in notes)
    return (
        f'<header>\n<h1>{_text(title)}</h1>\n<p class="quiet">{_text(f"{when}, {_zone(tz)}")}</p>\n'
        + (f'<ul class="notes">\n{listed}</ul>\n' if notes else "")
        + "</header>\n"
    )


def _totals(totals: Totals) -> str:
    tiles = "".join(
        f'<div class="{series}"><dt>{_NAMES[series]}</dt><dd class="number">{getattr(totals, series):,}</dd>'
        f'<dd class="rate">{rate}</dd></div>\n'
        for series, rate in zip(SERIES, _rates(totals), strict=True)
    )
    return f'<section aria-label="Totals">\n<dl class="tiles">\n{tiles}</dl>\n</section>\n'


def _rates(totals: Totals) -> Iterator[str]:
    sent = totals.sent
    yield "messages"
    kinds = f"{totals.hard:,} hard, {totals.soft:,} soft"
    yield f"{_share(totals.bounced, sent)} of those sent; {kinds}" if sent else kinds
    yield f"{_per_hundred(totals.opened, sent)}, without robots"
    yield _per_hundred(totals.clicked, sent)
    yield f"{_share(totals.stopped, sent)} of those sent" if sent else "contacts"


def _share(number: int, of: int) -> str:
    if not of:
        return ""
    share = number / of * 100
    return f"{share:.1f} %" if share >= 0.1 or not number else f"{share:.2g} %"


def _per_hundred(number: int, sent: int) -> str:
    return f"{number / sent * 100:.1f} per 100 sent" if sent else "times"


def _over_time(tally: Tally) -> str:
    unit, step, found = tally.days.columns()
    if not found:
        return "<section>\n<h2>Over time</h2>\n<p>There is nothing to show.</p>\n</section>\n"
    labels = [_label(day, unit, step) for day, _ in found]
    each = f"each {unit}" if step == 1 else f"every {step} {unit}s"
    charts = "".join(_chart(at, labels, [row for _, row in found], unit) for at in range(len(SERIES)))
    rows = "".join(
        f'<tr><th scope="row">{label}</th>{"".join(f"<td>{number:,}</td>" for number in row)}</tr>\n'
        for label, (_, row) in zip(labels, found, strict=True)
    )
    return (
        f'<section>\n<h2>Over time</h2>\n<p class="quiet">A column for {each}, by when NP6 published the event.</p>\n'
        f'<div class="charts">\n{charts}</div>\n<details>\n<summary>The numbers of these pictures</summary>\n'
        f"{_table('', unit.capitalize(), rows)}</details>\n</section>\n"
    )


def _chart(at: int, labels: Sequence[str], rows: Sequence[Row], unit: Unit) -> str:
    name, series = _NAMES[SERIES[at]], SERIES[at]
    numbers = [row[at] for row in rows]
    most = max(numbers)
    said = f"{sum(numbers):,} in all"
    if most:
        said += f", most in one {unit}: {most:,}"
    alternative = f"{name}, from {labels[0]} to {labels[-1]}: {said}"
    if most:
        alternative += f" ({labels[numbers.index(most)]})"
    marks = [labels[0], labels[len(labels) // 2], labels[-1]] if len(labels) > 2 else list(labels)
    axis = "".join(f"<span>{mark}</span>" for mark in marks)
    return (
        f'<figure class="{series}"><figcaption><b>{name}</b> <span>{said}</span></figcaption>\n'
        f'{columns(numbers, labels, alternative)}\n<div class="axis" aria-hidden="true">{axis}</div></figure>\n'
    )


def _actions(tally: Tally) -> str:
    shown, others, count = tally.actions.shown(_MOST_ACTIONS)
    names = [(key or "without an action", row) for key, row in shown]
    rows = _rows(names, others, _others(count))
    caption = "The messages that were sent most, by the id of their action."
    if tally.actions.folded:
        caption += " There are so many that the numbers of some may be partly among the others."
    return _section("By action", _table(caption, "Action", rows) if rows else "")


def _domains(tally: Tally) -> str:
    shown, others, count = tally.domains.shown(_MOST_DOMAINS)
    names = [("no e-mail address" if key == UNKNOWN else key, row) for key, row in shown]
    rows = _rows(names, others, _others(count) if tally.domains.exact else "all others")
    caption = f"A domain of fewer than {LEAST} people is among the others, and so are those beyond {_MOST_DOMAINS}."
    if not tally.domains.exact:
        caption += " There are so many that the numbers of some may be partly among the others."
    return _section("By domain of the recipient", _table(caption, "Domain", rows) if rows else "")


def _rows(shown: Sequence[tuple[str, Row]], others: Row, rest: str) -> str:
    most = max((row[SENT] for _, row in shown), default=0)
    made = [
        f'<tr><th scope="row" class="name">{_text(name)}{bar(row[SENT], most, "sent")}</th>{_cells(row)}</tr>\n'
        for name, row in shown
    ]
    if any(others):
        made.append(f'<tr class="rest"><th scope="row">{rest}</th>{_cells(others)}</tr>\n')
    return "".join(made)


def _others(count: int) -> str:
    return f"{count:,} other{'s' * (count != 1)}"


def _cells(row: Row) -> str:
    sent = row[SENT]
    shares = ["", *(f"<small>{_share(number, sent)}</small>" if sent else "" for number in row[1:])]
    return "".join(f"<td>{number:,}{share}</td>" for number, share in zip(row, shares, strict=True))


def _bounces(tally: Tally) -> str:
    shown, others, count = tally.codes.shown(_MOST_CODES)
    total = tally.totals.bounced
    ordered = sorted(shown, key=lambda item: -item[1][BOUNCED])
    most = max((row[BOUNCED] for _, row in ordered), default=0)
    rows = "".join(
        f'<tr><th scope="row">{_text(code) if code != NO_CODE else "none"}</th>'
        f'<td class="words">{_text(meaning(code) or "The bounce has no enhanced status code")}'
        f"{bar(row[BOUNCED], most, 'bounced')}</td>"
        f"<td>{row[BOUNCED]:,}<small>{_share(row[BOUNCED], total)}</small></td></tr>\n"
        for code, row in ordered
    )
    if others[BOUNCED]:
        share = _share(others[BOUNCED], total)
        rest = f"{count:,} other code{'s' * (count != 1)}"
        rows += (
            f'<tr class="rest"><th scope="row">others</th><td class="words">{rest}</td>'
            f"<td>{others[BOUNCED]:,}<small>{share}</small></td></tr>\n"
        )
    head = '<th scope="col">Code</th><th scope="col" class="words">What it means</th><th scope="col">Bounces</th>'
    table = (
        f'<div class="scroll">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n'
    )
    return _section("Why messages bounced", table if rows else "")


def _section(title: str, table: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{table or '<p>There is nothing to show.</p>'}\n</section>\n"


def _table(caption: str, first: str, rows: str) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in (first, *_NAMES.values()))
    said = f"<caption>{caption}</caption>" if caption else ""
    return _scrolling(f"{said}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n")


def _scrolling(table: str) -> str:
    """A table that scrolls by itself where it is too wide for the page."""
    return f'<div class="scroll">\n<table>{table}</table>\n</div>\n'


def _footer(tally: Tally, tz: tzinfo) -> str:
    totals = tally.totals
    robots = f" {totals.robots:,} hits of robots were left out." if totals.robots else ""
    now = datetime.now(UTC).astimezone(tz)
    return (
        "<footer>\n"
        "<p>Sent: activations. Opened and clicked: every time counts, so one person may open a message twice; "
        f"robots are left out as far as NP6 can tell.{robots} Stopped: opt-outs that NP6 reports.</p>\n"
        "<p>Rates compare the events of this time with one another: some opens, clicks and bounces belong to messages "
        "that were sent before.</p>\n"
        f"<p>Made of {totals.events:,} events on {_text(f'{moment(now)} {_zone(tz)}')} "
        f"by np6_async {escape(__version__)}.</p>\n</footer>\n"
    )


def _zone(tz: tzinfo) -> str:
    return getattr(tz, "key", None) or str(tz)


def _day(timestamp: int, tz: tzinfo) -> str:
    return _date(datetime.fromtimestamp(timestamp / 1000, UTC).astimezone(tz).date())


def _date(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def moment(at: datetime) -> str:
    """A time as the page tells it."""
    return f"{_date(at.date())}, {at:%H:%M}"


def _label(day: date, unit: Unit, step: int) -> str:
    match unit:
        case "month":
            name = f"{_MONTHS[day.month - 1]} {day.year}"
        case "year":
            name = f"{day.year}" if step == 1 else f"{day.year}-{day.year + step - 1}"
        case _:
            name = _date(day)
    return name
