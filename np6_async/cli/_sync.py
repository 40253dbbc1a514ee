"""`np6 sync`: the events that no run before has fetched, into files; the state file says which these are."""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import ExitStack, aclosing, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from .. import AuthError, ConfigError, Failure, InvalidInput, NP6Client, NP6Error, StoreError
from .._models.time_bounds import isoformat
from ..export._folder_lock import BadFolder
from ..export._part_sequence import BadNote, Series
from ..sync import SQLiteStore, Sync, SyncRun
from . import _exit, _interrupts
from ._client import make_client
from ._contact_input import Input
from ._export_options import check_format
from ._exporting import OUTAGE, Limits, Outage, is_outage
from ._failures import Failures, Unreachable
from ._lines import BadInput
from ._messages import words
from ._progress import Progress, for_files
from ._setup import refuse, say
from ._syncing import Given, Syncer
from ._time_options import BadBound, Span, read_span
from ._watch import Watch

# As long as an export lets contacts in flight end after a signal.
_DRAIN: Final = 1.0

_say = partial(say, "np6 sync")


def run(options: argparse.Namespace) -> int:
    """Do what the parsed command line says; returns the exit code."""
    for name in ("output", "state"):
        if not getattr(options, name):
            refuse(options, f"--{name}: the name is empty")
    check_format(options)
    try:
        span = read_span(options.start, None, options.tz)
    except BadBound as error:
        refuse(options, str(error))
    if span.future:
        refuse(options, f"--start {options.start} lies in the future, where there are no events yet")
    with ExitStack() as stack:
        given = Input(options, stack, _say)
        return _interrupts.run(_Command(options, span, given))


class _Command:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, span: Span, given: Input) -> None:
        self._options = options
        self._span = span
        self._given = given
        self._failures = Failures("collect")
        self._syncer: Syncer | None = None
        self._run: SyncRun[Any] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._done = 0  # contacts, when one failed last
        self._in_a_row = 0  # contacts that failed for want of a server, and none was done since
        self._began = time.monotonic()
        self._progress = Progress()
        self._watch = Watch(
            lambda seconds: self._progress.paused(seconds), lambda: _say("no connection yet, trying again")
        )

    async def __call__(self, interrupts: _interrupts.Interrupts) -> int:
        options = self._options
        try:
            np6 = make_client(options, concurrency=options.concurrency, hooks=[self._watch], say=_say)
        except ConfigError as error:
            _say(f"error: {error}")
            return _exit.CONFIGURATION
        async with np6, aclosing(self._given.contacts(np6)) as contacts:
            given = Given(contacts)
            try:
                sync = self._make_sync(np6, given)
            except InvalidInput as error:  # the parser and `read_span` have seen to the others
                refuse(options, f"--classification: {error}")
            try:
                with closing(self._open_series()) as series:
                    return await self._sync(sync, series, given, interrupts)
            except BadFolder as error:
                refuse(options, f"--output {error}")

    def _make_sync(self, np6: NP6Client, given: Given) -> Sync[Any]:
        options = self._options
        return Sync(
            np6,
            SQLiteStore(options.state),
            given,
            options.kind,
            overlap=options.overlap,
            safety=options.safety,
            start=self._span.start,
            classification=options.classification,
            missing=options.missing,
            on_error=self._failed,
        )

    def _open_series(self) -> Series:
        options = self._options
        return Series(Path(options.output), options.kind, options.format, gzip=options.gzip)

    async def _sync(self, sync: Sync[Any], series: Series, given: Given, interrupts: _interrupts.Interrupts) -> int:
        self._progress = for_files(self._options, await self._given.count(), _say)
        stopped: str | None = None
        code = _exit.DONE
        try:
            async with sync.run(autocommit=False) as run:
                self._run = run
                self._syncer = self._make_syncer(run, series)
                self._drain_at_signal(run, self._syncer, given, interrupts)
                with self._progress:
                    await self._syncer.run()
        except (StoreError, InvalidInput) as error:
            code, stopped = self._state_failed(error)
        except BadNote as error:
            code, stopped = _exit.USAGE, f"--state {self._options.state!r} {error}"
        except BadInput as error:
            code, stopped = _exit.USAGE, str(error)
        except AuthError as error:
            code, stopped = _exit.CONFIGURATION, words(error)
        except (Unreachable, Outage):
            what = "no more contacts" if self._run is not None and self._run.stats.done else "no contact"
            code, stopped = _exit.STOPPED, f"stopped, because {what} could be fetched"
        except NP6Error as error:
            code, stopped = _exit.STOPPED, words(error)
        except OSError as error:
            where = error.filename or self._options.output
            code, stopped = _exit.STOPPED, f"{where} cannot be written to: {error.strerror or error}"
        else:
            if interrupts.code is not None:
                code, stopped = interrupts.code, interrupts.cause
            elif not given.count and not self._given.refused.count:
                code = _exit.USAGE  # which file is empty was told
            elif self._failures.count or self._given.refused.count:
                code = _exit.SOME_FAILED
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
        if stopped is not None:
            series.forget()
        return self._end(stopped, code)

    def _state_failed(self, error: StoreError | InvalidInput) -> tuple[int, str]:
        if self._syncer is not None:
            return _exit.STOPPED, f"--state {error}"
        return _exit.USAGE, f"error: --state {self._options.state!r}: {error}"

    def _make_syncer(self, run: SyncRun[Any], series: Series) -> Syncer:
        options = self._options

        def progress() -> None:
            stats = run.stats
            self._progress.update(stats.done + stats.failed, stats.events, self._watch.retries, stats.failed)

        return Syncer(
            run,
            series,
            isoformat(run.end),
            Limits(part_bytes=options.part_size, part_seconds=options.part_time),
            progress=progress,
        )

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        done = 0 if self._run is None else self._run.stats.done
        if done > self._done or not is_outage(failure.error):
            self._in_a_row = 0
        self._done = done
        self._in_a_row += is_outage(failure.error)
        if self._in_a_row >= OUTAGE:
            raise Outage
        return self._failures.add(failure, done=done)

    def _drain_at_signal(
        self, run: SyncRun[Any], syncer: Syncer, given: Given, interrupts: _interrupts.Interrupts
    ) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def give_up() -> None:
            syncer.give_up()
            task.cancel()

        def stop() -> None:
            run.stop()
            given.stop()
            self._deadline = loop.call_later(_DRAIN, give_up)

        interrupts.at_first(stop)

    # What is told

    def _end(self, stopped: str | None, code: int) -> int:
        if stopped is not None:
            _say(stopped)
        if self._run is not None and self._syncer is not None:
            stats, parts = self._run.stats, self._syncer.parts
            told = [f"{stats.done:,} contact{'s' * (stats.done != 1)} done"]
            if stats.failed:
                told.append(f"{stats.failed:,} failed, to be gone on with by the next run")
            told.append(
                f"{stats.events:,} new event{'s' * (stats.events != 1)} in {parts:,} file{'s' * (parts != 1)} "
                f"in {self._options.output}"
            )
            told.append(f"{time.monotonic() - self._began:.1f} s")
            told += self._watch.summary()
            told.append(f"up to {datetime.fromtimestamp(self._run.end // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}")
            _say(", ".join(told))
        for report in (self._failures, self._given.refused):
            for line in report.report():
                _say(f"  {line}")
        return code
