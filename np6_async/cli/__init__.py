"""The `np6` command, whose commands are in `_synopsis`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from ._exit import BROKEN_PIPE, INTERRUPTED

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process) and return its exit code.

    A command line that cannot be used raises SystemExit(2), as argparse does.
    """
    try:
        from ._parser import build_parser  # here, so that Ctrl-C while it loads is no traceback

        options = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
        code: int = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        with suppress(OSError):
            print("\nnp6: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _silence_stdout() -> None:
    """Discard what is still buffered: Python flushes at exit, and would report the error a second time."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
