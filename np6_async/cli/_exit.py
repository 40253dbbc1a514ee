"""Exit codes, as `np6 events --help` documents them."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
SOME_FAILED: Final = 1
USAGE: Final = 2
CONFIGURATION: Final = 3
STOPPED: Final = 4
# As the shell reports a program that a signal ended: 128 and the signal's number.
HUNG_UP: Final = 129
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
TERMINATED: Final = 143
