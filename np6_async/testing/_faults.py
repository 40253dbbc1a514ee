"""Faults, which go wrong on purpose, and the plan of when they happen."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, get_args

import attrs

from .._errors import InvalidInput
from ._http import Response

How = Literal["chunked", "rst", "length", "eof", "gzip"]
Change = Callable[[Response, random.Random], Response | None]

HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]')


@attrs.frozen(repr=False)
class Fault:
    """Something that goes wrong with one response. Made by the methods below, ordered with `FakeNP6.script`.

    `FakeNP6.faults_consumed` counts it by its `name`. `after` is a number of bytes of the JSON body (before
    compression); without it, a place inside the body is drawn. A fault of the body waits for a response that it fits:
    one with status 200, and with at least one event for `duplicate`, and to a client that accepts gzip for
    `cut(how="gzip")`.
    """

    name: str
    _change: Change
    ALL: ClassVar[tuple[Fault, ...]] = ()
    """One of each of the 17 kinds that `FakeNP6.fault_rate` draws from."""

    def __repr__(self) -> str:
        return f"<Fault {self.name}>"

    def apply(self, response: Response, rng: random.Random) -> Response | None:
        """The response with this fault, None if it does not fit."""
        return self._change(response, rng)

    @classmethod
    def drop(cls) -> Fault:
        """The connection is closed before the first byte of the response."""
        return cls("drop", lambda response, _: response.evolve(silent=True, ending="close"))

    @classmethod
    def reset(cls) -> Fault:
        """The connection is reset (RST) before the first byte of the response."""
        return cls("reset", lambda response, _: response.evolve(silent=True, ending="reset"))

    @classmethod
    def hang(cls, seconds: float = math.inf) -> Fault:
        """Nothing is sent for `seconds` (by default for ever), and then the connection is closed."""
        return cls("hang", lambda r, _: r.evolve(silent=True, pause_at=0, pause=float(seconds), ending="close"))

    @classmethod
    def status(
        cls,
        status: int,
        *,
        retry_after: float | str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "text/html",
    ) -> Fault:
        """The response has another status, with `Retry-After` (seconds, or a date as text) where given.

        The body is empty by default, or for 502 an HTML page, as gateways send it.
        """
        content = (HTML if status == 502 else b"") if body is None else body
        more = dict(headers or {})
        if retry_after is not None:
            more["Retry-After"] = str(retry_after)

        def change(response: Response, _: random.Random) -> Response:
            return response.evolve(
                status=status,
                body=content,
                events=None,
                gzip=False,
                content_type=content_type if content else None,
                headers={**response.headers, **more},
            )

        return cls(f"status_{status}", change)

    @classmethod
    def rate_limited(cls, retry_after: float | str | None = 1) -> Fault:
        """One 429, whatever the rate limit; `retry_after` is in seconds, None for no such header."""
        return cls.status(429, retry_after=retry_after)

    @classmethod
    def cut(cls, after: int | None = None, how: How = "chunked") -> Fault:
        """The response breaks off when exactly `after` bytes of its body have been sent.

        `how` is what the client sees. "chunked": the connection is closed without the last chunk. "rst": it is reset,
        and HTTP libraries may drop bytes that they have not delivered yet. "length": it is closed before the
        Content-Length is reached. "eof": it is closed and nothing but that marks the end, so HTTP has no objection.
        "gzip": the response is complete, but its gzip stream ends too early.

        If `after` is the size of the body or more, all of it is sent and only the end is missing (with "eof",
        nothing is). Raises ValueError if it is negative.
        """
        if after is not None and after < 0:
            raise ValueError(f"after is {after}: it must be 0 or more bytes")

        def change(response: Response, rng: random.Random) -> Response | None:
            if not response.body or (how == "gzip" and not response.gzip_accepted):
                return None
            size = rng.randrange(len(response.body)) if after is None else after
            match how:
                case "gzip":
                    framing = "length" if isinstance(response.body, bytes) else "chunked"
                    return response.evolve(cut_at=size, gzip=True, framing=framing)
                case "rst":
                    return response.evolve(cut_at=size, ending="reset")
                case _:
                    return response.evolve(cut_at=size, framing=how, ending="close")

        return cls._of_body(f"cut_{how}", change)

    @classmethod
    def stall(cls, after: int | None = None, seconds: float = math.inf) -> Fault:
        """After `after` bytes of the body nothing comes for `seconds` (by default for ever), and then the rest."""

        def change(response: Response, rng: random.Random) -> Response | None:
            if not response.body:
                return None
            place = rng.randrange(len(response.body)) if after is None else after
            return response.evolve(pause_at=place, pause=float(seconds))

        return cls._of_body("stall", change)

    @classmethod
    def html(cls) -> Fault:
        """An HTML page with status 200, such as login pages and captive portals send."""
        return cls._of_body(
            "html", lambda r, _: r.evolve(body=HTML, events=None, content_type="text/html; charset=utf-8")
        )

    @classmethod
    def object(cls, body: bytes = b'{"error":"internal error"}') -> Fault:
        """A JSON object with status 200 in place of an array."""
        return cls._of_body("object", lambda r, _: r.evolve(body=body, events=None, content_type="application/json"))

    @classmethod
    def garbage(cls, tail: bytes = b"}garbage") -> Fault:
        """`tail` follows the closing bracket."""
        return cls._of_body("garbage", lambda r, _: r.spliced(len(r.body), len(r.body), tail))

    @classmethod
    def bit_flip(cls) -> Fault:
        """One bit of one byte of JSON punctuation is wrong, so that the body is not JSON."""
        return cls._of_body("bit_flip", _flip)

    @classmethod
    def close_after(cls) -> Fault:
        """The response is whole and keeps the connection alive, but the next request on it finds it closed."""
        return cls("close_after", lambda response, _: response.evolve(ending="doomed"))

    @classmethod
    def duplicate(cls) -> Fault:
        """One event comes twice in a row."""

        def change(response: Response, rng: random.Random) -> Response | None:
            if response.events is None or not response.events.count:
                return None
            begin, end = response.events.span(rng.randrange(response.events.count))
            return response.spliced(end, end, b"," + response.body[begin:end])

        return cls("duplicate", change)

    @classmethod
    def _of_body(cls, name: str, change: Change) -> Fault:
        """A fault of bodies that are promised to be events, which are those of status 200."""
        return cls(name, lambda response, rng: change(response, rng) if response.status == 200 else None)


def _check(faults: Sequence[Fault]) -> None:
    for fault in faults:
        if not isinstance(fault, Fault):
            raise InvalidInput(f"{fault!r} is not a Fault: make one, such as Fault.status(503)")


def _flip(response: Response, rng: random.Random) -> Response | None:
    begin, end = 0, len(response.body)
    if response.events is not None and response.events.count:
        begin, end = response.events.span(rng.randrange(response.events.count))
    text = bytearray(response.body[begin:end])
    punctuation = [token.start() for token in _TOKENS.finditer(text) if len(token[0]) == 1]
    if not punctuation:
        return None
    # Outside a string, JSON accepts no punctuation character with this bit changed.
    text[rng.choice(punctuation)] ^= 0x40
    return response.spliced(begin, end, bytes(text))


Fault.ALL = (
    *(Fault.drop(), Fault.reset()),
    *(Fault.status(status) for status in (500, 502, 503)),
    *(Fault.cut(how=how) for how in get_args(How)),
    *(Fault.stall(), Fault.html(), Fault.object(), Fault.garbage(), Fault.bit_flip()),
    *(Fault.close_after(), Fault.duplicate()),
)


@attrs.define(eq=False)
class Order:
    """Faults for requests to come, one after the other, each with how often it is still to happen (or `math.inf`)."""

    faults: deque[tuple[Fault, float]]
    contact: str | None
    path: re.Pattern[str] | None
    skip: int


class FaultPlan:
    """The faults that were ordered, and those that happened. Orders may come from another thread."""

    def __init__(self, seed: int) -> None:
        self.consumed: Counter[str] = Counter()
        self._orders: list[Order] = []
        self._rng = random.Random(seed)
        self._rate = 0.0
        self._kinds: Sequence[Fault] = ()
        self._seed = seed
        self._seen: Counter[str] = Counter()

    def order(
        self,
        faults: Sequence[Fault],
        contact: str | None,
        path: re.Pattern[str] | None,
        times: int | None,
        skip: int,
    ) -> None:
        """Let each of `faults` happen `times` times, after `skip` requests that the first of them would fit."""
        _check(faults)
        if (times is not None and times < 1) or skip < 0:
            raise ValueError(f"times is {times} and skip {skip}: they must be at least 1 (or None) and 0")
        if faults:
            each = math.inf if times is None else times
            self._orders.append(Order(deque((fault, each) for fault in faults), contact, path, skip))

    def rate(self, rate: float, kinds: Sequence[Fault], seed: int) -> None:
        """Let a fault of `kinds` happen to this share of all requests from now on."""
        _check(kinds)
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate}: it must be between 0 and 1")
        self._rate, self._kinds, self._seed = rate if kinds else 0.0, tuple(kinds), seed
        self._seen.clear()

    @property
    def pending(self) -> Counter[str]:
        """Faults that were ordered and have not happened yet, by name; endless ones are left out."""
        waiting: Counter[str] = Counter()
        for order in list(self._orders):
            for fault, times in list(order.faults):
                if times < math.inf:
                    waiting[fault.name] += int(times)
        return waiting

    def change(self, contact: str | None, path: str, response: Response) -> tuple[Response, str | None]:
        """The response to a request for `contact` at this path, and the name of the fault that it met."""
        for order in list(self._orders):
            if order.contact is not None and order.contact != contact:
                continue
            if order.path is not None and not order.path.fullmatch(path):
                continue
            fault, times = order.faults[0]
            changed = fault.apply(response, self._rng)
            if changed is None:
                continue
            if order.skip:
                order.skip -= 1
                continue
            if times > 1:
                order.faults[0] = fault, times - 1
            elif len(order.faults) > 1:
                order.faults.popleft()
            else:
                self._orders.remove(order)
            self.consumed[fault.name] += 1
            return changed, fault.name
        return self._draw(path if contact is None else contact, response) if self._rate else (response, None)

    def _draw(self, name: str, response: Response) -> tuple[Response, str | None]:
        # Drawn from the contact and the number of its request: whatever else happens meanwhile changes nothing.
        self._seen[name] += 1
        digest = hashlib.blake2b(f"{self._seed}/{name}/{self._seen[name]}".encode(), digest_size=16).digest()
        if int.from_bytes(digest[:8]) >= self._rate * 2**64:
            return response, None
        rng = random.Random(digest[8:])
        first = rng.randrange(len(self._kinds))
        for fault in (*self._kinds[first:], *self._kinds[:first]):
            changed = fault.apply(response, rng)
            if changed is not None:
                self.consumed[fault.name] += 1
                return changed, fault.name
        return response, None
