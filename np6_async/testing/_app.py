"""What a fake server serves: the endpoints of the API, the limits it enforces, and the requests it remembers."""

from __future__ import annotations

import difflib
import functools
import json
import random
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote

import attrs
import msgspec

from .._models.convert import UNREADABLE
from ._account import ACTION_KINDS, CREATED, KINDS, Account, Addressing, Channel, of_kind, without_type
from ._factories import EPOCH, MILLISECOND
from ._faults import FaultPlan
from ._generated_events import ROBOTS
from ._http import Body, Connection, Events, Request, Response, Spans
from ._journal import BLOCK, Class, EventArray, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._rate_limit import RateWindow
    from ._server import FakeNP6

_EXPECTED: Final = re.compile(
    r"(?:(?P<method>[A-Z]+) )?(?P<path>/[^?\s]*)(?:\?(?P<query>\S*))?(?: -> (?P<status>\d+))?"
)
REQUESTS_KEPT = 200_000

_UPDATED = "2024-03-01T10:00:00Z"
_CAMPAIGN = re.compile(r"/campaigns/[^/]+/events")
_REACTIONS = frozenset(kind for kind in KINDS if kind in ("", "bounces") or kind.startswith("hits"))
_NUMBER = re.compile(r"-?[0-9]{1,19}")

Content: TypeAlias = list[bytes] | EventArray | bytes | None
"""The elements of an array, any other body, or None for a 404."""


class RequestSeen(NamedTuple):
    """One request as it arrived. The API key is not kept."""

    method: str
    target: str
    """The path and query as they were on the wire."""
    contact: str | None
    """The id of the contact; the text that was sent if there is no such contact, None for a path without one."""
    status: int
    """The status of the response, 0 if the connection ended without one."""
    at: float
    """When it arrived, by the server's clock, in epoch seconds."""
    fault: str | None
    """The name of the fault that it met."""
    request_id: str
    """The `x-request-id` of the response."""
    headers: Mapping[str, str]
    """The headers of the request, with names in lower case."""
    body: bytes = b""
    """The body of the request; empty unless it is a POST."""

    @property
    def path(self) -> str:
        """The path as it was on the wire, percent-encoding included."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The parameters, decoded."""
        return dict(parse(self.target.partition("?")[2]))

    def __str__(self) -> str:
        """In the notation of `FakeNP6.assert_requests`, with the name of the fault."""
        return f"{self.method} {self.target} -> {self.status}{f' ({self.fault})' if self.fault else ''}"


def parse(query: str) -> list[tuple[str, str]]:
    """The parameters of a query, decoded."""
    return parse_qsl(query, keep_blank_values=True)


@attrs.frozen
class Expected:
    """One expected request; `text` is what the test wrote."""

    text: str
    method: str
    path: re.Pattern[str]
    query: tuple[tuple[str, re.Pattern[str]], ...]
    status: int | None

    @classmethod
    def read(cls, text: str) -> Expected:
        """Read ``GET /path?name=value -> 200``, where only the path is needed; ValueError for anything else."""
        match = _EXPECTED.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a request: write it like 'GET /targets/A/events?sort=asc -> 200'")
        return cls(
            text,
            match["method"] or "GET",
            pattern(unquote(match["path"])),
            tuple((name, pattern(value)) for name, value in parse(match["query"] or "")),
            int(match["status"]) if match["status"] else None,
        )

    def fits(self, seen: RequestSeen) -> bool:
        """Whether `seen` is such a request; other parameters do not matter."""
        query = seen.query
        return (
            seen.method == self.method
            and self.path.fullmatch(unquote(seen.path)) is not None
            and all(name in query and value.fullmatch(query[name]) for name, value in self.query)
            and self.status in (None, seen.status)
        )


def difference(expected: Sequence[str], seen: Sequence[RequestSeen], *, any_order: bool) -> str | None:
    """How the requests that were seen differ from the expected ones, as lines of a diff; None if they do not."""
    wanted = [Expected.read(text) for text in expected]
    pairs = _pairs(wanted, seen) if any_order else {n: n for n in range(min(len(wanted), len(seen)))}
    if len(pairs) == len(wanted) == len(seen) and all(wanted[w].fits(seen[s]) for s, w in pairs.items()):
        return None
    counts = f"{len(wanted)} request{'s' * (len(wanted) != 1)} expected, {len(seen)} seen"
    lines = _unpaired(wanted, seen, pairs) if any_order else _in_order(wanted, seen)
    return "\n".join([f"{counts} (- expected but not seen, + seen but not expected):", *lines])


def _in_order(wanted: Sequence[Expected], seen: Sequence[RequestSeen]) -> Iterator[str]:
    # An expected request is compared in the words of the test, so that the diff matches it.
    names = [next((each.text for each in wanted if each.fits(request)), str(request)) for request in seen]
    texts = [each.text for each in wanted]
    for kind, w0, w1, s0, s1 in difflib.SequenceMatcher(None, texts, names, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from (f"    {request}" for request in seen[s0:s1])
        else:
            yield from (f"  - {text}" for text in texts[w0:w1])
            yield from (f"  + {request}" for request in seen[s0:s1])


def _unpaired(wanted: Sequence[Expected], seen: Sequence[RequestSeen], pairs: dict[int, int]) -> Iterator[str]:
    yield from (f"  - {each.text}" for number, each in enumerate(wanted) if number not in pairs.values())
    yield from (f"  {' ' if number in pairs else '+'} {request}" for number, request in enumerate(seen))


def _pairs(wanted: Sequence[Expected], seen: Sequence[RequestSeen]) -> dict[int, int]:
    """The largest possible matching of seen requests with expected ones that they fit, by number."""
    pairs: dict[int, int] = {}

    def pair(number: int, tried: set[int]) -> bool:
        for candidate, request in enumerate(seen):
            if candidate in tried or not wanted[number].fits(request):
                continue
            tried.add(candidate)
            if candidate not in pairs or pair(pairs[candidate], tried):
                pairs[candidate] = number
                return True
        return False

    for number in range(len(wanted)):
        pair(number, set())
    return pairs


def pattern(text: str) -> re.Pattern[str]:
    """What fits a text in which ``*`` stands for any text."""
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


class Refused(Exception):
    """The response to the request has this status, and why as its body."""

    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(why)
        self.status = status


class Filters(NamedTuple):
    """Which events, in which order; bounds in epoch ms."""

    start: int | None = None
    end: int | None = None
    sort: str | None = None
    robots: frozenset[str] = frozenset()


class Wish(msgspec.Struct, frozen=True):
    """Events of one type; of hits those of the `subtypes`, if there are any."""

    type: str
    subtypes: tuple[str, ...] = ()

    def fits(self, event: Class) -> bool:
        """Whether it is such an event. Hits by robots are left out, as where hits alone are requested."""
        kind, _, subtype = event.label.partition("/")
        wanted = not subtype or not self.subtypes or subtype in self.subtypes
        return kind == self.type and wanted and event.robot is None


class ItemsWish(msgspec.Struct, frozen=True):
    """Events of some actions."""

    type: str
    events: tuple[Wish, ...]
    items: tuple[int | float | str, ...]

    def __post_init__(self) -> None:
        if any(isinstance(item, float) and not item.is_integer() for item in self.items):
            raise ValueError("an item is a whole number or text")

    def fits(self, event: Class) -> bool:
        """Whether it is one of these events."""
        names = {item if isinstance(item, str) else str(int(item)) for item in self.items}
        return event.action in names and any(wish.fits(event) for wish in self.events)


class CampaignRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a request for the events of a campaign."""

    EXAMPLE: ClassVar[str] = (
        '{"itemsEvents":[{"type":"email","events":[{"type":"hit","subtypes":["open"]}],"items":["000PE4"]}]}'
    )
    items_events: tuple[ItemsWish, ...]


class App:
    """Responds to requests, one after the other, and counts them. `settings` may change meanwhile."""

    def __init__(
        self, settings: FakeNP6, account: Account, *, seed: int, typed: bool, clock: Callable[[], float]
    ) -> None:
        self.raw: dict[str, Response] = {}
        self.rate: RateWindow | None = None
        self.connected: set[Connection] = set()
        self.in_flight = 0
        self._settings = settings
        self._account = account
        self._seed = seed
        self._typed = typed
        self._clock = clock
        self._rng = random.Random(seed)
        self._date = 0, ""
        self.reset()

    def reset(self) -> None:
        """Forget the requests, the counts and the faults."""
        self.plan = FaultPlan(self._seed)
        self.requests: deque[RequestSeen] = deque(maxlen=REQUESTS_KEPT)
        self.request_count = self.connections = 0
        self.max_in_flight = self.in_flight

    def connection(self) -> Connection:
        """The protocol of a new connection."""
        self.connections += 1
        return Connection(self._respond, self._done, self.connected)

    def _done(self) -> None:
        self.in_flight -= 1

    def _respond(self, request: Request) -> Response:
        now = self._clock()
        self.request_count += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        request_id = f"00000000-0000-4000-8000-{self.request_count:012x}"
        headers = {"Date": self._http_date(now), "x-request-id": request_id}
        path = request.target.partition("?")[0]
        contact = fault = None
        try:
            if request.late:
                response = Response(silent=True, ending="close")
            else:
                self._admit(request, path, now, headers)
                contact, content = self._content(request)
                response = self._response(request, contact, content, headers)
                response, fault = self.plan.change(contact, unquote(path), response)
        except Refused as refusal:
            body = str(refusal).encode()
            response = Response(
                status=refusal.status,
                body=body,
                content_type="text/plain" if body else None,
                headers=headers,
                latency=self._settings.latency,
            )
        status = 0 if response.silent else response.status
        method, target, sent = request.method, request.target, (request.headers, request.body)
        seen = RequestSeen(method, target, contact, status, now, fault, request_id, *sent)
        self.requests.append(seen)
        if self._settings.on_request is not None:
            self._settings.on_request(seen)
        return response

    def _admit(self, request: Request, path: str, now: float, headers: dict[str, str]) -> None:
        """Add to the headers of the response, or raise `Refused`."""
        if request.key is None or request.key != self._settings.api_key:
            raise Refused(401)
        if self._settings.forbidden:
            raise Refused(403)
        allowed_method = "POST" if _CAMPAIGN.fullmatch(path) else "GET"
        if request.method != allowed_method:
            headers["Allow"] = allowed_method
            raise Refused(405)
        if self.rate is not None:
            allowed, limits = self.rate.admit(now)
            headers.update(limits)
            if not allowed:
                raise Refused(429)

    def _response(self, request: Request, contact: str | None, content: Content, headers: dict[str, str]) -> Response:
        """The response before any fault: what was set for the contact with `FakeNP6.set_raw`, or else `content`."""
        settings, gzip = self._settings, request.accepts_gzip
        common: dict[str, Any] = {
            "gzip_accepted": gzip,
            "chunk_size": settings.chunk_size,
            "latency": settings.latency,
        }
        raw = None if contact is None else self.raw.get(contact)
        if raw is not None:
            return raw.evolve(headers={**headers, **raw.headers}, **common)
        if content is None:
            return Response(status=404, content_type=None, headers=headers, **common)
        body: Body = content if not isinstance(content, list) else b"[" + b",".join(content) + b"]"
        events: Events | None = content if isinstance(content, EventArray) else None
        if isinstance(content, list):
            events = Spans(content)
        return Response(body=body, headers=headers, events=events, gzip=settings.gzip and gzip, **common)

    def _content(self, request: Request) -> tuple[str | None, Content]:
        """The contact a request is about, by its id if it has one, and what there is; or `Refused`."""
        path, _, query = request.target.partition("?")
        account = self._account
        match path.split("/"):
            case ["", "actions", "events", *kind]:
                return None, self._action_events(None, "/".join(kind), query)
            case ["", "actions", action, "events", *kind]:
                return None, self._action_events(unquote(action), "/".join(kind), query)
            case ["", "actions", "reactivities", *kind]:
                return None, self._reactivities(None, "/".join(kind), query)
            case ["", "actions", action, "reactivities", *kind]:
                return None, self._reactivities(unquote(action), "/".join(kind), query)
            case ["", "campaigns", campaign, "events"]:
                return None, self._campaign_events(unquote(campaign), query, request.body)
            case ["", "targets", "redlist", ("mail" | "sms") as channel]:
                return None, self._redlist(channel, query)
            case ["", "targets", contact, "events", *kind]:
                return self._events("/".join(kind), query, "id", unquote(contact))
            case ["", "targets", "events", *kind]:
                return self._events("/".join(kind), query)
            case ["", "targets"]:
                return self._record(*_named(query, "unicity", "hash"))
            case ["", "targets", "count"]:
                return None, _dumps({"targetsCount": len(account.ids)})
            case ["", "targets", contact]:
                return self._record("id", unquote(contact))
            case ["", "segments"]:
                listed = account.segments.values()
                return None, [_dumps({**each.record, "targetsCount": len(each.contacts)}) for each in listed]
            case ["", "segments", segment, "targets"]:
                found = account.segments.get(unquote(segment))
                return None, None if found is None else [_dumps(contact) for contact in found.contacts]
        raise Refused(404, "no such endpoint")

    def _events(
        self, kind: str, query: str, addressing: Addressing | None = None, value: str = ""
    ) -> tuple[str, Content]:
        """The events of one kind of the contact named by the path or, where there is no `addressing`, by the query."""
        if kind not in KINDS:
            raise Refused(404, "no such endpoint")
        if addressing is None:
            addressing, value = _named(query, "id", "unicity", "hash")
        filters = _filters(query, kind.startswith("hits"))
        contact = self._account.find(addressing, value)
        history = self._account.history(contact)
        if history is None:
            return contact, self._nothing()
        view = history.view(kind, filters.robots, self._typed)
        return contact, view.window(filters.start, filters.end, filters.sort, self._rng)

    def _action_events(self, action: str | None, kind: str, query: str) -> Content:
        """The events of one action or, where it is None, of all."""
        if kind not in ACTION_KINDS:
            raise Refused(404, "no such endpoint")
        filters = _filters(query, kind.startswith("hits"))
        if not self._exists(action):
            return self._nothing()
        return self._array(self.rows(of_kind(kind, filters.robots), action, filters), filters.sort, kind)

    def _reactivities(self, action: str | None, kind: str, query: str) -> Content:
        """The reactions to the messages of one action or, where it is None, of all."""
        if kind not in _REACTIONS:
            raise Refused(404, "no such endpoint")
        filters, sent = _reactivity_filters(query)
        if not self._exists(action):
            return self._nothing()
        fits = of_kind(kind) if kind else _is_reaction
        return self._array(self.rows(fits, action, filters, sent), filters.sort, kind)

    def _campaign_events(self, campaign: str, query: str, body: bytes) -> Content:
        """The events that the body of the request asks for; those of other campaigns are left out."""
        filters = _filters(query, hits=False)
        try:
            wishes = msgspec.json.decode(body, type=CampaignRequest).items_events
        except UNREADABLE as error:
            raise Refused(400, f"the body must be like {CampaignRequest.EXAMPLE}: {error}") from None
        actions = self._account.campaigns.get(campaign)
        if actions is None:
            return self._nothing()

        def fits(event: Class) -> bool:
            return event.action in actions and any(wish.fits(event) for wish in wishes)

        return self._array(self.rows(fits, None, filters), filters.sort)

    def _redlist(self, channel: Channel, query: str) -> Content:
        start, end = _bounds(query, "startDate", "endDate")
        return [
            _dumps(each.record)
            for each in self._account.redlist(channel)
            if (start is None or each.at >= start) and (end is None or each.at < end)
        ]

    def _exists(self, action: str | None) -> bool:
        return action is None or action in self._account.actions

    def _nothing(self) -> Content:
        """The response for what does not exist."""
        return None if self._settings.missing == "404" else []

    def rows(
        self,
        fits: Callable[[Class], bool],
        action: str | None = None,
        filters: Filters = Filters(),  # noqa: B008 - immutable
        sent: Limits = (None, None),
    ) -> Sequence[int]:
        """The rows of the journal, by time, that an account-wide endpoint has; all actions where `action` is None."""
        without = frozenset(self._settings.actions_without)

        def wanted(event: Class) -> bool:
            known = event.label.partition("/")[0] not in without
            return known and action in (None, event.action) and fits(event)

        return self._account.journal.select(wanted, filters.start, filters.end, sent)

    def _array(self, rows: Sequence[int], sort: str | None, kind: str = "") -> Content:
        journal = self._account.journal
        typed = self._typed or not kind
        if typed and len(rows) > BLOCK:
            return EventArray(journal, rows, sort, self._rng.getrandbits(64))
        bodies = journal.bodies(journal.arranged(rows, sort, self._rng))
        return bodies if typed else [without_type(body) for body in bodies]

    def _record(self, addressing: Addressing, value: str) -> tuple[str, Content]:
        contact = self._account.find(addressing, value)
        names = self._account.names(contact)
        if names is None:
            return contact, None
        record = {
            "id": names.contact,
            "hash": names.hash,
            "creationDate": CREATED,
            "lastUpdateDate": _UPDATED,
            "fields": {"email": names.unicity},
        }
        return contact, _dumps(record)

    def _http_date(self, now: float) -> str:
        second = int(now)
        if second != self._date[0]:
            self._date = second, formatdate(second, usegmt=True)
        return self._date[1]


def _dumps(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _named(query: str, *accepted: Addressing) -> tuple[Addressing, str]:
    """The contact that a query names in exactly one of the ways `accepted`, or `Refused`."""
    names: list[tuple[Addressing, str]] = [
        (way, value) for way in accepted for name, value in parse(query) if name == way
    ]
    if len(names) != 1 or not names[0][1]:
        raise Refused(400, f"exactly one of {', '.join(accepted[:-1])} and {accepted[-1]} is needed")
    return names[0]


# A bulk run asks for the same window of every contact.
@functools.lru_cache(maxsize=256)
def _filters(query: str, hits: bool) -> Filters:
    """The filters in a query, or `Refused`; only for `hits` does `classification` count."""
    values = dict(parse(query)) if query else {}
    sort = values.get("sort")
    if sort not in (None, "asc", "desc"):
        raise Refused(400, "sort must be asc or desc")
    robots: frozenset[str] = frozenset()
    if hits and "classification" in values:
        robots = frozenset(name.strip() for name in values["classification"].split(","))
        if not robots.issubset(ROBOTS):
            raise Refused(400, f"classification must be one or more of {', '.join(ROBOTS)}")
    return Filters(_moment(values, "start"), _moment(values, "end"), sort, robots)


def _reactivity_filters(query: str) -> tuple[Filters, Limits]:
    """Which reactions, in which order, and when what they react to was sent."""
    start, end = _bounds(query, "reactivityStart", "reactivityEnd")
    sent = _bounds(query, "activationStart", "activationEnd")
    return _filters(query, hits=False)._replace(start=start, end=end), sent


def _bounds(query: str, first: str, last: str) -> Limits:
    values = dict(parse(query))
    return _moment(values, first), _moment(values, last)


def _is_reaction(event: Class) -> bool:
    return event.label == "bounce" or event.label.startswith("hit/")


def _moment(values: dict[str, str], name: str) -> int | None:
    """A bound in epoch milliseconds; a whole number counts as milliseconds, a time without an offset as UTC."""
    text = values.get(name)
    if text is None:
        return None
    try:
        if _NUMBER.fullmatch(text):
            return _int64(int(text))
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return -((EPOCH - moment) // MILLISECOND)
    except (ValueError, OverflowError):
        raise Refused(400, f"{name} must be an ISO date or a timestamp") from None


def _int64(number: int) -> int:
    """`number` as it is; `OverflowError` where it takes more than 64 bits."""
    if not -(2**63) <= number < 2**63:
        raise OverflowError
    return number
