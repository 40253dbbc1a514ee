"""Events of generated contacts: the same for the same seed, made when first asked for, fast to serve.

An event is filled into one of a few hundred templates, which costs a microsecond or two, where
building and encoding it would cost twenty. The templates are built by the factories.
"""

from __future__ import annotations

import functools
import random
import uuid
from bisect import bisect_left
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .._errors import InvalidInput
from .._models.convert import UNREADABLE
from ._factories import (
    ANCHOR,
    EVENT_TYPES,
    MILLISECOND,
    Json,
    Shape,
    Who,
    build,
    label_of,
    milliseconds,
    who,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._models.time_bounds import Bound

ROBOTS = ("genericrobot", "mpp", "gsr")
"""The robot classes that `classification` takes."""

KINDS = {
    "": "",
    "activations": "activation",
    "bounces": "bounce",
    "responses/stop": "optout",
    "hits": "hit/",
    "hits/open": "hit/open",
    "hits/redirection": "hit/redirection",
    "hits/unsubscribe": "hit/unsubscribe",
    "hits/mirror": "hit/mirror",
    "hits/form": "hit/form",
}
"""What comes after `/events/` in a path, and how the labels of its events begin."""

DAY = 86_400_000

# The number of templates; the types left out have three each.
_MIX = {"activation": 72, "execution": 67, "hit": 65, "bounce": 15, "impression": 8}
_LINKS = ("open",) * 12 + ("redirection",) * 5 + ("mirror", "unsubscribe", "form")
_WHOLE_SECONDS = frozenset({"activation", "bounce"})

# Values that stand in a template for those of one event; no other value looks like them.
_ID, _CONTACT, _UNICITY, _HASH = "%id%", "%contact%", "%unicity%", "%hash%"
_AT, _SENT = 7_000_000_000_001, 7_000_000_000_002


class Template(NamedTuple):
    """An encoded event with `%`-fields for what differs, and what the endpoints need to know of it."""

    text: bytes
    label: str
    robot: str | None
    whole_seconds: bool


class Entry(NamedTuple):
    """One event: its timestamp in epoch ms, its JSON, its label (see `label_of`), its robot class if any."""

    at: int
    body: bytes
    label: str
    robot: str | None = None


class View:
    """The events one endpoint has for one contact, in order of time and ready to be sliced."""

    __slots__ = ("bodies", "ties", "times")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.times: list[int] = []
        self.bodies: list[bytes] = []
        self.ties: list[tuple[int, int]] = []
        begin = 0
        for entry in entries:
            if self.times and entry.at != self.times[-1]:
                self._tie(begin)
                begin = len(self.times)
            self.times.append(entry.at)
            self.bodies.append(entry.body)
        self._tie(begin)

    def _tie(self, begin: int) -> None:
        if len(self.times) - begin > 1:
            self.ties.append((begin, len(self.times)))

    def window(self, start: int | None, end: int | None, sort: str | None, rng: random.Random) -> list[bytes]:
        """Events with `start <= timestamp < end`, those of equal timestamp in an order drawn anew.

        Without `sort` ("asc" or "desc") the order of all of them is drawn.
        """
        low = 0 if start is None else bisect_left(self.times, start)
        high = len(self.times) if end is None else bisect_left(self.times, end)
        chosen = self.bodies[low:high]
        if sort is None:
            rng.shuffle(chosen)
            return chosen
        # Events of one timestamp are all inside the window or all outside.
        for index in range(bisect_left(self.ties, (low, 0)), bisect_left(self.ties, (high, 0))):
            first, last = self.ties[index]
            group = chosen[first - low : last - low]
            rng.shuffle(group)
            chosen[first - low : last - low] = group
        if sort == "desc":
            chosen.reverse()
        return chosen


class History:
    """All events of one contact, and the views of them that were asked for."""

    __slots__ = ("_views", "entries", "size")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = sorted(entries, key=_time)
        self.size = 200 + sum(200 + len(entry.body) for entry in self.entries)
        self._views: dict[tuple[str, frozenset[str], bool], View] = {}

    def view(self, kind: str, robots: frozenset[str] = frozenset(), typed: bool = True) -> View:
        """What the endpoint `kind` (a key of `KINDS`) has: all robots for every type, else those named."""
        key = (kind, robots, typed)
        view = self._views.get(key)
        if view is None:
            chosen: Iterable[Entry] = self.entries
            if kind:
                label = KINDS[kind]
                wanted = robots or {None}
                chosen = [e for e in chosen if e.label.startswith(label) and e.robot in wanted]
                if not typed:
                    chosen = [e._replace(body=_without_type(e.body)) for e in chosen]
            view = self._views[key] = View(chosen)
        return view


def _time(entry: Entry) -> int:
    return entry.at


def _without_type(body: bytes) -> bytes:
    event = msgspec.json.decode(body)
    event.pop("type", None)
    return msgspec.json.encode(event)


def entry_of(event: Json | bytes) -> Entry:
    """An event that a test wrote: a dict, or its JSON, which is then served byte for byte.

    Raises `InvalidInput` unless it is a JSON object whose timestamp is a number: it could not be put in order.
    """
    try:
        decoded = msgspec.json.decode(event) if isinstance(event, bytes) else event
        stamp = decoded["timestamp"]
        at = int(stamp) if isinstance(stamp, int | str) and str(stamp).isdigit() else int(float(stamp))
        body = event if isinstance(event, bytes) else msgspec.json.encode(event)
    except (*UNREADABLE, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"an event must be a JSON object in UTF-8 with a number as its timestamp ({error!r}): "
            "use set_raw for anything else"
        ) from None
    return Entry(at, body, label_of(decoded))


# How much happens on a day, relative to others; day 0 of the epoch was a Thursday.
_WEEKDAYS = (3, 2, 1, 1, 2, 3, 2)
_WEEKS = (2, 2, 3, 6, 4, 3, 2, 2, 4, 8, 5, 3, 2)


class Calendar:
    """Draws timestamps from a period: around noon, more on Tuesdays and Thursdays and in the weeks of a campaign."""

    def __init__(self, now: int = ANCHOR, period: timedelta = timedelta(days=90)) -> None:
        length = period // MILLISECOND
        if length < 1000:
            raise ValueError(f"period is {period!r}, which is below one second")
        self.start = now - length
        self._half = min(length, DAY) / 2
        self._days = [
            day
            for day in range(self.start, now - int(2 * self._half) + 1, DAY)
            for _ in range(_WEEKDAYS[day // DAY % 7] * _WEEKS[day // DAY // 7 % len(_WEEKS)])
        ]

    def draw(self, rng: random.Random) -> int:
        """Draw epoch milliseconds within the period."""
        day = self._days[int(rng.random() * len(self._days))]
        return day + int((rng.random() + rng.random()) * self._half)


def generate(seed: int, name: Who, count: int | tuple[int, int], calendar: Calendar, salt: int = 0) -> list[Entry]:
    """Events of one contact, not sorted: the same for the same arguments.

    One in five falls on the timestamp of an earlier one of the same contact.
    """
    rng = random.Random(seed << 40 | salt)
    number = count if isinstance(count, int) else rng.randint(*count)
    pool = templates()
    digits = rng.randbytes(16 * number).hex()
    fields: dict[bytes, Any] = {
        b"contact": name.contact.encode(),
        b"unicity": name.unicity.encode(),
        b"hash": name.hash.encode(),
    }
    entries = []
    tie = 0
    for position in range(0, 32 * number, 32):
        text, label, robot, whole_seconds = pool[int(rng.random() * len(pool))]
        if tie and rng.random() < 0.2:
            at = tie
        else:
            at = calendar.draw(rng)
            if whole_seconds:
                at = tie = max(at - at % 1000, calendar.start)
        h = digits[position : position + 32]
        fields[b"id"] = f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:]}".encode()
        fields[b"at"] = at
        fields[b"sent"] = at - 1 - int(rng.random() * 60_000)
        entries.append(Entry(at, text % fields, label, robot))
    return entries


def make_events(
    count: int = 10,
    *,
    seed: int = 0,
    contact: str = "0013KDC0",
    unicity: str | None = None,
    now: Bound = ANCHOR,
    period: timedelta = timedelta(days=90),
) -> list[Json]:
    """A realistic history of one contact: `count` events by timestamp, of mixed types and with ties.

    The same arguments give the same events. They lie within `period` before `now`, which is
    given like a client's `start` and by default 2026-01-01T00:00:00Z.
    """
    if count < 0:
        raise ValueError(f"count is {count}: it must not be negative")
    entries = generate(seed, who(contact, unicity), count, Calendar(milliseconds(now, "now"), period))
    return [msgspec.json.decode(entry.body) for entry in sorted(entries, key=_time)]


@functools.cache
def templates() -> Sequence[Template]:
    """Some 250 templates in the mix of types that a sender of newsletters would see."""
    rng = random.Random(8)
    name = Who(_CONTACT, _UNICITY, _HASH)
    pool = []
    for kind in EVENT_TYPES:
        for _ in range(_MIX.get(kind, 3)):
            link = rng.choice(_LINKS)
            robot = rng.choice(ROBOTS) if kind == "hit" and rng.random() < 0.15 else None
            shape = Shape(kind, _ID, _AT, _SENT, name, rng.choice, lambda: _uuid(rng))
            text = msgspec.json.encode(build(shape, link=link))
            label = f"hit/{link}" if kind == "hit" else kind
            pool.append(Template(_with_fields(text), label, robot, kind in _WHOLE_SECONDS))
    return tuple(pool)


def _with_fields(text: bytes) -> bytes:
    """Turn the values that stand for others into fields of a `%` template."""
    for value, field in ((_ID, b"id"), (_CONTACT, b"contact"), (_UNICITY, b"unicity"), (_HASH, b"hash")):
        text = text.replace(value.encode(), b"\0(" + field + b")b")
    for number, field in ((_AT, b"at"), (_SENT, b"sent")):
        text = text.replace(b"%d" % number, b"\0(" + field + b")d")
    return text.replace(b"%", b"%%").replace(b"\0", b"%")


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
