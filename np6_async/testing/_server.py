"""`FakeNP6`: the contact-events API on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from ._app import App, RequestSeen
from ._contacts import ContactIds, Contacts
from ._events import KINDS, Calendar, entry_of
from ._factories import ANCHOR, Json, Who, milliseconds, who
from ._faults import Fault, FaultPlan
from ._http import Reply
from ._rate import RateLimit, RateWindow
from ._requests import difference

if TYPE_CHECKING:
    import ssl
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from np6_async import Bound, NP6Client

DEFAULT_KEY = "fake-np6-key"
_ALIASES = {"all": "", "stops": "responses/stop"}


class FakeNP6:
    """A fake NP6 server on loopback: real sockets, the documented API, realistic events, faults to order.

    ::

        async with FakeNP6(contacts=3) as server:       # on the running event loop
            async with server.client() as np6:
                ...
        with FakeNP6(contacts=3) as server:             # in a thread, where nothing is async
            url = f"{server.url}/targets/{server.contact_ids[0]}/events"
            requests.get(url, headers={"X-Key": server.api_key})

    It starts at once whatever the number of `contacts`: their ids, e-mail addresses and events follow
    from `seed` and are made when asked for. `events_per_contact` is a number or a range (least, most,
    both included). The events lie within `period` before `now`, which is given like a client's `start` and
    by default 2026-01-01T00:00:00Z whatever the date is; one in five is at the same timestamp as another.
    For events that `start=timedelta(days=7)` finds, pass ``now=datetime.now(UTC)``.

    Beside events it serves the segments (see `segment`), the records of contacts and their count.

    It answers as the API does: without `sort` in another order each time, and events of equal timestamp
    in another order each time even with it. What NP6 does not say can be chosen: `typed=False` leaves
    `type` out of events of endpoints that have one kind only; `missing="empty"` answers 200 and `[]` for
    an unknown contact in place of 404; `gzip=True` compresses for clients that accept it; bodies above
    `chunk_size` bytes are chunked; `rate_limit` is a `RateLimit`. `latency` is a wait of so many seconds
    before each answer. `forbidden=True` answers 403. With `ssl_context` it speaks TLS. `clock` (epoch
    seconds) drives the rate limit, the Date header and `RequestSeen.at`.

    `api_key`, `forbidden`, `missing`, `gzip`, `latency`, `chunk_size` and `rate_limit` may be set while
    it runs: another `api_key` revokes the first. What was counted can be read after it has closed.
    """

    def __init__(
        self,
        contacts: int = 100,
        events_per_contact: int | tuple[int, int] = 10,
        *,
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
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}: it must be at least 1 byte")
        self.api_key = api_key
        self.forbidden = forbidden
        self.missing: Literal["404", "empty"] = missing
        self.gzip = gzip
        self.latency = latency
        self.chunk_size = chunk_size
        self._seed = seed
        self._typed = typed
        self._address = host, port, ssl_context
        self._contacts = Contacts(contacts, events_per_contact, seed, Calendar(milliseconds(now, "now"), period))
        self._app = App(self, self._contacts, seed=seed, typed=typed, clock=clock)
        self._url: str | None = None
        self._server: asyncio.Server | None = None
        self._thread: _Background | None = None
        self.rate_limit = rate_limit

    # What it knows

    @property
    def contact_ids(self) -> Sequence[str]:
        """The ids of all contacts, those added last; made when asked for."""
        return ContactIds(self._contacts)

    def unicity(self, contact: str) -> str:
        """The unicity (e-mail address) of the contact with this id. Raises KeyError where there is none."""
        return self._name(contact).unicity

    def hash(self, contact: str) -> str:
        """The hash of the contact with this id. Raises KeyError where there is none."""
        return self._name(contact).hash

    def _name(self, contact: str) -> Who:
        name = self._contacts.name(contact)
        if name is None:
            raise KeyError(contact)
        return name

    def events(self, contact: str, kind: str = "all") -> list[Json]:
        """What the endpoint `kind` ("all", "bounces", "hits/open", …) holds for a contact, by timestamp.

        This is the truth to compare with. Hits of robots are in "all" and in no "hits". Raises KeyError
        where there is no such contact and ValueError where there is no such kind.
        """
        kind = _ALIASES.get(kind, kind)
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind: one of all, {', '.join(filter(None, KINDS))} is")
        history = self._contacts.history(contact)
        if history is None:
            raise KeyError(contact)
        return [msgspec.json.decode(body) for body in history.view(kind, typed=self._typed).bodies]

    def add_contact(self, contact: str, events: Iterable[Json | bytes] = (), *, unicity: str | None = None) -> str:
        """Add a contact with these events, or replace the events of one; gives back its id.

        An event is a dict or its JSON, which is served byte for byte; their order does not matter.
        Raises `InvalidInput` for an event that is not a JSON object with a number as its timestamp.
        """
        name = who(contact, unicity) if unicity else self._contacts.name(contact) or who(contact)
        self._contacts.add(name, [entry_of(event) for event in events])
        self._app.raw.pop(contact, None)
        return contact

    def add_events(self, contact: str, events: Iterable[Json | bytes]) -> None:
        """Add events to those that a contact has, as NP6 publishes them in time or late.

        They are taken as `add_contact` takes them. Raises KeyError where there is no such contact.
        """
        history = self._contacts.history(contact)
        if history is None:
            raise KeyError(contact)
        self._contacts.add(self._name(contact), [*history.entries, *map(entry_of, events)])

    def segment(self, segment: int | str) -> Sequence[str]:
        """The ids of the contacts in the segment, as `/segments/{id}/targets` lists them. KeyError where there is none.

        There are two from the start: 1 has all contacts, also those added later, and 2, a test segment, the first five.
        """
        return self._app.account.contacts(str(segment))

    def add_segment(
        self, segment: int | str, contacts: Iterable[str], *, name: str | None = None, test: bool = False
    ) -> str:
        """Add a segment of these contacts, or replace one; gives back its id. They need not exist."""
        self._app.account.add(str(segment), contacts, f"Segment {segment}" if name is None else name, test=test)
        return str(segment)

    def set_raw(
        self,
        contact: str,
        body: bytes,
        status: int = 200,
        content_type: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Answer exactly these bytes to every request for this contact; gives back its id.

        `add_contact` ends that.
        """
        if self._contacts.name(contact) is None:
            self.add_contact(contact)
        reply = Reply(status=status, body=body, content_type=content_type, headers=dict(headers or {}))
        self._app.raw[contact] = reply
        return contact

    # What goes wrong

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limit in force. Setting one opens a new window."""
        rate = self._app.rate
        return rate.rule if rate is not None else None

    @rate_limit.setter
    def rate_limit(self, rule: RateLimit | None) -> None:
        self._app.rate = RateWindow(rule) if rule is not None else None

    def script(self, *faults: Fault, contact: str | None = None, times: int | None = 1, skip: int = 0) -> None:
        """Order faults, one a request and one after the other, each `times` times (None: for ever).

        They meet requests for `contact` (an id, however it is addressed) only, where given, and let the
        first `skip` requests pass. A request that the server refuses (400, 401, 403, 405, 429, a path
        it does not have) meets no fault.
        """
        self._app.plan.order(faults, contact, times, skip)

    def fault_rate(self, rate: float, kinds: Sequence[Fault] = Fault.ALL, *, seed: int | None = None) -> None:
        """Let something go wrong with a share of all requests (0 to 1); 0 ends it.

        Whether and what follows from `seed`, the contact and how many requests were made for it, so a run
        is repeated exactly whatever its timing. Scripted faults come first.
        """
        self._app.plan.rate(rate, kinds, self._seed if seed is None else seed)

    @property
    def faults_consumed(self) -> Counter[str]:
        """How often each fault happened, by name."""
        return self._app.plan.consumed.copy()

    @property
    def faults_pending(self) -> Counter[str]:
        """Faults ordered with `script` that have not happened yet, by name; those for ever are left out."""
        return self._app.plan.pending

    # What it saw

    @property
    def requests(self) -> list[RequestSeen]:
        """The requests that arrived, oldest first: a copy, of the last 200,000."""
        return list(self._app.requests)

    def assert_requests(self, *expected: str, contact: str | None = None, any_order: bool = False) -> None:
        """Raise AssertionError, with a diff, unless these are the requests that were seen, no more and no less.

        A request is written ``GET /targets/A/events?sort=asc -> 200``. Method (GET) and status (any) may be left out,
        and so may parameters: only those that are named must have been sent. ``*`` stands for any text in the path
        and in values. Status 0 is a connection that ended without an answer.

        The order counts, unless `any_order`: requests for several contacts at a time come in any. Those for one contact
        (an id, however it was addressed) are looked at alone with `contact`. Raises ValueError for
        what is not written so.
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
        """How many requests are being answered now."""
        return self._app.in_flight

    @property
    def max_in_flight(self) -> int:
        """How many requests were being answered at the same time, at most."""
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
        self._app.reset(FaultPlan(self._seed))

    # Its life

    @property
    def url(self) -> str:
        """Where it listens, such as "http://127.0.0.1:34567". Raises RuntimeError unless it runs."""
        if self._url is None:
            raise RuntimeError("FakeNP6 is not running: enter it with `async with` or `with` first")
        return self._url

    def client(self, **options: Any) -> NP6Client:
        """A client of this server, to be entered with `async with`; `options` go to `NP6Client`."""
        from np6_async import NP6Client

        return NP6Client(**{"api_key": self.api_key, "base_url": self.url, **options})

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("FakeNP6 is running already")
        host, port, context = self._address
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._app.connection, host, port, ssl=context, backlog=1024)
        bound = self._server.sockets[0].getsockname()[1]
        self._url = f"{'https' if context else 'http'}://{f'[{host}]' if ':' in host else host}:{bound}"
        return self

    async def __aexit__(self, *_: object) -> None:
        server, self._server, self._url = self._server, None, None
        if server is not None:
            server.close()
            # A connection accepted in this very moment shows one turn later.
            await asyncio.sleep(0)
            while self._app.connected:
                for connection in tuple(self._app.connected):
                    connection.abort()
                await asyncio.sleep(0)
            await server.wait_closed()

    def __enter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("FakeNP6 is running already")
        self._thread = _Background(self)
        self._thread.begin()
        return self

    def __exit__(self, *_: object) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    def __repr__(self) -> str:
        return f"<FakeNP6 {self._url or 'not running'}, {len(self.contact_ids)} contacts>"


class _Background:
    """A thread with an event loop of its own that runs the server."""

    def __init__(self, server: FakeNP6) -> None:
        self._server = server
        self._thread = threading.Thread(target=self._run, name="FakeNP6", daemon=True)
        self._ready = threading.Event()
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Start, and come back when the server listens or has failed to."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def end(self) -> None:
        """Stop, and come back when all is closed."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._server.__aenter__()
        except BaseException as error:
            self._error = error
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        await self._server.__aexit__()
