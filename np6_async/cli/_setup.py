"""What every command that fetches does first, and how it speaks."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, suppress
from typing import NoReturn

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
