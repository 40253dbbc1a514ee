"""`np6 events`: fetch events and write them as NDJSON."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, Final, Literal, Self

from attrs import define

from .. import (
    BulkError,
    BulkStream,
    Contact,
    ContactDone,
    Event,
    Failure,
    NP6Client,
    NP6Error,
    Observation,
)
from ..export import NoContacts, ndjson
from ._command import Command
from ._contact_input import ContactInput, ContactPass
from ._event_table import EventTable
from ._exit import BROKEN_PIPE, DONE, SOME_FAILED, USAGE
from ._figures import Progress
from ._messages import count
from ._output import Output, open_output, place
from ._progress import Lines, has_rich, in_terminal, is_terminal
from ._time_options import read_span

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
        self.source = contacts
        self._begun: dict[int, _Begun] = {}
        self._failed: SpooledTemporaryFile[bytes] | None = None
        if keep_failed:
            self._failed = SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 - `aclose` closes it

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Contact:
        contact = await anext(self.source)
        self._begun[id(contact)] = _Begun(contact)  # by identity: the same contact may be given twice
        return contact

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

    async def count_rest(self) -> int:
        """How many contacts were not begun, as far as that is found out in a moment."""
        count = 0
        async for _ in self.source.rest(all=False):
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
        await self.source.aclose()
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
        async for line in self.source.rest(all=True):
            yield line


class EventsCommand(Command):
    """One run of `np6 events`."""

    contacts: Unfinished  # since `fetch`
    _total: int | None = None
    _table: EventTable | None = None
    _events = 0
    _unknown = "which contacts are complete in it is not known"  # where it could not be written

    def prepare(self, stack: ExitStack) -> None:
        options = self.options
        self._span = read_span(options.start, options.end, options.tz)
        self._input = ContactInput.of_options(self, stack)
        self._total = None if self._input.files or self._input.segments else len(self._input.arguments)
        self.hooks.append(lambda observation: self.contacts.observe(observation))

    async def fetch(self, np6: NP6Client) -> int:
        self._input.client = np6
        self.contacts = Unfinished(aiter(self._input), keep_failed=self.options.output != "-")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.contacts.aclose)
            return await self._write(self._open(np6.events.stream_many, self.contacts))

    @property
    def done(self) -> int:
        return self.contacts.done

    @property
    def name_length(self) -> int | None:
        """How long the names of contacts are, as far as that is known; None: there is one contact only."""
        given = self._input
        if given.files or given.segments:
            return 8 if given.by == "id" else 32
        return None if len(given.arguments) == 1 else max(len(contact.value) for contact in given.arguments)

    def lines(self, contact: str | Contact | None, events: Sequence[Event]) -> bytes:
        """The lines of these events of a contact or, if that is None, each of its recipient."""
        if self._table is not None:
            return self._table.rows(contact, events)
        return ndjson(contact.value if isinstance(contact, Contact) else contact, events)

    async def _write(self, stream: BulkStream[Any, Event]) -> int:
        """Write the events of `stream` to the output; returns the exit code."""
        output = open_output(self.options.output)
        if self.options.output == "-" and not self.options.json and is_terminal(sys.stdout):
            self._table = EventTable(self.options.tz, contact=self.name_length)
        if self._span.future:
            self.say(f"warning: --start {self.options.start} lies in the future, where there are no events yet")
        self.progress = self._choose_progress()
        self._kept: str | None = None  # what is to be said of the output
        try:
            code, stopped = await self.ended(self._pump(stream, output))
        except (asyncio.CancelledError, BrokenPipeError) as error:
            with suppress(OSError):
                await output.abandon()
            if isinstance(error, BrokenPipeError):
                return BROKEN_PIPE
            raise
        if code in (DONE, SOME_FAILED) and self.failures.count:
            code = SOME_FAILED
        if stopped is not None or code == USAGE:
            with suppress(OSError):  # was said already
                self._kept = await output.abandon()
        if code == USAGE and stopped is None:
            if self._kept is not None:
                self.say(self._kept)
            return code
        seconds = time.monotonic() - self.began  # what follows may read a long file
        listed = await self._list_remaining(output) if stopped is not None or self._kept is not None else None
        if code == USAGE:
            self._total = None  # what cannot be read cannot be counted
        self._summarise(stopped, seconds)
        for line in (self._kept, listed):
            if line is not None:
                self.say(line)
        return code

    def outcome_of(self, error: Exception) -> tuple[int, str | None]:
        if isinstance(error, BulkError):
            self.failures.add_all(error)
        code, stopped = super().outcome_of(error)
        if isinstance(error, OSError) and not isinstance(error, NP6Error):
            stopped = f"{stopped}; {self._unknown}"
        return code, stopped

    def _open(self, stream_many: Callable[..., BulkStream[Any, Any]], subjects: object) -> BulkStream[Any, Any]:
        options = self.options
        return stream_many(
            subjects,
            options.kind,
            start=self._span.start,
            end=self._span.end,
            classification=options.classification,
            newest_first=options.newest_first,
            missing=options.missing,
            on_error=self._failed,
        )

    async def _pump(self, stream: BulkStream[Any, Event], output: Output) -> None:
        async with stream:
            async for contact, batch in stream.batches():
                self._events += len(batch)
                self.contacts.took(contact, len(batch))
                await output.add(self.lines(contact, batch))
                self._show_progress()
            self._show_progress()  # the last contacts end after their last batch
        if not self.contacts.source.given and not self.failures.count:
            raise NoContacts
        nothing = self.failures.count > 0 and self.done == 0
        self._kept = await (output.abandon() if nothing else output.complete())

    def _show_progress(self) -> None:
        self.progress.update(self.watch.contacts, self._events, self.watch.retries)

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        self.contacts.failed(failure.contact)
        action = self.failures.add(failure)
        self._show_progress()
        return action

    def _choose_progress(self) -> Progress:
        if self.options.quiet:
            return Progress()
        verbose = self.options.verbose > 0
        drawable = is_terminal(sys.stderr) and self._has_terminal_to_itself()
        if drawable and has_rich():
            return in_terminal(sys.stderr, self._total, self.say if verbose else None)
        return Lines(self.say, self._total) if drawable or verbose else Progress()

    def _has_terminal_to_itself(self) -> bool:
        """Whether a bar would be drawn over nothing: the reader of a pipe may well write to the same terminal."""
        if "-" in [*self.options.ids_from, *self.options.only_ids] and is_terminal(sys.stdin):
            return False
        return self.options.output != "-" or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)

    async def _list_remaining(self, output: Output) -> str | None:
        """After a run that was stopped: write the contacts that are not done, and find out how many there were."""
        contacts = self.contacts
        path: Path | None = None
        listed: str | None = None
        try:
            if output.beside is not None and (contacts.done or contacts.torn or self._events):
                path, number = await contacts.write(output.beside)
                self._total = contacts.done + self.failures.refused + number
                listed = f"the {number:,} contacts that are not done are in {path}"
                if contacts.torn:
                    listed += " (those in progress start again)"
            else:
                self._total = contacts.source.given + self.failures.refused + await contacts.count_rest()
        except OSError as error:
            return f"the contacts that are not done cannot be listed: {error.strerror}"
        if not contacts.source.complete:
            self._total = None
            if path is not None:
                self.say(f"the contacts were not read to their end: those that come later are not in {path}")
        return listed

    def _summarise(self, stopped: str | None, seconds: float) -> None:
        done = self.done
        if stopped is not None and self._total is not None:
            parts = [f"{done:,} of {count(self._total, 'contact')} done"]
        else:
            parts = [f"{count(done, 'contact')} done"]
        if self.failures.count:
            parts.append(f"{self.failures.count:,} failed")
        parts.append(f"{count(self._events, 'event')} in {seconds:.1f} s")
        parts += self.watch.summary()
        if stopped is not None:
            self.say(stopped)
        self.say(", ".join(parts))
        for line in self.failures.report():
            self.say(f"  {line}")
        if torn := self.contacts.torn:
            self.say(f"the last events of {count(torn, 'contact')} in progress are missing")
