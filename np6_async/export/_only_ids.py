"""`OnlyIds`: a set of very many ids of contacts in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable
from typing import Any, Final

from .._errors import InvalidInput

_LONGEST: Final = 8  # characters that one integer holds
_BUCKETS: Final = 4_093  # a prime, so that ids that differ in a few characters are spread evenly
_SLACK: Final = 64


class OnlyIds(Container[str]):
    """Ids of contacts, for the argument `only` of `Export` and `SyncWriter`: 9 MB for a million of them.

    ::

        ids = OnlyIds(line.strip() for line in open("ids.txt"))
        await SyncWriter("new", only=ids).write(run)

    A million of NP6's ids were measured as 8.8 MB (tracemalloc), 12 MB of the process at most; as a set of str, they
    take ten times as much. Nothing is approximate: an id of up to 8 ASCII characters, as all of NP6's are today, is
    kept as an integer of 8 bytes that no other id has, any other one as it is. An id that is added twice counts once.
    To look up an id takes about 2 microseconds. What is not a str raises `InvalidInput`.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._buckets = [array("Q") for _ in range(_BUCKETS)]
        # How many numbers at the beginning of each bucket are sorted, and different from each other.
        self._sorted = array("L", bytes(array("L").itemsize * _BUCKETS))
        self._others: set[str] = set()
        if isinstance(ids, str):
            raise InvalidInput("OnlyIds takes an iterable of ids: for a single one, pass [id]")
        for each in ids:
            self.add(each)

    def add(self, id: str) -> None:
        """Add an id, as NP6 writes it: upper and lower case are different."""
        if not isinstance(id, str):
            raise InvalidInput(f"the id of a contact is a str, not {type(id).__name__}")
        number = _number(id)
        if number is None:
            self._others.add(str.__str__(id))
            return
        place = number % _BUCKETS
        bucket = self._buckets[place]
        bucket.append(number)
        if len(bucket) > 2 * self._sorted[place] + _SLACK:  # the same ids, added again and again, stay few
            self._sort(place)

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            return False
        number = _number(id)
        if number is None:
            return id in self._others
        bucket = self._sort(number % _BUCKETS)
        at = bisect_left(bucket, number)
        return at < len(bucket) and bucket[at] == number

    def __len__(self) -> int:
        return len(self._others) + sum(len(self._sort(place)) for place in range(_BUCKETS))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} ids>"

    def _sort(self, place: int) -> array[int]:
        """The bucket at this place, sorted and without doubles."""
        bucket = self._buckets[place]
        if len(bucket) != self._sorted[place]:
            bucket = self._buckets[place] = array("Q", sorted(set(bucket)))
            self._sorted[place] = len(bucket)
        return bucket


def check_only(only: Any) -> Container[str] | None:
    """What was passed for `only`, to look ids up in; raises `InvalidInput` for what cannot be one, or only looks so."""
    if only is None:
        return None
    cls = type(only)
    # A str holds parts of itself, a Series its labels.
    odd = isinstance(only, str | bytes | bytearray | memoryview) or hasattr(cls, "dtype") or hasattr(cls, "to_pylist")
    if odd or not isinstance(only, Container):
        raise InvalidInput(f"only must be a set of ids of contacts, or an OnlyIds, not {cls.__name__}")
    if isinstance(only, set | frozenset | list | tuple):
        for each in only:
            if not isinstance(each, str):
                raise InvalidInput(f"only must hold ids of contacts, each a str, not {type(each).__name__}")
    return frozenset(only) if isinstance(only, list | tuple) else only


def _number(id: str) -> int | None:
    """The number that stands for this id alone; None where the id is too long or of other characters."""
    # The shorter ones are filled up with zeros, so an id must not end with one.
    if len(id) > _LONGEST or not id.isascii() or id.endswith("\0"):
        return None
    return int.from_bytes(id.encode().ljust(_LONGEST, b"\0"), "big")
