"""Reads what a task on the loop fetches ahead, in one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator
from itertools import chain
from typing import Any, Final, Generic, Protocol, TypeVar

from .._errors import ClientClosed, UsageError
from .._models.events import Event
from ._handover import End, Handover
from ._job import Job, result_of
from ._loop import Loop

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# What an object in memory takes, beside its JSON.
_OVERHEAD: Final = 256


def size_of(items: list[Any]) -> int:
    """About how many bytes they take."""
    if items and isinstance(items[0], Event):
        return _OVERHEAD * len(items) + sum(len(event.raw) for event in items)
    return _OVERHEAD * len(items)


class Reader(Generic[T]):
    """Receives the items that `work` puts into the handover. It begins with the first; with its object it ends."""

    def __init__(
        self, loop: Loop, work: Callable[[Handover[T]], Coroutine[Any, Any, None]], handover: Handover[T] | None = None
    ) -> None:
        self._loop = loop
        self._work = work
        self._handover: Handover[T] = handover or Handover(loop)
        self._job: Job[T] | None = None
        self._reading = threading.Lock()
        self.complete: bool = False
        self._cut = False

    @property
    def state(self) -> str:
        """For a repr."""
        if self.complete:
            return "ended"
        return "closed" if self._cut else "open" if self._job is not None else "not entered"

    def begin(self) -> None:
        """Let it fetch before the first item is asked for."""
        if self._job is None and not self._cut:
            work, handover = self._work, self._handover
            self._job = Job(self._loop, lambda: work(handover), handover)

    def next(self) -> T:
        """The next item; raises StopIteration at the end, `ClientClosed` after `close` and after an error."""
        if not self._reading.acquire(blocking=False):
            raise UsageError("the stream is being read by another thread; let one thread read and pass events on")
        try:
            if self.complete:
                raise StopIteration
            self.begin()
            if self._cut or self._job is None:
                raise ClientClosed("the stream is closed")
            try:
                item = self._job.receive()
            except BaseException:
                self._cut = True
                raise
            if self._cut:  # by another thread
                raise ClientClosed("the stream is closed")
            if not isinstance(item, End):
                return item
            self.complete = item.error is None
            self._cut = not self.complete
            result_of(item)
            raise StopIteration
        finally:
            self._reading.release()

    def close(self) -> None:
        """Stop fetching, and return when that has ended."""
        if self.complete:
            return
        self._cut = True
        if self._job is not None:
            self._job.stop()
        if self._reading.acquire(blocking=False):  # otherwise a thread is about to receive the end
            self._handover.clear()
            self._reading.release()

    def __del__(self) -> None:
        job = self.__dict__.get("_job")
        if job is not None and not self.complete:
            job.abandon()


class Source(Protocol[T_co]):
    """Items in batches: those that are left of the current one, and a step to the next."""

    @property
    def rest(self) -> Iterator[T_co]: ...
    @property
    def complete(self) -> bool: ...
    def advance(self) -> None: ...


class _Step(Generic[T]):
    """An iterator over nothing, which makes a step when it is asked for its first item.

    Where the step fails it can be made again. A generator would be finished by the error, and look like the end.
    """

    def __init__(self, source: Source[T]) -> None:
        self._source = source

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        self._source.advance()
        raise StopIteration


def one_by_one(source: Source[T]) -> Iterator[T]:
    """The items of a source, at the speed of a list's: no Python code runs between those of a batch."""
    return chain.from_iterable(_turns(source))


def _turns(source: Source[T]) -> Iterator[Iterator[T]]:
    step = _Step(source)
    while not source.complete:
        yield source.rest
        yield step
