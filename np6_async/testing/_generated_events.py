"""Events of generated contacts: the same for the same seed, and cheap to make.

Each event fills one of a few hundred templates, built from the shapes of the factories. This takes a microsecond or
two; building and encoding it would take twenty.
"""

from __future__ import annotations

import functools
import random
import uuid
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ._factories import (
    ANCHOR,
    EVENT_TYPES,
    MILLISECOND,
    Json,
    Names,
    Pick,
    Shape,
    build,
    milliseconds,
    names_of,
    sending_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._models.time_bounds import Bound

ROBOTS = ("genericrobot", "mpp", "gsr")
"""The robot classes that `classification` takes."""

_DAY = 86_400_000
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# The number of templates; the types left out have three each.
_MIX = {"activation": 72, "execution": 67, "hit": 65, "bounce": 15, "impression": 8}
_LINKS = ("open",) * 12 + ("redirection",) * 5 + ("mirror", "unsubscribe", "form")
_WHOLE_SECONDS = frozenset({"activation", "bounce"})

# Placeholders in a template for the values of one event; no other value looks like them.
_ID, _CONTACT, _UNICITY, _HASH = "%id%", "%contact%", "%unicity%", "%hash%"
_AT, _SENT = 7_000_000_000_001, 7_000_000_000_002


class Template(NamedTuple):
    """An encoded event with `%`-fields for what differs, and what the endpoints select it by."""

    text: bytes
    label: str
    robot: str | None
    action: str | None
    whole_seconds: bool


class Entry(NamedTuple):
    """One event: its timestamp in epoch ms, its JSON, its label (see `label_of`) and its robot class, if any.

    `action` is the id of the action that it belongs to, and `sent` when that was sent, in epoch ms; None without one.
    """

    at: int
    body: bytes
    label: str
    robot: str | None = None
    action: str | None = None
    sent: int | None = None


# How many events a day has, relative to others; day 0 of the epoch was a Thursday.
_WEEKDAYS = (3, 2, 1, 1, 2, 3, 2)
_WEEKS = (2, 2, 3, 6, 4, 3, 2, 2, 4, 8, 5, 3, 2)


class Calendar:
    """Draws timestamps from a period: around noon, more on Tuesdays and Thursdays, and more in weeks of campaigns."""

    def __init__(self, now: int = ANCHOR, period: timedelta = timedelta(days=90)) -> None:
        length = period // MILLISECOND
        if length < 1000:
            raise ValueError(f"period is {period!r}: it must be at least one second")
        self.start, self.end = now - length, now
        self._half = min(length, _DAY) / 2
        self._days = [
            day
            for day in range(self.start, now - int(2 * self._half) + 1, _DAY)
            for _ in range(_WEEKDAYS[day // _DAY % 7] * _WEEKS[day // _DAY // 7 % len(_WEEKS)])
        ]

    def draw(self, rng: random.Random) -> int:
        """Draw epoch milliseconds within the period."""
        day = self._days[int(rng.random() * len(self._days))]
        return day + int((rng.random() + rng.random()) * self._half)


def generate(seed: int, names: Names, count: int | tuple[int, int], calendar: Calendar, salt: int = 0) -> list[Entry]:
    """Events of one contact, unsorted and the same for the same arguments; one in five shares its timestamp."""
    rng = random.Random(seed << 40 | salt)
    number = count if isinstance(count, int) else rng.randint(*count)
    pool = templates()
    digits = rng.randbytes(16 * number).hex()
    fields: dict[bytes, Any] = {
        b"contact": names.contact.encode(),
        b"unicity": names.unicity.encode(),
        b"hash": names.hash.encode(),
    }
    entries = []
    tie = 0
    for position in range(0, 32 * number, 32):
        text, label, robot, action, whole_seconds = pool[int(rng.random() * len(pool))]
        if tie and rng.random() < 0.2:
            at = tie
        else:
            at = calendar.draw(rng)
            if whole_seconds:
                at = tie = max(at - at % 1000, calendar.start)
        h = digits[position : position + 32]
        fields[b"id"] = f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:]}".encode()
        fields[b"at"] = at
        fields[b"sent"] = sent = at - 1 - int(rng.random() * 60_000)
        entries.append(Entry(at, text % fields, label, robot, action, None if action is None else sent))
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
    """A realistic history of one contact: `count` events of mixed types by timestamp, some of which are equal.

    The same arguments give the same events. They lie within `period` before `now`, which is anything that the client
    takes as a `start`, by default 2026-01-01T00:00:00Z. Raises ValueError for a negative count and for a period
    below one second.
    """
    if count < 0:
        raise ValueError(f"count is {count}: it must not be negative")
    entries = generate(seed, names_of(contact, unicity), count, Calendar(milliseconds(now, "now"), period))
    return [msgspec.json.decode(entry.body) for entry in sorted(entries, key=attrgetter("at"))]


@functools.cache
def templates() -> Sequence[Template]:
    """About 250 templates, in the mix of types that a sender of newsletters sees."""
    rng = random.Random(8)
    pool = []
    for kind in EVENT_TYPES:
        for _ in range(_MIX.get(kind, 3)):
            link = rng.choice(_LINKS)
            robot = rng.choice(ROBOTS) if kind == "hit" and rng.random() < 0.15 else None
            event = build(blank(kind, rng.choice, rng), link=link)
            label = f"hit/{link}" if kind == "hit" else kind
            pool.append(template_of(event, label, robot))
    return tuple(pool)


def blank(kind: str, pick: Pick, rng: random.Random) -> Shape:
    """The shape of an event whose values are placeholders."""
    return Shape(kind, _ID, _AT, _SENT, Names(_CONTACT, _UNICITY, _HASH), pick, lambda: _uuid(rng))


def template_of(event: Json, label: str, robot: str | None) -> Template:
    """The template of an event that was built from a `blank` shape."""
    text = _with_fields(msgspec.json.encode(event))
    return Template(text, label, robot, sending_of(event)[0], event["type"] in _WHOLE_SECONDS)


def base36(number: int, width: int) -> str:
    """A number as the ids of NP6 are written."""
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def _with_fields(text: bytes) -> bytes:
    """Turn the placeholders into fields of a `%` template."""
    for value, field in ((_ID, b"id"), (_CONTACT, b"contact"), (_UNICITY, b"unicity"), (_HASH, b"hash")):
        text = text.replace(value.encode(), b"\0(" + field + b")b")
    for number, field in ((_AT, b"at"), (_SENT, b"sent")):
        text = text.replace(b"%d" % number, b"\0(" + field + b")d")
    return text.replace(b"%", b"%%").replace(b"\0", b"%")


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
