"""`Export`: the events of many contacts, in the files of a folder."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Container, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from itertools import count
from typing import Any, Final, Literal

from attrs import evolve, fields

from .._api.event_requests import EventRequests, Missing
from .._client import NP6Client, runtime_of, settings_of
from .._columns.personal import Personal, PersonalKey, read_key
from .._config import check_concurrency
from .._errors import InvalidContact, InvalidInput, NP6Error
from .._models.actions import Action
from .._models.contacts import Contact, parse
from .._models.events import EventKind
from .._models.time_bounds import Bound, Every, isoformat
from .._protocol.event_query import ActionQuery, ContactQuery
from .._protocol.resume import Delivered
from .._streams.buffer import Failure
from .._streams.bulk_stream import BulkStream
from .._streams.contact_queue import ContactIterable, given, reusable
from .._streams.open_end import OpenEnd
from ._action_exporter import ActionExporter
from ._counts import Counts
from ._disk import acquired, in_thread
from ._end import End
from ._errors import FolderError, OtherQuery, Overtaken
from ._executor import SHARD_SIZE, Executor, check_executor
from ._exporter import Direct, Exporter, Fetcher
from ._fleet import Fleet
from ._folder import Folder
from ._intake import Intake
from ._ledger import Ledger
from ._location import storage_of
from ._manifest import Asked, Manifest, Query, zone_name
from ._only_ids import check_only
from ._part import Part, check_partitions
from ._report import ExportReport, report_of
from ._shard import Shard, contacts_stream
from ._worker import account_of, check_client
from ._writers import CsvDialect, Format, file_format

PART_BYTES: Final = 64 * 1024**2
PART_SECONDS: Final = 30.0
_MOST_WINDOWS: Final = 10_000
_OVERTAKEN: Final = 20  # times that a run may commit while another is about to begin
_NOW: Final = "now"

_MILLISECOND: Final = timedelta(milliseconds=1)
_UNITS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_LENGTH: Final = re.compile(r"([0-9]+)(ms|[smhdwSHDW])")


class Export:
    """An export of the events of many contacts into a folder of files, resumable after any end.

    A part is a file of whole contacts: all events of a contact are in one part (of each window of `every`). It appears
    when it is complete, and counts when the manifest names it; `read_report` gives the parts that count. There is
    nothing but parts in the folder, so readers take it as a whole. What else belongs to ``january`` is in the folder
    ``january.np6`` beside it: ``manifest.json``, and ``failures.txt`` with the contacts that failed. None of their
    events are in the parts, until a `run` with `retry_failed` takes them up again.

    Killed at any instant, the next `run` with the same arguments resumes at the last commit: no event is missing, none
    is there twice. (A contact that is given twice is fetched twice.)

    - `folder` and those that it lies in are created unless they exist. One process at a time exports to it. A text such
      as ``"s3://bucket/january"``, ``gs://`` or ``abfs://`` is a folder of an object store (extras ``s3``, ``gcs`` and
      ``azure``), in which the run that began last goes on and the one before ends.
    - `contacts` is any iterable or async iterable, of the same contacts in the same order in each run. With `every` it
      must be re-iterable (a list, or an object whose ``__iter__`` or ``__aiter__`` starts again). A `str` is a
      contact by `by`: ``"id"`` (the default), ``"unicity"`` or ``"hash"``, of which all contacts must be.
    - `account`: in place of contacts, the events of all contacts of the account, in one request, as `NP6Client.actions`
      has them; `action`: those of the action with this id. Parts then hold events in the order of time, each under the
      id of its recipient, and the next run goes on in the middle of the response. A failure ends the run.
    - `only`: with `account` or `action`, the ids of the contacts whose events are written, such as a set or an
      `OnlyIds`; the others are left out. The folder does not know the ids: pass the same in each run.
    - `kind`, `start`, `end`, `classification`, `missing` and `concurrency` are those of `Events.stream_many`. `end`
      (default: now) and a timedelta are fixed when the export begins: given again, they mean the same time. An `end` of
      now, or a timedelta before it, goes by this machine's clock or by the server's, whichever is behind the other.
    - `every` cuts the time from `start` on into windows of this length, at most 10,000, which are fetched one after the
      other: a timedelta, of a millisecond or more, or a text such as ``"6h"``; or days, weeks or months of the
      calendar as ``"1d"``, ``"1w"`` or ``"1mo"``, in the client's `tz` or else in UTC, see `Events.pages`.
    - `format` is ``"ndjson"``, ``"csv"`` or ``"parquet"`` (which needs the extra ``parquet``); `gzip` compresses the
      first two. `csv_dialect` ``"excel-fr"`` is CSV that Excel opens in French, with ``;`` and a byte order mark.
    - `personal`: ``"keep"`` (the default); ``"hash"`` replaces what names a person, e-mail addresses inside texts too,
      by its HMAC-SHA-256 under `personal_key`, a file that holds 16 bytes or more, or the bytes themselves; ``"drop"``
      leaves it out. Ids of contacts stay. The list of contacts that failed, beside the folder, is not changed.
    - `partition_by`: ``("kind", "day")``, one of them, or both in the other order: a part then is a file for each type
      of event and each day in UTC that it has events of, in folders as Hive has them: ``kind=hit/day=2026-01-31``.
      Events of no type are in ``kind=__HIVE_DEFAULT_PARTITION__``. They wait in 16 MiB of memory, then on the disk, and
      `part_bytes` counts what NP6 sent of them.
    - A part is closed at `part_bytes` (default 64 MiB), and `part_seconds` (default 30) after the last: the most that a
      kill costs.
    - `executor`: who has contacts fetched by other processes, such as `np6_async.integrations.dask.LocalWorkers(4)`;
      not with `account` and `action`. Each of them makes a client like `client`, with the API key of its environment,
      and gets `shard_size` contacts at a time (1 to 1,000,000, default 5,000): at most these are fetched again where
      it is killed. A part then ends with its shard, if not at `part_bytes`. The hooks of `client` hear nothing of them.
    - `on_failure` is called with the `Failure` of each contact, `on_progress` with the `Counts` after each contact;
      what they raise ends the run.

    Raises `InvalidInput` before any I/O.
    """

    def __init__(
        self,
        client: NP6Client,
        folder: str | os.PathLike[str],
        contacts: ContactIterable | None = None,
        kind: str = EventKind.ALL,
        *,
        account: bool = False,
        action: str | None = None,
        only: Container[str] | None = None,
        by: Literal["id", "unicity", "hash"] = "id",
        start: Bound | None = None,
        end: Bound | None = None,
        every: timedelta | str | None = None,
        classification: str | Iterable[str] | None = None,
        missing: Missing = "error",
        concurrency: int | None = None,
        format: Format = "ndjson",
        gzip: bool = False,
        partition_by: Sequence[str] = (),
        csv_dialect: CsvDialect = "rfc4180",
        personal: Personal = "keep",
        personal_key: PersonalKey = None,
        part_bytes: int = PART_BYTES,
        part_seconds: float = PART_SECONDS,
        executor: Executor | None = None,
        shard_size: int = SHARD_SIZE,
        on_failure: Callable[[Failure], object] | None = None,
        on_progress: Callable[[Counts], object] | None = None,
    ) -> None:
        if personal == "hash" and personal_key is not None and not isinstance(personal_key, bytes):
            personal_key = read_key(personal_key)  # once: it may be a pipe
        self._format = file_format(
            format, gzip=gzip, csv_dialect=csv_dialect, personal=personal, personal_key=personal_key
        )
        self._personal_key = personal_key if isinstance(personal_key, bytes) else None
        check_part(part_bytes, part_seconds)
        partitions = check_partitions(partition_by)
        self._storage = storage_of(folder)
        if by not in ("id", "unicity", "hash"):
            raise InvalidInput(f"by={by!r} is not known; use 'id', 'unicity' or 'hash'")
        if (contacts is not None) + (action is not None) + bool(account) != 1:
            raise InvalidInput("an export takes contacts, or action=, or account=True for all actions: one of them")
        of_actions = contacts is None
        if not isinstance(account, bool):
            raise InvalidInput("account must be True or False; for the events of one action pass action=")
        if of_actions and by != "id":
            raise InvalidInput("by= is for exports of contacts; the events of actions name theirs themselves")
        self._action = Action(action)
        if of_actions and every is not None:
            raise InvalidInput("every= is for exports of contacts; those of actions come in the order of time anyway")
        if only is not None and not of_actions:
            raise InvalidInput("only= is for exports of actions; pass the contacts themselves")
        requests = self._requests = EventRequests(runtime_of(client), ActionQuery if of_actions else ContactQuery)
        now = requests.now()
        length = None if every is None else Every.read(every, requests.runtime.tz)
        calendar = length is not None and length.unit != "ms"
        query = requests.query(kind, start, now if end is None else end, classification, missing=missing)
        self._by: Literal["id", "unicity", "hash"] = by
        self._query = Query(
            kind=query.kind.value,
            by="action" if of_actions else by,
            start=None if query.window.start is None else isoformat(query.window.start),
            end=isoformat(query.window.end or 0),
            classification=query.classification,
            missing=missing,
            every=None if length is None else length.text if calendar else length.count,
            format=format,
            gzip=self._format.gzip,
            csv_dialect=csv_dialect,
            personal=personal,
            personal_key=self._format.mask.fingerprint if self._format.mask else "",
            tz=zone_name(length.zone) if length is not None and calendar else None,
            action=self._action.id,
            only=only is not None,
            partition_by=partitions,
        )
        self._end: OpenEnd | None = None
        if end is None or isinstance(end, timedelta):
            before = 0 if end is None else end // _MILLISECOND
            self._end = OpenEnd(requests.runtime.server_clock, query.window.end or 0, before)
        self._asked = Asked(
            start=_length(start) if isinstance(start, timedelta) else None,
            end=_NOW if end is None else _length(end) if isinstance(end, timedelta) else None,
        )
        if every is not None and self._query.start is None:
            raise InvalidInput("every= needs start=: the time from there on is cut into windows")
        if (windows := self._query.windows) > _MOST_WINDOWS:
            raise InvalidInput(
                f"every= makes {windows:,} windows of this time; make it longer, for at most {_MOST_WINDOWS:,}"
            )
        self._executor = check_executor(executor, shard_size)
        if executor is not None:
            if of_actions:
                raise InvalidInput("executor= is for contacts: the events of actions are one response, for one process")
            check_client(client)
        self._shard_size = shard_size
        self._client = client
        self._contacts: Any = None
        if not of_actions:
            self._contacts = given(contacts) if every is None else reusable(contacts)
        self._only = check_only(only)
        self._concurrency = requests.runtime.concurrency
        if concurrency is not None:
            self._concurrency = check_concurrency(concurrency, InvalidInput)
        self._part_bytes = part_bytes
        self._part_seconds = part_seconds
        self._on_failure: Callable[[Failure], object] = on_failure or _ignore
        self._on_progress: Callable[[Counts], object] = on_progress or _ignore
        self._exporter: Exporter | ActionExporter | None = None
        self._stopped = False
        self._passes = self._invalid = self._unnamed = 0
        self._result: ExportReport | None = None

    @property
    def windows(self) -> int:
        """How many windows `every` makes; 1 without it."""
        return max(1, self._query.windows)

    @property
    def report(self) -> ExportReport | None:
        """What the last `run` has left in the folder, however it ended; None where it could not use the folder."""
        return self._result

    async def run(self, *, resume: bool = True, retry_failed: bool = False) -> ExportReport:
        """Export what the folder lacks; returns when the export is complete, or was stopped.

        With ``resume=False`` a folder that holds events of an earlier run is refused. With `retry_failed`, the contacts
        that failed in earlier runs are fetched once more, first of all; those that are done then leave the file of
        those that failed, which gets another name, see `ExportReport.failures`. Of an export that is complete, the
        contacts are read and compared, unless they come from an iterator.

        Raises `FolderError` and, as one of these, `OtherQuery`; `InputChanged`; `NoContacts`; whatever ends a
        `BulkStream` that goes on after failures, such as `AuthError` and, in an outage, `ServiceUnavailable`; what the
        contacts raise; OSError where the disk fails; with an `executor`, also `WorkersLost`, and `ConfigError` where a
        worker has no API key, or another one. What was done before is then committed, also when the task is
        cancelled, except after an OSError. A folder with nothing in it is left as it was.
        """
        self._passes = self._invalid = self._unnamed = 0
        self._result = None
        with await acquired(lambda: self._enter(resume=resume)) as folder:
            try:
                await self._run(folder, retry_failed=retry_failed)
            finally:
                if isinstance(self._exporter, ActionExporter):
                    self._unnamed = self._exporter.unnamed
                self._exporter = None
                report = report_of(self._storage, folder.manifest)
                self._result = evolve(report, invalid=self._invalid, unnamed=self._unnamed)
                if folder.manifest.blank:
                    with suppress(OSError, FolderError):
                        await in_thread(folder.forget)
        return self._result

    async def _run(self, folder: Folder, *, retry_failed: bool) -> None:
        complete = folder.manifest.complete
        end = End(folder, self._end if folder.manifest.blank else None)
        if self._contacts is None:
            actions = self._exporter = self._make_action_exporter(folder, end)
            if self._stopped:
                actions.stop()
            if not complete:
                await actions.run()
            return
        exporter = self._exporter = self._make_exporter(folder, end)
        if self._stopped:
            exporter.stop()
        async with AsyncExitStack() as stack:
            if self._executor is not None and (not complete or (retry_failed and folder.manifest.failed)):
                await stack.enter_async_context(self._executor)
            if retry_failed:
                await exporter.retry()
            if not complete:
                await exporter.run()
        if self._executor is not None:
            await in_thread(folder.tidy)  # workers that were thought dead may have left something
        if complete and not hasattr(self._contacts, "__next__") and not hasattr(self._contacts, "__anext__"):
            await exporter.check_input()

    def stop(self) -> None:
        """Begin no more contacts: `run` returns when those in flight have ended, with everything committed.

        An export of actions ends after the events at hand. Workers leave to the next run the contacts in flight that
        have not ended 4 seconds later.
        """
        self._stopped = True
        if self._exporter is not None:
            self._exporter.stop()

    # The folder

    def _enter(self, *, resume: bool) -> Folder:
        """Begin an export, or resume the one that is there."""
        for _ in range(_OVERTAKEN):
            with suppress(Overtaken):  # the run that is to end has committed once more
                return self._enter_once(resume=resume)
        return self._enter_once(resume=resume)

    def _enter_once(self, *, resume: bool) -> Folder:
        storage = self._storage
        folder = Folder(storage, self._format)
        found = folder.found
        try:
            if found is None or (found.blank and not resume):
                folder.begin(self._query, self._asked, self._query.start if self._query.every is not None else None)
                return folder
            if not resume:
                raise FolderError(f"{storage.place!r} holds an export already; resume it, or export to another folder")
            self._query = _same_query(storage.place, found, self._query, self._asked)
            folder.resume()
        except BaseException as error:
            folder.close()
            if isinstance(error, OSError) and not isinstance(error, NP6Error):
                raise storage.failed(error) from None
            raise
        return folder

    def _make_action_exporter(self, folder: Folder, end: End) -> ActionExporter:
        rows = folder.manifest.rows
        query = folder.manifest.query
        asked = self._requests.query(query.kind, query.start, end.query.end, query.classification, False, query.missing)

        def fetch(delivered: Delivered | None) -> BulkStream[Any, Any]:
            return self._requests.bulk([self._action], lambda _: asked, 1, "collect", delivered=delivered)

        exporter = ActionExporter(
            folder,
            end,
            fetch,
            asked.progress,
            part_bytes=self._part_bytes,
            part_seconds=self._part_seconds,
            report=lambda: self._on_progress(Counts(0, 0, rows + exporter.events, exporter.reached, exporter.retries)),
            only=self._only,
        )
        return exporter

    def _make_exporter(self, folder: Folder, end: End) -> Exporter:
        before = folder.manifest

        query = before.query

        def fetch(contacts: Ledger, start: str | None, end: str) -> BulkStream[Any, Any]:
            return contacts_stream(self._client, query, contacts, start, end, self._concurrency)

        def report() -> None:
            now = exporter.counts
            done, failed, events = before.contacts + now.done, before.failed + now.failed, before.rows + now.events
            self._on_progress(Counts(done, failed, events, retries=now.retries))

        def direct(exporter: Exporter) -> Direct:
            async def commit(part: Part | None) -> None:
                await exporter.commit([] if part is None else [part])

            intake = Intake(
                folder.storage.scratch,
                lambda: folder.new_part(exporter.window),
                commit,
                exporter,
                part_bytes=self._part_bytes,
                part_seconds=self._part_seconds,
                concurrency=self._concurrency,
                before=end.before,
            )
            return Direct(exporter, intake, fetch)

        fetcher: Callable[[Exporter], Fetcher] = direct
        if self._executor is not None:
            fetcher = self._fleets(self._executor, query, folder.storage.run)
        exporter = Exporter(folder, end, self._read, fetcher, fetch, self._on_failure, report)
        return exporter

    def _fleets(self, executor: Executor, query: Query, run: str) -> Callable[[Exporter], Fleet]:
        """What makes the fleet of each window. To the workers they are one: they keep the client that they have."""
        salt = secrets.token_bytes(16)
        shard = Shard(
            where=self._storage.where,
            number=0,
            query=query,
            run=run,
            start=None,
            end="",
            client=evolve(settings_of(self._client), concurrency=self._concurrency),
            salt=salt,
            account=account_of(self._client, salt),
            part_bytes=self._part_bytes,
            personal_key=self._personal_key,
            contacts=(),
        )
        asked = self._requests.query(query.kind, None, None)

        async def ask(contact: Contact) -> None:
            await self._requests.measure_clock(contact, asked)

        names = (f"np6-{salt[:4].hex()}-{number:06d}" for number in count(1))
        return lambda exporter: Fleet(exporter, executor, names, shard, self._shard_size, ask)

    # The contacts

    async def _read(self) -> AsyncGenerator[Contact, None]:
        """A pass over the contacts, without those that are not valid."""
        self._passes += 1
        if isinstance(self._contacts, AsyncIterable):
            iterator = aiter(self._contacts)
            try:
                async for each in iterator:
                    if (contact := self._parse(each)) is not None:
                        yield contact
            finally:
                if (close := getattr(iterator, "aclose", None)) is not None:
                    await close()
        else:
            for contact in filter(None, map(self._parse, self._contacts)):
                yield contact

    def _parse(self, each: str | Contact) -> Contact | None:
        try:
            contact = Contact(self._by, each) if isinstance(each, str) else parse(each)
        except InvalidContact as error:
            if self._passes == 1:  # later passes find the same
                self._invalid += 1
                self._on_failure(Failure.of(each, error))
            return None
        if contact.kind != self._query.by:
            raise InvalidInput(f"a contact by {contact.kind} is among the contacts, and by={self._query.by!r}")
        return contact


def _ignore(_: object) -> None:
    """For a callback that was not given."""


def check_part(part_bytes: int, part_seconds: float) -> None:
    """Raise `InvalidInput` where a part cannot have these bounds."""
    if part_bytes < 1 or not 0 < part_seconds < float("inf"):
        raise InvalidInput("part_bytes must be a whole number from 1, and part_seconds a number above 0")


def _same_query(place: str, found: Manifest, query: Query, asked: Asked) -> Query:
    """The query of the export that was `found`, if that is what is asked for; else raises `OtherQuery`."""
    if asked.start is not None and asked.start == _normal(found.asked.start):
        query = evolve(query, start=found.query.start)
    if asked.end is not None and asked.end == _normal(found.asked.end):
        query = evolve(query, end=found.query.end)
    before, every = found.query.every, query.every
    if isinstance(before, int) and isinstance(every, str) and _normal(every) == _length(before * _MILLISECOND):
        query = evolve(query, every=before, tz=None)  # from when a day always had 24 hours
    for field in fields(Query):
        old, new = getattr(found.query, field.name), getattr(query, field.name)
        if old != new:
            if field.name == "personal_key":
                old, new = "another key", "this one"
            if field.name == "every":
                old, new = (every * _MILLISECOND if isinstance(every, int) else every for every in (old, new))
            error = OtherQuery(
                f"{place!r} holds another export: it was begun with {field.name}={old!r}, not {new!r}; repeat the "
                "arguments it was begun with, or export to another folder"
            )
            error.name, error.found, error.given = field.name, old, new
            raise error
    return query


def _length(span: timedelta) -> str:
    """A length of time in its greatest unit: ``7d`` and ``168h`` are both ``1w``."""
    whole = span // _MILLISECOND
    unit = next(unit for unit, size in _UNITS.items() if whole % size == 0)
    return f"{whole // _UNITS[unit]}{unit}"


def _normal(asked: str | None) -> str | None:
    """What a manifest has kept of a bound, as `_length` writes it."""
    match = _LENGTH.fullmatch(asked or "")
    return _length(int(match[1]) * _UNITS[match[2].lower()] * _MILLISECOND) if match else asked
