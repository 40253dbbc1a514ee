"""The contacts that a command line names: arguments, files and segments, read as often as need be."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing, suppress
from functools import partial

from .. import Contact, NP6Client
from ._contacts import read_arguments
from ._failures import Failures
from ._lines import BadInput, ContactLines, count_lines
from ._refusals import By
from ._segment_contacts import SegmentContacts
from ._setup import open_file, refuse
from ._threads import in_thread


class Input:
    """Opens the files, which `stack` closes. What cannot be used ends as the parser's own errors do.

    `say` tells of files without contacts. `refused` are the lines that are no contacts.
    """

    def __init__(self, options: argparse.Namespace, stack: ExitStack, say: Callable[[str], None]) -> None:
        try:
            self._arguments = read_arguments(options.by, options.contacts)
        except BadInput as error:
            refuse(options, str(error))
        if not self._arguments and not options.ids_from and not options.segment:
            refuse(options, "no contacts: give some, a file of them with --ids-from, or a segment with --segment")
        if options.segment and options.by != "id":
            refuse(options, f"--segment gives ids: it does not go with --by {options.by}")
        files = [open_file(options, path, stack) for path in options.ids_from]
        self._files = [(fd, name, _position(fd)) for fd, name in files]
        self._by: By = options.by
        self._segments: list[str] = options.segment
        self._say = say
        self._passes = 0
        self.refused = Failures("collect")

    @property
    def read_once(self) -> str | None:
        """The name of a file that can be read only once; None: there is none."""
        return next((name for _, name, begin in self._files if begin is None), None)

    @property
    def read_again(self) -> bool:
        """Whether all contacts can be read again without asking the server."""
        return self.read_once is None and not self._segments

    async def contacts(self, np6: NP6Client) -> AsyncGenerator[Contact, None]:
        """All contacts, from the first on. Raises `BadInput`."""
        self._passes += 1
        for contact in self._arguments:
            yield contact
        for fd, name, begin in self._files:
            if begin is not None:
                os.lseek(fd, begin, os.SEEK_SET)
            lines = ContactLines(fd, name, self._by, refused=self._refuse_line, empty=self._tell_empty)
            async for contact in lines:
                yield contact
        for segment in self._segments:
            ids = SegmentContacts(segment, np6.segments.contacts, refused=self._refuse_line, empty=self._tell_empty)
            async with aclosing(ids):
                async for contact in ids:
                    yield contact

    async def count(self) -> int | None:
        """How many contacts there are; None where that is not known beforehand."""
        if self._segments:
            return None
        total = len(self._arguments)
        for fd, _, begin in self._files:
            if begin is None:
                return None
            with suppress(OSError):  # it is read later, and that will tell
                total += await in_thread(partial(count_lines, fd))
        return total

    # Later passes find the same.

    def _refuse_line(self, message: str, hint: str) -> None:
        if self._passes == 1:
            self.refused.add_text(message, hint)

    def _tell_empty(self, name: str) -> None:
        if self._passes == 1:
            self._say(f"{name} holds no contacts")


def _position(fd: int) -> int | None:
    """Where a file is read from; None: it can be read only once."""
    return os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(fd).st_mode) else None
