"""`np6 events`: fetch, write, and say how far it got."""

from __future__ import annotations

import argparse
import asyncio
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, suppress
from typing import Any, Literal

from .. import (
    AuthError,
    BulkError,
    BulkStream,
    ConfigError,
    Contact,
    Event,
    Failure,
    InvalidInput,
    NP6Client,
    NP6Error,
)
from ..export._ndjson import lines
from . import _exit, _interrupts
from ._client import make_client
from ._contacts import GivenContacts, read_arguments
from ._failures import Failures, Unreachable
from ._lines import BadInput, ContactLines
from ._messages import words
from ._output import BadOutput, Output, open_output
from ._progress import Bar, Lines, Progress, has_rich, is_terminal
from ._segment_contacts import SegmentContacts
from ._setup import open_file, refuse, say
from ._time_options import BadBound, Span, read_span
from ._unfinished import write_remaining
from ._watch import Watch


def run(options: argparse.Namespace) -> int:
    """Do what the parsed command line says; returns the exit code."""
    try:
        span = read_span(options.start, options.end, options.tz)
        arguments = read_arguments(options.by, options.contacts)
    except (BadBound, BadInput) as error:
        refuse(options, str(error))
    if not arguments and not options.ids_from and not options.segment:
        refuse(options, "no contacts: give some, a file of them with --ids-from, or a segment with --segment")
    if options.segment and options.by != "id":
        refuse(options, f"--segment gives ids: it does not go with --by {options.by}")
    with ExitStack() as stack:
        files = [open_file(options, path, stack) for path in options.ids_from]
        command = _Command(options, span, arguments, files)
        stack.callback(command.close)
        return _interrupts.run(command)


class _NoContacts(Exception):
    """The files and segments hold none."""


class _BadLine(Exception):
    """A line is no contact, and the first failure ends the run."""


class _Command:
    """One run of the command."""

    def __init__(
        self, options: argparse.Namespace, span: Span, arguments: list[Contact], files: Sequence[tuple[int, str]]
    ) -> None:
        self._options = options
        self._span = span
        self._failures = Failures(options.on_error)
        self._refused = 0  # lines
        self._events = 0
        self._stream: BulkStream[Event] | None = None
        self._began = time.monotonic()
        self._progress = Progress()
        self._watch = Watch(
            lambda seconds: self._progress.paused(seconds), lambda: _say("no connection yet, trying again")
        )
        sources = [
            ContactLines(
                fd, name, options.by, refused=self._refuse_line, empty=lambda name: _say(f"{name} holds no contacts")
            )
            for fd, name in files
        ]
        self._segments = [
            SegmentContacts(
                segment,
                lambda segment: self._np6.segments.contacts(segment),
                refused=self._refuse_line,
                empty=lambda name: _say(f"{name} holds no contacts"),
            )
            for segment in options.segment
        ]
        self._total = None if files or self._segments else len(arguments)
        self._given = GivenContacts(arguments, [*sources, *self._segments], keep_failed=options.output != "-")

    def close(self) -> None:
        """Let go of what is not in memory."""
        self._given.close()

    async def __call__(self, interrupts: _interrupts.Interrupts) -> int:
        options = self._options
        try:
            np6 = make_client(
                options, concurrency=options.concurrency, hooks=[self._watch, self._given.observe], say=_say
            )
        except ConfigError as error:
            _say(f"error: {error}")
            return _exit.CONFIGURATION
        self._np6 = np6
        async with np6, AsyncExitStack() as stack:
            for segment in self._segments:
                stack.push_async_callback(segment.aclose)
            try:
                stream = self._open(np6)
            except InvalidInput as error:  # the parser and `read_span` have seen to the others
                refuse(options, f"--classification: {error}")
            self._stream = stream
            try:
                output = open_output(options.output)
            except BadOutput as error:
                refuse(options, str(error))
            if self._span.future:
                _say(f"warning: --start {options.start} lies in the future, where there are no events yet")
            return await self._run(stream, output, interrupts)

    async def _run(self, stream: BulkStream[Event], output: Output, interrupts: _interrupts.Interrupts) -> int:
        stopped: str | None = None
        code = _exit.DONE
        kept: str | None = None
        self._progress = self._choose_progress()
        try:
            with self._progress:
                await self._pump(stream, output)
                nothing = self._failures.count > 0 and self._given.done == 0
                kept = await (output.abandon() if nothing else output.complete())
        except asyncio.CancelledError:
            if interrupts.code is None:  # not by a signal: not ours to swallow
                await output.abandon()
                raise
            code, stopped = interrupts.code, interrupts.cause
        except BrokenPipeError:
            with suppress(OSError):
                await output.abandon()
            return _exit.BROKEN_PIPE
        except _NoContacts:
            if (kept := await output.abandon()) is not None:
                _say(kept)
            return _exit.USAGE
        except BadInput as error:
            code, stopped = _exit.USAGE, str(error)
        except AuthError as error:
            code, stopped = _exit.CONFIGURATION, words(error)
        except Unreachable:
            code, stopped = _exit.STOPPED, "stopped, because no contact could be fetched"
        except _BadLine:
            code, stopped = _exit.SOME_FAILED, "stopped at the first failure"
        except BulkError as error:
            self._failures.add_all(error)
            code, stopped = _exit.SOME_FAILED, "stopped at the first failure"
            if self._failures.server_unreachable(self._given.done):
                code = _exit.STOPPED
        except NP6Error as error:
            code, stopped = _exit.STOPPED, words(error)
        except OSError as error:
            code, stopped = _exit.STOPPED, f"the output cannot be written: {error.strerror}"
            stopped += "; which contacts are complete in it is not known"
        else:
            if self._failures.server_unreachable(self._given.done):
                code = _exit.STOPPED
            elif self._failures.count:
                code = _exit.SOME_FAILED
        if stopped is not None:
            with suppress(OSError):  # was said already
                kept = await output.abandon()
        seconds = time.monotonic() - self._began  # what follows may read a long file
        listed = await self._list_remaining(output) if stopped is not None or kept is not None else None
        if code == _exit.USAGE:
            self._total = None  # what cannot be read cannot be counted
        self._summarise(stopped, seconds)
        for line in (kept, listed):
            if line is not None:
                _say(line)
        return code

    def _open(self, np6: NP6Client) -> BulkStream[Any]:
        options = self._options
        return np6.events.stream_many(
            self._given,
            options.kind,
            start=self._span.start,
            end=self._span.end,
            classification=options.classification,
            newest_first=options.newest_first,
            missing=options.missing,
            on_error=self._failed,
        )

    async def _pump(self, stream: BulkStream[Event], output: Output) -> None:
        async with stream:
            async for contact, batch in stream.batches():
                self._events += len(batch)
                self._given.took(contact, len(batch))
                await output.add(lines(contact.value if isinstance(contact, Contact) else contact, batch))
                self._show_progress()
            self._show_progress()  # the last contacts end after their last batch
        if not self._given.given and not self._failures.count:
            raise _NoContacts

    def _show_progress(self) -> None:
        self._progress.update(self._watch.contacts, self._events, self._watch.retries)

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        self._given.failed(failure.contact)
        action = self._failures.add(failure, done=self._given.done)
        self._show_progress()
        return action

    def _refuse_line(self, message: str, hint: str) -> None:
        self._refused += 1
        self._failures.add_text(message, hint)
        if self._options.on_error == "raise":
            raise _BadLine

    def _choose_progress(self) -> Progress:
        verbose = self._options.verbose > 0
        drawable = is_terminal(sys.stderr) and self._has_terminal_to_itself()
        if drawable and has_rich():
            return Bar(sys.stderr, self._total, _say if verbose else None)
        return Lines(_say, self._total) if drawable or verbose else Progress()

    def _has_terminal_to_itself(self) -> bool:
        """Whether a bar would be drawn over nothing: what reads a pipe may well write to the same terminal."""
        if "-" in self._options.ids_from and is_terminal(sys.stdin):
            return False
        return self._options.output != "-" or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)

    async def _list_remaining(self, output: Output) -> str | None:
        """After a run that was stopped: write the contacts that are not done, and find out how many there were."""
        given = self._given
        wanted = output.beside if given.done or given.torn or self._events else None
        try:
            if wanted is not None:
                path, count = await write_remaining(given.not_done(), wanted)
                self._total = given.done + self._refused + count
                listed = f"the {count:,} contacts not done are in {path}"
                if given.torn:
                    listed += " (those in progress begin anew)"
            else:
                path, listed, count = None, None, 0
                async with aclosing(given.not_begun()) as lines:
                    async for _ in lines:
                        count += 1
                self._total = given.given + self._refused + count
        except OSError as error:
            return f"the contacts not done cannot be listed: {error.strerror}"
        if not given.complete:
            self._total = None
            if path is not None:
                _say(f"the contacts were not read to their end: those that come later are not in {path}")
        return listed

    def _summarise(self, stopped: str | None, seconds: float) -> None:
        done, failed = self._given.done, self._failures.count
        if stopped is not None and self._total is not None:
            parts = [f"{done:,} of {self._total:,} contact{'s' * (self._total != 1)} done"]
        else:
            parts = [f"{done:,} contact{'s' * (done != 1)} done"]
        if failed:
            parts.append(f"{failed:,} failed")
        parts.append(f"{self._events:,} event{'s' if self._events != 1 else ''} in {seconds:.1f} s")
        parts += self._watch.summary()
        if stopped is not None:
            _say(stopped)
        _say(", ".join(parts))
        for line in self._failures.report():
            _say(f"  {line}")
        if torn := self._given.torn:
            _say(f"the last events of {torn:,} contact{'s' * (torn != 1)} in progress are missing")


def _say(text: str) -> None:
    say("np6 events", text)
