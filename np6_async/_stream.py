"""The events of one contact as an async iterator."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ._contacts import Contact
from ._errors import ClientClosed
from ._events import Event
from ._fetch import Fetch, StreamStats

E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)
T = TypeVar("T")


class EventStream(Generic[E_co]):
    """The events of one contact, an async iterator.

    Iterate it once, per event or by `batches`, bare or under ``async with``; the latter gives the connection
    back at once where the loop is left early. Events come in the order of their timestamps, each once, also
    where the connection broke in between. They are delivered as they arrive, before the answer is known to be
    complete: only the end of the iteration says that it was.

    Raises, while iterating: `APIError`, `TransportError` and `ProtocolError` by what went wrong, `ClientClosed`.
    """

    def __init__(self, fetch: Fetch[E_co]) -> None:
        self._fetch = fetch
        self._iterator: AsyncGenerator[Any] | None = None

    @property
    def contact(self) -> Contact:
        """Whose events these are."""
        return self._fetch.contact

    @property
    def stats(self) -> StreamStats:
        """Live counts of events, bytes, requests, retries and time waited."""
        return self._fetch.stats

    def __aiter__(self) -> AsyncIterator[E_co]:
        # The generator holds the fetch and not this object: where a bare loop is left early, the generator
        # goes with its last reference, and asyncio runs its `finally`.
        return self._begin(_each(self._fetch))

    async def __anext__(self) -> E_co:
        if self._iterator is None:
            self._begin(_each(self._fetch))
        assert self._iterator is not None
        event: E_co = await anext(self._iterator)
        return event

    def batches(self) -> AsyncIterator[list[E_co]]:
        """The same events in lists as they were decoded, 1 to 256 long: faster than one by one."""
        return self._begin(_batches(self._fetch))

    async def aclose(self) -> None:
        """End the stream and give its connection back. Iterating further raises StopAsyncIteration."""
        self._fetch.close()
        if self._iterator is not None:
            # Else asyncio would start a task for it. RuntimeError: it is being read, and ends by itself.
            with suppress(RuntimeError):
                await self._iterator.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _begin(self, iterator: AsyncGenerator[T]) -> AsyncGenerator[T]:
        if self._iterator is not None:
            raise ClientClosed("a stream is iterated once; call stream() again for another run")
        self._iterator = iterator
        return iterator


async def _each(fetch: Fetch[E]) -> AsyncGenerator[E]:
    try:
        while batch := await fetch.next_batch():
            for event in batch:
                yield event
    finally:
        fetch.close()


async def _batches(fetch: Fetch[E]) -> AsyncGenerator[list[E]]:
    try:
        while batch := await fetch.next_batch():
            yield batch
    finally:
        fetch.close()
