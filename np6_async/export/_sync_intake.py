"""From the batches of a run of a sync to parts that its state records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from math import isfinite
from typing import TYPE_CHECKING, Any

from attrs import define

from .._columns.recipients import of_contacts
from .._errors import NP6Error
from .._http.lifetime import ended
from .._models.contacts import Contact
from .._models.time_bounds import isoformat
from ._part import Part

if TYPE_CHECKING:
    from ..sync import SyncRun


@define(eq=False, repr=False)
class SyncIntake:
    """Takes what `run` delivers into parts: `next_part` begins one, for a run up to a time, and `commit_part` lets it
    count, when it has `part_bytes` or is `part_seconds` old.

    `report` is called after each batch, with the time up to which a run of actions has got. `only`: the ids of the
    contacts to write.
    """

    run: SyncRun[Any]
    next_part: Callable[[str], Part]
    commit_part: Callable[[Part], Awaitable[None]]
    report: Callable[[int | None], object]
    part_bytes: int
    part_seconds: float
    only: Container[str] | None = None
    written: int = 0  # events, whether or not they are committed
    unnamed: int = 0  # events that were left out because they do not name their contact by its id
    _part: Part | None = None
    _torn: bool = False  # the last batch is not, or not all, in the part: the run would commit it with the others
    _left_out: bool = False  # events were, before there was a part

    async def take_all(self) -> None:
        """Write all there is. What was delivered before an error is committed, except after one of the disk and where
        a batch could not be written."""
        try:
            await self._take_all()
            await self._commit()
        except (asyncio.CancelledError, Exception) as error:
            of_disk = isinstance(error, OSError) and not isinstance(error, NP6Error)  # a time-out is both
            if not of_disk and not self._torn:
                await self._commit()
            raise
        finally:
            if self._part is not None:
                self._part.discard()

    async def _take_all(self) -> None:
        loop = asyncio.get_running_loop()
        batches = self.run.batches()
        due: float | None = None  # when the part is to be committed, on the loop's clock
        while True:
            try:
                # While nothing arrives, what has arrived is still committed. A cancelled step loses nothing.
                async with asyncio.timeout_at(due):
                    contact, events = await anext(batches)
            except TimeoutError:
                await self._commit()
                due = None
                continue
            except StopAsyncIteration:
                return
            if due is None and isfinite(self.part_seconds):
                due = loop.time() + self.part_seconds
            reached = events[-1].timestamp if self.run.by_recipient else None
            self._torn = True
            if self.only is not None:
                events, unnamed = of_contacts(events, self.only)
                self.unnamed += unnamed
            self.written += len(events)
            size = self._add(None if self.run.by_recipient else contact, events)
            self._torn = False
            self.report(reached)
            if size >= self.part_bytes or (due is not None and loop.time() >= due):
                await self._commit()
                due = None

    def _add(self, contact: str | Contact | None, events: list[Any]) -> int:
        """Write events of a contact, or of many; returns the size of the part in bytes."""
        if self._part is None:
            if not events:
                self._left_out = True
                return 0
            self._part = self.next_part(isoformat(self.run.end))
        self._part.add(contact, events)
        return self._part.size

    async def _commit(self) -> None:
        """Let what was added count; a cancellation meanwhile is raised when that is done."""
        if self._part is None and self._left_out:
            await self.run.commit()
        self._left_out = False
        if self._part is not None:
            part, self._part = self._part, None
            await ended(asyncio.ensure_future(self.commit_part(part)))
