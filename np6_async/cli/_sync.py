"""`np6 sync`: the events that no earlier run has fetched, into files; the state file says which these are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Literal

from .. import BulkStats, Failure, InvalidInput, NP6Client, StoreError
from ..export import NoContacts, SyncWriter
from ..sync import SQLiteStore, Sync, SyncRun
from ._action_input import ActionInput
from ._command import FilesCommand
from ._contact_input import ContactInput, ContactPass
from ._exit import DONE, SOME_FAILED, USAGE
from ._messages import count
from ._progress import for_files


class SyncCommand(FilesCommand):
    """One run of `np6 sync`."""

    _run: SyncRun[Any] | None = None

    async def fetch(self, np6: NP6Client) -> int:
        options, given = self.options, self.input
        if isinstance(given, ContactInput):
            given.client = np6
            self.progress = for_files(options, await given.count(), self.say)
            writer = SyncWriter(options.output, options.kind, **self.part_options)
            async with aclosing(aiter(given)) as contacts:
                sync = self._make_sync(np6, contacts=contacts)
                code, stopped = await self.ended(self._write_contacts(sync, writer, contacts))
        else:
            self.progress = for_files(options, None, self.say)
            writer = SyncWriter(options.output, options.kind, only=given.only, **self.part_options)
            sync = self._make_sync(np6, **given.sync_of)
            code, stopped = await self.ended(self._write_actions(sync, writer, given))
        if self._run is None or (code == USAGE and stopped is None):
            if stopped is not None:
                self.say(stopped)
            return code
        if code == DONE and self.interrupts.code is not None:
            code, stopped = self.interrupts.code, self.interrupts.cause
        elif code == DONE and self.failures.count:
            code = SOME_FAILED
        files = f"{count(writer.written, 'new event')} in {count(len(writer.files), 'file')} in {options.output}"
        self.summarise(stopped, [*self._done(self._run.stats), files], *self._end(self._run), *self._left_out(writer))
        return code

    @property
    def done(self) -> int:
        return 0 if self._run is None else self._run.stats.done

    def outcome_of(self, error: Exception) -> tuple[int, str | None]:
        if self._run is None and isinstance(error, StoreError | InvalidInput):
            self.refuse(f"--state {self.options.state!r}: {error}")
        return super().outcome_of(error)

    def _make_sync(self, np6: NP6Client, **subjects: Any) -> Sync[Any]:
        options = self.options
        sync: Sync[Any] = Sync(
            np6,
            SQLiteStore(options.state),
            kind=options.kind,
            overlap=options.overlap,
            safety=options.safety,
            start=self.span.start,
            classification=options.classification,
            missing=options.missing,
            on_error=self._failed,
            **subjects,
        )
        return sync

    async def _write_contacts(self, sync: Sync[Any], writer: SyncWriter, contacts: ContactPass) -> None:
        await self._write(sync, writer, contacts.stop)
        if not contacts.given and not self.failures.refused and self.interrupts.code is None:
            raise NoContacts

    async def _write_actions(self, sync: Sync[Any], writer: SyncWriter, given: ActionInput) -> None:
        await given.read_only_ids()
        await self._write(sync, writer)

    async def _write(self, sync: Sync[Any], writer: SyncWriter, stop: Callable[[], None] | None = None) -> None:
        async with sync.run(autocommit=False) as run:
            self._run = run

            def drain() -> None:
                run.stop()
                if stop is not None:
                    stop()

            self.interrupts.drain(drain, self.drain)
            await writer.write(run)

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        return self.failures.add(failure)

    # What is said

    def _done(self, stats: BulkStats) -> list[str]:
        if isinstance(self.input, ActionInput) and self.input.single:
            return ["failed, the next run will resume it"] if stats.failed else []
        done = [f"{count(stats.done, 'contact' if isinstance(self.input, ContactInput) else 'action')} done"]
        return [*done, f"{stats.failed:,} failed, the next run will resume them"] if stats.failed else done

    def _end(self, run: SyncRun[Any]) -> list[str]:
        """The time up to which all is fetched, but for contacts and actions that failed."""
        if isinstance(self.input, ActionInput) and self.input.single and not run.stats.done:
            return []
        return [f"up to {datetime.fromtimestamp(run.end // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"]

    def _left_out(self, writer: SyncWriter) -> list[str]:
        return self.input.left_out(writer.unnamed) if isinstance(self.input, ActionInput) else []
