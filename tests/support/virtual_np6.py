"""An NP6 without sockets, in virtual time: hours of outages in a moment, and the same at every run."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from attrs import Factory, define
from multidict import CIMultiDict, CIMultiDictProxy

from np6_async import ConnectError, NP6Client, RetryPolicy
from np6_async._client import runtime_of
from np6_async._http.response import Response
from np6_async._models.time_bounds import to_millis
from support.virtual_time import now

HTML = b"<html><head><title>Maintenance</title></head><body>Back soon.</body></html>"
EVENTS = 2  # of each contact
_FIRST = 1_767_225_600_000


class _Protocol:
    """What a StreamReader wants of a connection."""

    _reading_paused = False

    def pause_reading(self) -> None: ...
    def resume_reading(self, **_: Any) -> None: ...


@define
class Answer:
    """What comes back, or an error; `hang`: nothing does."""

    status: int = 200
    body: bytes = b"[]"
    headers: dict[str, str] = Factory(dict)
    error: Callable[[], Exception] | None = None
    hang: bool = False


def _no_connection(reason: str) -> Answer:
    return Answer(error=lambda: ConnectError(f"no connection to https://np6.example ({reason}): check base_url"))


REFUSED = _no_connection("Connection refused")
KINDS = {
    "refused": REFUSED,
    "reset": Answer(error=lambda: ConnectError("the server closed the connection before responding")),
    "DNS": _no_connection("its name does not resolve"),
    **{str(status): Answer(status) for status in (500, 502, 503, 504, 520)},
    "HTML": Answer(body=HTML),
    "object": Answer(body=b'{"error":"internal error"}'),
    "301": Answer(301, headers={"Location": "https://maintenance.example/"}),
    "302": Answer(302, headers={"Location": "https://maintenance.example/"}),
    "time-out": Answer(hang=True),
}


@define(eq=False)
class VirtualNP6:
    """Answers after `latency` seconds. `fault` is asked at each request, with the contact, for what comes instead."""

    contacts: int
    latency: float = 0.02
    fault: Callable[[str], Answer | None] = lambda _: None
    sent: list[tuple[float, str, str]] = Factory(list)  # time, contact, query
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def contact_ids(self) -> list[str]:
        return [f"C{number:06}" for number in range(self.contacts)]

    def truth(self, contact: str) -> list[dict[str, Any]]:
        number = int(contact[1:])
        return [
            {"id": f"{contact}-{place}", "timestamp": _FIRST + number + place, "type": "bounce"}
            for place in range(EVENTS)
        ]

    def client(self, **options: Any) -> NP6Client:
        """A client of it; only inside virtual time."""
        policy = {"clock": now, "wall_clock": lambda: 1_790_000_000 + now(), **options.pop("policy", {})}
        client = NP6Client("k", base_url="https://np6.example", retry=RetryPolicy(**policy), **options)
        runtime_of(client).transport.request = self._request  # type: ignore[method-assign]
        return client

    async def _request(
        self, path: str, query: str, body: bytes | None = None, *, connect: float | None = None
    ) -> Response:
        contact = path.split("/")[2]
        self.sent.append((now(), contact, query))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            answer = self.fault(contact) or Answer(body=self._body(contact, query))
            if answer.hang:
                await asyncio.Event().wait()
            await asyncio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        if answer.error is not None:
            raise answer.error()
        reader = aiohttp.StreamReader(_Protocol(), 2**16, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        reader.feed_data(answer.body)
        reader.feed_eof()
        headers = CIMultiDictProxy(CIMultiDict(answer.headers))
        return Response(answer.status, headers, reader, lambda: None, set())

    def _body(self, contact: str, query: str) -> bytes:
        bounds = dict(parse_qsl(query))
        start, end = (
            to_millis(bounds[name], name=name, now=None, tz=None) if name in bounds else limit  # type: ignore[arg-type]
            for name, limit in (("start", 0), ("end", 2**60))
        )
        return json.dumps([event for event in self.truth(contact) if start <= event["timestamp"] < end]).encode()


class Received:
    """What was delivered, compared with what there is."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str | None]] = Counter()
        self.times: list[float] = []

    def add(self, contact: Any, events: list[Any]) -> None:
        self.times += [now()] * len(events)
        self.events.update((contact, event.id) for event in events)

    def lost_and_doubled(self, server: VirtualNP6, contacts: list[str] | None = None) -> tuple[int, int]:
        truth = Counter(
            (contact, event["id"])
            for contact in (server.contact_ids if contacts is None else contacts)
            for event in server.truth(contact)
        )
        return (truth - self.events).total(), (self.events - truth).total()
