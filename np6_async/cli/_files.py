"""What `np6 export` and `np6 sync` have in common: they write folders of files, and drain at a signal."""

from __future__ import annotations

import time
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

from ..export import Counts
from ._command import Command
from ._contact_input import ContactInput
from ._time_options import BadBound, read_span


class FilesCommand(Command):
    """One run of a command that writes files of events into the folder `--output`."""

    counts = Counts(0, 0, 0)

    def prepare(self, stack: ExitStack) -> None:
        options = self.options
        for name in ("output", "state"):
            if getattr(options, name, None) == "":
                self.refuse(f"--{name}: the name is empty")
        if options.format == "parquet" and options.gzip:
            self.refuse("--gzip is for ndjson and csv: parquet is compressed already")
        if options.format == "parquet" and find_spec("pyarrow") is None:
            self.refuse("--format parquet needs pyarrow: pip install 'np6_async[parquet]'")
        end = getattr(options, "end", None)  # a sync has none
        try:
            self.span = read_span(options.start, end, options.tz)
        except BadBound as error:
            self.refuse(str(error))
        if self.span.future and end is None:
            self.refuse(f"--start {options.start} lies in the future, where there are no events yet")
        self.input = ContactInput(self, stack)

    @property
    def part_options(self) -> dict[str, Any]:
        """The options of the files, as `Export` and `SyncWriter` take them."""
        options = self.options
        return {
            "format": options.format,
            "gzip": options.gzip,
            "part_bytes": options.part_size,
            "part_seconds": options.part_time,
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
        self.progress.update(counts.done + counts.failed, counts.events, self.watch.retries, counts.failed)
