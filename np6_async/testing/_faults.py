"""What can go wrong on purpose: faults, and the plan of when they happen."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import attrs

from .._errors import InvalidInput
from ._http import Reply

How = Literal["chunked", "rst", "length", "eof", "gzip"]
Change = Callable[[Reply, random.Random], Reply | None]

HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]')


@attrs.frozen(repr=False)
class Fault:
    """Something that goes wrong with one answer. Made by the methods below, ordered by `FakeNP6.script`.

    `name` is what `FakeNP6.faults_consumed` counts it under. Where `after` is asked for, it is a number of
    bytes of the JSON body (before compression); without it a place inside the body is drawn. A fault of
    the body waits for an answer it fits: one of status 200, with at least one event for `duplicate`, and
    to a client that accepts gzip for `cut(how="gzip")`.
    """

    name: str
    _change: Change
    ALL: ClassVar[tuple[Fault, ...]] = ()
    """One of each of the 17 kinds that `FakeNP6.fault_rate` draws from."""

    def __repr__(self) -> str:
        return f"<Fault {self.name}>"

    def apply(self, reply: Reply, rng: random.Random) -> Reply | None:
        """The answer with this fault, None where it does not fit."""
        return self._change(reply, rng)

    @classmethod
    def drop(cls) -> Fault:
        """The connection is closed before a single byte of the answer."""
        return cls("drop", lambda reply, _: reply.evolve(silent=True, ending="close"))

    @classmethod
    def reset(cls) -> Fault:
        """The connection is reset (RST) before a single byte of the answer."""
        return cls("reset", lambda reply, _: reply.evolve(silent=True, ending="reset"))

    @classmethod
    def hang(cls, seconds: float = math.inf) -> Fault:
        """Not a byte comes for `seconds`, then the connection is closed; for ever unless given."""
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
        """Another status is answered, with `Retry-After` (seconds, or a date as it is) where given.

        The body is empty, but for 502, which gateways answer with a page of HTML.
        """
        content = (HTML if status == 502 else b"") if body is None else body
        more = dict(headers or {})
        if retry_after is not None:
            more["Retry-After"] = str(retry_after)

        def change(reply: Reply, _: random.Random) -> Reply:
            return reply.evolve(
                status=status,
                body=content,
                events=None,
                gzip=False,
                content_type=content_type if content else None,
                headers={**reply.headers, **more},
            )

        return cls(f"status_{status}", change)

    @classmethod
    def rate_limited(cls, retry_after: float | str | None = 1) -> Fault:
        """One 429, whatever the rate limit; `retry_after` in seconds or None."""
        return cls.status(429, retry_after=retry_after)

    @classmethod
    def cut(cls, after: int | None = None, how: How = "chunked") -> Fault:
        """The answer breaks off when exactly `after` bytes of its body are sent.

        `how` says what the client gets to see: "chunked", the connection closed without the last chunk;
        "rst", the connection reset, whereupon HTTP libraries may drop bytes they had not handed out yet;
        "length", closed before the Content-Length was reached; "eof", closed where only that marks the
        end, so that HTTP has no objection; "gzip", a proper answer with a gzip stream that ends too early.
        With `after` at or above the size of the body all of it is sent, and only the end is missing (with
        "eof", nothing is).
        """
        if after is not None and after < 0:
            raise ValueError(f"after is {after}: it must be 0 or more bytes")

        def change(reply: Reply, rng: random.Random) -> Reply | None:
            if reply.status != 200 or not reply.body or (how == "gzip" and not reply.gzip_accepted):
                return None
            size = rng.randrange(len(reply.body)) if after is None else after
            match how:
                case "gzip":
                    return reply.evolve(cut_at=size, gzip=True, framing="length")
                case "rst":
                    return reply.evolve(cut_at=size, ending="reset")
                case _:
                    return reply.evolve(cut_at=size, framing=how, ending="close")

        return cls(f"cut_{how}", change)

    @classmethod
    def stall(cls, after: int | None = None, seconds: float = math.inf) -> Fault:
        """Bytes stop after `after` of them: for `seconds`, then the rest comes; for ever unless given."""

        def change(reply: Reply, rng: random.Random) -> Reply | None:
            if reply.status != 200 or not reply.body:
                return None
            place = rng.randrange(len(reply.body)) if after is None else after
            return reply.evolve(pause_at=place, pause=float(seconds))

        return cls("stall", change)

    @classmethod
    def html(cls) -> Fault:
        """A page of HTML with status 200, as login pages and captive portals send it."""
        return cls._body("html", HTML, "text/html; charset=utf-8")

    @classmethod
    def object(cls, body: bytes = b'{"error":"internal error"}') -> Fault:
        """A JSON object with status 200, where an array is promised."""
        return cls._body("object", body, "application/json")

    @classmethod
    def _body(cls, name: str, body: bytes, content_type: str) -> Fault:
        def change(reply: Reply, _: random.Random) -> Reply | None:
            if reply.status != 200:
                return None
            return reply.evolve(body=body, events=None, content_type=content_type)

        return cls(name, change)

    @classmethod
    def garbage(cls, tail: bytes = b"}garbage") -> Fault:
        """`tail` follows the closing bracket."""
        return cls("garbage", lambda r, _: r.evolve(body=r.body + tail) if r.status == 200 else None)

    @classmethod
    def bit_flip(cls) -> Fault:
        """One bit is wrong in a byte of JSON punctuation, so that what comes is no JSON."""
        return cls("bit_flip", _flip)

    @classmethod
    def close_after(cls) -> Fault:
        """The answer is whole and keeps the connection alive, but the next request on it finds it closed."""
        return cls("close_after", lambda reply, _: reply.evolve(ending="doomed"))

    @classmethod
    def duplicate(cls) -> Fault:
        """One event comes twice in a row."""

        def change(reply: Reply, rng: random.Random) -> Reply | None:
            if not reply.events:
                return None
            place = rng.randrange(len(reply.events))
            return reply.with_events(reply.events[: place + 1] + reply.events[place:])

        return cls("duplicate", change)


def _check(faults: Sequence[Fault]) -> None:
    for fault in faults:
        if not isinstance(fault, Fault):
            raise InvalidInput(f"{fault!r} is no Fault: make one, such as Fault.status(503)")


def _flip(reply: Reply, rng: random.Random) -> Reply | None:
    if reply.status != 200:
        return None
    place = rng.randrange(len(reply.events)) if reply.events else None
    text = bytearray(reply.body if place is None or reply.events is None else reply.events[place])
    punctuation = [token.start() for token in _TOKENS.finditer(text) if len(token[0]) == 1]
    if not punctuation:
        return None
    # Outside a string, JSON accepts no punctuation character with this bit changed.
    text[rng.choice(punctuation)] ^= 0x40
    if place is None or reply.events is None:
        return reply.evolve(body=bytes(text))
    return reply.with_events([*reply.events[:place], bytes(text), *reply.events[place + 1 :]])


Fault.ALL = (
    Fault.drop(),
    Fault.reset(),
    Fault.status(500),
    Fault.status(502),
    Fault.status(503),
    Fault.cut(how="chunked"),
    Fault.cut(how="rst"),
    Fault.cut(how="length"),
    Fault.cut(how="eof"),
    Fault.cut(how="gzip"),
    Fault.stall(),
    Fault.html(),
    Fault.object(),
    Fault.garbage(),
    Fault.bit_flip(),
    Fault.close_after(),
    Fault.duplicate(),
)


@attrs.define(eq=False)
class Order:
    """Faults that wait for their requests, one after the other; `times` is None for one that never ends."""

    faults: deque[Fault]
    contact: str | None
    times: int | None
    skip: int
    done: int = 0
    """How often the first of `faults` has happened."""

    def step(self) -> bool:
        """Take note that the first of the faults has happened; false when that was the last of all."""
        self.done += 1
        if self.done == self.times:
            self.faults.popleft()
            self.done = 0
        return bool(self.faults)


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

    def order(self, faults: Sequence[Fault], contact: str | None, times: int | None, skip: int) -> None:
        """Let each of `faults` happen `times` times, after `skip` requests that the first would fit."""
        _check(faults)
        if (times is not None and times < 1) or skip < 0:
            raise ValueError(f"times is {times} and skip {skip}: they must be at least 1 (or None) and 0")
        if faults:
            self._orders.append(Order(deque(faults), contact, times, skip))

    def rate(self, rate: float, kinds: Sequence[Fault], seed: int) -> None:
        """Let a fault of `kinds` happen to this share of all requests from now on."""
        _check(kinds)
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate}: it must be between 0 and 1")
        self._rate, self._kinds, self._seed = rate if kinds else 0.0, tuple(kinds), seed
        self._seen.clear()

    @property
    def pending(self) -> Counter[str]:
        """Orders that have not happened yet, by name; those for ever are left out."""
        waiting: Counter[str] = Counter()
        for order in list(self._orders):
            if order.times is not None:
                for fault in list(order.faults):
                    waiting[fault.name] += order.times
                waiting[order.faults[0].name] -= order.done
        return waiting

    def change(self, contact: str | None, reply: Reply) -> tuple[Reply, str | None]:
        """The answer a request for `contact` gets, and the name of the fault it suffered."""
        for order in list(self._orders):
            if order.contact is not None and order.contact != contact:
                continue
            fault = order.faults[0]
            changed = fault.apply(reply, self._rng)
            if changed is None:
                continue
            if order.skip:
                order.skip -= 1
                continue
            if not order.step():
                self._orders.remove(order)
            self.consumed[fault.name] += 1
            return changed, fault.name
        return self._draw(contact, reply) if self._rate else (reply, None)

    def _draw(self, contact: str | None, reply: Reply) -> tuple[Reply, str | None]:
        # Drawn from the contact and the number of its request: the same whatever else happens meanwhile.
        name = str(contact)
        self._seen[name] += 1
        digest = hashlib.blake2b(f"{self._seed}/{name}/{self._seen[name]}".encode(), digest_size=16).digest()
        if int.from_bytes(digest[:8]) >= self._rate * 2**64:
            return reply, None
        rng = random.Random(digest[8:])
        first = rng.randrange(len(self._kinds))
        for fault in (*self._kinds[first:], *self._kinds[:first]):
            changed = fault.apply(reply, rng)
            if changed is not None:
                self.consumed[fault.name] += 1
                return changed, fault.name
        return reply, None
