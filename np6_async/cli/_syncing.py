"""One run of `np6 sync`: new events into parts, each of which the state takes note of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Self

from .. import Contact
from ..export._part import Part
from ..export._part_sequence import Series
from ..sync import SyncRun
from ._exporting import Limits
from ._threads import in_thread


class Given:
    """Contacts as a run asks for them; after `stop` there are no more, as if the input had ended."""

    def __init__(self, contacts: AsyncGenerator[Contact, None]) -> None:
        self.count = 0
        self._contacts = contacts
        self._stopped = False

    def stop(self) -> None:
        """Hand out none any more."""
        self._stopped = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        if self._stopped:
            raise StopAsyncIteration
        contact = await anext(self._contacts)
        self.count += 1
        return contact


class Syncer:
    """Writes what `run` hands out. `end` is the time up to which that is, `progress` is called after every batch."""

    def __init__(
        self, run: SyncRun[Any], series: Series, end: str, limits: Limits, *, progress: Callable[[], None]
    ) -> None:
        self.parts = 0  # committed
        self._run = run
        self._series = series
        self._end = end
        self._limits = limits
        self._progress = progress
        self._part: Part | None = None
        self._due: float | None = None  # when the part is to be committed, on the loop's clock
        self._given_up = False
        self._commit_running: asyncio.Future[None] | None = None

    def give_up(self) -> None:
        """Say so before the task is cancelled: what was handed out is then committed, and `run` ends."""
        self._given_up = True

    async def run(self) -> None:
        """Go on until there is nothing new. Raises what `SyncRun` does, `BadNote`, and OSError where the disk does.

        What was handed out before an error of the run is committed.
        """
        await in_thread(lambda: self._series.recover(self._run.note))
        await self._run.commit(str(self._series.note))
        try:
            await self._take_all()
        except OSError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._given_up or task is None:
                raise
            task.uncancel()
            await self._keep()
        except Exception:
            await self._keep()
            raise
        else:
            await self._keep()
        finally:
            if self._part is not None:
                self._part.discard()

    async def _take_all(self) -> None:
        loop = asyncio.get_running_loop()
        batches = self._run.batches()
        while True:
            try:
                # When nothing arrives, what has arrived still gets committed. A cancelled step loses nothing.
                async with asyncio.timeout_at(self._due):
                    contact, events = await anext(batches)
            except TimeoutError:
                await self._commit()
                continue
            except StopAsyncIteration:
                return
            if self._part is None:
                self._part = self._series.next_part(self._end)
                self._due = loop.time() + self._limits.part_seconds
            assert isinstance(contact, Contact)
            self._part.add(contact.value, events)
            self._progress()
            if self._part.size >= self._limits.part_bytes or (self._due is not None and loop.time() >= self._due):
                await self._commit()

    async def _keep(self) -> None:
        if self._commit_running is not None and not self._commit_running.done():
            await asyncio.shield(self._commit_running)  # the cancellation came while it ran
        await self._commit()

    async def _commit(self) -> None:
        if self._part is not None:
            part, self._part, self._due = self._part, None, None
            self._commit_running = asyncio.ensure_future(self._write_and_note(part))
            await asyncio.shield(self._commit_running)

    async def _write_and_note(self, part: Part) -> None:
        await in_thread(part.seal)
        try:
            await self._run.commit(str(self._series.pending(part)))
        except Exception:
            part.discard()
            raise
        self.parts += 1
        await in_thread(part.publish)
        await self._run.commit(str(self._series.note))
