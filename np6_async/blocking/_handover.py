"""What passes between a task on the client's loop and the thread that waits for it.

Items go to the thread in the order in which they were put in, as many at a time as there are: changing threads for
each would cost more than the item. While enough of them wait, the task waits too. What must be done in the thread goes
the same way, as a question, and its answer comes back: iterables and callbacks of the caller run where the caller is,
because a database connection, for one, often belongs to a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from attrs import define, frozen

from .._errors import ClientClosed
from ._loop import GLANCE, Loop

T = TypeVar("T")
R = TypeVar("R")

# Bytes that wait for the thread before the task pauses.
BOUND: Final = 1024 * 1024


@frozen(eq=False)
class End:
    """The task has ended, with a value or with an error."""

    value: Any = None
    error: BaseException | None = None


@define(eq=False)
class _Question:
    function: Callable[[], Any]
    answer: asyncio.Future[Any]


class Handover(Generic[T]):
    """See the module. The thread calls `receive`; everything else is called on the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._changed = threading.Condition(threading.Lock())
        self._put: deque[T | End | _Question] = deque()
        self._size = 0  # bytes, of those
        self._taken: deque[T | End | _Question] = deque()  # by the thread, which has not come to them
        self._room = asyncio.Event()
        self._telling = False

    def receive(self) -> T | End:
        """The next item, or the end. Raises `ClientClosed` where nothing can come any more."""
        while True:
            if not self._taken:
                self._take()
            entry = self._taken.popleft()
            if not isinstance(entry, _Question):
                return entry
            self._answer(entry)

    def clear(self) -> None:
        """Forget what was not received, in the thread; the task has ended."""
        if not self._loop.running:
            return
        with self._changed:
            self._put.clear()
            self._taken.clear()
            self._size = 0

    async def put(self, item: T, size: int) -> None:
        """Hand over an item of so many bytes, and wait while there is enough for the thread to do."""
        self._add(item, size)
        while self._size >= BOUND:
            self._room.clear()
            await self._room.wait()

    def end(self, end: End) -> None:
        """Say that nothing more comes of the task."""
        self._add(end)
        self._tell()  # the loop may have no other turn

    def ask(self, function: Callable[[], R], *, urgent: bool = False) -> asyncio.Future[R]:
        """What `function` returns or raises in the thread, which makes the call when it has come to it.

        `urgent`: before the items that the thread has not taken.
        """
        answer = asyncio.get_running_loop().create_future()
        self._add(_Question(function, answer), first=urgent)
        return answer

    def _add(self, entry: T | End | _Question, size: int = 0, *, first: bool = False) -> None:
        with self._changed:
            if first:
                self._put.appendleft(entry)
            else:
                self._put.append(entry)
            self._size += size
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """Wake the thread: once for all that one turn of the loop has brought."""
        self._telling = False
        with self._changed:
            self._changed.notify()

    def _take(self) -> None:
        self._loop.check()
        with self._changed:
            while not self._put:
                if not self._changed.wait(GLANCE) and not self._put and not self._loop.running:
                    raise ClientClosed("the event loop of this NP6Client has ended, and with it this call")
            self._taken, self._put = self._put, self._taken
            full, self._size = self._size >= BOUND, 0
        if full:
            self._loop.submit_quietly(self._room.set)

    def _answer(self, question: _Question) -> None:
        """An error of the caller's own function goes back, and ends the task; an interrupt does not wait for that."""
        try:
            value = question.function()
        except Exception as error:
            self._loop.submit_quietly(_raise_in, question.answer, error)
        else:
            self._loop.submit_quietly(_answer_with, question.answer, value)


def _answer_with(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)


def _raise_in(answer: asyncio.Future[Any], error: Exception) -> None:
    if isinstance(error, StopIteration):  # which a future does not take
        problem = RuntimeError("a function that was called back raised StopIteration")
        problem.__cause__, error = error, problem
    if not answer.done():
        answer.set_exception(error)
