"""The contacts of a segment, read from the server as they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from .. import Contact, ContactIds, InvalidContact, NotFound, NP6Error
from ._lines import BadInput
from ._refusals import refusal


class SegmentContacts:
    """As `ContactLines`, of a segment; `begin` starts to read it. Close it before its client."""

    regular = False

    def __init__(
        self,
        segment: str,
        begin: Callable[[str], ContactIds],
        *,
        refused: Callable[[str, str], None],
        empty: Callable[[str], None],
    ) -> None:
        self.name = f"segment {segment}"
        self.complete = False  # read to the end
        self._segment = segment
        self._begin = begin
        self._refused = refused
        self._empty = empty
        self._batches: AsyncIterator[list[str]] | None = None
        self._reading: asyncio.Task[list[str] | None] | None = None
        self._ids: list[str] = []  # reversed
        self._found = False

    def __aiter__(self) -> AsyncIterator[Contact]:
        return self

    async def __anext__(self) -> Contact:
        while True:
            while self._ids:
                contact = self._parse(self._ids.pop())
                if contact is not None:
                    return contact
            if self.complete:
                raise StopAsyncIteration
            try:
                await self._read()
            except NotFound:
                raise BadInput(f"{self.name}: the account has none with this id; 'np6 segments' lists them") from None
            if self.complete and not self._found:
                self._empty(self.name)

    async def unread(self, until: float | None) -> AsyncIterator[bytes]:
        """The ids that were not asked for, up to the time `until` of the loop's clock."""
        while True:
            while self._ids:
                yield self._ids.pop().encode(errors="replace")
            if self.complete:
                return
            try:
                async with asyncio.timeout_at(until):
                    await self._read()
            except (NP6Error, TimeoutError):
                return

    async def aclose(self) -> None:
        """End the reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        if self._reading is None:
            if self._batches is None:
                self._batches = self._begin(self._segment).batches()
            self._reading = asyncio.create_task(self._next(self._batches))
        # Shielded: cancelled meanwhile, the read goes on, and what it brings must not get lost.
        batch = await asyncio.shield(self._reading)
        self._reading = None
        self.complete = batch is None
        if batch is not None:
            self._found = True
            self._ids = batch[::-1]

    async def _next(self, batches: AsyncIterator[list[str]]) -> list[str] | None:
        return await anext(batches, None)

    def _parse(self, value: str) -> Contact | None:
        try:
            return Contact.by_id(value)
        except InvalidContact:
            problem, _ = refusal("id", value)
            self._refused(f"{self.name}: an id {problem}", "the server lists ids that it cannot be asked for")
            return None
