"""The shapes of events: what the JSON of events has in common is learned once.

A server writes events by program, so the JSON of most is the same but for the values of their texts and times. A
`Shape` holds everything else, byte by byte, and says in which columns the values go. It is learned from one event, by
asking `row` about that event with a mark in place of each value. So an event that differs from its shape in values
alone has exactly the cells that `row` would give it.

Texts are counted by their quotes, so an event has no shape where a quote or a backslash is escaped. Neither has it one
where a time is a text, or a number that has not 13 digits, where a member is there twice, or where it has more members
than an event has. A number, true, false or null anywhere else is part of the shape, and so is the notation of a
receiver, on which its columns depend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from attrs import frozen

from .._errors import DecodeError, LimitExceeded
from .._models.convert import loads
from .._models.events import structure
from .one_event import row
from .schema import COLUMNS

DIGITS: Final = 13  # of a time
_TIME: Final = re.compile(rb"\s*:\s*([1-9][0-9]{12})(?![0-9.eE])")
_TIMES: Final = frozenset(column.path for column in COLUMNS if column.type == "time")
_NOTATIONS: Final = frozenset({"receiver", "recipient", "value"})  # whose `type` decides what is read
# What is no quote of a text, and the mark.
_UNFIT: Final = re.compile(rb'\\["\\]|\\u[eE]000|\xee\x80\x80')
_MOST_WORDS: Final = 512  # of 16 bytes, of all pieces, so that what is learned takes little memory
_MARK: Final = re.compile("\ue000([0-9]+)\ue001")  # of private use
_FIRST: Final = 1_600_000_000_000  # of the times that are marks

# What is joined to make a cell: texts, and the numbers of the quotes that others begin at.
Template: TypeAlias = tuple[str | int, ...]


@frozen
class Piece:
    """Where bytes are: `offset` from a quote, which may be negative. The quotes of an event count from 0; a text lies
    between one of even number and the next."""

    quote: int
    offset: int
    bytes: bytes


@frozen
class Shape:
    """What events have in common: `pieces` are all their bytes but those of values."""

    quotes: int  # in an event
    pieces: tuple[Piece, ...]
    digits: tuple[Piece, ...]  # of times
    times: tuple[tuple[int, int], ...]  # column, index in `digits`
    texts: tuple[tuple[int, int], ...]  # column, first quote
    templates: tuple[tuple[int, Template], ...]  # column, what makes its cell


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object, in their order."""


class _NoShape(Exception):
    """The event cannot be read by a shape."""


@frozen
class _Value:
    """A value in the JSON of an event: from `start` to `end`, after a quote of this number."""

    start: int
    end: int
    quote: int
    is_time: bool


def learn(raw: bytes) -> Shape | None:
    """The shape of an event; None where it has none."""
    try:
        return _learn(raw)
    except (_NoShape, ValueError, RecursionError, DecodeError, LimitExceeded):
        return None


def _learn(raw: bytes) -> Shape:
    if raw.count(b'"') > 4 * _MOST_WORDS or _UNFIT.search(raw):
        raise _NoShape
    quotes = [match.start() for match in re.finditer(b'"', raw)]
    tree = json.loads(raw, object_pairs_hook=_Pairs)
    values = list(_values(raw, quotes, tree, (), iter(range(0, len(quotes), 2))))
    pieces: list[Piece] = []
    marked, end, quote, words = b"", 0, 0, 0
    for number, value in enumerate(values):
        pieces.append(Piece(quote, end - quotes[quote], raw[end : value.start]))
        words += 1 + (value.start - end) // 16
        if words > _MOST_WORDS:
            raise _NoShape
        mark = f"{_FIRST + number}" if value.is_time else f"\ue000{number}\ue001"
        marked += raw[end : value.start] + mark.encode()
        end, quote = value.end, value.quote if value.is_time else value.quote + 1
    if words + len(raw[end:]) // 16 > _MOST_WORDS:
        raise _NoShape
    pieces.append(Piece(quote, end - quotes[quote], raw[end:]))
    digits = [value for value in values if value.is_time]
    times: list[tuple[int, int]] = []
    texts: list[tuple[int, int]] = []
    templates: list[tuple[int, Template]] = []
    for column, cell in enumerate(row(None, structure(loads(marked + raw[end:])))):
        if isinstance(cell, int):
            times.append((column, digits.index(values[cell - _FIRST])))
        elif cell is not None:
            template = _template(cell, values)
            match template:
                case ("", int(quote), ""):
                    texts.append((column, quote))
                case _:
                    templates.append((column, template))
    return Shape(
        len(quotes),
        tuple(pieces),
        tuple(Piece(value.quote, value.start - quotes[value.quote], b"") for value in digits),
        tuple(times),
        tuple(texts),
        tuple(templates),
    )


def _values(
    raw: bytes, quotes: list[int], node: Any, path: tuple[str, ...], ordinals: Iterator[int]
) -> Iterator[_Value]:
    """The values of an event, in their order. `ordinals` are the first quotes of its texts and names of members."""
    if isinstance(node, _Pairs):
        if len(dict(node)) < len(node):
            raise _NoShape
        for name, value in node:
            key = next(ordinals)
            if (*path, name) in _TIMES and isinstance(value, str | int | float) and not isinstance(value, bool):
                match = _TIME.match(raw, quotes[key + 1] + 1)
                if match is None:
                    raise _NoShape
                yield _Value(*match.span(1), key + 1, is_time=True)
            elif name == "type" and path and path[-1] in _NOTATIONS and isinstance(value, str):
                next(ordinals)
            elif name == "type" and not path and not isinstance(value, str):
                raise _NoShape  # the type of the endpoint takes its place
            else:
                yield from _values(raw, quotes, value, (*path, name), ordinals)
    elif isinstance(node, list):
        for each in node:
            yield from _values(raw, quotes, each, (*path, ""), ordinals)  # where no column looks into
    elif isinstance(node, str):
        first = next(ordinals)
        yield _Value(quotes[first] + 1, quotes[first + 1], first, is_time=False)


def _template(cell: str, values: list[_Value]) -> Template:
    """The parts of a cell: every second one is a value, or would be."""
    parts = _MARK.split(cell)
    return tuple(values[int(part)].quote if at % 2 else part for at, part in enumerate(parts))
