"""One run of an export of contacts: window after window, part after part, until it is complete or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias

from attrs import Factory, define, evolve

from .._errors import NP6Error
from .._models.contacts import Contact
from .._models.time_bounds import isoformat
from .._streams.buffer import Failure
from .._streams.bulk_stream import BulkStream
from ._counts import Counts
from ._disk import Commits, in_thread
from ._end import End
from ._errors import InputChanged, NoContacts
from ._folder import Folder
from ._intake import Intake
from ._ledger import Ledger
from ._manifest import Place, positions
from ._part import HeldPart, Part

_NONE: Final = Counts(0, 0, 0)

Fetch: TypeAlias = Callable[[Ledger, str | None, str], BulkStream[Any, Any]]


class Fetcher(Protocol):
    """Who fetches the contacts of a ledger into parts, and has an `Exporter` commit them."""

    @property
    def retries(self) -> int:
        """How many requests were sent again."""
        ...

    async def fill(self, ledger: Ledger) -> None:
        """Fetch the events of all that the ledger hands out, between the `bounds` of the exporter.

        However it ends, what is whole and not committed is left to `keep` or `discard`.
        """

    async def keep(self) -> None:
        """Commit what is whole."""

    def discard(self) -> None:
        """Remove what is not committed."""

    def stop(self) -> None:
        """Let `fill` return soon; the ledger, which hands out no more, was told."""


@define(eq=False, repr=False)
class Direct:
    """A `Fetcher` that fetches in this process: `fetch` starts the stream of a ledger's contacts between two bounds."""

    exporter: Exporter
    intake: Intake
    fetch: Fetch
    _stream: BulkStream[Any, Any] | None = None

    @property
    def retries(self) -> int:
        """See `Fetcher`."""
        return 0 if self._stream is None else self._stream.stats.retries

    async def fill(self, ledger: Ledger) -> None:
        """See `Fetcher`."""
        async with self.fetch(ledger, *self.exporter.bounds) as self._stream:
            await self.intake.take_all(self._stream)

    async def keep(self) -> None:
        """See `Fetcher`."""
        await self.intake.keep()

    def discard(self) -> None:
        """See `Fetcher`."""
        self.intake.discard()

    def stop(self) -> None:
        """See `Fetcher`: the stream ends when those in flight have."""


@define(eq=False, repr=False)
class Exporter:
    """Exports what `folder` lacks. `contacts` starts the input again at each call, `make_fetcher` says who fetches,
    `look` starts a stream of contacts between two bounds, and `report` is called after every contact.
    """

    folder: Folder
    end: End
    contacts: Callable[[], AsyncGenerator[Contact, None]]
    make_fetcher: Callable[[Exporter], Fetcher]
    look: Fetch
    on_failure: Callable[[Failure], object]
    report: Callable[[], object]
    window: str | None = None  # the start of the one that is being filled
    _done: int = 0  # contacts, in this run
    _failed: int = 0
    _events: int = 0  # written in this run, committed or not
    _retries: int = 0  # of fetchers before
    _ledger: Ledger | None = None
    _fetcher: Fetcher | None = None
    _stopped: bool = False
    # Since the last commit
    _newly_done: int = 0
    _newly_failed: list[Contact] = Factory(list)
    _commits: Commits = Factory(Commits)
    _retried: list[Contact] | None = None  # those that failed before
    _underway: dict[str, Counts] = Factory(dict)  # of those that others are fetching, as last heard
    _others: Counts = _NONE  # the sum of these

    def stop(self) -> None:
        """Begin no more contacts; `run` ends when those in flight have, with everything committed."""
        self._stopped = True
        if self._ledger is not None:
            self._ledger.stop()
        if self._fetcher is not None:
            self._fetcher.stop()

    async def run(self) -> None:
        """Run until the export is complete or stopped.

        Raises whatever ends it early. What was done before is then committed, also when it is cancelled, except after
        an OSError of the disk; failures are not committed where no contact was done.
        """
        if self.folder.manifest.input is not None:
            await self.check_input()
        while not self.folder.manifest.complete and not self._stopped:
            async with aclosing(self.contacts()) as contacts:
                await self._fill_window(contacts)

    async def retry(self) -> None:
        """Fetch the contacts once more that failed in earlier runs, window after window.

        Those that are done get into parts, and leave the file of those that failed. Raises as `run` does.
        """
        for entry in tuple(self.folder.manifest.failures):
            if self._stopped:
                return
            by = self.folder.manifest.query.by
            assert by != "action"
            values = await in_thread(lambda entry=entry: self.folder.failed(entry))  # type: ignore[misc]
            self._retried = [Contact(by, value) for value in values]
            try:
                await self._retry_window(self._retried, entry.window)
            finally:
                self._retried = None

    async def check_input(self) -> None:
        """Compare the contacts with those of the first window. Raises `InputChanged`."""
        whole = self.folder.manifest.input
        assert whole is not None
        async with aclosing(self.contacts()) as contacts:
            await Ledger(contacts).check(whole)

    # Windows

    async def _fill_window(self, contacts: AsyncGenerator[Contact, None]) -> None:
        manifest = self.folder.manifest
        self.window = manifest.window
        ledger = self._ledger = Ledger(contacts)
        await ledger.skip(manifest.place)
        async with self._fetching() as fetcher:
            await fetcher.fill(ledger)
            if not ledger.ended or ledger.place.open:
                await self._keep(fetcher)
                return
            if not ledger.place.contacts:
                raise NoContacts("there are no contacts to export")
            await self._look_ahead()
            await fetcher.keep()
            await self._end_window(ledger.place)

    async def _retry_window(self, contacts: Sequence[Contact], window: str | None) -> None:
        async def again() -> AsyncGenerator[Contact, None]:
            for contact in contacts:
                yield contact

        self.window = window
        ledger = self._ledger = Ledger(again())
        async with self._fetching() as fetcher:
            await fetcher.fill(ledger)
            await self._keep(fetcher)

    @asynccontextmanager
    async def _fetching(self) -> AsyncIterator[Fetcher]:
        """Commit what is whole where the run ends early, and discard the rest."""
        fetcher = self._fetcher = self.make_fetcher(self)
        try:
            yield fetcher
        except (asyncio.CancelledError, Exception) as error:
            if isinstance(error, NP6Error) or not isinstance(error, OSError):  # a time-out is both
                await self._keep(fetcher)
            raise
        finally:
            self._retries += fetcher.retries
            self._fetcher = None
            fetcher.discard()

    async def _keep(self, fetcher: Fetcher) -> None:
        """The run ends early: commit what is whole, unless no contact was done: all may have failed for one cause."""
        await self._commits.check()
        if self._done:
            await fetcher.keep()

    async def _end_window(self, place: Place) -> None:
        manifest = self.folder.manifest
        following = manifest.query.following(manifest.window)
        # Readers of an export without events find its columns.
        parts = [] if following is not None or manifest.parts else [self.folder.new_part(manifest.window)]
        if parts or manifest.place != place:
            await self.commit(parts)
        if manifest.input not in (None, place):
            raise InputChanged("the contacts are not those of the first window")
        await self._commits.run(lambda: self.folder.next_window(following, place))

    async def _look_ahead(self) -> None:
        """Where the last window is to end long before this machine's now, look whether a later event disproves that."""
        open_end = self.end.open
        if open_end is None or not open_end.is_early:
            return
        start = self.end.query.following(self.folder.manifest.window)
        if start is None or start < isoformat(open_end.ms):
            return
        async with (
            aclosing(self.contacts()) as contacts,
            self.look(Ledger(contacts), start, self.end.query.end) as stream,
        ):
            async for _, events in stream.batches():
                if open_end.refuted_by(events[-1].timestamp):
                    return

    # What a `Fetcher` says

    @property
    def counts(self) -> Counts:
        """Of this run, and of what is being fetched."""
        others = self._others
        return Counts(
            self._done + others.done,
            self._failed + others.failed,
            self._events + others.events,
            retries=self._retries + (0 if self._fetcher is None else self._fetcher.retries),
        )

    @property
    def bounds(self) -> tuple[str | None, str]:
        """Those of the window that is being filled."""
        query = self.end.query
        return self.window or query.start, query.following(self.window) or query.end

    def underway(self, name: str, counts: Counts | None) -> None:
        """What another process has fetched of what is called `name`; None: it is taken, or lost."""
        before = self._underway.pop(name, _NONE)
        now = _NONE if counts is None else counts
        if self._retried is not None:
            now = evolve(now, failed=-now.done)
        others = self._others
        self._others = Counts(
            others.done - before.done + now.done,
            others.failed - before.failed + now.failed,
            others.events - before.events + now.events,
        )
        if counts is not None:
            self._underway[name] = now

    def done(self, contact: Contact, events: int) -> None:
        """All its events, of which there are so many, are in a part."""
        self.count_done(contact, events)
        self.report()

    def failed(self, failure: Failure) -> None:
        """It has failed, permanently; nothing of it is in a part."""
        self.count_failed(failure)
        self.on_failure(failure)
        self.report()

    def count_done(self, contact: Contact, events: int) -> None:
        """`done`, of which nobody hears yet."""
        assert self._ledger is not None
        self._ledger.end(contact)
        self._newly_done += 1
        self._done += 1
        self._events += events
        if self._retried is not None:
            self._failed -= 1

    def count_failed(self, failure: Failure) -> None:
        """`failed`, of which nobody hears yet."""
        assert self._ledger is not None
        assert isinstance(failure.contact, Contact)
        if self._retried is None:  # otherwise it has not ended
            self._ledger.end(failure.contact)
            self._newly_failed.append(failure.contact)
            self._failed += 1

    async def commit(self, parts: Iterable[Part | HeldPart]) -> None:
        """Let parts count that have all events of those that are done since the last commit, and of nobody else."""
        assert self._ledger is not None
        self.end.write()
        place = self._ledger.place
        done, failed = self._newly_done, [contact.value for contact in self._newly_failed]
        self._newly_done, self._newly_failed = 0, []
        if self._retried is None:
            await self._commits.run(lambda: self.folder.commit(parts, place, done=done, failed=failed))
        else:
            waiting = [*positions(place.open), *range(place.contacts, len(self._retried))]
            left = [self._retried[position].value for position in waiting]
            await self._commits.run(lambda: self.folder.commit_retried(self.window, parts, done=done, failed=left))
