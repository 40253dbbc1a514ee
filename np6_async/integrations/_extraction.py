"""What a resource of dlt yields: tables of the events that no run before has loaded.

dlt iterates over a generator in the thread that runs the pipeline, and takes one table after the other. What is
asynchronous runs in a loop of its own, a step for each table, and not as an async generator in dlt's loop: that one may
produce an item that dlt drops (``add_limit``), after its progress was noted, and when dlt ends early it stops the loop
before a client is closed. A generator that dlt drives knows that what it yielded was taken, and is closed in order.

So progress is noted just before a table is yielded. It counts together with the table, because dlt keeps the state of
a resource only if the extraction succeeds, in one package with what was extracted.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import dlt
import pyarrow as pa
from attrs import frozen
from dlt.common.data_types.typing import TDataType
from dlt.common.schema.typing import TColumnSchema
from dlt.extract import DltResource

from .._client import NP6Client
from .._columns import buffers
from .._columns.arrow import SCHEMA, BatchBuilder
from .._columns.personal import Mask
from .._columns.schema import COLUMNS
from .._http.observations import logger
from .._models.contacts import Contact
from .._models.convert import dumps, loads
from .._models.events import Event, EventKind
from ..sync import Store, Sync, SyncRun

T = TypeVar("T")

KEY: Final = "event_key"
# Events in a table, and their JSON. Progress is noted for so many at once.
ROWS: Final = 10_000
BYTES: Final = 16 * 1024 * 1024
# JSON is text: not every destination takes JSON out of Parquet files.
_TYPES: Final[dict[str, TDataType]] = {"text": "text", "json": "text", "time": "timestamp"}
_KEYS: Final[Any] = pa.field(KEY, pa.string(), nullable=False)
# Times in microseconds, which is what dlt has by default: some destinations do not take others with a time zone.
_COLUMNS: Final[Any] = pa.schema(
    [field.with_type(pa.timestamp("us", tz="UTC")) if pa.types.is_timestamp(field.type) else field for field in SCHEMA]
)


@frozen
class Extraction:
    """How the events of one kind are extracted, again in each run. `make_client` is called in each of them."""

    kind: EventKind
    make_client: Callable[[], NP6Client]
    make_sync: Callable[[NP6Client, Store, EventKind], Sync[Any]]
    mask: Mask | None

    def resource(self) -> DltResource:
        """The resource, which is selected if it is that of all kinds."""

        def tables() -> Iterator[Any]:  # dlt marks what it gets, which a method does not allow
            return self.tables()

        return dlt.resource(
            tables,
            name="events" if self.kind is EventKind.ALL else self.kind.value.replace("/", "_"),
            columns=hints(),
            primary_key=KEY,
            write_disposition="merge",
            selected=self.kind is EventKind.ALL,
        )

    def tables(self) -> Iterator[Any]:
        """Arrow tables of 1 to 10,000 events, or up to 255 more."""
        state = ResourceState(dlt.current.resource_state().setdefault("sync", {}))
        metrics = dlt.current.resource_metrics()
        with Loop() as loop:
            tables = self._tables(state, metrics)
            try:
                while (table := loop.run(_next(tables))) is not None:
                    yield table
            finally:
                loop.run(tables.aclose())

    async def _tables(self, state: Store, metrics: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """One table after the other, each of which counts as taken when it is yielded."""
        async with (
            self.make_client() as np6,
            self.make_sync(np6, state, self.kind).run(autocommit=False) as run,
        ):
            builder = Tables(self.mask)
            async for contact, events in run.batches():
                builder.add(None if run.by_recipient else contact, events)
                if builder.full:
                    table = builder.build()
                    await run.commit()
                    yield table
            if builder.rows:
                table = builder.build()
                await run.commit()
                yield table
            _report(run, metrics)


async def _next(tables: AsyncGenerator[Any, None]) -> Any:
    return await anext(tables, None)


def _report(run: SyncRun[Any], metrics: dict[str, Any]) -> None:
    stats = run.stats
    metrics.update(contacts_done=stats.done, contacts_failed=stats.failed, requests=stats.requests)
    kinds = Counter(type(failure.error).__name__ for failure in run.failures)
    if kinds:
        logger.warning(
            "contacts that failed: %d (%s); the next run of the pipeline resumes them",
            kinds.total(),
            ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common()),
        )


def hints() -> dict[str, TColumnSchema]:
    """What dlt is told about each column, so that it infers nothing."""
    found: dict[str, TColumnSchema] = {KEY: {"data_type": "text", "nullable": False, "primary_key": True}}
    for column in COLUMNS:
        found[column.name] = {"data_type": _TYPES[column.type], "nullable": not column.required}
    return found


class Tables:
    """Makes Arrow tables of events, with a key for each."""

    def __init__(self, mask: Mask | None) -> None:
        self._builder = BatchBuilder(mask)
        self._keys: list[str] = []

    @property
    def rows(self) -> int:
        """How many events were added since the last table."""
        return self._builder.rows

    @property
    def full(self) -> bool:
        """Whether it is time to `build`."""
        return self._builder.rows >= ROWS or self._builder.bytes >= BYTES

    def add(self, contact: str | Contact | None, events: Sequence[Event]) -> None:
        """Add events of a contact; None: of many."""
        self._keys += map(_key, self._builder.add(contact, events), events)

    def build(self) -> Any:
        """A table of what was added since the last."""
        columns = pa.Table.from_batches([self._builder.build()]).cast(_COLUMNS)
        keys, self._keys = self._keys, []
        return columns.add_column(0, _KEYS, [buffers.texts(keys)])


def _key(contact: str | None, event: Event) -> str:
    """What is the same whenever the event is delivered, and no other event has."""
    if event.id:
        return event.id if event.id.isascii() else str(loads(dumps(event.id)))
    return f"raw:{blake2b((contact or '').encode() + b'/' + event.raw, digest_size=16).hexdigest()}"


class ResourceState:
    """The `Store` of a sync, in the state of a resource.

    Contacts that are not named by id are personal data, and the state is a table of the warehouse: they are kept under
    a digest.
    """

    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values

    async def open(self) -> None:
        """dlt has one run of a pipeline at a time."""

    async def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store`."""
        found = ((name, self._values.get(_stored(name))) for name in names)
        return {name: value for name, value in found if value is not None}

    async def write(self, values: Mapping[str, bytes]) -> None:
        """See `Store`. An empty value is a page that is not needed any more."""
        for name, value in values.items():
            if value:
                self._values[_stored(name)] = value
            else:
                self._values.pop(_stored(name), None)

    async def close(self) -> None:
        """Nothing is open."""


def _stored(name: str) -> str:
    kind, colon, _ = name.partition(":")
    if not colon or kind in {"id", "account", "action"}:
        return name
    return f"{kind}:{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


class Loop:
    """An event loop in a thread of its own, to be entered: the caller's thread may run one, as that of a notebook."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="np6_async extraction")
        self._runner = asyncio.Runner()
        self._begun = threading.Event()
        self._task: asyncio.Task[Any] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises. An interrupt of the caller, such as Ctrl-C, cancels it."""
        self._begun.clear()
        future = self._thread.submit(self._run, work)
        try:
            return future.result()
        finally:
            if not future.done():
                self._begun.wait()
                assert self._task is not None
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._thread:  # after the last work, which may have been cancelled
            self._thread.submit(self._runner.close).result()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(self._as_task(work))

    async def _as_task(self, work: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        self._begun.set()
        return await work
