"""The events of one contact as an async iterator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ._contacts import Contact
from ._errors import ClientClosed, NP6Error
from ._events import Event
from ._fetch import Fetch, StreamStats

E_co = TypeVar("E_co", bound=Event, covariant=True)
T_co = TypeVar("T_co", covariant=True)


class Batches(Generic[T_co]):
    """An async iterator over what a coroutine function returns, until it raises StopAsyncIteration.

    Not a generator: a generator dies of the first cancellation that passes through it, and its next step
    then looks like the end.
    """

    def __init__(self, following: Callable[[], Awaitable[T_co]]) -> None:
        self._following = following

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        return await self._following()


class EventStream(Generic[E_co]):
    """The events of one contact, an async iterator.

    Iterate per event or by `batches`, bare or under ``async with``; the latter gives the connection back at
    once where the loop is left early. Events come in the order of their timestamps, each once, also where the
    connection broke in between. They are delivered as they arrive, before the answer is known to be
    complete: only the end of the iteration says that it was. A stream that was closed, or whose reading was
    cancelled, does not end: it raises `ClientClosed`.

    Raises, while iterating: `APIError`, `TransportError` and `ProtocolError` by what went wrong, `ClientClosed`, and
    `UsageError` where two tasks read at once.
    """

    def __init__(self, fetch: Fetch[E_co]) -> None:
        self._fetch = fetch
        self._events: Iterator[E_co] = iter(())  # of the batch at hand
        self._cut = False  # closed before all of them were taken

    @property
    def contact(self) -> Contact:
        """Whose events these are."""
        return self._fetch.contact

    @property
    def stats(self) -> StreamStats:
        """Live counts of events, bytes, requests, retries and time waited."""
        return self._fetch.stats

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E_co:
        while True:
            for event in self._events:
                return event
            self._events = iter(await self._next_batch())

    def batches(self) -> AsyncIterator[list[E_co]]:
        """The same events in lists as they were decoded, 1 to 256 long: faster than one by one.

        Goes on where iteration by event left off, and the other way round.
        """
        return Batches(self._next_batch)

    async def aclose(self) -> None:
        """End the stream and give its connection back. Iterating further raises `ClientClosed`."""
        self._cut = self._cut or bool(list(self._events))
        self._fetch.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy would share the answer, and close it when it goes.
        raise TypeError("a stream is neither copied nor pickled; begin another")

    def __del__(self) -> None:
        # A bare loop that was left early: the slot and the connection must not go with it.
        self._fetch.abandon()

    async def _next_batch(self) -> list[E_co]:
        if self._cut:
            raise ClientClosed("the stream is closed")
        if batch := list(self._events):
            return batch
        try:
            batch = await self._fetch.next_batch()
        except NP6Error:
            self._fetch.report()
            raise
        if not batch:
            self._fetch.report()
            raise StopAsyncIteration
        return batch
