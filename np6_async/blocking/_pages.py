"""Pages of events, fetched when they are asked for."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .._errors import UsageError
from .._models.contacts import Contact
from .._models.events import Event
from .._streams import pages
from .._streams.pages import Page
from ._handover import Handover
from ._job import call
from ._loop import Loop

C_co = TypeVar("C_co", bound=str | Contact, covariant=True)
E_co = TypeVar("E_co", bound=Event, covariant=True)


class Pages(Generic[C_co, E_co]):
    """An iterator of `Page`, bare or in a ``with``; its pages and errors are those of `np6_async.Pages`.

    Nothing is fetched between two pages. A page that was not finished, because the wait for it was interrupted or
    failed, has delivered nothing; the next step fetches it again.
    """

    def __init__(self, loop: Loop, source: pages.Pages[C_co, E_co], handover: Handover[Any]) -> None:
        self._loop = loop
        self._source = source
        self._handover = handover
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        return repr(self._source)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Page[C_co, E_co]:
        if not self._reading.acquire(blocking=False):
            raise UsageError("the pages are being read by another thread; let one thread read and pass pages on")
        try:
            page = call(self._loop, self._next, self._handover)
        finally:
            self._reading.release()
        if page is None:
            raise StopIteration
        return page

    def close(self) -> None:
        """Give back the connection that the next page would have used."""
        if self._loop.running:
            call(self._loop, self._source.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _next(self) -> Page[C_co, E_co] | None:
        return await anext(self._source, None)
