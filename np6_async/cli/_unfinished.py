"""What a run that was stopped leaves undone: the contacts, and the file that lists them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Final, Self

from attrs import define

from .. import Contact, ContactDone, Observation
from ._contact_input import ContactPass
from ._output import place

_SPOOL: Final = 1024 * 1024
_LINES: Final = 10_000


@define
class _Begun:
    """A contact that was handed out: `taken` of its events arrived, of `expected` once that is known."""

    contact: Contact
    taken: int = 0
    expected: int | None = None


class Unfinished:
    """Hands out the contacts of `contacts`, and remembers those that are not done.

    In memory are the contacts in progress alone: failed ones go to a temporary file without a name, and only
    if `keep_failed`. A contact is done when its response was complete and all events of it were `took`.
    """

    def __init__(self, contacts: ContactPass, *, keep_failed: bool) -> None:
        self.done = 0
        self._contacts = contacts
        self._begun: dict[int, _Begun] = {}
        self._failed: SpooledTemporaryFile[bytes] | None = None
        if keep_failed:
            self._failed = SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 - `aclose` closes it

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        contact = await anext(self._contacts)
        self._begun[id(contact)] = _Begun(contact)  # by identity: the same contact may be given twice
        return contact

    @property
    def given(self) -> int:
        """How many contacts were handed out."""
        return self._contacts.given

    # How each ends

    def took(self, contact: str | Contact, events: int) -> None:
        """This number of the contact's events was taken."""
        begun = self._begun.get(id(contact))
        if begun is not None:
            begun.taken += events
            self._settle(begun)

    def observe(self, observation: Observation, /) -> None:
        """A hook: a response that is complete may still have events that were not taken."""
        if isinstance(observation, ContactDone):
            begun = self._begun.get(id(observation.contact))
            if begun is not None:
                begun.expected = observation.events
                self._settle(begun)

    def failed(self, contact: str | Contact) -> None:
        """The contact failed permanently."""
        begun = self._begun.pop(id(contact), None)
        if begun is not None and self._failed is not None:
            self._failed.write(begun.contact.value.encode() + b"\n")

    def _settle(self, begun: _Begun) -> None:
        if begun.expected is not None and begun.taken >= begun.expected:
            del self._begun[id(begun.contact)]
            self.done += 1

    @property
    def torn(self) -> int:
        """How many contacts have some of their events taken, and not all."""
        return sum(begun.taken > 0 for begun in self._begun.values())

    # When the run was stopped

    @property
    def complete(self) -> bool:
        """Whether the contacts were read to their end."""
        return self._contacts.complete

    async def count_rest(self) -> int:
        """How many contacts were not begun, as far as that is found out in a moment."""
        count = 0
        async for _ in self._contacts.rest(all=False):
            count += 1
        return count

    async def write(self, wanted: Path) -> tuple[Path, int]:
        """Write a file of the contacts that are not done, which appears when it is whole; returns its name and length.

        It gets the name `wanted`, with a number where there is such a file already.
        """
        temporary = wanted.with_name(f".{wanted.name}.{secrets.token_hex(4)}.tmp")
        count = 0
        try:
            # A disk: a block of lines is written in no time.
            with open(temporary, "xb") as file:  # noqa: ASYNC230
                async for line in self._lines():
                    file.write(line + b"\n")
                    count += 1
                    if count % _LINES == 0:
                        await asyncio.sleep(0)
            return place(temporary, wanted), count
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    async def aclose(self) -> None:
        """End the reading, and forget the failed ones."""
        await self._contacts.aclose()
        if self._failed is not None:
            self._failed.close()

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        """The contacts that failed, those in progress and those not begun."""
        if self._failed is not None:
            self._failed.seek(0)
            for line in self._failed:
                yield line.rstrip(b"\n")
        for begun in self._begun.values():
            yield begun.contact.value.encode()
        async for line in self._contacts.rest(all=True):
            yield line
