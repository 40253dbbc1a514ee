"""One run of an export of an action or of the account: one response, in parts, from where the last commit got to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from contextlib import suppress
from typing import Any, Final

from attrs import Factory, define

from .._columns.recipients import of_contacts
from .._errors import NP6Error
from .._protocol.resume import Delivered, ResumePoint
from .._streams.buffer import Failure
from .._streams.bulk_stream import BulkStream
from ._disk import Commits
from ._end import End
from ._folder import Folder
from ._manifest import Place
from ._part import Part

_TURN: Final = 16  # batches after which other tasks get their turn


@define(eq=False, repr=False)
class ActionExporter:
    """Exports what `folder` lacks. `fetch` starts a run of the one subject that begins after what was `Delivered`,
    `progress` makes the resume point of its beginning, and `report` is called after every batch.

    A part is closed at `part_bytes`, or `part_seconds` after the last commit. A commit is a part, and what was
    delivered up to its end; so the next run goes on in the middle of the response. `only`: the ids of the contacts to
    write.
    """

    folder: Folder
    end: End
    fetch: Callable[[Delivered | None], BulkStream[Any, Any]]
    progress: Callable[[], ResumePoint]
    part_bytes: int
    part_seconds: float
    report: Callable[[], object]
    only: Container[str] | None = None
    events: int = 0  # written in this run, committed or not
    unnamed: int = 0  # events that were left out because they do not name their contact by its id
    reached: int | None = None  # the timestamp of the last event fetched
    _stopped: bool = False
    _part: Part | None = None
    _torn: bool = False  # the part has some events of a batch, and not all
    _delivered: ResumePoint | None = None
    _commits: Commits = Factory(Commits)
    _committed_at: float = 0.0
    _wait: asyncio.Timeout | None = None  # that for the next events
    _stream: BulkStream[Any, Any] | None = None

    @property
    def retries(self) -> int:
        """How many requests were sent again, in this run."""
        return 0 if self._stream is None else self._stream.stats.retries

    def stop(self) -> None:
        """End after the events at hand; `run` returns with everything committed."""
        self._stopped = True
        if self._wait is not None:
            with suppress(RuntimeError):  # it has ended
                self._wait.reschedule(0)

    async def run(self) -> None:
        """Run until the export is complete or stopped.

        Raises whatever ends it early. What was written before is then committed, also when it is cancelled, except
        after an OSError of the disk.
        """
        before = self.folder.manifest.place.delivered
        delivered = None if before is None else Delivered.from_plain(before)
        self._delivered = self.progress()
        if delivered is not None:
            self._delivered.restore(delivered)
        self._committed_at = asyncio.get_running_loop().time()
        try:
            async with self.fetch(delivered) as self._stream:
                complete = await self._take_all(self._stream)
            if complete and self._part is None and not self.folder.manifest.parts:
                self._part = self.folder.new_part(None)  # readers of the export find its columns
            await self._commit()
            if complete:
                await self._commits.run(lambda: self.folder.next_window(None, self._place))
        except (asyncio.CancelledError, Exception) as error:
            if isinstance(error, NP6Error) or not isinstance(error, OSError):  # a time-out is both
                await self._keep()
            raise
        finally:
            if self._part is not None:
                self._part.discard()

    async def _take_all(self, stream: BulkStream[Any, Any]) -> bool:
        """Whether the response is complete: otherwise the run was stopped."""
        loop = asyncio.get_running_loop()
        outcomes = stream.outcomes()
        batches = 0
        while not self._stopped:
            try:
                # While nothing arrives, what has arrived is still committed. A cancelled step loses nothing.
                async with asyncio.timeout_at(self._due()) as self._wait:
                    _, item = await anext(outcomes)
            except TimeoutError:
                await self._commit()
                continue
            except StopAsyncIteration:
                return True
            if isinstance(item, Failure):
                raise item.error
            if isinstance(item, list):
                self._write(item)
                batches += 1
                if batches % _TURN == 0:
                    await asyncio.sleep(0)
            due = self._due()
            if (due is not None and loop.time() >= due) or (
                self._part is not None and self._part.size >= self.part_bytes
            ):
                await self._commit()
        return False

    def _write(self, events: list[Any]) -> None:
        assert self._delivered is not None
        events = self.end.before(events)
        if not events:
            return
        fetched = events
        if self.only is not None:
            events, unnamed = of_contacts(events, self.only)
            self.unnamed += unnamed
        if events:
            if self._part is None:
                self._part = self.folder.new_part(None)
            self._torn = True
            self._part.add(None, events)
            self._torn = False
            self.events += len(events)
        self._delivered.accept(fetched)
        self.reached = fetched[-1].timestamp
        self.report()

    @property
    def _place(self) -> Place:
        assert self._delivered is not None
        return Place(delivered=self._delivered.delivered.plain())

    def _due(self) -> float | None:
        """When the next commit is due, on the loop's clock; None: nothing was delivered yet."""
        return self._committed_at + self.part_seconds if self.reached is not None else None

    async def _keep(self) -> None:
        """The run ends early: commit what is whole. A commit that failed is raised: its events are in no part."""
        await self._commits.check()
        if not self._torn:
            await self._commit()

    async def _commit(self) -> None:
        self._committed_at = asyncio.get_running_loop().time()
        place, part = self._place, self._part
        if part is None and (self.reached is None or place == self.folder.manifest.place):
            return
        self.end.write()
        self._part = None
        await self._commits.run(lambda: self.folder.commit([part] if part else [], place, done=0))
