"""What the fake answers, and what it remembers of the requests."""

from __future__ import annotations

import random
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from ._account import Account, Answer
from ._faults import FaultPlan
from ._http import Connection, Reply, Request
from ._routes import Refused, is_events, locate, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._contacts import Contacts
    from ._rate import RateWindow

REQUESTS_KEPT = 200_000


class RequestSeen(NamedTuple):
    """One request as it arrived. The API key is not kept."""

    method: str
    target: str
    """The path and query as they were on the wire."""
    contact: str | None
    """The id of the contact asked for, what was sent where there is none such, None for other paths."""
    status: int
    """The status answered, 0 where the connection ended without one."""
    at: float
    """When it arrived, by the server's clock, in seconds."""
    fault: str | None
    """The name of the fault it suffered."""
    request_id: str
    """The `x-request-id` of the answer."""
    headers: Mapping[str, str]
    """The headers sent, names in lower case."""

    @property
    def path(self) -> str:
        """The path as it was on the wire, percent-encoding included."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The parameters, decoded."""
        return dict(parse(self.target.partition("?")[2]))

    def __str__(self) -> str:
        """As `FakeNP6.assert_requests` takes it, with the name of its fault."""
        return f"{self.method} {self.target} -> {self.status}{f' ({self.fault})' if self.fault else ''}"


class Settings(Protocol):
    """What may be changed while the server runs; see `FakeNP6`."""

    api_key: str
    forbidden: bool
    missing: Literal["404", "empty"]
    gzip: bool
    latency: float
    chunk_size: int


class App:
    """Answers requests, one after the other, and counts them."""

    def __init__(
        self, settings: Settings, contacts: Contacts, *, seed: int, typed: bool, clock: Callable[[], float]
    ) -> None:
        self.contacts = contacts
        self.account = Account(contacts)
        self.raw: dict[str, Reply] = {}
        self.rate: RateWindow | None = None
        self.connected: set[Connection] = set()
        self.in_flight = 0
        self.reset(FaultPlan(seed))
        self._settings = settings
        self._typed = typed
        self._clock = clock
        self._rng = random.Random(seed)
        self._date = 0, ""

    def reset(self, plan: FaultPlan) -> None:
        """Forget what was counted, and follow this plan."""
        self.plan = plan
        self.requests: deque[RequestSeen] = deque(maxlen=REQUESTS_KEPT)
        self.request_count = self.connections = 0
        self.max_in_flight = self.in_flight

    def connection(self) -> Connection:
        """The protocol of a new connection."""
        self.connections += 1
        return Connection(self._answer, self._done, self.connected)

    def _done(self) -> None:
        self.in_flight -= 1

    def _answer(self, request: Request) -> Reply:
        now = self._clock()
        self.request_count += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        request_id = f"00000000-0000-4000-8000-{self.request_count:012x}"
        headers = {"Date": self._http_date(now), "x-request-id": request_id}
        contact: str | None = None
        fault: str | None = None
        try:
            if request.late:
                reply = Reply(silent=True, ending="close")
            else:
                self._admit(request, now, headers)
                contact, reply = self._content(request, headers)
                reply, fault = self.plan.change(contact, reply)
        except Refused as refusal:
            body = str(refusal).encode()
            reply = Reply(
                status=refusal.status,
                body=body,
                content_type="text/plain" if body else None,
                headers=headers,
                latency=self._settings.latency,
            )
        status = 0 if reply.silent else reply.status
        self.requests.append(
            RequestSeen(request.method, request.target, contact, status, now, fault, request_id, request.headers)
        )
        return reply

    def _admit(self, request: Request, now: float, headers: dict[str, str]) -> None:
        """Add to the answer's headers, or raise `Refused`."""
        if request.key is None or request.key != self._settings.api_key:
            raise Refused(401)
        if self._settings.forbidden:
            raise Refused(403)
        if request.method != "GET":
            headers["Allow"] = "GET"
            raise Refused(405)
        if self.rate is not None:
            allowed, limits = self.rate.admit(now)
            headers.update(limits)
            if not allowed:
                raise Refused(429)

    def _content(self, request: Request, headers: dict[str, str]) -> tuple[str | None, Reply]:
        """The contact a request is about, by its id if it has one, and the answer without faults."""
        settings, target = self._settings, request.target
        contact, elements, body = self._events(target) if is_events(target) else self.account.answer(target)
        raw = self.raw.get(contact) if contact is not None else None
        if raw is not None:
            return contact, raw.evolve(
                headers={**headers, **raw.headers},
                gzip_accepted=request.accepts_gzip,
                chunk_size=settings.chunk_size,
                latency=settings.latency,
            )
        if elements is not None:
            body = b"[" + b",".join(elements) + b"]"
        elif body is None:
            return contact, Reply(status=404, content_type=None, headers=headers, latency=settings.latency)
        return contact, Reply(
            body=body,
            headers=headers,
            events=elements,
            gzip=settings.gzip and request.accepts_gzip,
            gzip_accepted=request.accepts_gzip,
            chunk_size=settings.chunk_size,
            latency=settings.latency,
        )

    def _events(self, target: str) -> Answer:
        kind, addressing, value, filters = locate(target)
        contact = self.contacts.find(addressing, value)
        history = self.contacts.history(contact)
        if history is None:
            return Answer(contact, None if self._settings.missing == "404" else [])
        view = history.view(kind, filters.robots, self._typed)
        return Answer(contact, view.window(filters.start, filters.end, filters.sort, self._rng))

    def _http_date(self, now: float) -> str:
        second = int(now)
        if second != self._date[0]:
            self._date = second, formatdate(second, usegmt=True)
        return self._date[1]
