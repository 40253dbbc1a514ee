"""Contacts from the command line and from files, one at a time however many there are."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Literal, Self

from .. import Contact, InvalidContact
from ._threads import in_thread

_BLOCK: Final = 64 * 1024
_MAX_LINE: Final = 16 * 1024


class BadInput(Exception):
    """Contacts cannot be read; the message says which and why, and quotes none."""


class ContactLines:
    """The contacts of a text file descriptor, one a line, read as they are asked for.

    `refused` is called with the message for a line that is no contact; it may raise to end the reading.
    """

    def __init__(
        self, fd: int, name: str, by: Literal["id", "unicity", "hash"], refused: Callable[[str], None]
    ) -> None:
        self._fd = fd
        self._name = name
        self._by: Literal["id", "unicity", "hash"] = by
        self._refused = refused
        # On a regular file a read does not block long enough to be worth a thread.
        self._blocks = not stat.S_ISREG(os.fstat(fd).st_mode)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._lines: list[str] = []  # reversed
        self._rest = ""
        self._number = 0
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Contact]:
        return self

    async def __anext__(self) -> Contact:
        while True:
            while self._lines:
                contact = self._parse(self._lines.pop())
                if contact is not None:
                    return contact
            if self._ended:
                raise StopAsyncIteration
            await self._read()

    async def _read(self) -> None:
        try:
            if self._blocks:
                block = await in_thread(lambda: os.read(self._fd, _BLOCK))
            else:
                block = os.read(self._fd, _BLOCK)
        except OSError as error:
            raise BadInput(f"{self._name} cannot be read: {error.strerror}") from None
        self._ended = not block
        try:
            text = self._rest + self._decoder.decode(block, final=self._ended)
        except UnicodeDecodeError:
            raise BadInput(f"{self._name}: line {self._number + 1} or a later one is not UTF-8 text") from None
        *lines, self._rest = text.split("\n")
        if self._ended:
            lines.append(self._rest)
        elif len(self._rest) > _MAX_LINE:
            raise BadInput(
                f"{self._name}: line {self._number + len(lines) + 1} is too long: one contact a line is expected"
            )
        self._lines = lines[::-1]

    def _parse(self, line: str) -> Contact | None:
        self._number += 1
        value = line.strip()
        if not value or value.startswith("#"):
            return None
        try:
            return Contact(self._by, value)
        except InvalidContact as error:
            self._refused(f"{self._name}, line {self._number}: {error}")
            return None


class GivenContacts:
    """The contacts of the arguments, then those of the file."""

    def __init__(self, arguments: Sequence[Contact], lines: ContactLines | None) -> None:
        self._arguments = iter(arguments)
        self._lines = lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        for contact in self._arguments:
            return contact
        if self._lines is None:
            raise StopAsyncIteration
        return await anext(self._lines)


def open_lines(path: str) -> tuple[int, str, bool]:
    """The file to read contacts from: its descriptor, its name in messages, and whether to close it."""
    if path == "-":
        if sys.stdin is None:
            raise BadInput("standard input is closed")
        return 0, "standard input", False
    try:
        fd = os.open(path, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadInput(f"{path!r} cannot be read: it is a directory")
    return fd, path, True
