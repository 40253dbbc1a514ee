"""A2 and A4 as properties: whatever the events, the chunks, the limits and the cuts, each event once and in order.

Most examples run over responses made up in memory, which tells thousands of them apart in a minute; some over
sockets. Each run draws from a fixed seed.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from attrs import define, field, frozen
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from support import strategies
from support.delivery import PATIENT, SEED

from np6_async import (
    ConnectError,
    Contact,
    DecodeLimits,
    NP6Error,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from np6_async._http.availability import Availability
from np6_async._http.concurrency import Slots
from np6_async._http.lifetime import Lifetime
from np6_async._http.observations import Observers
from np6_async._http.rate_limiter import RateLimiter
from np6_async._models.events import EventKind
from np6_async._models.time_bounds import Window, isoformat
from np6_async._protocol.event_query import ContactQuery
from np6_async._streams.event_stream import EventStream
from np6_async._streams.fetch import Fetch
from np6_async._streams.runtime import Runtime
from np6_async.testing import FakeNP6, Fault

if TYPE_CHECKING:
    from conftest import Figure

CONTACT = "000MLGPR"
MOST_CUTS = 12
LARGEST = 900 * 1024
FEW = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink]
)


# -- events ----------------------------------------------------------------------------------------


@frozen(repr=False)
class Stored:
    """An event as the server holds it."""

    at: int
    body: bytes

    def __repr__(self) -> str:
        return f"<{self.at} {self.body[:40]!r} {len(self.body)}>"


# A few timestamps near each other, so that ties are the normal case, at the ends of time as well.
_CLOCKS = st.sampled_from([0, 1_700_000_000_000, strategies.MAX_TIMESTAMP - 8])
_LARGE = st.sampled_from(["a", "é", "🎉", "},{", '"', "\\", "]", "[{", "\n"])
_IDS = st.none() | st.just("") | st.just("missing") | strategies.uuids | strategies.texts


def depth(value: Any) -> int:
    """How deep objects and arrays are nested in `value`."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@define
class History:
    """All events of one contact."""

    events: list[Stored]
    depth: int
    first: int  # no event is before

    @property
    def largest(self) -> int:
        return max((len(each.body) for each in self.events), default=1)


@st.composite
def histories(draw: st.DrawFn, most: int = 20) -> History:
    """Events with ties, some without an id, some alike to the last byte, some as large as is legal."""
    base = draw(_CLOCKS)
    large = draw(st.integers(0, 11)) == 7
    stored = []
    names: set[tuple[int, str]] = set()
    deepest = 1
    for _ in range(draw(st.integers(0, most))):
        at = base + draw(st.integers(0, 8))
        if draw(st.integers(0, 3)):  # a small one
            data: dict[str, Any] = {"type": draw(st.sampled_from(strategies.EVENT_TYPES))}
        else:
            data = draw(strategies.events())
        name = draw(_IDS)
        data.pop("id", None)
        if name != "missing":
            data["id"] = name
        data["timestamp"] = at
        if name and name != "missing":
            if (at, name) in names:
                continue  # the same id and timestamp are the same event
            names.add((at, name))
        if large and draw(st.booleans()):
            text, size = draw(_LARGE), draw(st.sampled_from([LARGEST, 300_000]) | st.integers(100_000, LARGEST))
            large = size < LARGEST  # a few of them are enough
            data["note"] = text * (size // len(json.dumps(text)[1:-1]))
        style = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
        body = json.dumps(data, separators=style, ensure_ascii=draw(st.booleans())).encode()
        deepest = max(deepest, depth(data))
        stored.append(Stored(at, body))
        if not data.get("id") and draw(st.booleans()):
            stored.append(Stored(at, body))  # two events that nothing tells apart are two events
    return History(stored, deepest, base)


@st.composite
def windows(draw: st.DrawFn, first: int) -> Window:
    """Bounds around the events' timestamps, or none."""
    bound = st.none() | st.integers(max(0, first - 2), min(strategies.MAX_TIMESTAMP, first + 10))
    start, end = draw(bound), draw(bound)
    if start is not None and end is not None and start > end:
        start, end = end, start
    return Window(start, end)


@st.composite
def decode_limits(draw: st.DrawFn, history: History) -> DecodeLimits:
    """Any limits that the events respect, down to the byte and to the level."""
    large = history.largest > 20_000
    return DecodeLimits(
        event_bytes=draw(st.sampled_from([max(20, history.largest), 2 * 1024 * 1024])),
        depth=draw(st.sampled_from([history.depth, 128])),
        slice_bytes=draw(st.integers(1000, 100_000) if large else st.integers(1, 300) | st.integers(1000, 100_000)),
        batch_events=draw(st.integers(1, 6) | st.just(256)),
    )


# -- responses in memory -----------------------------------------------------------------------------


@frozen
class Cut:
    """How one response breaks off. `at` is a share of its body, or a number of its bytes where it has so many."""

    how: str
    at: float | int

    def place(self, size: int) -> int:
        return int(self.at * size) if isinstance(self.at, float) else min(self.at, size - 1)


# Those that break a body, and those that leave none. The end of the file looks like an end to HTTP.
cuts = st.builds(
    Cut,
    st.sampled_from(["broken"] * 4 + ["end of file"] * 4 + ["stalled"] * 2 + ["refused", "503", "garbage"]),
    st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, 0.5, 0.999999]),
)


class MadeUpResponse:
    """What `Fetch` wants to see of a response: a body that comes in pieces, some available and some waited for."""

    def __init__(self, pieces: list[bytes], fault: NP6Error | None, rng: random.Random, status: int = 200) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._pieces = pieces[::-1]
        self._fault = fault
        self._rng = rng
        self.closed = False

    @property
    def ended(self) -> bool:
        return not self._pieces and self._fault is None

    def read_nowait(self) -> bytes:
        if self._pieces and self._rng.random() < 0.5:
            return self._pieces.pop()
        return b""

    async def read(self) -> bytes:
        if self._rng.random() < 0.1:
            await asyncio.sleep(0)
        if self._pieces:
            return self._pieces.pop()
        if self._fault is not None:
            raise self._fault
        return b""

    async def error(self) -> NP6Error:
        self.close()
        return ServerError("made up", status=self.status)

    def close(self) -> None:
        self.closed = True


@define
class MadeUpServer:
    """The API in memory: filters, sorts, shuffles ties for each response, and cuts the first of them as told."""

    events: Sequence[Stored]
    cuts: list[Cut]
    chunking: int | list[int]  # the mean size of a piece (0: the body as one), or where pieces end
    rng: random.Random
    ignores_bounds: bool = False
    requests: list[str] = field(factory=list)
    responses: list[MadeUpResponse] = field(factory=list)
    consumed: Counter[str] = field(factory=Counter)

    async def request(
        self, path: str, query: str, body: bytes | None = None, *, connect: float | None = None
    ) -> MadeUpResponse:
        """As `Transport.request`."""
        assert path == f"/targets/{CONTACT}/events"
        self.requests.append(query)
        cut = self.cuts.pop(0) if self.cuts else None
        if cut is not None:
            self.consumed[cut.how] += 1
            if cut.how == "refused":
                raise ConnectError("made up")
        if cut is not None and cut.how == "503":
            response = MadeUpResponse([], None, self.rng, status=503)
        else:
            response = self._response(query, cut)
        self.responses.append(response)
        return response

    def _response(self, query: str, cut: Cut | None) -> MadeUpResponse:
        body = b"[" + b",".join(each.body for each in self._chosen(query)) + b"]"
        fault: NP6Error | None = None
        if cut is not None and cut.how == "garbage":
            body += b"}garbage"
        elif cut is not None:
            body = body[: cut.place(len(body))]
            if cut.how == "broken":
                fault = StreamInterrupted("made up")
            elif cut.how == "stalled":
                fault = TimeoutExceeded("made up")
        return MadeUpResponse(self._pieces(body), fault, self.rng)

    def _chosen(self, query: str) -> list[Stored]:
        asked = {name: values[0] for name, values in parse_qs(query, strict_parsing=True).items()}
        start, end = (_milliseconds(asked[name]) if name in asked else None for name in ("start", "end"))
        if self.ignores_bounds:
            start = end = None
        events = [each for each in self.events if Window(start, end).contains(each.at)]
        self.rng.shuffle(events)
        events.sort(key=lambda each: each.at, reverse={"asc": False, "desc": True}[asked["sort"]])
        return events

    def _pieces(self, body: bytes) -> list[bytes]:
        if isinstance(self.chunking, list):
            places = [place for place in self.chunking if place < len(body)]
            return [piece for piece in strategies.chunks(body, places) if piece]
        if not self.chunking:
            return [body] if body else []
        pieces = []
        place = 0
        while place < len(body):
            # No more than some thousand pieces of the largest body.
            size = 1 + int(self.rng.expovariate(1 / max(self.chunking, len(body) / 2000)))
            pieces.append(body[place : place + size])
            place += size
        return pieces


def _milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    milliseconds = (moment - datetime.fromisoformat("1970-01-01T00:00Z")) // _MILLISECOND
    assert isoformat(milliseconds) == text
    return milliseconds


_MILLISECOND = datetime.resolution * 1000


def stream(server: Any, window: Window, newest_first: bool, limits: DecodeLimits) -> tuple[EventStream[Any], Lifetime]:
    """A stream as `NP6Client` makes it, over this transport."""
    lifetime = Lifetime()
    slots = Slots(1, PATIENT.clock)
    limiter = RateLimiter(PATIENT, requests=lambda: 1)
    runtime = Runtime(
        transport=server,
        slots=slots,
        concurrency=1,
        rate_limiter=limiter,
        policy=PATIENT,
        availability=Availability(PATIENT, limiter, 30.0),
        timeout=Timeout(),
        limits=limits,
        observers=Observers(()),
        lifetime=lifetime,
        read_timeout=lifetime.shared_timeout(30.0, lambda: TimeoutExceeded("made up")),
    )
    query = ContactQuery(EventKind.ALL, window, newest_first)
    return EventStream(Fetch(runtime, Contact.by_id(CONTACT), query, slots)), lifetime


def check(delivered: list[Any], events: Sequence[Stored], window: Window, newest_first: bool) -> None:
    """Exactly once, in order, inside the bounds."""
    times = [each.timestamp for each in delivered]
    assert times == sorted(times, reverse=newest_first)
    expected = Counter((each.at, each.body) for each in events if window.contains(each.at))
    assert Counter((each.timestamp, each.raw) for each in delivered) == expected


# -- A2 --------------------------------------------------------------------------------------------


def test_A2_each_event_once_whatever_the_events_the_chunks_the_limits_and_the_cuts(figure: Figure) -> None:
    """Random events, bounds, orders, chunks and limits, and up to 12 cuts at any byte: each event once, in order."""
    counts: Counter[str] = Counter()

    @seed(SEED)
    @settings(FEW, max_examples=1_500)
    @given(st.data(), histories(), st.booleans(), st.lists(cuts, max_size=MOST_CUTS), st.integers(0, 2**32))
    def exactly_once(data: st.DataObject, history: History, newest_first: bool, broken: list[Cut], number: int) -> None:
        rng = random.Random(number)
        window = data.draw(windows(history.first))
        limits = data.draw(decode_limits(history))
        chunking = data.draw(st.sampled_from([0, 1, 7, 60, 1000, 20_000]))
        server = MadeUpServer(history.events, list(broken), chunking, rng, data.draw(st.booleans()))

        async def run() -> list[Any]:
            delivered = []
            events, lifetime = stream(server, window, newest_first, limits)
            try:
                async for batch in events.batches():
                    assert 0 < len(batch) <= limits.batch_events
                    delivered += batch
            finally:
                lifetime.close()
            assert events.stats.requests == len(server.requests)
            assert events.stats.events == len(delivered)
            return delivered

        delivered = runner.run(run())
        check(delivered, history.events, window, newest_first)
        if window.empty:
            assert not server.requests
        else:
            assert len(server.requests) == len(broken) + 1
            assert not server.cuts
        assert all(response.closed for response in server.responses)
        counts["examples"] += 1
        counts["cuts"] += server.consumed.total()
        counts["events"] += len(delivered)
        counts["large"] += history.largest > 100_000
        counts["ties"] += len(delivered) - len({each.timestamp for each in delivered})

    with asyncio.Runner() as runner:
        try:
            exactly_once()
        finally:
            figure(
                "A2", "examples in memory, each event once, in order, inside the bounds", "1,500", counts["examples"]
            )
            seen = ", ".join(f"{counts[name]:,} {name}" for name in ("cuts", "events", "ties"))
            figure("A2", "... with", "many", seen)
            figure("A2", "... with an event of 100 to 900 KiB", ">= 30", counts["large"])
    print(f"\nseed {SEED}: {dict(counts)}")
    assert counts["examples"] >= 1_500
    assert counts["cuts"] >= 3_000
    assert counts["ties"] >= 5_000
    assert counts["large"] >= 30


# Where the whole body is sent, an end of the file or of the compressed stream may be none that is seen.
socket_cuts = st.one_of(
    st.builds(Fault.cut, st.none() | st.integers(0, 3_000), st.sampled_from(["chunked", "rst", "length"])),
    st.builds(Fault.cut, st.none(), st.sampled_from(["chunked", "rst", "length", "eof", "gzip"])),
    st.sampled_from([Fault.drop(), Fault.reset(), Fault.status(503), Fault.garbage()]),
)


def test_A2_each_event_once_over_sockets_too(figure: Figure) -> None:
    """The same over HTTP, with every framing and way of breaking it."""
    counts: Counter[str] = Counter()

    @seed(SEED)
    @settings(FEW, max_examples=100)
    @given(st.data(), histories(), st.booleans(), st.lists(socket_cuts, max_size=MOST_CUTS), st.integers(0, 2**32))
    def exactly_once(
        data: st.DataObject, history: History, newest_first: bool, broken: list[Fault], number: int
    ) -> None:
        window = data.draw(windows(history.first))
        limits = data.draw(decode_limits(history))
        chunk_size = max(data.draw(st.sampled_from([7, 100, 4096, 16 * 1024])), history.largest // 200)
        compressed = data.draw(st.booleans())
        start, end = (None if bound is None else isoformat(bound) for bound in (window.start, window.end))

        async def run() -> None:
            async with (
                FakeNP6(contacts=0, seed=number, gzip=compressed, chunk_size=chunk_size) as server,
                server.client(retry=PATIENT, limits=limits, timeout=Timeout(read=10)) as np6,
            ):
                server.add_contact(CONTACT, [each.body for each in history.events])
                server.script(*broken, contact=CONTACT)
                events = np6.events.stream(CONTACT, start=start, end=end, newest_first=newest_first)
                delivered = [each async for batch in events.batches() for each in batch]
            check(delivered, history.events, window, newest_first)
            assert server.request_count == events.stats.requests == (0 if window.empty else len(broken) + 1)
            assert window.empty or not server.faults_pending.total()
            counts["examples"] += 1
            counts["cuts"] += server.faults_consumed.total()
            counts.update(server.faults_consumed)

        runner.run(run())

    with asyncio.Runner() as runner:
        try:
            exactly_once()
        finally:
            name = "examples over sockets, each event once, in order, inside the bounds"
            figure("A2", name, "100", f"{counts['examples']} with {counts['cuts']} faults")
    print(f"\nseed {SEED}: {dict(counts)}")
    assert counts["examples"] >= 100
    assert min(counts[f"cut_{how}"] for how in ("chunked", "rst", "length", "eof", "gzip")) >= 5


# -- A4 --------------------------------------------------------------------------------------------


@st.composite
def large_histories(draw: st.DrawFn) -> History:
    """One event of 900 KiB, whatever its text holds, alone or tied with small ones."""
    text = draw(_LARGE)
    first = 1_700_000_000_000
    times = LARGEST // len(json.dumps(text, ensure_ascii=False)[1:-1].encode()) - 100
    data = {"timestamp": first + 1, "id": "large", "source": {"type": "email", "note": [text * times]}}
    body = json.dumps(data, ensure_ascii=False).encode()
    assert LARGEST - 2_000 < len(body) <= LARGEST
    small = [(first + draw(st.integers(0, 2)), number) for number in range(draw(st.integers(0, 4)))]
    stored = [Stored(at, b'{"timestamp":%d,"id":"%d"}' % (at, number)) for at, number in small]
    return History([Stored(first + 1, body), *stored], depth(data), first)


def test_A4_one_event_of_900_KiB_cut_anywhere_comes_once(figure: Figure) -> None:
    """A large event arrives once, in whatever pieces it comes and at whatever byte of it responses break off."""
    counts: Counter[str] = Counter()
    # Anywhere, with the ends of the event, the neighbours and the brackets as likely as the middle.
    place = st.one_of(
        st.integers(0, 400), st.integers(0, LARGEST + 200), st.integers(LARGEST - 2_000, LARGEST + 200), st.just(2**40)
    )
    broken = st.lists(st.builds(Cut, st.sampled_from(["broken", "end of file", "stalled"]), place), max_size=5)
    pieces = st.one_of(
        st.sampled_from([0, 600, 5_000, 16_384, 40_000]),
        st.lists(place, max_size=12).map(sorted),
        st.integers(300, 40_000).map(lambda step: list(range(step, LARGEST + 200, step))),
    )

    @seed(SEED)
    @settings(FEW, max_examples=200)
    @given(st.data(), large_histories(), st.booleans(), broken, pieces, st.integers(0, 2**32))
    def exactly_once(
        data: st.DataObject, history: History, newest_first: bool, broken: list[Cut], pieces: Any, number: int
    ) -> None:
        limits = data.draw(decode_limits(history))
        server = MadeUpServer(history.events, list(broken), pieces, random.Random(number))

        async def run() -> list[Any]:
            events, lifetime = stream(server, Window(), newest_first, limits)
            try:
                return [each async for batch in events.batches() for each in batch]
            finally:
                lifetime.close()

        check(runner.run(run()), history.events, Window(), newest_first)
        assert len(server.requests) == len(broken) + 1
        counts["examples"] += 1
        counts["cuts"] += len(broken)

    with asyncio.Runner() as runner:
        try:
            exactly_once()
        finally:
            measured = f"{counts['examples']} with {counts['cuts']} cuts"
            figure("A4", "examples of one event of 900 KiB cut anywhere: exactly once", "200", measured)
    print(f"\nseed {SEED}: {dict(counts)}")
    assert counts["examples"] >= 200
    assert counts["cuts"] >= 200
