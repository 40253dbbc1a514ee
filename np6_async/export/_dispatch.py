"""Work for many workers: read piece by piece, done by some of them at once, and committed as it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from attrs import Factory, define

from .._http.lifetime import ended
from ._executor import Executor

T = TypeVar("T")


class Result(Protocol):
    """What came back; `error` is what ended the work early, and with it the run."""

    @property
    def error(self) -> Exception | None: ...


R = TypeVar("R", bound=Result)


@define(eq=False, repr=False)
class Dispatch(Generic[T, R]):
    """Keeps the workers of `executor` busy.

    `read` gives the next piece when a worker is about to need it, None after the last; `work` has it done; `commit`
    gets what has come back meanwhile, one call at a time. After the first error the workers end soon, with what they
    have.
    """

    executor: Executor
    read: Callable[[], Awaitable[T | None]]
    work: Callable[[T], Awaitable[R]]
    commit: Callable[[list[R]], Awaitable[None]]
    _ending: bool = False
    _torn: bool = False  # a commit has failed
    _reading: asyncio.Task[T | None] | None = None
    _committing: asyncio.Task[None] | None = None
    _stopping: asyncio.Task[None] | None = None
    _running: set[asyncio.Task[R]] = Factory(set)
    _results: list[R] = Factory(list)  # to be committed

    async def run(self) -> None:
        """Have everything done. However it ends, what came back and is not committed is left to `keep`."""
        error: BaseException | None = None
        all_read = False
        try:
            while True:
                if not (self._reading or all_read or self._ending) and self._may_read:
                    self._reading = asyncio.create_task(_made(self.read))
                if self._results and error is None and not (self._committing or self._torn):
                    self._committing = asyncio.create_task(self._commit())
                waiting = {*self._running, *filter(None, (self._reading, self._committing))}
                if not waiting:
                    break
                finished, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    try:
                        all_read |= self._take(task)
                    except (Exception, asyncio.CancelledError) as raised:
                        if error is None and not (self._ending and isinstance(raised, asyncio.CancelledError)):
                            error = raised
                        self.stop()
        finally:
            await self._end()
        if error is not None:
            raise error

    async def keep(self) -> None:
        """Commit what has come back."""
        if self._results and not self._torn:
            await self._commit()

    def stop(self) -> None:
        """Read no more, and let the workers end soon."""
        self._ending = True
        if self._reading is not None:
            self._reading.cancel()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self.executor.stop())

    @property
    def _may_read(self) -> bool:
        """Whether a worker is about to need more, and commits are not so slow that what came back piles up."""
        width, running = max(1, self.executor.width), len(self._running)
        return running < width and running + len(self._results) < 2 * width

    def _take(self, task: asyncio.Task[Any]) -> bool:
        """Take what has ended; whether everything is read. Raises what ends the run."""
        if task is self._committing:
            self._committing = None
            task.result()
        elif task is self._reading:
            self._reading = None
            piece = task.result()
            if piece is None:
                return True
            self._running.add(asyncio.create_task(_made(lambda: self.work(piece))))
        else:
            self._running.discard(task)
            result: R = task.result()
            self._results.append(result)
            if result.error is not None:
                raise result.error
        return False

    async def _commit(self) -> None:
        results, self._results = self._results, []
        self._torn = True  # until it has succeeded: what came back was taken, and may not be safe
        await self.commit(results)
        self._torn = False

    async def _end(self) -> None:
        """Cancel what is left, but not a commit."""
        left = [*self._running, *filter(None, (self._reading, self._stopping))]
        for task in left:
            task.cancel()
        try:
            await asyncio.gather(*left, return_exceptions=True)
        finally:
            if self._committing is not None:
                with suppress(Exception):  # the run has an error already, or `keep` does nothing
                    await ended(self._committing)


async def _made(call: Callable[[], Awaitable[T]]) -> T:
    """Its result. Cancelled before it begins, a task makes no call."""
    return await call()
