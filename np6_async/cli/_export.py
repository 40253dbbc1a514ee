"""`np6 export`: the events of many contacts into the files of a folder, resumable after any end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from shlex import quote
from typing import Any, Final

from .. import Failure, NP6Client
from ..export import Export, ExportReport, FolderError, OtherQuery, read_report
from ..export._disk import in_thread
from ._action_input import ActionInput
from ._command import FilesCommand
from ._contact_input import ContactInput
from ._exit import DONE, SOME_FAILED, USAGE
from ._messages import count
from ._progress import for_files
from ._time_options import length

_SHOWN: Final = 5  # files of contacts that failed


class ExportCommand(FilesCommand):
    """One run of `np6 export`."""

    _before: ExportReport | None = None

    def prepare(self, stack: ExitStack) -> None:
        options = self.options
        if options.retry_failed and not options.resume:
            self.refuse("--retry-failed goes with --resume: it fetches what failed in an export that is there")
        if options.every is not None and options.start is None:
            self.refuse("--every cuts the time from --start on into windows: give a --start")
        super().prepare(stack)
        given = self.input
        if isinstance(given, ActionInput):
            if not given.single:
                self.refuse("an export is of one --action; export each into a folder of its own")
        elif options.every is not None and given.read_once is not None:
            self.refuse(
                f"--every reads the contacts once for each window, and {given.read_once} can be read only once; save "
                "them in a file first"
            )

    async def fetch(self, np6: NP6Client) -> int:
        options = self.options
        export = self._make_export(np6)
        try:
            await self._look_at_folder()
        except OSError as error:  # of an object store
            code, stopped = self.outcome_of(error)
            self.say(stopped or "")
            return code
        total = await self.input.count() if isinstance(self.input, ContactInput) else None
        self.progress = for_files(options, None if total is None else total * export.windows, self.say)
        self.interrupts.drain(export.stop, self.drain)
        code, stopped = await self.ended(self._export(export))
        report = export.report
        if report is None or (code == USAGE and stopped is None):
            if stopped is not None:
                self.say(stopped)
            return code
        if code == DONE and self.interrupts.code is not None and not report.complete:
            code, stopped = self.interrupts.code, self.interrupts.cause
        elif code == DONE and (report.failed or self.failures.refused):
            code = SOME_FAILED
        self._end(report, stopped, code)
        return code

    async def _export(self, export: Export) -> None:
        if isinstance(self.input, ActionInput):
            await self.input.read_only_ids()
        await export.run(resume=self.options.resume, retry_failed=self.options.retry_failed)

    @property
    def _retries(self) -> bool:
        """Whether contacts that failed are fetched once more."""
        return bool(self.options.retry_failed and self._before is not None and self._before.failed)

    @property
    def done(self) -> int:
        return self.counts.done - (self._before.done if self._before is not None else 0)

    def outcome_of(self, error: Exception) -> tuple[int, str | None]:
        if isinstance(error, OtherQuery):
            was, now = (self._shown(error, value) for value in (error.found, error.given))
            self.refuse(
                f"--output {self.options.output!r} holds another export: it was begun {was}, not {now}; repeat the "
                "command it was begun with, or export to another folder"
            )
        return super().outcome_of(error)

    def _make_export(self, np6: NP6Client) -> Export:
        options, given = self.options, self.input
        subjects: dict[str, Any]
        if isinstance(given, ActionInput):
            subjects = {**given.export_of, "only": given.only}
        else:
            given.client = np6
            # What would have to be fetched or given once more is not read again just to compare it.
            again = given.local or options.every is not None
            subjects = {"contacts": given if again else aiter(given), "by": given.by}
        return Export(
            np6,
            options.output,
            kind=options.kind,
            start=self.span.start,
            end=self.span.end,
            every=options.every,
            classification=options.classification,
            missing=options.missing,
            concurrency=options.concurrency,
            on_failure=self._failed,
            **subjects,
            **self.part_options,
        )

    async def _look_at_folder(self) -> None:
        options = self.options
        try:
            before = self._before = await in_thread(lambda: read_report(options.output))
        except FolderError as error:
            self.refuse(f"--output {error}")
        if options.resume and before is None:
            self.say(f"there is nothing to resume in {options.output}: the export begins")
        if not options.resume and before is not None and before.begun:
            self.refuse(
                f"--output {options.output!r} holds an export already; resume it with --resume, or export to another "
                "folder"
            )

    def _failed(self, failure: Failure) -> None:
        self.failures.add(failure)

    # What is said

    def _end(self, report: ExportReport, stopped: str | None, code: int) -> None:
        nothing = self._before is not None and self._before.complete and not self._retries
        if stopped is None and nothing:
            self.say("the export is complete: there is nothing to do")
        contacts = []
        if isinstance(self.input, ContactInput):
            contacts = [f"{count(report.done, 'contact')} done" + " (counted once a window)" * bool(self.options.every)]
        if report.failed:
            contacts.append(f"{report.failed:,} failed")
        contacts.append(
            f"{count(report.events, 'event')} in {count(len(report.parts), 'part')} in {self.options.output}"
        )
        left_out = self.input.left_out(report.unnamed) if isinstance(self.input, ActionInput) else []
        self.summarise(stopped, contacts, *left_out)
        if report.failures:
            self.say("to fetch those that failed into the same folder: the same command with --resume --retry-failed")
        for again in self._again(report):
            self.say(again)
        if report.begun and not report.complete and code != USAGE:
            self.say("the export is unfinished: resume it with the same command and --resume")

    def _again(self, report: ExportReport) -> Iterator[str]:
        """How to fetch the contacts that failed."""
        options = self.options
        for failed in report.failures[:_SHOWN]:
            if isinstance(failed.file, str):
                yield f"the {failed.contacts:,} that failed are listed in {failed.file}"
                continue
            words = ["np6 export", "--ids-from", quote(str(failed.file)), "--kind", options.kind]
            words += ["--by", options.by] * (options.by not in (None, "id"))
            words += ["--missing", options.missing] * (options.missing != "error")
            words += ["--start", failed.start] if failed.start is not None else []
            words += ["--end", failed.end, "--format", options.format] + ["--gzip"] * options.gzip
            words += ["--csv-dialect", options.csv_dialect] * (options.csv_dialect != "rfc4180")
            words += ["--personal", options.personal] * (options.personal != "keep")
            words += ["--personal-key", quote(options.personal_key)] if options.personal_key is not None else []
            words += ["--partition-by", ",".join(options.partition_by)] * bool(options.partition_by)
            words += ["--classification", quote(options.classification)] if options.classification else []
            yield f"to fetch the {failed.contacts:,} that failed into another: {' '.join(words)} --output ANOTHER"
        if len(report.failures) > _SHOWN:
            yield f"... and {len(report.failures) - _SHOWN:,} more files of contacts that failed"

    def _shown(self, error: OtherQuery, value: object) -> str:
        """An option with which an export was begun, or is not."""
        if error.name == "action":
            return f"with --action {value}" if value else "with --account"
        if error.name == "only":
            return f"{'with' if value else 'without'} --only-ids"
        if error.name == "by" and "action" in (error.found, error.given):
            return "with --account or --action" if value == "action" else "with contacts"
        if error.name == "personal_key":
            return "with another --personal-key" if value == error.found else "with this one"
        return _option(error.name, value)


def _option(name: str, value: object) -> str:
    name = name.replace("_", "-")
    if isinstance(value, tuple):
        value = ",".join(value) or None
    if value is None or value is False:
        return f"without --{name}"
    if isinstance(value, timedelta):
        return f"with --{name} {length(value)}"
    return f"with --{name}" if value is True else f"with --{name} {value}"
