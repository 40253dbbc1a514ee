"""An executor whose workers are threads of this process, which fail as told."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any, Self

from np6_async.export import Executor, Job, WorkersLost


class Threads(Executor):
    """Runs each call in a thread. What it hands over is pickled, as for another process.

    `lost` says, of the number of a call from 1, whether its workers die again and again; `twice` whether it is made
    once more at the same time, for nobody.
    """

    def __init__(
        self,
        width: int = 3,
        *,
        lost: Callable[[int], bool] = lambda _: False,
        twice: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self.calls = 0
        self.entered = 0
        self.most = 0  # calls at once
        self.names: list[str] = []
        self._width = width
        self._lost = lost
        self._twice = twice
        self._jobs: set[Job] = set()
        self._stopped = False
        self._others: list[asyncio.Future[Any]] = []

    @property
    def width(self) -> int:
        return self._width

    async def run(self, name: str, call: Any, task: Any, report: Callable[[Any], object]) -> Any:
        self.calls += 1
        self.names.append(name)
        number = self.calls
        call, task = pickle.loads(pickle.dumps((call, task)))  # noqa: S301 - our own
        if self._twice(number):
            self._others.append(asyncio.create_task(self._make(call, task, lambda _: None)))
        result = await self._make(call, task, report)
        if self._lost(number):
            raise WorkersLost(f"{name} was with 4 workers, which died")
        return result

    async def _make(self, call: Any, task: Any, report: Callable[[Any], object]) -> Any:
        loop = asyncio.get_running_loop()
        job = Job(lambda progress: loop.call_soon_threadsafe(report, progress))
        self._jobs.add(job)
        self.most = max(self.most, len(self._jobs))
        if self._stopped:
            job.stop()
        made = loop.run_in_executor(None, call, task, job)
        try:
            return pickle.loads(pickle.dumps(await asyncio.shield(made)))  # noqa: S301 - our own
        except asyncio.CancelledError:
            job.cancel()
            self._others.append(made)  # a thread ends a little later
            raise
        finally:
            self._jobs.discard(job)

    async def stop(self) -> None:
        self._stopped = True
        for job in tuple(self._jobs):
            job.stop()

    async def __aenter__(self) -> Self:
        self.entered += 1
        self._stopped = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._others, return_exceptions=True)
