"""A report: counts events, and writes the page of what it has counted."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

from .._errors import InvalidInput
from .._models.events import Event
from ._page import moment, page
from ._tally import Tally, Totals

_LONGEST: Final = 200  # characters of a title


class Report:
    """What happened to messages, as one HTML page: sent, bounced, opened, clicked and stopped, over time, by action and
    by domain of the recipient, and the codes of bounces in words.

    `title` has 1 to 200 characters. Days are those of `tz`, by default UTC. The page holds no address, no id of a
    contact and no text of a mail server; a domain is named where ten people or more share it. It stands alone: no
    scripts, and nothing is loaded from anywhere.

    Memory is bounded, however many events are added: counts are exact for 20,000 actions, 10,000 domains, 2,000 bounce
    codes and eleven years of days. Beyond those, the least frequent are added to the others, and longer times are
    counted by weeks, months or years. Raises `InvalidInput` for another title or zone.
    """

    def __init__(self, title: str = "Messages", *, tz: tzinfo | None = None) -> None:
        if not isinstance(title, str) or not 0 < len(title.strip()) <= _LONGEST:
            raise InvalidInput(f"title= is a text of 1 to {_LONGEST} characters")
        if tz is not None and not isinstance(tz, tzinfo):
            raise InvalidInput(f'tz={tz!r} is no time zone; use one such as zoneinfo.ZoneInfo("Europe/Paris")')
        self._title = title.strip()
        self._tz = tz or UTC
        self._tally = Tally(self._tz)
        self._notes: list[str] = []
        self._period: tuple[str, str] | None = None

    def add(self, events: Iterable[Event], *, robots: bool = False) -> None:
        """Count these events.

        `robots`: hits among them may be of robots, as where all events were asked for, so they do not count as opened
        or clicked. Add the answers for kind ``"hits"`` besides, which NP6 gives without robots; the difference is told
        in the page.
        """
        self._tally.add(events, robots=robots)

    def note(self, text: str) -> None:
        """Say this at the head of the page, such as what is missing."""
        self._notes.append(text)

    def between(self, start: datetime, end: datetime) -> None:
        """Say that the page is about this time. Without it, it says when its first and last events were."""
        self._period = moment(start.astimezone(self._tz)), moment(end.astimezone(self._tz))

    @property
    def totals(self) -> Totals:
        """The sums up to now."""
        return self._tally.totals

    def html(self) -> str:
        """The page."""
        return page(self._title, self._tally, self._tz, self._notes, self._period)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page to this file, in UTF-8.

        A file that is there is replaced when the new one is whole, and stays as it was where that fails; a link stays
        one. Blocks, and raises OSError where the disk does.
        """
        target = Path(path).resolve()
        data = self.html().encode(errors="replace")
        if target.exists() and not target.is_file():  # a device or a pipe: replacing it would break the machine
            target.write_bytes(data)
            return
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with suppress(OSError):
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def __repr__(self) -> str:
        return f"Report(events={self._tally.totals.events})"
