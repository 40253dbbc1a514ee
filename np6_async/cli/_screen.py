"""Text on standard output, with a little colour where a person looks at it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._picture import can_draw
from ._progress import Bar, Lines, Progress, has_rich, is_terminal

if TYPE_CHECKING:
    from rich.console import Console


class Screen:
    """Standard output. `plain` switches everything off that is more than text."""

    def __init__(self, *, plain: bool) -> None:
        self.blocks = can_draw(sys.stdout)
        self._console: Console | None = None
        if not plain and is_terminal(sys.stdout) and has_rich():
            from rich.console import Console

            self._console = Console(highlight=False, soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        """One line."""
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(text, style=style or None, markup=False)

    def progress(self, total: int) -> Progress:
        """What shows the progress of a run over `total` contacts."""
        return Lines(self.say, total) if self._console is None else Bar(sys.stdout, total)
