"""What every command that fetches does first: files and a log; and how it speaks."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NoReturn

from .. import RateLimitWait
from ._contacts import open_lines
from ._lines import BadInput


def say(command: str, text: str) -> None:
    """A line of the command on standard error."""
    with suppress(OSError, ValueError, AttributeError):  # nobody reads standard error: no reason to stop
        print(f"{command}: {text}", file=sys.stderr, flush=True)


def refuse(options: argparse.Namespace, message: str) -> NoReturn:
    """End with the parser's own words and exit code."""
    options.usage_error(message)
    raise AssertionError("unreachable")


def open_file(options: argparse.Namespace, path: str, stack: ExitStack) -> tuple[int, str]:
    """A file of contacts, which `stack` closes, and its name."""
    if path == "-" and options.ids_from.count("-") > 1:
        refuse(options, "--ids-from -: standard input can be read once")
    try:
        fd, name, close = open_lines(path)
    except BadInput as error:
        refuse(options, f"--ids-from: {error}")
    if close:
        stack.callback(os.close, fd)
    output = options.output
    if output != "-" and os.path.exists(output) and os.path.samestat(os.fstat(fd), os.stat(output)):
        refuse(options, "--output and --ids-from are the same file, which would be overwritten")
    return fd, name


@contextmanager
def log_to_stderr(command: str, verbosity: int) -> Iterator[None]:
    """The client's own log on standard error, as `-v` and `-vv` ask for."""
    if not verbosity or sys.stderr is None:
        yield
        return
    logger = logging.getLogger("np6_async")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_no_pause)
    handler.setFormatter(logging.Formatter(f"{command}: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _is_no_pause(record: logging.LogRecord) -> bool:
    """Each request that was refused reports the same pause, which the progress tells once."""
    return not (isinstance(record.args, tuple) and any(isinstance(each, RateLimitWait) for each in record.args))
