"""`np6 segments`: the segments of the account."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from .. import AuthError, ConfigError, NP6Error, Segment
from .._models.convert import dumps
from . import _exit, _interrupts
from ._client import make_client
from ._messages import words
from ._progress import is_terminal


def run(options: argparse.Namespace) -> int:
    """Do what the parsed command line says; returns the exit code."""
    return _interrupts.run(lambda _: _list(options))


async def _list(options: argparse.Namespace) -> int:
    try:
        np6 = make_client(options)
    except ConfigError as error:
        return _failed(str(error), _exit.CONFIGURATION)
    async with np6:
        try:
            segments = await np6.segments.list()
        except AuthError as error:
            return _failed(words(error), _exit.CONFIGURATION)
        except NP6Error as error:
            return _failed(words(error), _exit.STOPPED)
    try:
        if is_terminal(sys.stdout):
            print(*_table(segments), sep="\n", flush=True)
        else:
            for segment in segments:
                print(dumps(segment.data).decode(), flush=False)
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        return _failed(f"the output cannot be written: {error.strerror}", _exit.STOPPED)
    return _exit.DONE


def _table(segments: Sequence[Segment]) -> Iterator[str]:
    rows = [("ID", "CONTACTS", "TYPE", "NAME"), *map(_row, segments)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for number, count, kind, name in rows:
        yield f"{number:>{widths[0]}}  {count:>{widths[1]}}  {kind:<{widths[2]}}  {name}"


def _row(segment: Segment) -> tuple[str, str, str, str]:
    count = "" if segment.targets_count is None else f"{segment.targets_count:,}"
    kind = f"{segment.type or ''}{' (test)' if segment.is_test else ''}"
    return _shown(segment.id), count, _shown(kind), _shown(segment.name)


def _shown(value: object) -> str:
    """Text of the server without what a terminal would obey."""
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _failed(problem: str, code: int) -> int:
    with suppress(OSError, ValueError, AttributeError):
        print(f"np6 segments: error: {problem}", file=sys.stderr, flush=True)
    return code
