"""One run of an export: fetches what its folder lacks, part after part, until it is complete or told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final, Protocol

from attrs import frozen

from .. import Contact, Done, Event, Failure, NP6Error, ServerError, TransportError
from ..export._contact_buffer import Held
from ..export._folder import Folder
from ..export._input_position import InputChanged, Ledger
from ..export._manifest import Place
from ..export._part import Part
from ._lines import BadInput
from ._threads import in_thread

# So many contacts in a row that fail for want of a server, and the rest is left for later.
OUTAGE: Final = 100
_AWAY: Final = (502, 503, 504)
# A contact whose events take more than so many bytes goes into a part of its own, so that its writing can be given up.
_LARGE: Final = 16 * 1024 * 1024


class NoContacts(Exception):
    """The input holds none."""


class Outage(Exception):
    """The network or the server fails one contact after the other, and these are not at fault."""


def is_outage(error: NP6Error) -> bool:
    """Whether there was no server to answer."""
    return isinstance(error, TransportError) or (isinstance(error, ServerError) and error.status in _AWAY)


@frozen
class Limits:
    """When a part is closed: at so many bytes, or after so many seconds."""

    part_bytes: int
    part_seconds: float


class Outcomes(Protocol):
    """A stream of events in which each contact ends with what became of it; see `BulkStream`."""

    def outcomes(self) -> AsyncIterator[tuple[str | Contact, list[Event] | Done | Failure]]: ...


class Fetch(Protocol):
    """Fetches the events of contacts in the window that begins at `start`; None: the query has no windows."""

    def __call__(self, contacts: Ledger, start: str | None) -> AbstractAsyncContextManager[Outcomes]: ...


class Exporter:
    """Only whole contacts get into a part, so whatever is not committed is begun again by the next run.

    `contacts` begins the input anew at each call. `following` gives the start of the window after one; None behind
    the last. Contacts that fail in an outage are left open, unless another one is done afterwards. `held` is how many
    bytes of the events of each contact in flight are kept in memory; `progress` is called after every contact.
    """

    def __init__(
        self,
        folder: Folder,
        contacts: Callable[[], AsyncGenerator[Contact, None]],
        fetch: Fetch,
        following: Callable[[str | None], str | None],
        limits: Limits,
        *,
        held: int,
        progress: Callable[[], None],
    ) -> None:
        self.done = 0  # contacts, in this run
        self.failed = 0
        self.events = 0  # written in this run, committed or not
        self._folder = folder
        self._contacts = contacts
        self._fetch = fetch
        self._following = following
        self._limits = limits
        self._held_bytes = held
        self._progress = progress
        self._ledger: Ledger | None = None
        self._stopped = False
        self._given_up = False
        # Since the last commit
        self._part: Part | None = None
        self._torn = False  # the part has some events of a contact, and not all
        self._newly_done = 0
        self._newly_failed: list[Contact] = []
        self._out_of_reach: list[Contact] = []  # failed for want of a server, and none was done since
        self._committed_at = 0.0
        self._held: dict[int, Held] = {}  # by identity of the contact
        self._call: asyncio.Future[None] | None = None  # a commit that may still run

    def stop(self) -> None:
        """Begin no more contacts; `run` ends when those in flight have, with everything committed."""
        self._stopped = True
        if self._ledger is not None:
            self._ledger.stop()

    def give_up(self) -> None:
        """Say so before the task is cancelled: what is done is then committed, and `run` ends."""
        self._given_up = True

    async def run(self) -> None:
        """Go on until the manifest says complete, or until stopped.

        Raises what ends a run early: `NP6Error`, `BadInput`, `InputChanged`, `NoContacts`, `Outage`, and OSError
        where the folder cannot be written to. What was done before is committed then, but after an OSError, and but
        for failures where nothing was done.
        """
        if self._folder.manifest.input is not None:
            await self.check_input(self._folder.manifest.input)
        while not self._folder.manifest.complete and not self._stopped:
            async with aclosing(self._contacts()) as contacts:
                await self._fill_window(contacts)

    async def check_input(self, whole: Place) -> None:
        """Before anything is fetched: a window of other contacts would spoil the export. Raises `InputChanged`."""
        async with aclosing(self._contacts()) as contacts:
            await Ledger(contacts).check(whole)

    async def _fill_window(self, contacts: AsyncGenerator[Contact, None]) -> None:
        manifest = self._folder.manifest
        ledger = self._ledger = Ledger(contacts)
        done_before = self.done
        await ledger.skip(manifest.place)
        try:
            async with self._fetch(ledger, manifest.window) as stream:
                await self._take_all(ledger, stream)
            if self.done > done_before:
                self._settle(ledger)
            place = ledger.place
            if not ledger.ended or (place.open and not self._out_of_reach):
                await self._keep(ledger)
                return
            if not place.contacts:
                raise NoContacts
            if self._out_of_reach:
                raise Outage
            following = self._following(manifest.window)
            if following is None and self._part is None and not self._folder.manifest.parts:
                self._part = self._folder.new_part()  # whoever reads the export finds its columns
            await self._commit(ledger)
            if manifest.input not in (None, place):
                raise InputChanged("they are not those that the first window was fetched for")
            await self._in_thread(lambda: self._folder.next_window(following, place))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._given_up or task is None:
                raise
            task.uncancel()
            await self._keep(ledger)
        except (NP6Error, BadInput, Outage):
            await self._keep(ledger)
            raise
        finally:
            self._discard()

    async def _take_all(self, ledger: Ledger, stream: Outcomes) -> None:
        outcomes = stream.outcomes()
        self._committed_at = asyncio.get_running_loop().time()
        while True:
            try:
                # When nothing arrives, what has arrived still gets committed. A cancelled step loses nothing.
                async with asyncio.timeout_at(self._due()):
                    contact, item = await anext(outcomes)
            except TimeoutError:
                await self._commit(ledger)
                continue
            except StopAsyncIteration:
                return
            await self._take(ledger, contact, item)
            due = self._due()
            late = due is not None and asyncio.get_running_loop().time() >= due
            if late or (self._part is not None and self._part.size >= self._limits.part_bytes):
                await self._commit(ledger)

    async def _take(self, ledger: Ledger, contact: str | Contact, item: list[Event] | Done | Failure) -> None:
        assert isinstance(contact, Contact)
        if isinstance(item, list):
            held = self._held.get(id(contact))
            if held is None:
                held = self._held[id(contact)] = Held(self._folder.path, self._held_bytes)
            held.add(item)
            return
        held = self._held.pop(id(contact), None)
        try:
            if isinstance(item, Failure):
                self._fail(ledger, contact, item.error)
            else:
                self._settle(ledger)
                if held is not None:
                    await self._write(ledger, contact.value, held)
                ledger.end(contact)
                self._newly_done += 1
                self.done += 1
        finally:
            if held is not None:
                held.close()
        self._progress()

    def _fail(self, ledger: Ledger, contact: Contact, error: NP6Error) -> None:
        self.failed += 1
        self._out_of_reach.append(contact)
        if not is_outage(error):
            self._settle(ledger)  # the server has answered
        elif len(self._out_of_reach) >= OUTAGE:
            raise Outage

    def _settle(self, ledger: Ledger) -> None:
        """There is a server: those that failed have failed."""
        for contact in self._out_of_reach:
            ledger.end(contact)
        self._newly_failed += self._out_of_reach
        self._out_of_reach = []

    async def _write(self, ledger: Ledger, contact: str, held: Held) -> None:
        large = held.size > _LARGE
        if large and self._part is not None:
            await self._commit(ledger)
        if self._part is None:
            self._part = self._folder.new_part()
        self._torn = True
        for events in held.batches():
            self._part.add(contact, events)
            self.events += len(events)
            if large:
                await asyncio.sleep(0)  # others want to run, and it may have to be given up
        self._part.contacts += 1
        self._torn = False

    # Commits

    def _due(self) -> float | None:
        """When the next commit is due, on the loop's clock; None: there is nothing to commit."""
        if not self._newly_done and not self._newly_failed:
            return None
        return self._committed_at + self._limits.part_seconds

    async def _keep(self, ledger: Ledger) -> None:
        """The run ends early: commit what is whole, unless nothing was done: then failures may be of the command."""
        if self._call is not None and not self._call.done():
            await asyncio.shield(self._call)  # the cancellation came while it ran
        if self._torn:
            self._discard()
        elif self.done and (self._newly_done or self._newly_failed):
            await self._commit(ledger)

    async def _commit(self, ledger: Ledger) -> None:
        part, place = self._part, ledger.place
        done, failed = self._newly_done, [contact.value for contact in self._newly_failed]
        self._part, self._newly_done, self._newly_failed = None, 0, []
        await self._in_thread(lambda: self._folder.commit(part, place, done=done, failed=failed))
        self._committed_at = asyncio.get_running_loop().time()

    async def _in_thread(self, call: Callable[[], None]) -> None:
        self._call = in_thread(call)
        await asyncio.shield(self._call)

    def _discard(self) -> None:
        """Let go of what is not committed."""
        if self._part is not None:
            self._part.discard()
            self._part, self._torn = None, False
        for held in self._held.values():
            held.close()
        self._held.clear()
