"""The contacts of an export, handed out one after the other, and how far it has got with them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import blake2b
from typing import Final, Self

from .._models.contacts import Contact
from ._errors import InputChanged
from ._manifest import Place, positions, runs

_TURN: Final = 5_000  # contacts that are read without letting others run


class Ledger:
    """Hands out contacts, no object twice at the same time, and keeps a `Place`, in little memory.

    After `stop` it hands out no more, as if the input had ended.
    """

    def __init__(self, contacts: AsyncIterator[Contact]) -> None:
        self.ended = False  # the input was read to its end
        self._contacts = contacts
        self._again: deque[tuple[int, Contact]] = deque()
        self._open: dict[int, tuple[int, Contact]] = {}  # by identity: a contact may be given twice
        self._count = 0
        self._digest = blake2b(digest_size=16)
        self._stopped = False

    async def skip(self, place: Place) -> None:
        """Continue at `place`: those that were open there come first. Raises `InputChanged`. `stop` ends it early."""
        wanted = set(positions(place.open))
        while self._count < place.contacts and not self._stopped:
            position = self._count
            try:
                contact = await self._read()
            except StopAsyncIteration:
                raise InputChanged(
                    f"there are only {self._count:,}, and the export has reached number {place.contacts:,}"
                ) from None
            if position in wanted:
                self._again.append((position, contact))
            if self._count % _TURN == 0:
                await asyncio.sleep(0)
        if place.contacts and not self._stopped and self._digest.hexdigest() != place.digest:
            raise InputChanged(f"the first {self._count:,} are not those that the export began with")

    async def check(self, whole: Place) -> None:
        """Read the whole input, and raise `InputChanged` unless it is the one that was read before."""
        with suppress(StopAsyncIteration):
            while self._count <= whole.contacts:
                await self._read()
                if self._count % _TURN == 0:
                    await asyncio.sleep(0)
        if self._count != whole.contacts:
            more = "more than" if self._count > whole.contacts else f"{self._count:,} and not"
            raise InputChanged(f"there are {more} the {whole.contacts:,} that the export began with")
        if self._digest.hexdigest() != whole.digest:
            raise InputChanged(f"the {self._count:,} are not those that the export began with")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        if self._stopped:
            raise StopAsyncIteration
        if self._again:
            position, contact = self._again.popleft()
        else:
            try:
                contact = await self._read()
            except StopAsyncIteration:
                self.ended = True
                raise
            position = self._count - 1
        if id(contact) in self._open:
            contact = Contact(contact.kind, contact.value)
        self._open[id(contact)] = position, contact
        return contact

    def end(self, contact: str | Contact) -> int:
        """This contact is done, or failed permanently; returns its position."""
        position, _ = self._open.pop(id(contact))
        return position

    def stop(self) -> None:
        """Hand out no more."""
        self._stopped = True

    @property
    def place(self) -> Place:
        """Where it is now."""
        opened = [position for position, _ in (*self._open.values(), *self._again)]
        return Place(self._count, self._digest.hexdigest(), runs(opened))

    async def _read(self) -> Contact:
        contact = await anext(self._contacts)
        self._count += 1
        self._digest.update(b"%b\n" % contact.value.encode())
        return contact
