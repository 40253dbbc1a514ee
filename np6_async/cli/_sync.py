"""`np6 sync`: the events that no earlier run has fetched, into files; the state file says which these are."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Literal

from .. import Failure, InvalidInput, NP6Client, StoreError
from ..export import NoContacts, SyncWriter
from ..sync import SQLiteStore, Sync, SyncRun
from . import _command
from ._command import FilesCommand
from ._contact_input import ContactPass
from ._exit import DONE, SOME_FAILED, USAGE
from ._messages import count
from ._progress import for_files


class SyncCommand(FilesCommand):
    """One run of `np6 sync`."""

    _run: SyncRun[Any] | None = None

    async def fetch(self, np6: NP6Client) -> int:
        options = self.options
        self.input.client = np6
        self.progress = for_files(options, await self.input.count(), self.say)
        writer = SyncWriter(options.output, options.kind, **self.part_options)
        async with aclosing(aiter(self.input)) as contacts:
            code, stopped = await self.ended(self._write(self._make_sync(np6, contacts), contacts, writer))
        if self._run is None or (code == USAGE and stopped is None):
            return code
        if code == DONE and self.interrupts.code is not None:
            code, stopped = self.interrupts.code, self.interrupts.cause
        elif code == DONE and self.failures.count:
            code = SOME_FAILED
        stats = self._run.stats
        contacts_done = [f"{count(stats.done, 'contact')} done"]
        if stats.failed:
            contacts_done.append(f"{stats.failed:,} failed, the next run will resume them")
        files = f"{count(stats.events, 'new event')} in {count(len(writer.files), 'file')} in {options.output}"
        end = datetime.fromtimestamp(self._run.end // 1000, UTC)
        self.summarise(stopped, [*contacts_done, files], f"up to {end:%Y-%m-%dT%H:%M:%SZ}")
        return code

    @property
    def done(self) -> int:
        return 0 if self._run is None else self._run.stats.done

    def outcome_of(self, error: Exception) -> tuple[int, str | None]:
        if self._run is None and isinstance(error, StoreError | InvalidInput):
            self.refuse(f"--state {self.options.state!r}: {error}")
        return super().outcome_of(error)

    def _make_sync(self, np6: NP6Client, contacts: ContactPass) -> Sync[Any]:
        options = self.options
        return Sync(
            np6,
            SQLiteStore(options.state),
            contacts,
            options.kind,
            overlap=options.overlap,
            safety=options.safety,
            start=self.span.start,
            classification=options.classification,
            missing=options.missing,
            on_error=self._failed,
        )

    async def _write(self, sync: Sync[Any], contacts: ContactPass, writer: SyncWriter) -> None:
        async with sync.run(autocommit=False) as run:
            self._run = run

            def stop() -> None:
                run.stop()
                contacts.stop()

            self.interrupts.drain(stop, _command.DRAIN)
            await writer.write(run)
        if not contacts.given and not self.failures.refused and self.interrupts.code is None:
            raise NoContacts

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        return self.failures.add(failure)
