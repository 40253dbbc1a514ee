"""`np6 report`: one page of what happened to messages."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from .. import BulkStream, Event, EventKind, Failure, InvalidInput, NP6Client
from .._columns.recipients import of_contacts
from .._models.time_bounds import isoformat, to_millis
from ..export import NoContacts
from ..export._disk import in_thread, make_folder
from ..report import Report
from ._action_input import ActionInput
from ._command import DRAIN, Command
from ._contact_input import ContactInput
from ._exit import DONE, SOME_FAILED
from ._figures import Progress
from ._messages import count
from ._progress import for_files, is_terminal
from ._time_options import read_span

# NP6 leaves the hits of robots out where hits are asked for, and not where all events are.
_PASSES: Final = ((EventKind.ALL, True), (EventKind.HITS, False))
_NAMES: Final = {EventKind.ALL: "1 of 2: all events", EventKind.HITS: "2 of 2: hits, without those of robots"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ReportCommand(Command):
    """One run of `np6 report`."""

    _given = 0  # contacts or actions of a pass
    _events = 0
    _unnamed = 0
    _written = False

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._missing: Counter[EventKind] = Counter()  # contacts or actions that failed, by pass

    def prepare(self, stack: ExitStack) -> None:
        options = self.options
        options.kind = EventKind.ALL
        span = read_span(options.start, options.end, options.tz)
        if span.future:
            self.refuse(f"--start {options.start} lies in the future, where there are no events yet")
        # Fixed here, so that both passes are asked for the same.
        now = datetime.now(UTC)
        self._start = None if span.start is None else to_millis(span.start, name="", now=now, tz=None)
        self._end = to_millis(timedelta() if span.end is None else span.end, name="", now=now, tz=None)
        self._check_output(options.output)
        try:
            self._report = Report("Messages" if options.title is None else options.title, tz=options.tz)
        except InvalidInput as error:
            self.refuse(f"--title: {str(error).removeprefix('title= is ')}")
        if self._start is not None:
            self._report.between(*(_EPOCH + timedelta(milliseconds=at) for at in (self._start, self._end)))
        self._input: ContactInput | ActionInput
        self._input = (ActionInput if ActionInput.is_given(options) else ContactInput.of_options)(self, stack)
        if isinstance(self._input, ContactInput) and self._input.read_once is not None:
            self.refuse(
                f"a report reads the contacts twice, and {self._input.read_once} can be read only once; save them in "
                "a file first"
            )

    async def fetch(self, np6: NP6Client) -> int:
        given, options = self._input, self.options
        total: int | None = None
        if isinstance(given, ContactInput):
            given.client = np6
            total = await given.count()
        code, stopped = DONE, None
        for kind, robots in _PASSES:
            self.progress = for_files(options, total, self.say)
            if options.verbose or is_terminal(sys.stderr):
                self.say(_NAMES[kind])
            self.watch.contacts = 0
            code, stopped = await self.ended(self._read(np6, kind, robots=robots))
            if code != DONE:
                break
        if code == DONE:
            code, stopped = await self._write()
        self._summarise(stopped)
        return code

    @property
    def done(self) -> int:
        return self.watch.contacts

    async def _read(self, np6: NP6Client, kind: EventKind, *, robots: bool) -> None:
        given = self._input
        if isinstance(given, ContactInput):
            contacts = aiter(given)
            async with aclosing(contacts):
                await self._take(self._open(np6.events.stream_many, contacts, kind), robots=robots)
            self._given = contacts.given
            if not contacts.given and not self.failures.count:
                raise NoContacts
        else:
            if kind is EventKind.ALL:
                await given.read_only_ids()
            await self._take(self._open(np6.actions.stream_many, given.subjects, kind), robots=robots)
            self._given = len(given.subjects)

    def _open(
        self, stream_many: Callable[..., BulkStream[Any, Any]], subjects: object, kind: EventKind
    ) -> BulkStream[Any, Any]:
        return stream_many(
            subjects,
            kind,
            start=None if self._start is None else isoformat(self._start),
            end=isoformat(self._end),
            missing=self.options.missing,
            on_error=partial(self._failed, kind),
        )

    async def _take(self, stream: BulkStream[Any, Event], *, robots: bool) -> None:
        async with stream:
            async for _, events in stream.batches():
                self._report.add(self._chosen(events, robots=robots), robots=robots)
                self._events += len(events)
                self._show_progress(events[-1].timestamp)
            self._show_progress(None)

    def _chosen(self, events: list[Event], *, robots: bool) -> list[Event]:
        """Those of the contacts of `--only-ids`."""
        only = self._input.only if isinstance(self._input, ActionInput) else None
        if only is None:
            return events
        chosen, unnamed = of_contacts(events, only)
        self._unnamed += unnamed if robots else 0  # hits were among all events
        return chosen

    def _show_progress(self, reached: int | None) -> None:
        if isinstance(self._input, ContactInput):
            self.progress.update(self.watch.contacts, self._events, self.watch.retries, self.failures.count)
        else:
            reached = reached if self._input.single else None
            self.progress.update(None, self._events, self.watch.retries, self.failures.count, reached)

    def _failed(self, kind: EventKind, failure: Failure) -> Literal["raise", "skip"]:
        self._missing[kind] += 1
        return self.failures.add(failure)

    # The page

    def _check_output(self, output: str) -> None:
        """Refuse now what could not be written in an hour."""
        if output == "-":
            if sys.stdout is None:
                self.refuse("standard output is closed")
            return
        if not output:
            self.refuse("--output: the name of the file is empty")
        target = Path(output)
        try:
            if target.is_dir():
                self.refuse(f"--output {output!r} is a folder; give the name of a file, such as report.html")
            folder = next(each for each in target.resolve().parents if each.exists())
            if not folder.is_dir():
                self.refuse(f"--output {output!r} cannot be written: {str(folder)!r} is not a folder")
            place = target if target.exists() and not target.is_file() else folder
        except (OSError, ValueError) as error:
            self.refuse(f"--output {output!r} cannot be written: {getattr(error, 'strerror', None) or error}")
        if not os.access(place, os.W_OK):
            self.refuse(f"--output {output!r} cannot be written: {place} does not allow it")

    async def _write(self) -> tuple[int, str | None]:
        """Write the page; returns the exit code and, where it could not be written, why."""
        if self._missing.total() and min(self._missing[kind] for kind, _ in _PASSES) >= self._given:
            return SOME_FAILED, "nothing could be fetched"
        for note in self._notes():
            self._report.note(note)
        self.progress = Progress()
        code, stopped = await self.ended(self._save())
        return (SOME_FAILED if code == DONE and self.failures.count else code), stopped

    async def _save(self) -> None:
        writing = in_thread(self._put)
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing], timeout=DRAIN)  # it takes a moment, and is not cut short
            raise
        finally:
            self._written = writing.done() and writing.exception() is None

    def _put(self) -> None:
        if self.options.output == "-":
            sys.stdout.buffer.write(self._report.html().encode(errors="replace"))
            sys.stdout.buffer.flush()
        else:
            make_folder(Path(self.options.output).resolve().parent, [])
            self._report.write(self.options.output)

    def _notes(self) -> Iterator[str]:
        """What is missing from the page."""
        noun = "contact" if isinstance(self._input, ContactInput) else "action"
        of = f"of {count(self._given, noun)} failed"
        if missing := self._missing[EventKind.ALL]:
            yield f"{missing:,} {of}: their messages sent, bounced and stopped are missing."
        if missing := self._missing[EventKind.HITS]:
            yield f"{missing:,} {of}: their opens and clicks are missing."
        if self.failures.refused:
            yield f"{count(self.failures.refused, 'line')} of the input could not be read as contacts."
        if self._unnamed:
            yield f"{count(self._unnamed, 'event')} left out that do not name their contact by its id."

    def _summarise(self, stopped: str | None) -> None:
        if stopped is not None:
            self.say(stopped)
        totals = self._report.totals
        parts = [f"{totals.sent:,} sent", f"{totals.bounced:,} bounced", f"{totals.opened:,} opened"]
        parts += [
            f"{totals.clicked:,} clicked",
            f"{totals.stopped:,} stopped",
            f"{time.monotonic() - self.began:.1f} s",
        ]
        if self._written:
            where = [] if self.options.output == "-" else [f"in {self.options.output}"]
            self.say(", ".join([*parts, *self.watch.summary(), *where]))
        for line in self.failures.report():
            self.say(f"  {line}")
        if not self._written and self.options.output != "-":
            there = Path(self.options.output).exists()
            self.say(f"no report was written{f'; {self.options.output} is as it was before' if there else ''}")
