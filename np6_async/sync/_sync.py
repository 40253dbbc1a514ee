"""`Sync`: what is fetched repeatedly, and where its state is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from attrs import evolve

from .._api.actions import ActionIterable
from .._api.event_requests import EventRequests, Missing
from .._api.kinds import Activations, Bounces, Cancellations, Hits, Stops
from .._client import NP6Client, runtime_of
from .._errors import InvalidInput, UsageError
from .._http.observations import logger
from .._http.server_clock import duration
from .._models.actions import Action
from .._models.events import Activation, Bounce, Cancellation, Event, EventKind, Hit, Optout
from .._models.time_bounds import Bound, isoformat, to_millis
from .._protocol.event_query import ActionQuery, ContactQuery, EventQuery
from .._streams.bulk_stream import BulkStream
from .._streams.contact_queue import ContactIterable, given
from .._streams.failures import ErrorPolicy, Failures
from .._streams.open_end import OpenEnd
from ._checkpoints import Checkpoints
from ._lending import Lending, Terms
from ._run import SyncRun
from ._state import PagedState, State
from ._store import Store

E = TypeVar("E", bound=Event)

_MILLISECOND = timedelta(milliseconds=1)


class SyncOptions(TypedDict, total=False):
    """Options of `Sync`."""

    account: bool
    actions: ActionIterable | None
    overlap: timedelta
    safety: timedelta
    start: Bound | None
    classification: str | Iterable[str] | None
    missing: Missing
    concurrency: int | None
    on_error: ErrorPolicy


class Sync(Generic[E]):
    """The events of many contacts, or of a whole account, each of them once, over any number of runs.

    A `run` delivers what no run before has delivered. It requests the events of each contact up to `safety` before now,
    from `overlap` before the end of the last response; those of the overlap that were delivered already are recognised
    by their ids, or by a digest and a count where they have none. So an event is found if NP6 publishes it at most
    ``overlap + safety`` after its timestamp. A contact that `store` does not know gets all its events, from `start` on.
    `np6_async.sync` says what is guaranteed when things go wrong.

    - `store`: an `SQLiteStore` or another `Store`; one for each sync, it is bound to `kind`, `classification` and
      whether the sync is of contacts, of actions or of the account.
    - `contacts`: any iterable or async iterable, read in each run from the first on and up to 500 ahead. An iterator,
      such as a generator or ``np6.segments.contacts(41)``, works for one run only. A contact that is named twice is
      fetched once; if it has failed before the run reads its second mention, which may happen where more than 500
      contacts lie between them, it is tried again, and may be reported as a failure twice.
    - `account`: in place of contacts, the events of all contacts of the account, in one request a run, as
      `NP6Client.actions` has them, with what is said there about the types of events. There is one watermark, and the
      ids of the overlap are kept in the store, however many there are; in memory are at most 24,576 of them, and a page
      for every 8,192 late ones, 6 MiB or so. Each event names its own contact, see `Event.recipient`.
    - `actions`: in place of contacts, the ids of some actions, with one request each.
    - `overlap`: from 0; it may change between runs, and a longer one takes effect over time. At most the latest 10,000
      events of a contact's overlap are remembered: where there are more, its overlap begins after the others. That of
      actions and of the account has no such limit.
    - `safety`: from 0; events younger than this are left to the next run, because others may still appear before them.
    - `start`, `kind`, `classification`, `missing`, `concurrency` and `on_error` are those of `Events.stream_many`,
      except for the default ``on_error="collect"``. With ``missing="empty"`` an unknown contact has no events up to
      now. Where `start` lies in the future, nothing is requested until then.

    "Now" is when `run` is called, by `RetryPolicy.wall_clock` of `client` or, if that is ahead of the server's clock,
    which the ``Date`` of its responses shows, by the server's: a clock that is wrong loses no events. A contact whose
    progress lies in the future by both clocks, because a clock was ahead when it was written, is fetched again, as far
    back as is needed to lose nothing; that is logged as a warning. Raises `InvalidInput` before any I/O.
    """

    @overload
    def __init__(
        self: Sync[Activation],
        client: NP6Client,
        store: Store,
        contacts: ContactIterable | None,
        kind: Activations,
        **options: Unpack[SyncOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Sync[Cancellation],
        client: NP6Client,
        store: Store,
        contacts: ContactIterable | None,
        kind: Cancellations,
        **options: Unpack[SyncOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Sync[Bounce],
        client: NP6Client,
        store: Store,
        contacts: ContactIterable | None,
        kind: Bounces,
        **options: Unpack[SyncOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Sync[Optout],
        client: NP6Client,
        store: Store,
        contacts: ContactIterable | None,
        kind: Stops,
        **options: Unpack[SyncOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Sync[Hit],
        client: NP6Client,
        store: Store,
        contacts: ContactIterable | None,
        kind: Hits,
        **options: Unpack[SyncOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Sync[Event],
        client: NP6Client,
        store: Store,
        contacts: ContactIterable | None = ...,
        kind: str = ...,
        **options: Unpack[SyncOptions],
    ) -> None: ...

    def __init__(
        self,
        client: NP6Client,
        store: Store,
        contacts: ContactIterable | None = None,
        kind: str = EventKind.ALL,
        *,
        account: bool = False,
        actions: ActionIterable | None = None,
        overlap: timedelta = timedelta(minutes=5),
        safety: timedelta = timedelta(minutes=2),
        start: Bound | None = None,
        classification: str | Iterable[str] | None = None,
        missing: Missing = "error",
        concurrency: int | None = None,
        on_error: ErrorPolicy = "collect",
    ) -> None:
        if not isinstance(client, NP6Client):
            raise InvalidInput(f"client must be an NP6Client, not {type(client).__name__}")
        if isinstance(store, type):
            raise InvalidInput(f"store must not be the class {store.__name__}: pass an instance, {store.__name__}(...)")
        if not isinstance(store, Store):
            raise InvalidInput(f"store must be a Store such as SQLiteStore('state.db'), not {type(store).__name__}")
        for name, value in (("overlap", overlap), ("safety", safety)):
            if not isinstance(value, timedelta) or value < timedelta(0):
                raise InvalidInput(f"{name} must be a timedelta from 0, not {value!r}")
        if not isinstance(account, bool):
            raise InvalidInput("account must be True or False; for the events of some actions pass actions=")
        if (contacts is not None) + (actions is not None) + account != 1:
            raise InvalidInput("a sync takes contacts, or actions=, or account=True for all actions: one of the three")
        self._client = client
        self._store = store
        self._state = State if actions is None and not account else PagedState
        self._subjects: Any
        query_class: type[EventQuery[Any]]
        if account:
            self._name, self._subjects, query_class = "account", ["all"], ActionQuery
        elif actions is not None:
            self._name, self._subjects, query_class = "actions", given(actions, "actions"), ActionQuery
        else:
            self._name, self._subjects, query_class = "", given(contacts), ContactQuery
        self._parse: Callable[[Any], Any] = (lambda _: Action()) if account else query_class.parse
        self._requests = requests = EventRequests(runtime_of(client), query_class)
        self._read = False  # by a run
        self._overlap = overlap
        self._concurrency = concurrency
        self._on_error: ErrorPolicy = on_error
        self._missing: Missing = missing
        self._safety = safety
        self._query = partial(requests.query, kind, start, None, classification, missing=missing)
        self._bulk = partial(requests.bulk, concurrency=concurrency, on_error=on_error, parse=self._parse)
        self.run()  # refuse invalid arguments now, and not at the first run

    def run(self, *, autocommit: bool = True) -> SyncRun[E]:
        """A run, to be entered with ``async with``. Runs with one store must follow each other.

        With `autocommit`, a batch counts as written when the next one is requested, and the state is saved every 500
        contacts, about every second, and at the end. Without it, events count as written only after `SyncRun.commit`.
        """
        return self._run(None, autocommit=bool(autocommit))

    def _run(self, until: int | None, *, autocommit: bool, known: bool = False) -> SyncRun[E]:
        requests, clock = self._requests, self._requests.runtime.server_clock
        if until is None:
            until = to_millis(self._safety, name="safety", now=requests.now(), tz=None)
        end = OpenEnd(clock, until, self._safety // _MILLISECOND, strict=False)  # `safety` covers a second
        query = self._query()
        overlap = self._overlap // _MILLISECOND
        measured = warned = False

        def begin(kept: bytes | None) -> State:
            if kept is None:
                return self._state(overlap, query.window.start)
            return self._state.decode(overlap, kept)

        async def review(states: dict[Any, State]) -> None:
            nonlocal measured, warned
            for contact, state in states.items():
                watermark = (state.watermark or 0) / 1000
                if not clock.lies_ahead(watermark):
                    continue
                if not measured:
                    measured = True
                    await requests.measure_clock(contact, query)
                if clock.lies_ahead(watermark) and clock.known:
                    state.take_back(query.window.start)
                    if not warned:
                        warned = True
                        logger.warning(
                            "the state of this sync lies %s in the future: a clock was ahead when it was written. The "
                            "contacts concerned are fetched again; events of theirs may come twice",
                            duration(watermark - clock.now()),
                        )

        checkpoints = Checkpoints(
            self._store, self._bound_to(query), self._given, self._parse, begin, review, requests.runtime.policy.clock
        )

        def query_of(contact: Any) -> EventQuery[Any]:
            return evolve(query, window=checkpoints.of(contact).window(end.ms))

        bulk: BulkStream[Any, E] = self._bulk(checkpoints.read_ahead(), query_of, known=known)
        lending = None
        if not self._name:
            start = None if query.window.start is None else isoformat(query.window.start)
            terms = Terms(
                query.kind.value, until, self._overlap, self._safety, start, query.classification, self._missing
            )
            lending = Lending(self._client, terms, self._concurrency, Failures(self._on_error), checkpoints)
        return SyncRun(bulk, checkpoints, end, autocommit=autocommit, by_recipient=bool(self._name), lending=lending)

    def _given(self) -> Any:
        """The contacts, for a run that reads the first of them."""
        if self._read and (hasattr(self._subjects, "__next__") or hasattr(self._subjects, "__anext__")):
            raise UsageError(
                "the contacts of this Sync are an iterator, which an earlier run has read; make another Sync for each "
                "run, or pass a list or an object whose __iter__ starts again"
            )
        self._read = True
        return self._subjects

    def _bound_to(self, query: EventQuery[Any]) -> str:
        """What a state is bound to, whatever the order of the robot classes."""
        classes = sorted(set(query.classification.split(","))) if query.classification else []
        return " ".join([*filter(None, [self._name]), query.kind.value, *classes])


def run_until(sync: Sync[Any], end: int, *, known: bool) -> SyncRun[Any]:
    """A run without autocommit up to that time, in epoch milliseconds, or the server's if that is earlier.

    `known`: other runs have found the address right, even if the first contacts of this one get a 404.
    """
    return sync._run(end, autocommit=False, known=known)  # noqa: SLF001 - the door itself
