"""`FakeNP6`: the events API on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import msgspec

from ._account import ACTION_KINDS, KINDS, Account, History, Redlisted, entry_of, of_kind, without_type
from ._app import App, RequestSeen, difference, pattern
from ._factories import ANCHOR, Json, Names, milliseconds
from ._faults import Fault
from ._generated_events import ROBOTS, Calendar
from ._http import Response
from ._rate_limit import RateLimit, RateWindow

if TYPE_CHECKING:
    import ssl
    from collections import Counter
    from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence

    from np6_async import Bound, NP6Client

T = TypeVar("T")

DEFAULT_KEY = "fake-np6-key"
_ALIASES = {"all": "", "stops": "responses/stop"}
_BACKLOG: Final = 1024
_READ_AHEAD: Final = 1024  # events
_DESCRIPTORS: Final = 16  # more than an event loop and its server take
_GLANCE: Final = 0.1  # seconds between two looks at a thread, which may have ended


class FakeNP6:
    """A fake NP6 server on loopback: real sockets, the documented API, realistic events, and faults when ordered.

    ::

        async with FakeNP6(contacts=3) as server:       # on the running event loop
            async with server.client() as np6:
                ...
        with FakeNP6(contacts=3) as server:             # in its own thread, for code that is not async
            url = f"{server.url}/targets/{server.contact_ids[0]}/events"
            requests.get(url, headers={"X-Key": server.api_key})

    It starts at once whatever the number of `contacts`: their ids, e-mail addresses and events follow from `seed` and
    are made when they are asked for. `events_per_contact` is a number or a range (least, most), both included. The
    events lie within `period` before `now`, which is anything that a client takes as a `start`, by default
    2026-01-01T00:00:00Z whatever the date is; one in five shares its timestamp with another. For events that
    `start=timedelta(days=7)` finds, pass ``now=datetime.now(UTC)``.

    With `sends`, the events are those of this many actions, each of which was sent to its share of the contacts within
    seconds: thousands of events in one second. Most opens and clicks follow within two days and some months later,
    bounces within minutes. A contact has at most `events_per_contact` events then, and fewer if that would take more
    sends. ``FakeNP6(200_000, 5, sends=40)`` is an account of a million events.

    The events of all contacts are also served in one response, for all actions or for one (see `actions` and
    `account_events`), and so are reactivities, the events of campaigns (see `campaigns`) and the red lists (see
    `redlist`). The first request for any of these but the red lists generates the events of all contacts, at about
    50,000 events a second, and so does the first call of `account_events`, which a test with millions of events may
    make beforehand; beyond a few MiB they are in a temporary file. NP6 does not document whether the responses for all
    contacts have every type of event: those in `actions_without`, such as ``("creation", "optout")``, are left out.

    Besides events it serves the segments (see `segment`), the records of contacts and their number.

    It responds as the API does: without `sort` in another order each time, and even with it, events of equal timestamp
    come in another order each time. What NP6 does not document can be chosen. `typed=False` leaves `type` out of the
    events of endpoints that have only one kind. `missing="empty"` responds with 200 and `[]` for an unknown contact,
    action or campaign in place of 404. `gzip=True` compresses for clients that accept it. Bodies above `chunk_size`
    bytes are chunked. `rate_limit` is a `RateLimit`. `latency` is a wait in seconds before each response.
    `forbidden=True` responds with 403. With `ssl_context` it speaks TLS. `clock` (epoch seconds) drives the rate limit,
    the Date header and `RequestSeen.at`.

    `api_key`, `forbidden`, `missing`, `actions_without`, `gzip`, `latency`, `chunk_size` and `rate_limit` may be set
    while it runs: a new `api_key` revokes the old one. So may `on_request`, None at first, which is called with each
    `RequestSeen`, on the event loop of the server. The counts can be read after it has closed. Raises ValueError for an
    option that cannot work. Entering it raises OSError where there is no descriptor left or the port is taken, and
    RuntimeError where there can be no thread, or no event loop in it.
    """

    def __init__(
        self,
        contacts: int = 100,
        events_per_contact: int | tuple[int, int] = 10,
        *,
        sends: int | None = None,
        seed: int = 0,
        api_key: str = DEFAULT_KEY,
        now: Bound = ANCHOR,
        period: timedelta = timedelta(days=90),
        typed: bool = True,
        missing: Literal["404", "empty"] = "404",
        gzip: bool = False,
        chunk_size: int = 16 * 1024,
        latency: float = 0.0,
        rate_limit: RateLimit | None = None,
        forbidden: bool = False,
        actions_without: Collection[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(actions_without, str):
            raise ValueError(f"actions_without is {actions_without!r}: it must be a collection of event types")
        if chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}: it must be at least 1 byte")
        self.api_key = api_key
        self.forbidden = forbidden
        self.actions_without: Collection[str] = actions_without
        self.missing: Literal["404", "empty"] = missing
        self.gzip = gzip
        self.latency = latency
        self.chunk_size = chunk_size
        self.on_request: Callable[[RequestSeen], object] | None = None
        self._seed = seed
        self._typed = typed
        self._address = host, port, ssl_context
        calendar = Calendar(milliseconds(now, "now"), period)
        self._account = Account(contacts, events_per_contact, seed, calendar, sends)
        self._app = App(self, self._account, seed=seed, typed=typed, clock=clock)
        self._url: str | None = None
        self._server: asyncio.Server | None = None
        self._thread: ExitStack | None = None
        self.rate_limit = rate_limit

    # What it holds

    @property
    def contact_ids(self) -> Sequence[str]:
        """The ids of all contacts, added ones last; each is made when it is asked for."""
        return self._account.ids

    def unicity(self, contact: str) -> str:
        """The unicity (e-mail address) of the contact with this id. Raises KeyError if there is none."""
        return self._names(contact).unicity

    def hash(self, contact: str) -> str:
        """The hash of the contact with this id. Raises KeyError if there is none."""
        return self._names(contact).hash

    def _names(self, contact: str) -> Names:
        names = self._account.names(contact)
        if names is None:
            raise KeyError(contact)
        return names

    def events(self, contact: str, kind: str = "all") -> list[Json]:
        """What the endpoint `kind` ("all", "bounces", "hits/open", …) holds for a contact, by timestamp.

        This is the truth to compare with. Hits by robots are in "all" and not in any "hits". Raises KeyError if there
        is no such contact and ValueError if there is no such kind.
        """
        kind = _ALIASES.get(kind, kind)
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind: use all, {', '.join(filter(None, KINDS))}")
        view = self._history(contact).view(kind, typed=self._typed)
        return [msgspec.json.decode(body) for body in view.bodies]

    def _history(self, contact: str) -> History:
        history = self._account.history(contact)
        if history is None:
            raise KeyError(contact)
        return history

    def add_contact(self, contact: str, events: Iterable[Json | bytes] = (), *, unicity: str | None = None) -> str:
        """Add a contact with these events, or replace the events of one that exists; returns its id.

        An event is a dict, or its JSON, which is served byte for byte; their order does not matter. Raises
        `InvalidInput` for an event that is not a JSON object with a number as its timestamp.
        """
        self._account.add(contact, unicity, [entry_of(event) for event in events])
        self._app.raw.pop(contact, None)
        return contact

    def add_events(self, contact: str, events: Iterable[Json | bytes], *, robot: str | None = None) -> None:
        """Add events to those of a contact, as NP6 publishes new and late ones.

        They are given as to `add_contact`. With `robot` ("genericrobot", "mpp" or "gsr") the hits among them are by
        such a robot: "all" has them, and "hits" only where `classification` names the class. Raises KeyError if there
        is no such contact, and ValueError if there is no such class.
        """
        if robot is not None and robot not in ROBOTS:
            raise ValueError(f"robot is {robot!r}: it must be one of {', '.join(ROBOTS)}, or None")
        if not self._account.extend(contact, [entry_of(event, robot) for event in events]):
            raise KeyError(contact)

    @property
    def actions(self) -> list[str]:
        """The ids of all actions: those of the generated events, and those of events that were added."""
        return list(self._account.actions)

    def account_events(self, kind: str = "all", *, action: str | None = None) -> Iterator[Json]:
        """What the endpoint `kind` of one action or of all of them holds, by timestamp, whatever the contact.

        This is the truth to compare with. `kind` is one of those of `events` or "cancellations". Event types in
        `actions_without` and hits by robots are left out as the endpoints leave them out. Events are read one after
        the other, so that there may be millions; those that are added meanwhile are left out. The first use of the
        events of all contacts generates them (see `FakeNP6`). Raises ValueError if there is no such kind.
        """
        kind = _ALIASES.get(kind, kind)
        if kind not in ACTION_KINDS:
            raise ValueError(f"{kind!r} is not a kind: use all, {', '.join(filter(None, ACTION_KINDS))}")
        rows = self._app.rows(of_kind(kind), action)
        return self._decoded(rows, typed=self._typed or not kind)

    def _decoded(self, rows: Sequence[int], *, typed: bool) -> Iterator[Json]:
        for first in range(0, len(rows), _READ_AHEAD):
            for body in self._account.journal.bodies(rows[first : first + _READ_AHEAD]):
                yield msgspec.json.decode(body if typed else without_type(body))

    @property
    def campaigns(self) -> dict[str, tuple[str, ...]]:
        """The ids of the actions of each campaign, by its id."""
        return dict(self._account.campaigns)

    def add_campaign(self, campaign: str, actions: Iterable[str]) -> str:
        """Add a campaign of these actions, or replace one; returns its id. The actions need not exist."""
        self._account.campaigns[campaign] = tuple(actions)
        return campaign

    def redlist(self, channel: Literal["mail", "sms"] = "mail") -> list[Json]:
        """The entries of a red list, by timestamp. Of the generated contacts 5 % are on that of mail, 2 % of SMS."""
        return [entry.record for entry in sorted(self._account.redlist(channel), key=attrgetter("at"))]

    def add_redlisted(
        self,
        contact: str,
        channel: Literal["mail", "sms"] = "mail",
        *,
        origin: int = 1,
        at: Bound = ANCHOR,
        detail: str = "",
        **members: Any,
    ) -> str:
        """Add an entry to a red list; returns the id of the contact, which need not exist.

        `origin` is 0 to 9, or another to see how a program handles an unknown one. `at` is anything that the client
        takes as a `start`, and is sent in epoch ms. `members` replace members of the entry or add unknown ones:
        ``timestamp="2026-01-01T00:00:00Z"``.
        """
        moment = milliseconds(at)
        record = {"id": contact, "timestamp": moment, "origin": origin, "detail": detail, **members}
        self._account.redlist(channel).append(Redlisted(moment, record))
        return contact

    def segment(self, segment: int | str) -> Sequence[str]:
        """The ids of the contacts in the segment, as `/segments/{id}/targets` lists them.

        There are two at first: 1 has all contacts, also those added later, and 2, a test segment, the first five.
        Raises KeyError if there is no such segment.
        """
        return self._account.segments[str(segment)].contacts

    def add_segment(
        self, segment: int | str, contacts: Iterable[str], *, name: str | None = None, test: bool = False
    ) -> str:
        """Add a segment of these contacts, or replace one; returns its id. The contacts need not exist."""
        name = f"Segment {segment}" if name is None else name
        self._account.add_segment(str(segment), tuple(contacts), name, test=test)
        return str(segment)

    def set_raw(
        self,
        contact: str,
        body: bytes,
        status: int = 200,
        content_type: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Respond to every request for this contact with exactly these bytes, until `add_contact`; returns its id."""
        if self._account.names(contact) is None:
            self.add_contact(contact)
        headers = dict(headers or {})
        self._app.raw[contact] = Response(status=status, body=body, content_type=content_type, headers=headers)
        return contact

    # What goes wrong

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limit in force, None without one. Setting it opens a new window."""
        rate = self._app.rate
        return rate.rule if rate is not None else None

    @rate_limit.setter
    def rate_limit(self, rule: RateLimit | None) -> None:
        self._app.rate = RateWindow(rule) if rule is not None else None

    def script(
        self,
        *faults: Fault,
        contact: str | None = None,
        path: str | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> None:
        """Order faults, one a request and one after the other, each `times` times (None: for ever).

        With `contact` (an id, however requests address it), they meet only requests for this contact, and with `path`
        only those whose decoded path fits: ``*`` stands for any text, as in ``/actions/000PE4/*``. The first `skip`
        requests pass. A request that the server refuses (400, 401, 403, 405, 429, an unknown path) meets no fault.
        Raises ValueError unless `times` is at least 1 and `skip` at least 0, `InvalidInput` for anything but faults.
        """
        self._app.plan.order(faults, contact, None if path is None else pattern(path), times, skip)

    def fault_rate(self, rate: float, kinds: Sequence[Fault] = Fault.ALL, *, seed: int | None = None) -> None:
        """Let a fault of `kinds` meet a share `rate` (0 to 1) of all requests; 0 ends it.

        Whether one does, and which, follows from `seed`, the contact and how many requests were made for it, so a run
        is repeated exactly, whatever its timing. The path of a request stands for the contact if it names none.
        Scripted faults come first. Raises ValueError for any other `rate`.
        """
        self._app.plan.rate(rate, kinds, self._seed if seed is None else seed)

    @property
    def faults_consumed(self) -> Counter[str]:
        """How often each fault happened, by name."""
        return self._app.plan.consumed.copy()

    @property
    def faults_pending(self) -> Counter[str]:
        """Faults ordered with `script` that have not happened yet, by name; endless ones are left out."""
        return self._app.plan.pending

    # What it saw

    @property
    def requests(self) -> list[RequestSeen]:
        """The last 200,000 requests that arrived, oldest first. A copy."""
        return list(self._app.requests)

    def assert_requests(self, *expected: str, contact: str | None = None, any_order: bool = False) -> None:
        """Raise AssertionError, with a diff, unless exactly these requests were seen.

        A request is written ``GET /targets/A/events?sort=asc -> 200``. The method (GET) and the status (any) may be
        left out, and so may parameters: those that are not named may be anything. ``*`` stands for any text in the
        path and in values. Status 0 is a connection that ended without a response.

        The order counts, unless `any_order` is set: concurrent requests for several contacts arrive in any order. With
        `contact` (an id, however requests addressed it), only the requests for this contact are compared. Raises
        ValueError for anything that is not written as a request.
        """
        __tracebackhide__ = True  # pytest: show the test's own line
        seen = [each for each in self.requests if contact is None or each.contact == contact]
        wrong = difference(expected, seen, any_order=any_order)
        if wrong is not None:
            raise AssertionError(wrong)

    @property
    def request_count(self) -> int:
        """How many requests arrived."""
        return self._app.request_count

    @property
    def in_flight(self) -> int:
        """How many requests are in flight now: their response has not been sent in full."""
        return self._app.in_flight

    @property
    def max_in_flight(self) -> int:
        """How many requests were in flight at the same time, at most."""
        return self._app.max_in_flight

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self._app.connections

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._app.connected)

    def reset(self) -> None:
        """Forget all requests, counts and faults; contacts, connections and settings stay."""
        self._app.reset()

    # Its life

    @property
    def url(self) -> str:
        """Where it listens, such as "http://127.0.0.1:34567". Raises RuntimeError unless it is running."""
        if self._url is None:
            raise RuntimeError("FakeNP6 is not running: enter it with `async with` or `with` first")
        return self._url

    def client(self, **options: Any) -> NP6Client:
        """A client of this server, to be used under `async with`; `options` go to `NP6Client`."""
        from np6_async import NP6Client

        return NP6Client(**{"api_key": self.api_key, "base_url": self.url, **options})

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("FakeNP6 is already running")
        host, port, context = self._address
        loop = asyncio.get_running_loop()
        # asyncio would pass over a socket that cannot be made, and listen nowhere.
        listener = _listen(host, port)
        try:
            self._server = await loop.create_server(self._app.connection, sock=listener, ssl=context, backlog=_BACKLOG)
        except BaseException:
            listener.close()
            raise
        bound = listener.getsockname()[1]
        self._url = f"{'https' if context else 'http'}://{f'[{host}]' if ':' in host else host}:{bound}"
        return self

    async def __aexit__(self, *_: object) -> None:
        server, self._server, self._url = self._server, None, None
        if server is not None:
            # asyncio loses a connection that it has accepted when the server closes. So accept no more, and let those
            # that were appear, some turns of the event loop later.
            loop = asyncio.get_running_loop()
            for listener in server.sockets:
                with suppress(NotImplementedError, RuntimeError):  # other event loops do it otherwise
                    loop.remove_reader(listener.fileno())
            for _turn in range(3):
                await asyncio.sleep(0)
            server.close()
            while self._app.connected:
                for connection in tuple(self._app.connected):
                    connection.abort()
                await asyncio.sleep(0)
            await server.wait_closed()

    def __enter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("FakeNP6 is already running")
        with ExitStack() as stack:
            run = stack.enter_context(_loop_in_a_thread())
            run(self.__aenter__())
            stack.callback(lambda: run(self.__aexit__()))
            self._thread = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def __repr__(self) -> str:
        return f"<FakeNP6 {self._url or 'not running'}, {len(self.contact_ids)} contacts>"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with _named(f"cannot listen on {host}, port {port}"):
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Say in an OSError what failed."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"FakeNP6 {what}: {error.strerror}") from None


def _check_descriptors() -> None:
    """Raise OSError where too few are left. uvloop would end the process, and asyncio leave a loop half made."""
    taken: list[int] = []
    try:
        while len(taken) < _DESCRIPTORS:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for each in taken:
            os.close(each)


@contextmanager
def _loop_in_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """A function that runs a coroutine on an event loop in its own thread, and returns the result."""
    with _named("cannot make an event loop"):
        _check_descriptors()
        loop = asyncio.new_event_loop()
    failures: list[BaseException] = []

    def run_forever() -> None:
        try:
            loop.run_forever()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run_forever, name="FakeNP6", daemon=True)
    try:
        thread.start()
        try:
            yield lambda work: result_of(work, loop, thread.is_alive)
        except LoopEnded as error:
            raise error from (failures[0] if failures else None)
        finally:
            if thread.is_alive():
                loop.call_soon_threadsafe(loop.stop)
            thread.join()
    finally:
        loop.close()


class LoopEnded(RuntimeError):
    """The event loop of another thread has ended, or never ran."""


def result_of(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, running: Callable[[], bool]) -> T:
    """The result of `work` on a loop in another thread; raises `LoopEnded` once it is not `running` any more."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    while running() and not future.done():
        wait([future], timeout=_GLANCE)
    if not future.done():
        work.close()
        raise LoopEnded("FakeNP6: the event loop of its thread has ended, or cannot run")
    return future.result()
