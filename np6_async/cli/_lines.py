"""A file of contacts, read as they are asked for."""

from __future__ import annotations

import asyncio
import codecs
import os
import stat
from collections.abc import AsyncIterator, Callable
from typing import Final

from .. import Contact, InvalidContact
from ._refusals import By, refusal
from ._threads import in_thread

_BLOCK: Final = 64 * 1024
_MAX_LINE: Final = 16 * 1024


class BadInput(Exception):
    """Contacts cannot be read; the message says which and why, and quotes none."""


class ContactLines:
    """The contacts of a text file descriptor, one a line, read as they are asked for.

    `refused` is called with the message and the hint for a line that is no contact; it may raise to end the
    reading. `empty` is called with the name of a file in which there is nothing but blanks and comments.
    """

    def __init__(
        self, fd: int, name: str, by: By, *, refused: Callable[[str, str], None], empty: Callable[[str], None]
    ) -> None:
        self.name = name
        self.complete = False  # read to the end
        self._fd = fd
        self._by: By = by
        self._refused = refused
        self._empty = empty
        # On a regular file a read does not block long enough to be worth a thread.
        self.regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self._reading: asyncio.Future[bytes] | None = None
        self._lines: list[bytes] = []  # reversed
        self._rest = b""
        self._number = 0
        self._found = False

    def __aiter__(self) -> AsyncIterator[Contact]:
        return self

    async def __anext__(self) -> Contact:
        while True:
            while self._lines:
                contact = self._parse(self._lines.pop())
                if contact is not None:
                    return contact
            if self.complete:
                raise StopAsyncIteration
            if len(self._rest) > _MAX_LINE:
                raise self._too_long(self._number + 1)
            try:
                await self._read()
            except OSError as error:
                raise BadInput(f"{self.name} cannot be read: {error.strerror}") from None
            if self.complete and not self._found and not any(map(_content, self._lines)):
                self._empty(self.name)

    async def unread(self, until: float | None) -> AsyncIterator[bytes]:
        """The lines that were not asked for, unchecked, up to the time `until` of the loop's clock.

        `complete` tells whether it got to the end.
        """
        loop = asyncio.get_running_loop()
        while True:
            while self._lines:
                self._number += 1
                if line := _content(self._lines.pop()):
                    yield line
            late = until is not None and loop.time() >= until
            if self.complete or late or len(self._rest) > _MAX_LINE:
                return
            try:
                async with asyncio.timeout_at(until):
                    await self._read()
            except (OSError, TimeoutError):
                return
            await asyncio.sleep(0)  # a file may be large, and Ctrl-C must be heard

    async def _read(self) -> None:
        if self.regular:
            block = os.read(self._fd, _BLOCK)
        else:
            if self._reading is None:
                self._reading = in_thread(lambda: os.read(self._fd, _BLOCK))
            # Shielded: cancelled meanwhile, the read goes on, and what it brings must not get lost.
            block = await asyncio.shield(self._reading)
            self._reading = None
        self.complete = not block
        data = self._rest + block
        # Of a line end of two characters the second may be yet to come.
        held = b"\r" if block and data.endswith(b"\r") else b""
        data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        if self.complete:
            lines.append(rest)
            rest = b""
        self._rest = rest + held
        self._lines = lines[::-1]

    def _parse(self, line: bytes) -> Contact | None:
        self._number += 1
        try:
            value = self._decode(line).strip()
        except BadInput:
            self._lines.append(line)  # it was not read: `unread` gives it
            raise
        if not value or value.startswith("#"):
            return None
        self._found = True
        try:
            return Contact(self._by, value)
        except InvalidContact:
            problem, hint = refusal(self._by, value)
            self._refused(f"{self.name}, line {self._number}: {problem}", hint)
            return None

    def _decode(self, line: bytes) -> str:
        if self._number == 1:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise BadInput(
                    f"{self.name} is UTF-16 text; make it UTF-8, with: iconv -f UTF-16 -t UTF-8 FILE > NEWFILE"
                )
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > _MAX_LINE:
            raise self._too_long(self._number)
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise BadInput(f"{self.name}: line {self._number} is not UTF-8 text") from None

    def _too_long(self, number: int) -> BadInput:
        return BadInput(f"{self.name}: line {number} is too long: one contact a line is expected")


def count_lines(fd: int) -> int:
    """How many lines from here to the end of a file hold more than blanks and a comment. Blocks."""
    count, rest = 0, b""
    while len(rest) <= _MAX_LINE and (block := os.read(fd, 16 * _BLOCK)):
        *lines, rest = (rest + block).split(b"\n")
        count += sum(1 for line in lines if _content(line))
    return count + bool(_content(rest))


def _content(line: bytes) -> bytes:
    """The line without what is around a contact; empty where there is none."""
    line = line.removeprefix(codecs.BOM_UTF8).strip()
    return b"" if line.startswith(b"#") else line
