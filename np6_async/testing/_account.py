"""The account of a fake server: its contacts with their events, and its segments.

There may be any number of contacts: they and their events are made when they are asked for.
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, NamedTuple, overload

import attrs
import msgspec

from .._errors import InvalidInput
from .._models.convert import UNREADABLE
from ._factories import MESSAGES, Json, Names, label_of, md5, names_of, sending_of, time_of
from ._generated_events import Calendar, Entry, base36, generate
from ._journal import Class, Journal
from ._sends import Sends

Addressing = Literal["id", "unicity", "hash"]
Channel = Literal["mail", "sms"]

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
"""What comes after `/events/` in a path, and the beginning of the labels of its events."""

ACTION_KINDS = {**KINDS, "cancellations": "cancellation"}
"""The same for the events of actions."""

CREATED = "2023-03-01T10:00:00Z"
_TEST_CONTACTS = 5
_CAMPAIGN_ACTIONS = 3

# Of the red list of each channel: one contact in how many is on it, and the origins that are drawn from.
_REDLISTS: dict[Channel, tuple[int, tuple[int, ...]]] = {
    "mail": (20, (0, 1, 2, 2, 2, 3, 4, 4, 4, 5)),
    "sms": (50, (0, 1, 2, 6, 6, 6, 7, 8, 9)),
}
_ORIGINS = (
    *("", "API", "import du 12/03", "formulaire de désinscription", "List-Unsubscribe", "abuse@fbl.example.net"),
    *("STOP", "blacklist", "administrateur", "numéro court 36180"),
)

# A generated id is "00" and six digits in base 36. Multiplied by a number without a common factor, the indices are
# reordered so that ids look random; this can be reversed, so no table of ids is needed.
_SPACE = 36**6
_FACTOR = 1_345_677_911
_INVERSE = pow(_FACTOR, -1, _SPACE)

_FIRST_NAMES = ("alice", "bruno", "chloe", "david", "emma", "farid", "gaelle", "hugo", "ines", "jules", "karim")
_LAST_NAMES = ("martin", "bernard", "dubois", "durand", "moreau", "laurent", "garcia")

CACHE_BYTES = 128 * 2**20


class View:
    """The events that one endpoint has for one contact, by timestamp and ready to be sliced."""

    __slots__ = ("bodies", "ties", "times")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.times: list[int] = []
        self.bodies: list[bytes] = []
        self.ties: list[tuple[int, int]] = []  # from where to where events have the same timestamp
        for at, tied in groupby(entries, key=attrgetter("at")):
            first = len(self.times)
            self.bodies += [entry.body for entry in tied]
            self.times += [at] * (len(self.bodies) - first)
            if len(self.times) - first > 1:
                self.ties.append((first, len(self.times)))

    def window(self, start: int | None, end: int | None, sort: str | None, rng: random.Random) -> list[bytes]:
        """Events with `start <= timestamp < end`; those of equal timestamp are in random order.

        Without `sort` ("asc" or "desc") all of them are in random order.
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
        self.entries = sorted(entries, key=attrgetter("at"))
        self.size = 200 + sum(200 + len(entry.body) for entry in self.entries)
        self._views: dict[tuple[str, frozenset[str], bool], View] = {}

    def view(self, kind: str, robots: frozenset[str] = frozenset(), typed: bool = True) -> View:
        """What the endpoint `kind` (a key of `KINDS`) has: all robots if it has every type, else those named."""
        key = (kind, robots, typed)
        view = self._views.get(key)
        if view is None:
            chosen: Iterable[Entry] = filter(of_kind(kind, robots), self.entries)
            if kind and not typed:
                chosen = [e._replace(body=without_type(e.body)) for e in chosen]
            view = self._views[key] = View(chosen)
        return view


def of_kind(kind: str, robots: frozenset[str] = frozenset()) -> Callable[[Entry | Class], bool]:
    """Whether the endpoint `kind` has an event: all robots if it has every type, else those named."""
    if not kind:
        return lambda _: True
    label, wanted = ACTION_KINDS[kind], robots or {None}
    return lambda event: event.label.startswith(label) and event.robot in wanted


def without_type(body: bytes) -> bytes:
    """An event as an endpoint sends it that leaves out the `type` it implies."""
    event = msgspec.json.decode(body)
    event.pop("type", None)
    return msgspec.json.encode(event)


def entry_of(event: Json | bytes, robot: str | None = None) -> Entry:
    """An event that a test wrote: a dict, or its JSON, which is then served byte for byte.

    `robot` is the class of the robot that made it, if it is a hit. Raises `InvalidInput` unless it is a JSON object
    whose timestamp is a number: it could not be put in order.
    """
    try:
        decoded = msgspec.json.decode(event) if isinstance(event, bytes) else event
        at = time_of(decoded["timestamp"])
        body = event if isinstance(event, bytes) else msgspec.json.encode(event)
    except (*UNREADABLE, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"an event must be a JSON object in UTF-8 with a number as its timestamp ({error!r}): "
            "use set_raw for anything else"
        ) from None
    label = label_of(decoded)
    return Entry(at, body, label, robot if label.startswith("hit/") else None, *sending_of(decoded))


class Segment(NamedTuple):
    """A segment as the API lists it, but for the number of its contacts, and their ids."""

    record: Json
    contacts: Sequence[str]


class Redlisted(NamedTuple):
    """An entry of a red list, and its timestamp in epoch ms."""

    at: int
    record: Json


class Account:
    """Finds a contact by any of its names, and keeps the events of the contacts that were asked for last.

    The events kept take about `CACHE_BYTES` at most, or those of one contact. Safe to use from two threads.

    There are two segments at first: 1 has all contacts, also those added later, and 2, a test segment, the first five.
    """

    def __init__(
        self, count: int, events: int | tuple[int, int], seed: int, calendar: Calendar, sends: int | None = None
    ) -> None:
        if not 0 <= count <= _SPACE:
            raise ValueError(f"contacts is {count}: it must be 0 to {_SPACE}")
        low, high = (events, events) if isinstance(events, int) else events
        if not 0 <= low <= high:
            raise ValueError(f"events_per_contact is {events!r}: it must be 0 or more, or (least, most)")
        self.count = count
        self.ids = ContactIds(self)
        self.added: dict[str, tuple[Names, History]] = {}
        self._sends = None if sends is None else Sends(sends, seed, calendar)
        self.actions = dict.fromkeys(self._sends.actions if self._sends else [message[0] for message in MESSAGES])
        self.campaigns = {
            f"00C{number + 1:03d}": tuple(actions)
            for number, actions in enumerate(_groups(tuple(self.actions), _CAMPAIGN_ACTIONS))
        }
        self.segments: dict[str, Segment] = {}
        self._events = events
        self._seed = seed
        self._calendar = calendar
        self._shift = (seed * 7919 + 1_180_591_620) % _SPACE
        self._cache: OrderedDict[str, History] = OrderedDict()
        self._cached = 0
        self._by_unicity: dict[str, str] = {}
        self._by_hash: dict[str, str] = {}
        self._hashed = 0
        self._journal: Journal | None = None
        self._redlists: dict[Channel, list[Redlisted]] = {}
        self._numbers: dict[str, int] = {}  # of added contacts, after those of generated ones
        self._lock = threading.RLock()
        self.add_segment("1", self.ids, "All contacts", test=False)
        self.add_segment("2", self.ids[:_TEST_CONTACTS], "Test contacts", test=True)

    def add_segment(self, segment: str, contacts: Sequence[str], name: str, *, test: bool) -> None:
        """Add a segment, or replace one."""
        record: Json = {
            "type": "static",
            "id": int(segment) if segment.isdecimal() else segment,
            "name": name,
            "creation": CREATED,
            "expiration": None,
            "isTest": test,
        }
        self.segments[segment] = Segment(record, contacts)

    def add(self, contact: str, unicity: str | None, entries: Iterable[Entry]) -> None:
        """Add a contact, or replace the events of one that exists."""
        names = names_of(contact, unicity) if unicity else self.names(contact) or names_of(contact)
        history = History(entries)
        with self._lock:
            if self._journal is not None:
                change = self._journal.extend if self.names(contact) is None else self._journal.replace
                change(self._number(contact), history.entries)
            self._keep(contact, names, history, history.entries)

    def extend(self, contact: str, entries: Sequence[Entry]) -> bool:
        """Add events to those of a contact; whether there is one."""
        with self._lock:
            names, history = self.names(contact), self.history(contact)
            if names is None or history is None:
                return False
            if self._journal is not None:
                self._journal.extend(self._number(contact), entries)
            self._keep(contact, names, History([*history.entries, *entries]), entries)
            return True

    def _keep(self, contact: str, names: Names, history: History, new: Iterable[Entry]) -> None:
        self.added[contact] = names, history
        self._by_unicity[names.unicity] = self._by_hash[names.hash] = contact
        self.actions.update((entry.action, None) for entry in new if entry.action is not None)

    def _number(self, contact: str) -> int:
        index = self.index(contact)
        return self.count + self._numbers.setdefault(contact, len(self._numbers)) if index is None else index

    @property
    def journal(self) -> Journal:
        """The events of all contacts. The first use generates them."""
        with self._lock:
            if self._journal is None:
                self._journal = Journal(self._histories())
            return self._journal

    def _histories(self) -> Iterator[tuple[int, Sequence[Entry]]]:
        for index in range(self.count):
            names = self._names(index)
            if names.contact not in self.added:
                yield index, self._generate(names, index)
        for contact, (_, history) in self.added.items():
            yield self._number(contact), history.entries

    def _generate(self, names: Names, index: int) -> list[Entry]:
        if self._sends is None:
            return generate(self._seed, names, self._events, self._calendar, index)
        return self._sends.generate(self._seed, names, self._events, index)

    def redlist(self, channel: Channel) -> list[Redlisted]:
        """The red list of a channel. It may be added to."""
        with self._lock:
            if channel not in self._redlists:
                every, origins = _REDLISTS[channel]
                listed = range(every // 2, self.count, every)
                self._redlists[channel] = [self._redlisted(channel, index, origins) for index in listed]
            return self._redlists[channel]

    def _redlisted(self, channel: Channel, index: int, origins: Sequence[int]) -> Redlisted:
        rng = random.Random(f"{self._seed}/{channel}/{index}")
        at, origin = self._calendar.draw(rng), rng.choice(origins)
        return Redlisted(at, {"id": self.id(index), "timestamp": at, "origin": origin, "detail": _ORIGINS[origin]})

    def id(self, index: int) -> str:
        """The id of the generated contact at `index`."""
        return "00" + base36((index * _FACTOR + self._shift) % _SPACE, 6)

    def index(self, contact: str) -> int | None:
        """The index of the generated contact with this id, None where there is none."""
        if len(contact) != 8 or not contact.isascii() or not contact.isalnum():
            return None
        index = (int(contact, 36) - self._shift) * _INVERSE % _SPACE
        return index if index < self.count and self.id(index) == contact else None

    def names(self, contact: str) -> Names | None:
        """The names of the contact with this id, None where there is none."""
        added = self.added.get(contact)
        if added is not None:
            return added[0]
        index = self.index(contact)
        return None if index is None else self._names(index)

    def _names(self, index: int) -> Names:
        first = _FIRST_NAMES[index % len(_FIRST_NAMES)]
        last = _LAST_NAMES[index % len(_LAST_NAMES)]
        unicity = f"{first}.{last}.{index}@example.{'org' if index % 3 else 'com'}"
        return Names(self.id(index), unicity, md5(unicity))

    def find(self, addressing: Addressing, value: str) -> str:
        """The id of the contact with this id, unicity or hash; the value itself where there is none."""
        match addressing:
            case "unicity":
                return self._by_unicity.get(value) or self._find_generated(value) or value
            case "hash":
                return self._find_hash(value) or value
        return value

    def _find_generated(self, unicity: str) -> str | None:
        number = unicity.partition("@")[0].rpartition(".")[2]
        if not (number.isascii() and number.isdigit() and len(number) < 12) or int(number) >= self.count:
            return None
        names = self._names(int(number))
        return names.contact if names.unicity == unicity else None

    def _find_hash(self, digest: str) -> str | None:
        """The first use reads the names of all contacts up to the one with this hash."""
        with self._lock:
            while digest not in self._by_hash and self._hashed < self.count:
                names = self._names(self._hashed)
                self._by_hash.setdefault(names.hash, names.contact)
                self._hashed += 1
            return self._by_hash.get(digest)

    def history(self, contact: str) -> History | None:
        """The events of the contact with this id, None where there is none."""
        added = self.added.get(contact)
        if added is not None:
            return added[1]
        with self._lock:
            history = self._cache.get(contact)
            if history is not None:
                self._cache.move_to_end(contact)
                return history
            index = self.index(contact)
            if index is None:
                return None
            history = History(self._generate(self._names(index), index))
            self._cache[contact] = history
            self._cached += history.size
            while self._cached > CACHE_BYTES and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].size
            return history


def _groups(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


@attrs.define(eq=False, repr=False)
class ContactIds(Sequence[str]):
    """The ids of all contacts, generated ones first; made one by one, so that a million cost nothing."""

    account: Account

    def __len__(self) -> int:
        return self.account.count + len(self._extra())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        count = self.account.count
        return self.account.id(position) if position < count else self._extra()[position - count]

    def __contains__(self, contact: Any) -> bool:
        return isinstance(contact, str) and self.account.names(contact) is not None

    def __repr__(self) -> str:
        return f"<{len(self)} contact ids>"

    def _extra(self) -> list[str]:
        # An added contact with the id of a generated one only replaces its events.
        return [c for c in tuple(self.account.added) if self.account.index(c) is None]
