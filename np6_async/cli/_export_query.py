"""What `np6 export` asks for, now and when it goes on: the same words must mean the same time."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import evolve, fields

from .._models.time_bounds import isoformat, to_millis
from ..export._manifest import Asked, Manifest, Query
from ._time_options import BadBound, is_span, read_span

_MOST_WINDOWS: Final = 10_000
_NOW: Final = "now"


class OtherQuery(Exception):
    """The folder holds the answer to another one; the message says what differs."""


def read_query(options: argparse.Namespace) -> tuple[Query, Asked]:
    """What the command line asks for, if it is asked now; raises `BadBound`."""
    now = isoformat(to_millis(datetime.now(UTC), name="now", now=datetime.now(UTC), tz=None))
    if options.every is not None and options.start is None:
        raise BadBound("--every cuts the time from --start on into windows: give a --start")
    span = read_span(options.start, options.end, options.tz)
    if span.end is None and span.future:
        raise BadBound(f"--start {options.start} lies in the future, where there are no events yet")
    query = Query(
        kind=options.kind,
        by=options.by,
        start=span.start,
        end=span.end or now,
        classification=options.classification,
        missing=options.missing,
        every=None if options.every is None else options.every // timedelta(milliseconds=1),
        format=options.format,
        gzip=options.gzip,
    )
    windows = windows_of(query)
    if windows > _MOST_WINDOWS:
        raise BadBound(f"--every makes {windows:,} windows of this time; make it longer, for {_MOST_WINDOWS:,} at most")
    end = _NOW if options.end is None else options.end
    return query, Asked(
        start=options.start.strip() if options.start is not None and is_span(options.start) else None,
        end=end.strip() if end == _NOW or is_span(end) else None,
    )


def _millis(bound: str) -> int:
    return to_millis(bound, name="bound", now=datetime.now(UTC), tz=None)


def following(query: Query, window: str | None) -> str | None:
    """The start of the window after the one that begins at `window`; None behind the last."""
    if window is None or query.every is None:
        return None
    start = _millis(window) + query.every
    return isoformat(start) if start < _millis(query.end) else None


def windows_of(query: Query) -> int:
    """How many windows the time is cut into; 0: it is not."""
    if query.start is None or query.every is None:
        return 0
    return -(-(_millis(query.end) - _millis(query.start)) // query.every)


def same_query(found: Manifest, query: Query, asked: Asked) -> Query:
    """The query of the export that was `found`, if that is what is asked for; else raises `OtherQuery`."""
    if asked.start is not None and asked.start == found.asked.start:
        query = evolve(query, start=found.query.start)
    if asked.end == _NOW or (asked.end is not None and asked.end == found.asked.end):
        query = evolve(query, end=found.query.end)
    for field in fields(Query):
        old, new = getattr(found.query, field.name), getattr(query, field.name)
        if old != new:
            raise OtherQuery(f"it was begun {_shown(field.name, old)}, not {_shown(field.name, new)}")
    return query


def _shown(option: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return f"without --{option}"
    if option == "every":
        return f"with --every {timedelta(milliseconds=int(value))}"
    return f"with --{option}" if value is True else f"with --{option} {value}"
