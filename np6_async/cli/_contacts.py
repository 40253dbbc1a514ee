"""Contacts from the command line, files and segments, and what became of each, however many there are."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Final, Protocol, Self

from attrs import define

from .. import Contact, ContactDone, InvalidContact, Observation
from ._lines import BadInput
from ._refusals import By, refusal

_SPOOL: Final = 1024 * 1024
# How long to wait for the rest of a pipe whose contacts were not fetched.
_PATIENCE: Final = 1.0


@define
class _Begun:
    """A contact that was handed out: `taken` of its events arrived, of `expected` once that is known."""

    contact: Contact
    taken: int = 0
    expected: int | None = None


class Source(Protocol):
    """Contacts that are read as they are asked for; see `ContactLines`."""

    complete: bool
    regular: bool

    async def __anext__(self) -> Contact: ...
    def unread(self, until: float | None) -> AsyncIterator[bytes]: ...


class GivenContacts:
    """The contacts of the arguments, then those of the sources; remembers those that are not done.

    In memory are the contacts in progress alone: failed ones go to a temporary file without a name, and only
    if `keep_failed`. A contact is done when its answer was complete and all events of it were `took`.
    """

    def __init__(self, arguments: Sequence[Contact], sources: Sequence[Source], *, keep_failed: bool) -> None:
        self.given = 0
        self.done = 0
        self._arguments = list(reversed(arguments))
        self._sources = sources
        self._source = 0
        self._begun: dict[int, _Begun] = {}
        self._failed: SpooledTemporaryFile[bytes] | None = None
        if keep_failed:
            self._failed = SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 - `close` closes it

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        contact = self._arguments.pop() if self._arguments else await self._read()
        self.given += 1
        self._begun[id(contact)] = _Begun(contact)  # by identity: the same contact may be given twice
        return contact

    async def _read(self) -> Contact:
        while self._source < len(self._sources):
            try:
                return await anext(self._sources[self._source])
            except StopAsyncIteration:
                self._source += 1
        raise StopAsyncIteration

    # What becomes of them

    def took(self, contact: str | Contact, events: int) -> None:
        """So many events of the contact were taken."""
        begun = self._begun.get(id(contact))
        if begun is not None:
            begun.taken += events
            self._settle(begun)

    def observe(self, observation: Observation, /) -> None:
        """A hook: an answer that is complete may still have events that were not taken."""
        if isinstance(observation, ContactDone):
            begun = self._begun.get(id(observation.contact))
            if begun is not None:
                begun.expected = observation.events
                self._settle(begun)

    def failed(self, contact: str | Contact) -> None:
        """The contact failed for good."""
        begun = self._begun.pop(id(contact), None)
        if begun is not None and self._failed is not None:
            self._failed.write(_line(begun.contact) + b"\n")

    def _settle(self, begun: _Begun) -> None:
        if begun.expected is not None and begun.taken >= begun.expected:
            del self._begun[id(begun.contact)]
            self.done += 1

    @property
    def torn(self) -> int:
        """How many contacts have some of their events taken, and not all."""
        return sum(begun.taken > 0 for begun in self._begun.values())

    # What is left, when a run was stopped

    @property
    def complete(self) -> bool:
        """Whether every source was read to its end."""
        return all(source.complete for source in self._sources)

    async def not_done(self) -> AsyncGenerator[bytes, None]:
        """The contacts that failed, those in progress and those not begun, as lines of a file."""
        if self._failed is not None:
            self._failed.seek(0)
            for line in self._failed:
                yield line.rstrip(b"\n")
        for begun in self._begun.values():
            yield _line(begun.contact)
        async for line in self.not_begun(None):
            yield line

    async def not_begun(self, patience: float | None = _PATIENCE) -> AsyncGenerator[bytes, None]:
        """The contacts that were not asked for; reads the sources on, each for at most `patience` seconds.

        A pipe or a segment is not waited for longer than a second: a pipe may have no end.
        """
        while self._arguments:
            yield _line(self._arguments.pop())
        for source in self._sources:
            limit = patience if source.regular else _PATIENCE
            until = None if limit is None else asyncio.get_running_loop().time() + limit
            async for line in source.unread(until):
                yield line

    def close(self) -> None:
        """Forget the failed ones."""
        if self._failed is not None:
            self._failed.close()


def _line(contact: Contact) -> bytes:
    return contact.value.encode()


def read_arguments(by: By, values: Sequence[str]) -> list[Contact]:
    """The contacts of the command line; raises `BadInput`."""
    contacts = []
    for number, value in enumerate(values, 1):
        if value == "-":
            raise BadInput(f"contact {number} is '-': contacts come from standard input with --ids-from -")
        if by == "id" and ("." in value or "/" in value) and os.path.isfile(value):
            raise BadInput(f"contact {number} is the name of a file: contacts come from a file with --ids-from FILE")
        try:
            contacts.append(Contact(by, value))
        except InvalidContact:
            problem, hint = refusal(by, value)
            raise BadInput(f"contact {number} {problem}; {hint}") from None
    return contacts


def open_lines(path: str) -> tuple[int, str, bool]:
    """The file to read contacts from: its descriptor, its name in messages, and whether to close it."""
    if path == "-":
        if sys.stdin is None:
            raise BadInput("standard input is closed")
        return 0, "standard input", False
    if not path:
        raise BadInput("the name of the file is empty")
    try:
        fd = os.open(path, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadInput(f"{path!r} cannot be read: it is a directory")
    return fd, path, True
