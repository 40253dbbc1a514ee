"""What commands have in common.

Those that ask a server: a client or a refusal, a run, an exit code with a sentence. Those that write files of events:
their options, their drain at a signal, and the summary.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from typing import Any, Final, NoReturn

from .. import (
    AuthError,
    BulkError,
    ConfigError,
    Hook,
    InvalidInput,
    NP6Client,
    NP6Error,
    ProxyError,
    RetryPolicy,
    StoreError,
    Timeout,
)
from .._columns.personal import PersonalKey, read_key
from ..export import Counts, Executor, FolderError, InputChanged, NoContacts, NoteError
from ..export._location import storage_of
from ..export._writers import file_format
from ._action_input import ActionInput
from ._contact_input import ContactInput
from ._exit import BROKEN_PIPE, CONFIGURATION, DONE, SOME_FAILED, STOPPED, USAGE, Interrupts, run_until_signal
from ._figures import Progress
from ._messages import BadInput, in_options, key_problem, proxy_problem, words
from ._observing import Failures, FirstFailure, Verbose, Watch
from ._time_options import read_span
from ._workers import executor_of, limit_of

# After a signal, contacts in flight have this many seconds to end. What remains of two is for the last commit and for
# the interpreter, which both take their time on a busy machine.
DRAIN: Final = 1.0
# The same where workers fetch: they have to hear of it, and to hand over what they have.
WORKERS_DRAIN: Final = 8.0

_HELD: Final = 1_000  # lines


class _Warnings(logging.Handler):
    """Says what the client warns of."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


class Command:
    """One run of ``np6 NAME``. A subclass checks the options in `prepare`, and does its work in `fetch`."""

    interrupts: Interrupts

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failures = Failures(getattr(options, "on_error", "collect"))
        self.progress = Progress()
        self.watch = Watch(
            lambda seconds: self.progress.paused(seconds),
            lambda text, seconds: self.progress.outage(text, seconds),
            lambda: self.say("no connection yet, trying again"),
        )
        self.hooks: list[Hook] = [self.watch]
        self.began = time.monotonic()
        # With --quiet: what will be said if not all goes well.
        self._held: deque[str] | None = deque(maxlen=_HELD) if getattr(options, "quiet", False) else None

    def prepare(self, stack: ExitStack) -> None:
        """Refuse what cannot be used, also by `BadInput`, and open what `stack` closes at the end."""

    async def fetch(self, np6: NP6Client) -> int:
        """Do the work; returns the exit code."""
        raise NotImplementedError

    @property
    def done(self) -> int:
        """How many contacts this run has done."""
        return 0

    def run(self) -> int:
        """Run the command; returns the exit code."""
        if self._held is not None and self.options.verbose:
            self.refuse("--quiet says nothing where all goes well, and --verbose says more: give one of them")
        with ExitStack() as stack:
            warnings, logger = _Warnings(self.say), logging.getLogger("np6_async")
            logger.addHandler(warnings)
            stack.callback(logger.removeHandler, warnings)
            stack.callback(self._say_held)
            try:
                self.prepare(stack)
                code = run_until_signal(self._with_client)
            except BadInput as error:
                self.refuse(str(error))
            if code in (DONE, BROKEN_PIPE):
                self._held = None
            return code

    def _say_held(self) -> None:
        held, self._held = self._held, None
        for text in held or ():
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line on standard error; with `--quiet`, at the end, and only if not all went well."""
        if self._held is not None:
            self._held.append(text)
            return
        with suppress(OSError, ValueError, AttributeError):  # nobody reads standard error: no reason to stop
            print(f"np6 {self.options.command}: {text}", file=sys.stderr, flush=True)

    def refuse(self, message: str) -> NoReturn:
        """End as the parser's own errors do."""
        self.options.usage_error(message)
        raise AssertionError("unreachable")

    async def ended(self, work: Coroutine[Any, Any, object]) -> tuple[int, str | None]:
        """Do `work` under the progress bar; returns the exit code and, where it was stopped, the reason."""
        try:
            with self.progress:
                await work
        except asyncio.CancelledError:
            if self.interrupts.code is None:  # not by a signal
                raise
            return self.interrupts.code, self.interrupts.cause
        except Exception as error:
            return self.outcome_of(error)
        finally:
            self.interrupts.drained()
        return DONE, None

    def outcome_of(self, error: Exception) -> tuple[int, str | None]:
        """The exit code for an error that ended the run, and a sentence; raises what is a fault of the program."""
        match error:
            case FolderError():
                self.refuse(f"--output {error}")
            case NoContacts():
                return USAGE, None  # which file is empty was said
            case BadInput():
                return USAGE, str(error)
            case InputChanged():
                return USAGE, f"the contacts changed: {error}; give the earlier ones, or another --output"
            case NoteError():
                return USAGE, f"--state {self.options.state!r} {error}"
            case AuthError() | ConfigError() | ProxyError(permanent=True):
                return CONFIGURATION, words(error)
            case FirstFailure() | BulkError():
                return SOME_FAILED, "stopped at the first failure"
            case StoreError():
                return STOPPED, f"--state {error}"
            case NP6Error():
                return STOPPED, words(error)
            case OSError() if not isinstance(error, BrokenPipeError):
                output = getattr(self.options, "output", "-")
                where = error.filename or ("the output" if output == "-" else output)
                return STOPPED, f"{where} cannot be written to: {error.strerror or error}"
        raise error

    async def _with_client(self, interrupts: Interrupts) -> int:
        self.interrupts = interrupts
        try:
            np6 = self._make_client()
        except ConfigError as error:
            self.say(f"error: {error}")
            return CONFIGURATION
        async with np6:
            try:
                return await self.fetch(np6)
            except InvalidInput as error:  # the other options were checked before
                option = "" if "every=" in str(error) else "--classification: "
                self.refuse(option + str(error).replace("every=", "--every"))

    def _make_client(self) -> NP6Client:
        """A client with the key of the environment; raises `ConfigError` that says what is wrong with the key."""
        options = self.options
        if verbose := getattr(options, "verbose", 0):
            self.hooks.append(Verbose(self.say, requests=verbose > 1))
        timeout = Timeout()
        if options.timeout is not None:
            timeout = Timeout(read=options.timeout, connect=min(options.timeout, timeout.connect))
        concurrency = getattr(options, "concurrency", 1)
        limit = limit_of(options, self.refuse) if hasattr(options, "shared_limit") else None
        try:
            return NP6Client(
                base_url=options.base_url,
                proxy=options.proxy,
                concurrency=concurrency,
                timeout=timeout,
                retry=RetryPolicy(outage=options.outage),
                tz=getattr(options, "tz", None),
                rate_limiter=limit,
                hooks=self.hooks,
            )
        except ConfigError as error:
            problem = str(error)
        if problem.startswith("base_url"):
            self.refuse(f"--base-url {problem.removeprefix('base_url ')}")
        if problem.startswith("proxy="):
            self.refuse(f"--proxy {problem.removeprefix('proxy= ')}")
        raise ConfigError(key_problem(os.environ) or proxy_problem(problem))


class FilesCommand(Command):
    """One run of a command that writes files of events into the folder `--output`."""

    counts = Counts(0, 0, 0)
    personal_key: PersonalKey = None
    executor: Executor | None = None

    def prepare(self, stack: ExitStack) -> None:
        options = self.options
        for name in ("output", "state"):
            if getattr(options, name, None) == "":
                self.refuse(f"--{name}: the name is empty")
        try:
            storage_of(options.output)
        except InvalidInput as error:
            self.refuse(f"--output: {error}")
        for library in ("adlfs", "azure", "fsspec", "gcsfs", "s3fs"):  # what they log as errors is said in a line
            logging.getLogger(library).addHandler(logging.NullHandler())
        self.executor = executor_of(options, self.refuse)
        self.personal_key = options.personal_key
        try:
            if options.personal == "hash" and options.personal_key is not None:
                self.personal_key = read_key(options.personal_key)  # once: it may be a pipe
            file_format(
                options.format,
                gzip=options.gzip,
                csv_dialect=options.csv_dialect,
                personal=options.personal,
                personal_key=self.personal_key,
            )
        except InvalidInput as error:
            self.refuse(in_options(str(error)))
        end = getattr(options, "end", None)  # a sync has none
        self.span = read_span(options.start, end, options.tz)
        if self.span.future and end is None:
            self.refuse(f"--start {options.start} lies in the future, where there are no events yet")
        self.input: ContactInput | ActionInput
        self.input = (ActionInput if ActionInput.is_given(options) else ContactInput.of_options)(self, stack)

    @property
    def drain(self) -> float:
        """How many seconds contacts in flight have to end, after a signal."""
        return DRAIN if self.executor is None else WORKERS_DRAIN

    @property
    def part_options(self) -> dict[str, Any]:
        """The options of the files, as `Export` and `SyncWriter` take them."""
        options = self.options
        return {
            "format": options.format,
            "gzip": options.gzip,
            "csv_dialect": options.csv_dialect,
            "personal": options.personal,
            "personal_key": self.personal_key,
            "partition_by": options.partition_by,
            "part_bytes": options.part_size,
            "part_seconds": options.part_time,
            "executor": self.executor,
            "shard_size": options.shard_size,
            "on_progress": self._on_progress,
        }

    def summarise(self, stopped: str | None, contacts: list[str], *more: str) -> None:
        """Say what was done, and the first failures."""
        if stopped is not None:
            self.say(stopped)
        self.say(", ".join([*contacts, f"{time.monotonic() - self.began:.1f} s", *self.watch.summary(), *more]))
        for line in self.failures.report():
            self.say(f"  {line}")

    def _on_progress(self, counts: Counts) -> None:
        self.counts = counts
        self.watch.retries = max(self.watch.retries, counts.retries)  # those of workers too
        if isinstance(self.input, ContactInput):
            self.progress.update(counts.done + counts.failed, counts.events, self.watch.retries, counts.failed)
        else:
            reached = counts.reached if self.input.single else None
            self.progress.update(None, counts.events, self.watch.retries, counts.failed, reached)
