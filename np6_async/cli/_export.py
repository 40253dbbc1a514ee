"""`np6 export`: the events of many contacts into the files of a folder, and on from there after any end."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Final, Literal

from .. import (
    AuthError,
    BulkStream,
    ConfigError,
    Failure,
    InvalidInput,
    NP6Client,
    NP6Error,
)
from ..export._folder import Folder
from ..export._folder_lock import BadFolder
from ..export._input_position import InputChanged, Ledger
from ..export._manifest import Asked, Query
from . import _exit, _interrupts
from ._client import make_client
from ._contact_input import Input
from ._export_options import check_format
from ._export_query import OtherQuery, following, read_query, same_query, windows_of
from ._exporting import Exporter, Limits, NoContacts, Outage
from ._failures import Failures, Unreachable
from ._lines import BadInput
from ._messages import words
from ._progress import Progress, for_files
from ._setup import refuse, say
from ._time_options import BadBound
from ._watch import Watch

# After a signal, contacts in flight have so many seconds to end. What remains of two is for the last commit and for
# the interpreter, which both take their time on a busy machine.
_DRAIN: Final = 1.0
# Memory for the events of contacts in flight, in bytes: of each, and roughly of all.
_HELD: Final = 1024 * 1024
_HELD_BY_ALL: Final = 32 * 1024 * 1024
_HELD_LEAST: Final = 64 * 1024
_TOLD: Final = 5  # files of contacts that failed

_say = partial(say, "np6 export")


def run(options: argparse.Namespace) -> int:
    """Do what the parsed command line says; returns the exit code."""
    if not options.output:
        refuse(options, "--output: the name of the folder is empty")
    check_format(options)
    try:
        query, asked = read_query(options)
    except BadBound as error:
        refuse(options, str(error))
    with ExitStack() as stack:
        given = Input(options, stack, _say)
        if options.every is not None and given.read_once is not None:
            refuse(
                options,
                f"--every reads the contacts once for each window, and {given.read_once} can be read only once; "
                "save them in a file first",
            )
        return _interrupts.run(_Command(options, query, asked, given))


class _Command:
    """One run of the command."""

    def __init__(
        self,
        options: argparse.Namespace,
        query: Query,
        asked: Asked,
        given: Input,
    ) -> None:
        self._options = options
        self._query = query
        self._asked = asked
        self._given = given
        self._failures = Failures("collect")
        self._exporter: Exporter | None = None
        self._deadline: asyncio.TimerHandle | None = None
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
        async with np6:
            try:
                self._stream(np6, (), self._query.start, self._query.end)
            except InvalidInput as error:  # the parser and `read_span` have seen to the others
                refuse(options, f"--classification: {error}")
            try:
                with Folder(Path(options.output)) as folder:
                    self._enter(folder)
                    return await self._run(folder, np6, interrupts)
            except BadFolder as error:
                refuse(options, f"--output {error}")

    def _enter(self, folder: Folder) -> None:
        """Begin an export, or go on with the one that is there; raises `BadFolder`."""
        found = folder.found
        try:
            if found is None or (found.blank and not self._options.resume):
                if found is None and self._options.resume:
                    _say(f"there is nothing to resume in {self._options.output}: the export begins")
                first = self._query.start if self._query.every is not None else None
                folder.begin(self._query, self._asked, first)
                return
            if not self._options.resume:
                raise BadFolder(
                    f"{self._options.output!r} holds an export already; go on with it with --resume, or export to "
                    "another folder"
                )
            try:
                self._query = same_query(found, self._query, self._asked)
            except OtherQuery as error:
                raise BadFolder(
                    f"{self._options.output!r} holds another export: {error}; repeat the command it was begun with, "
                    "or export to another folder"
                ) from None
            folder.resume()
        except OSError as error:
            raise BadFolder(f"{self._options.output!r} cannot be written to: {error.strerror}") from None

    # The run

    async def _run(self, folder: Folder, np6: NP6Client, interrupts: _interrupts.Interrupts) -> int:
        exporter = self._exporter = self._make_exporter(folder, np6)
        if folder.manifest.complete:
            return await self._nothing_to_do(folder, exporter)
        self._progress = for_files(self._options, await self._count(), _say)
        self._drain_at_signal(exporter, interrupts)
        stopped: str | None = None
        code = _exit.DONE
        try:
            with self._progress:
                await exporter.run()
        except NoContacts:
            folder.forget()
            return _exit.USAGE
        except BadInput as error:
            code, stopped = _exit.USAGE, str(error)
        except InputChanged as error:
            code, stopped = _exit.USAGE, _changed(error)
        except AuthError as error:
            code, stopped = _exit.CONFIGURATION, words(error)
        except (Unreachable, Outage):
            what = "no more contacts" if exporter.done else "no contact"
            code, stopped = _exit.STOPPED, f"stopped, because {what} could be fetched"
        except NP6Error as error:
            code, stopped = _exit.STOPPED, words(error)
        except OSError as error:
            code, stopped = _exit.STOPPED, f"{self._options.output} cannot be written to: {error.strerror or error}"
        else:
            if not folder.manifest.complete and interrupts.code is not None:
                code, stopped = interrupts.code, interrupts.cause
            elif folder.manifest.failed or self._given.refused.count:
                code = _exit.SOME_FAILED
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
        return self._end(folder, stopped, code)

    async def _nothing_to_do(self, folder: Folder, exporter: Exporter) -> int:
        whole = folder.manifest.input
        if whole is not None and self._given.read_again:
            try:
                await exporter.check_input(whole)
            except (InputChanged, BadInput) as error:
                _say(_changed(error) if isinstance(error, InputChanged) else str(error))
                return _exit.USAGE
        _say("the export is complete: there is nothing to do")
        return self._end(folder, None, _exit.SOME_FAILED if folder.manifest.failed else _exit.DONE)

    def _make_exporter(self, folder: Folder, np6: NP6Client) -> Exporter:
        options = self._options

        def fetch(contacts: Ledger, start: str | None) -> BulkStream[Any]:
            query = self._query
            return self._stream(np6, contacts, start or query.start, following(query, start) or query.end)

        def progress() -> None:
            failed = before.failed + exporter.failed
            through = before.contacts + exporter.done + failed
            self._progress.update(through, before.rows + exporter.events, self._watch.retries, failed)

        before = folder.manifest
        held = max(_HELD_LEAST, min(_HELD, _HELD_BY_ALL // options.concurrency))
        exporter = Exporter(
            folder,
            lambda: self._given.contacts(np6),
            fetch,
            lambda window: following(self._query, window),
            Limits(part_bytes=options.part_size, part_seconds=options.part_time),
            held=held,
            progress=progress,
        )
        return exporter

    def _stream(self, np6: NP6Client, contacts: Any, start: str | None, end: str) -> BulkStream[Any]:
        return np6.events.stream_many(
            contacts,
            self._query.kind,
            start=start,
            end=end,
            classification=self._query.classification,
            missing=self._query.missing,
            on_error=self._failed,
        )

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        return self._failures.add(failure, done=0 if self._exporter is None else self._exporter.done)

    def _drain_at_signal(self, exporter: Exporter, interrupts: _interrupts.Interrupts) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def give_up() -> None:
            exporter.give_up()
            task.cancel()

        def stop() -> None:
            exporter.stop()
            self._deadline = loop.call_later(_DRAIN, give_up)

        interrupts.at_first(stop)

    async def _count(self) -> int | None:
        """How many contacts there are, once for each window; None where that is not known beforehand."""
        total = await self._given.count()
        return None if total is None else total * max(1, windows_of(self._query))

    # What is told

    def _end(self, folder: Folder, stopped: str | None, code: int) -> int:
        manifest = folder.manifest
        contacts = f"{manifest.contacts:,} contact{'s' * (manifest.contacts != 1)} done"
        if manifest.query.every is not None:
            contacts += " (counted once a window)"
        parts = [contacts]
        if manifest.failed:
            parts.append(f"{manifest.failed:,} failed")
        parts.append(
            f"{manifest.rows:,} event{'s' * (manifest.rows != 1)} in {len(manifest.parts):,} "
            f"part{'s' * (len(manifest.parts) != 1)} in {self._options.output}"
        )
        parts.append(f"{time.monotonic() - self._began:.1f} s")
        parts += self._watch.summary()
        if stopped is not None:
            _say(stopped)
        _say(", ".join(parts))
        for report in (self._failures, self._given.refused):
            for line in report.report():
                _say(f"  {line}")
        for again in self._again(folder):
            _say(again)
        if manifest.blank:
            with suppress(OSError):
                folder.forget()
        elif not manifest.complete and code != _exit.USAGE:
            _say("the rest is left: go on with the same command and --resume")
        return code

    def _again(self, folder: Folder) -> Iterator[str]:
        """How to fetch the contacts that failed."""
        query = folder.manifest.query
        for entry in folder.manifest.failures[:_TOLD]:
            start = entry.window or query.start
            end = following(query, entry.window) or query.end
            words = ["np6 export", "--ids-from", quote(str(folder.path / entry.file)), "--kind", query.kind]
            words += ["--by", query.by] * (query.by != "id") + ["--missing", query.missing] * (query.missing != "error")
            words += ["--start", start] if start is not None else []
            words += ["--end", end, "--format", query.format] + ["--gzip"] * query.gzip
            words += ["--classification", quote(query.classification)] if query.classification else []
            yield f"the {entry.contacts:,} that failed, once more: {' '.join(words)} --output ANOTHER"
        if len(folder.manifest.failures) > _TOLD:
            yield f"... and {len(folder.manifest.failures) - _TOLD:,} more files of contacts that failed"


def _changed(error: InputChanged) -> str:
    return f"the contacts changed: {error}; give those of before, or another --output"
