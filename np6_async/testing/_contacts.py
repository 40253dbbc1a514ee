"""The contacts a fake server knows: added ones, and any number that cost nothing until they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, overload

from ._events import Calendar, Entry, History, generate
from ._factories import Who, md5

# A generated id is "00" and six digits in base 36. Multiplying by a number without a common factor
# reorders the indices so that ids look drawn, and can be undone: no table of ids is needed.
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPACE = 36**6
_FACTOR = 1_345_677_911
_INVERSE = pow(_FACTOR, -1, _SPACE)

_FIRST_NAMES = (
    "alice",
    "bruno",
    "chloe",
    "david",
    "emma",
    "farid",
    "gaelle",
    "hugo",
    "ines",
    "jules",
    "karim",
)
_LAST_NAMES = ("martin", "bernard", "dubois", "durand", "moreau", "laurent", "garcia")

CACHE_BYTES = 128 * 2**20


class Contacts:
    """Finds a contact by any of its names and keeps the events of those asked for last.

    Events kept take about `CACHE_BYTES` at most, or one contact's. Safe to use from two threads.
    """

    def __init__(self, count: int, events: int | tuple[int, int], seed: int, calendar: Calendar) -> None:
        if not 0 <= count <= _SPACE:
            raise ValueError(f"contacts is {count}: it must be 0 to {_SPACE}")
        low, high = (events, events) if isinstance(events, int) else events
        if not 0 <= low <= high:
            raise ValueError(f"events_per_contact is {events!r}: it must be 0 or more, or (least, most)")
        self.count = count
        self.added: dict[str, tuple[Who, History]] = {}
        self._events = events
        self._seed = seed
        self._calendar = calendar
        self._shift = (seed * 7919 + 1_180_591_620) % _SPACE
        self._cache: OrderedDict[str, History] = OrderedDict()
        self._cached = 0
        self._by_unicity: dict[str, str] = {}
        self._by_hash: dict[str, str] = {}
        self._hashed = 0
        self._lock = threading.RLock()

    def add(self, name: Who, entries: Iterable[Entry]) -> None:
        """Add a contact, or replace the events of one that exists."""
        history = History(entries)
        with self._lock:
            self.added[name.contact] = name, history
            self._by_unicity[name.unicity] = self._by_hash[name.hash] = name.contact

    def id(self, index: int) -> str:
        """The id of the generated contact at `index`."""
        number = (index * _FACTOR + self._shift) % _SPACE
        digits = ""
        for _ in range(6):
            number, digit = divmod(number, 36)
            digits = _DIGITS[digit] + digits
        return "00" + digits

    def index(self, contact: str) -> int | None:
        """The index of a generated contact, None where `contact` is no such id."""
        if len(contact) != 8 or not contact.isascii() or not contact.isalnum():
            return None
        index = (int(contact, 36) - self._shift) * _INVERSE % _SPACE
        return index if index < self.count and self.id(index) == contact else None

    def name(self, contact: str) -> Who | None:
        """All names of the contact with this id, None where there is none."""
        added = self.added.get(contact)
        if added is not None:
            return added[0]
        index = self.index(contact)
        return None if index is None else self._name(index)

    def find(self, addressing: str, value: str) -> str:
        """The id of the contact with this id, unicity or hash; the value itself where there is none."""
        if addressing == "unicity":
            return self.by_unicity(value) or value
        return (self.by_hash(value) or value) if addressing == "hash" else value

    def by_unicity(self, unicity: str) -> str | None:
        """The id of the contact with this unicity."""
        contact = self._by_unicity.get(unicity)
        if contact is not None:
            return contact
        number = unicity.partition("@")[0].rpartition(".")[2]
        if not (number.isascii() and number.isdigit() and len(number) < 12):
            return None
        index = int(number)
        known = index < self.count and self._name(index).unicity == unicity
        return self.id(index) if known else None

    def by_hash(self, digest: str) -> str | None:
        """The id of the contact with this hash; a first use reads the names of all contacts up to it."""
        with self._lock:
            while digest not in self._by_hash and self._hashed < self.count:
                name = self._name(self._hashed)
                self._by_hash.setdefault(name.hash, name.contact)
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
            history = History(generate(self._seed, self._name(index), self._events, self._calendar, index))
            self._cache[contact] = history
            self._cached += history.size
            while self._cached > CACHE_BYTES and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].size
            return history

    def _name(self, index: int) -> Who:
        first = _FIRST_NAMES[index % len(_FIRST_NAMES)]
        last = _LAST_NAMES[index % len(_LAST_NAMES)]
        unicity = f"{first}.{last}.{index}@example.{'org' if index % 3 else 'com'}"
        return Who(self.id(index), unicity, md5(unicity))


class ContactIds(Sequence[str]):
    """The ids of all contacts, generated ones first; made one by one, so that a million cost nothing."""

    def __init__(self, contacts: Contacts) -> None:
        self._contacts = contacts

    def __len__(self) -> int:
        return self._contacts.count + len(self._extra())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        count = self._contacts.count
        return self._contacts.id(position) if position < count else self._extra()[position - count]

    def __contains__(self, contact: Any) -> bool:
        return isinstance(contact, str) and self._contacts.name(contact) is not None

    def __repr__(self) -> str:
        return f"<{len(self)} contact ids>"

    def _extra(self) -> list[str]:
        # An added contact that has the id of a generated one only replaces its events.
        return [c for c in tuple(self._contacts.added) if self._contacts.index(c) is None]
