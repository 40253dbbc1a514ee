"""The events of all contacts of an account, by time, as the account-wide endpoints select them.

There may be millions. Beyond a few MiB their bodies are in a temporary file, and a large response is put in order and
read while it is sent.
"""

from __future__ import annotations

import random
import threading
import weakref
from array import array
from bisect import bisect_left, bisect_right, insort_right
from collections import deque
from io import BytesIO
from itertools import accumulate, pairwise
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import IO

    from ._generated_events import Entry

Limits: TypeAlias = tuple[int | None, int | None]
"""From when to when, in epoch ms; the second is not included."""

IN_MEMORY = 4 * 2**20
"""Above this number of bytes the bodies are in a file."""

BLOCK = 4096
"""About so many events of a large response are put in order at a time; events of one timestamp stay together."""

_BATCH = 16 * 1024
_GAP = 2048
"""Rows that are no more bytes apart are read in one go."""

_DENSE = 6
"""Rows are read in one go if together they take a sixth of the place from the first to the last of them."""

_NEVER = -(2**63)


class Class(NamedTuple):
    """What events are selected by, apart from their times: see `Entry`."""

    label: str
    robot: str | None
    action: str | None


class Journal:
    """Every event is a row: a number that stays the same, and by which its columns and its body are found.

    Contacts are numbers, too. Safe to use from two threads.
    """

    def __init__(self, histories: Iterable[tuple[int, Iterable[Entry]]]) -> None:
        self.lengths = array("I")
        self.times = array("q")
        self._begins = array("q")
        self._sent = array("q")
        self._codes = array("I")
        self._contacts = array("I")
        self._order = array("I")
        self._classes: dict[tuple[Any, ...], int] = {}  # the members of a Class, and its number
        self._lock = threading.RLock()
        self._bodies: IO[bytes] = BytesIO()
        self._end = 0
        for batch in _batches(histories):
            self._append(batch)
        self._order = array("I", sorted(range(len(self.times)), key=self.times.__getitem__))
        if self._end > IN_MEMORY:
            self._sort_file()

    def _append(self, batch: Sequence[tuple[int, Entry]]) -> range:
        """Add rows, which are not in the order yet."""
        first = len(self.times)
        classes = self._classes
        # In the order of time, so that `_read` finds neighbours.
        contacts, entries = zip(*sorted(batch, key=lambda pair: pair[1][0]), strict=True)
        times, bodies, labels, robots, actions, sent = zip(*entries, strict=True)
        lengths = list(map(len, bodies))
        *begins, self._end = accumulate(lengths, initial=self._end)
        self.times.extend(times)
        self.lengths.extend(lengths)
        self._begins.extend(begins)
        self._sent.extend([_NEVER if time is None else time for time in sent])
        keys = zip(labels, robots, actions, strict=True)
        self._codes.extend([classes.setdefault(key, len(classes)) for key in keys])
        self._contacts.extend(contacts)
        self._bodies.seek(0, 2)
        self._bodies.write(b"".join(bodies))
        if self._end > IN_MEMORY and isinstance(self._bodies, BytesIO):
            in_memory, self._bodies = self._bodies.getvalue(), self._new_file()
            self._bodies.write(in_memory)
        return range(first, len(self.times))

    def _new_file(self) -> IO[bytes]:
        file = TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the journal
        self._close = weakref.finalize(self, file.close)
        return file

    def _sort_file(self) -> None:
        """Write the bodies in the order of time, so that a response reads the file from its beginning to its end."""
        unsorted, close = self._bodies, self._close
        self._bodies = self._new_file()
        position = 0
        for first in range(0, len(self._order), _BATCH):
            rows = self._order[first : first + _BATCH]
            self._bodies.write(b"".join(self._read(unsorted, rows)))
            for row in rows:
                self._begins[row] = position
                position += self.lengths[row]
        close()

    def replace(self, contact: int, entries: Iterable[Entry]) -> None:
        """Let the contact have these events and no others."""
        with self._lock:
            gone = {row for row, each in enumerate(self._contacts) if each == contact}
            self._order = array("I", [row for row in self._order if row not in gone])
            self.extend(contact, entries)

    def extend(self, contact: int, entries: Iterable[Entry]) -> None:
        """Add events to those of the contact."""
        with self._lock:
            for batch in _batches([(contact, entries)]):
                rows = self._append(batch)
                if len(rows) < 16:
                    for row in rows:
                        insort_right(self._order, row, key=self.times.__getitem__)
                else:
                    self._order = array("I", sorted([*self._order, *rows], key=self.times.__getitem__))

    def select(
        self, wanted: Callable[[Class], bool], start: int | None, end: int | None, sent: Limits = (None, None)
    ) -> Sequence[int]:
        """The rows of the classes `wanted` with `start <= timestamp < end`, by time.

        With `sent`, only those whose message was sent within these bounds, of which the second is not included.
        """
        with self._lock:
            key = self.times.__getitem__
            low = 0 if start is None else bisect_left(self._order, start, key=key)
            high = len(self._order) if end is None else bisect_left(self._order, end, key=key)
            rows: Sequence[int] = self._order[low:high]
            codes = {code for each, code in self._classes.items() if wanted(Class(*each))}
            if len(codes) < len(self._classes):
                column = self._codes
                rows = array("I", [row for row in rows if column[row] in codes])
            if sent != (None, None):
                least = _NEVER + 1 if sent[0] is None else sent[0]
                most = 2**63 if sent[1] is None else sent[1]
                column = self._sent
                rows = array("I", [row for row in rows if least <= column[row] < most])
            return rows

    def bodies(self, rows: Sequence[int]) -> list[bytes]:
        """The events of these rows."""
        with self._lock:
            return self._read(self._bodies, rows)

    def _read(self, file: IO[bytes], rows: Sequence[int]) -> list[bytes]:
        begins = [self._begins[row] for row in rows]
        lengths = [self.lengths[row] for row in rows]
        first, span = min(begins, default=0), max(begins, default=0) - min(begins, default=0)
        if span < _DENSE * sum(lengths):
            file.seek(first)
            text = file.read(span + max(lengths))
            return [text[begin - first : begin - first + n] for begin, n in zip(begins, lengths, strict=True)]
        bodies = [b""] * len(begins)
        positions = deque(sorted(range(len(begins)), key=begins.__getitem__))
        while positions:
            # Neighbours are read in one go.
            neighbours: list[int] = []
            first = end = begins[positions[0]]
            while positions and begins[positions[0]] <= end + _GAP:
                neighbours.append(positions.popleft())
                end = begins[neighbours[-1]] + lengths[neighbours[-1]]
            file.seek(first)
            text = file.read(end - first)
            for position in neighbours:
                begin = begins[position] - first
                bodies[position] = text[begin : begin + lengths[position]]
        return bodies

    def arranged(self, rows: Sequence[int], sort: str | None, rng: random.Random) -> list[int]:
        """Rows that are in the order of time in the order of `sort`: those of equal timestamp are in random order.

        Without `sort` ("asc" or "desc") all of them are in random order.
        """
        arranged = list(rows)
        if sort is None:
            rng.shuffle(arranged)
            return arranged
        times = [self.times[row] for row in rows]
        tied = [index for index, (time, later) in enumerate(pairwise(times)) if time == later]
        position = 0
        while position < len(tied):
            first = tied[position]
            last = bisect_right(times, times[first], first)
            group = arranged[first:last]
            rng.shuffle(group)
            arranged[first:last] = group
            position += last - first - 1
        if sort == "desc":
            arranged.reverse()
        return arranged


def _batches(histories: Iterable[tuple[int, Iterable[Entry]]]) -> Iterator[list[tuple[int, Entry]]]:
    batch: list[tuple[int, Entry]] = []
    for contact, entries in histories:
        batch += [(contact, entry) for entry in entries]
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class EventArray:
    """A JSON array of events that is made as it is read: the body of a large response.

    Rows are put in order block by block. Without `sort` the blocks are in random order, too.
    """

    def __init__(self, journal: Journal, rows: Sequence[int], sort: str | None, seed: int) -> None:
        self._journal = journal
        self._sort = sort
        self._seed = seed
        self._blocks = list(_blocks(journal, rows, tied=sort is not None))
        if sort is None:
            random.Random(seed).shuffle(self._blocks)
        elif sort == "desc":
            self._blocks.reverse()
        length = journal.lengths.__getitem__
        # An event has one byte more than its JSON: the comma after it, or the closing bracket.
        self._ends = list(accumulate((sum(map(length, block)) + len(block) for block in self._blocks), initial=1))
        self._counts = list(accumulate(map(len, self._blocks), initial=0))
        self._arranged: tuple[int, list[int], list[int]] = -1, [], []
        self._text: tuple[int, bytes] = 0, b"["  # the part that was read last, and where it begins

    @property
    def count(self) -> int:
        """How many events there are."""
        return self._counts[-1]

    def span(self, index: int) -> tuple[int, int]:
        """Where the event at `index` begins and ends."""
        block = bisect_right(self._counts, index) - 1
        rows, ends = self._block(block)
        position = index - self._counts[block]
        end = ends[position] - 1
        return end - self._journal.lengths[rows[position]], end

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(len(self))
        pieces = []
        while begin < end:
            first, text = self._text_at(begin)
            pieces.append(text[begin - first : end - first])
            begin = first + len(text)
        return b"".join(pieces)

    def _text_at(self, position: int) -> tuple[int, bytes]:
        """A part of the body in which `position` is, and where it begins."""
        first, text = self._text
        if not first <= position < first + len(text):
            if position == 0:
                self._text = 0, b"["
                return self._text
            rows, ends = self._block(bisect_right(self._ends, position) - 1)
            low = bisect_right(ends, position) // BLOCK * BLOCK
            bodies = self._journal.bodies(rows[low : low + BLOCK])
            first = ends[low] - len(bodies[0]) - 1
            text = b",".join(bodies)
            text += b"]" if first + len(text) + 1 == len(self) else b","
            self._text = first, text
        return self._text

    def _block(self, block: int) -> tuple[list[int], list[int]]:
        """The rows of a block in order, and where each of them ends."""
        if self._arranged[0] != block:
            journal = self._journal
            rows = journal.arranged(self._blocks[block], self._sort, random.Random(self._seed + block))
            ends = accumulate([journal.lengths[row] + 1 for row in rows], initial=self._ends[block])
            self._arranged = block, rows, list(ends)[1:]
        return self._arranged[1:]


def _blocks(journal: Journal, rows: Sequence[int], *, tied: bool) -> Iterator[Sequence[int]]:
    times = journal.times
    first = 0
    while first < len(rows):
        last = min(first + BLOCK, len(rows))
        if tied:
            last = bisect_right(rows, times[rows[last - 1]], lo=last, key=times.__getitem__)
        yield rows[first:last]
        first = last
