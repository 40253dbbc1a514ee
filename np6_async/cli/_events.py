"""`np6 events`: fetch, write, and say how far it got."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal, NoReturn

from .. import (
    AuthError,
    BulkError,
    BulkStream,
    ConfigError,
    Contact,
    Event,
    Failure,
    InvalidBound,
    InvalidContact,
    InvalidInput,
    NP6Client,
    NP6Error,
    Timeout,
    unstructure,
)
from .._convert import dumps
from . import _exit, _interrupts
from ._contacts import BadInput, ContactLines, GivenContacts, open_lines
from ._failures import Failures, Unreachable
from ._output import Output, open_output
from ._progress import Bar, Lines, Progress, has_rich, is_terminal
from ._watch import Watch


def run(options: argparse.Namespace) -> int:
    """Do what the parsed command line says; returns the exit code."""
    try:
        arguments = [Contact(options.by, value) for value in options.contacts]
    except InvalidContact as error:
        _refuse(options, str(error))
    if not arguments and options.ids_from is None:
        _refuse(options, "no contacts: give some, or a file of them with --ids-from")
    with ExitStack() as stack:
        fd: int | None = None
        name = ""
        if options.ids_from is not None:
            try:
                opened, name, close = open_lines(options.ids_from)
            except BadInput as error:
                _refuse(options, f"--ids-from: {error}")
            if close:
                stack.callback(os.close, opened)
            fd = opened
            if (
                options.output != "-"
                and os.path.exists(options.output)
                and os.path.samestat(os.fstat(opened), os.stat(options.output))
            ):
                _refuse(options, "--output and --ids-from are the same file, which would be overwritten")
        stack.enter_context(_logging(options.verbose))
        command = _Command(options, arguments, fd, name)
        return _interrupts.run(command)


class _Command:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, arguments: list[Contact], fd: int | None, name: str) -> None:
        self._options = options
        self._arguments = arguments
        self._fd = fd
        self._name = name
        self._failures = Failures(options.on_error)
        self._events = 0
        self._stream: BulkStream[Event] | None = None
        self._began = time.monotonic()
        self._progress = Progress()
        self._watch = Watch(lambda seconds: self._progress.paused(seconds))

    async def __call__(self, interrupts: _interrupts.Interrupts) -> int:
        options = self._options
        try:
            np6 = self._client()
        except ConfigError as error:
            if str(error).startswith("base_url"):
                _refuse(options, f"--base-url: {error}")
            self._say(f"error: {error}")
            return _exit.CONFIGURATION
        async with np6:
            try:
                stream = self._open(np6)
            except InvalidInput as error:
                hint = "; or as 7d, 24h, 90m or 2w, that long ago" if isinstance(error, InvalidBound) else ""
                _refuse(options, f"{error}{hint}")
            self._stream = stream
            try:
                output = open_output(options.output)
            except OSError as error:
                _refuse(options, f"--output {options.output!r} cannot be written: {error.strerror}")
            return await self._run(stream, output, interrupts)

    async def _run(self, stream: BulkStream[Event], output: Output, interrupts: _interrupts.Interrupts) -> int:
        stopped: str | None = None
        code = _exit.DONE
        kept: str | None = None
        self._progress = self._choose_progress()
        try:
            with self._progress:
                await self._pump(stream, output)
                nothing = self._failures.count > 0 and stream.stats.done == 0
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
        except BadInput as error:
            code, stopped = _exit.USAGE, str(error)
        except AuthError as error:
            code, stopped = _exit.CONFIGURATION, str(error)
        except Unreachable:
            code, stopped = _exit.STOPPED, "stopped, because no contact could be fetched"
        except BulkError as error:
            self._failures.add_all(error)
            code, stopped = _exit.SOME_FAILED, "stopped at the first failure"
            if self._failures.server_unreachable(stream.stats.done):
                code = _exit.STOPPED
        except NP6Error as error:
            code, stopped = _exit.STOPPED, str(error)
        except OSError as error:
            code, stopped = _exit.STOPPED, f"the output cannot be written: {error.strerror}"
        else:
            if self._failures.server_unreachable(stream.stats.done):
                code = _exit.STOPPED
            elif self._failures.count:
                code = _exit.SOME_FAILED
        if stopped is not None:
            with suppress(OSError):  # was said already
                kept = await output.abandon()
        self._summarise(stream, stopped, kept)
        return code

    def _client(self) -> NP6Client:
        options = self._options
        timeout = Timeout() if options.timeout is None else Timeout(read=options.timeout)
        return NP6Client(
            base_url=options.base_url,
            concurrency=options.concurrency,
            timeout=timeout,
            tz=options.tz,
            hooks=[self._watch],
        )

    def _open(self, np6: NP6Client) -> BulkStream[Any]:
        options = self._options
        lines = None
        if self._fd is not None:
            lines = ContactLines(self._fd, self._name, options.by, self._refused)
        return np6.events.stream_many(
            GivenContacts(self._arguments, lines),
            options.kind,
            start=options.start,
            end=options.end,
            classification=options.classification,
            newest_first=options.newest_first,
            missing=options.missing,
            on_error=self._failed,
        )

    async def _pump(self, stream: BulkStream[Event], output: Output) -> None:
        prefixes = _Prefixes()
        async with stream:
            async for contact, batch in stream.batches():
                prefix = prefixes.of(contact)
                lines = b"".join([b"%b%b}\n" % (prefix, dumps(unstructure(event))) for event in batch])
                self._events += len(batch)
                await output.add(lines)
                self._show_progress()
            self._show_progress()  # the last contacts end after their last batch

    def _show_progress(self) -> None:
        self._progress.update(self._watch.contacts, self._events, self._watch.retries)

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        assert self._stream is not None
        action = self._failures.add(failure, done=self._stream.stats.done)
        self._show_progress()
        return action

    def _refused(self, message: str) -> None:
        if self._options.on_error == "raise":
            raise BadInput(message)
        self._failures.add_text(message)

    def _choose_progress(self) -> Progress:
        total = len(self._arguments) if self._fd is None else None
        if self._options.verbose:
            return Lines(self._say, total)
        if not is_terminal(sys.stderr) or not self._has_terminal_to_itself():
            return Progress()
        return Bar(sys.stderr, total) if has_rich() else Lines(self._say, total)

    def _has_terminal_to_itself(self) -> bool:
        """Whether a bar would be drawn over nothing: what reads a pipe may well write to the same terminal."""
        if self._options.ids_from == "-" and is_terminal(sys.stdin):
            return False
        return self._options.output != "-" or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)

    def _summarise(self, stream: BulkStream[Event], stopped: str | None, kept: str | None) -> None:
        stats, failed, seconds = stream.stats, self._failures.count, time.monotonic() - self._began
        parts = [f"{stats.done:,} contact{'s' if stats.done != 1 else ''} done"]
        if failed:
            parts.append(f"{failed:,} failed")
        parts.append(f"{self._events:,} event{'s' if self._events != 1 else ''} in {seconds:.1f} s")
        if self._watch.retries:
            parts.append(f"{self._watch.retries:,} retr{'ies' if self._watch.retries != 1 else 'y'}")
        if self._watch.pauses:
            parts.append(f"{self._watch.paused:.1f} s of waiting for the rate limit")
        if stopped is not None:
            self._say(stopped)
        self._say(", ".join(parts))
        for line in self._failures.report():
            self._say(f"  {line}")
        if kept is not None:
            self._say(kept)

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # nobody reads standard error: no reason to stop
            print(f"np6 events: {text}", file=sys.stderr, flush=True)


def _refuse(options: argparse.Namespace, message: str) -> NoReturn:
    """End with the parser's own words and exit code."""
    options.usage_error(message)
    raise AssertionError("unreachable")


class _Prefixes:
    """The beginning of a contact's lines; batches of one contact often follow each other."""

    def __init__(self) -> None:
        self._contact: object = None
        self._prefix = b""

    def of(self, contact: str | Contact) -> bytes:
        if contact is not self._contact:
            self._contact = contact
            value = contact.value if isinstance(contact, Contact) else contact
            self._prefix = b'{"contact":%b,"event":' % dumps(value)
        return self._prefix


@contextmanager
def _logging(verbosity: int) -> Iterator[None]:
    """The client's own log on standard error, as `-v` and `-vv` ask for."""
    if not verbosity or sys.stderr is None:
        yield
        return
    logger = logging.getLogger("np6_async")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("np6 events: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
