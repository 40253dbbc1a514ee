"""The items of one fetch as async iterators: events, the contacts of a segment, the red list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .._errors import ClientClosed, NP6Error
from .._models.account import RedListEntry
from .._models.actions import Action
from .._models.contacts import Contact
from .._models.events import Event
from .fetch import Fetch
from .stats import StreamStats

S = TypeVar("S", bound=Contact | Action | None)
E_co = TypeVar("E_co", bound=Event, covariant=True)
T_co = TypeVar("T_co", covariant=True)


class Batches(Generic[T_co]):
    """An async iterator over what a coroutine function returns, until it raises StopAsyncIteration.

    Not a generator: the first cancellation that passes through a generator finishes it, and its next step then looks
    like the end.
    """

    def __init__(self, get_next: Callable[[], Awaitable[T_co]]) -> None:
        self._get_next = get_next

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        return await self._get_next()


class _Stream(Generic[S, T_co]):
    """The items of a fetch as an async iterator: one by one, or in batches."""

    def __init__(self, fetch: Fetch[S, T_co]) -> None:
        self._fetch = fetch
        self._items: Iterator[T_co] = iter(())  # of the current batch
        self._cut = False  # closed before all of them were taken

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._fetch}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        while True:
            for item in self._items:
                return item
            self._items = iter(await self._next_batch())

    def batches(self) -> AsyncIterator[list[T_co]]:
        """The same in lists as they were decoded, which is faster than one by one.

        Continues where iteration one by one left off, and vice versa.
        """
        return Batches(self._next_batch)

    @property
    def stats(self) -> StreamStats:
        """Live counts of events (or ids), bytes, requests, retries and time waited."""
        return self._fetch.stats

    async def aclose(self) -> None:
        """End the stream and give its connection back. Iterating after that raises `ClientClosed`."""
        self._cut = self._cut or bool(list(self._items))
        self._fetch.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy would share the response, and close it when it is garbage collected.
        raise TypeError("a stream cannot be copied or pickled; start another")

    def __del__(self) -> None:
        # A bare loop that was left early: the slot and the connection must not be lost with it.
        self._fetch.abandon()

    async def _next_batch(self) -> list[T_co]:
        if self._cut:
            raise ClientClosed("the stream is closed")
        if batch := list(self._items):
            return batch
        try:
            batch = await self._fetch.next_batch()
        except NP6Error:
            self._fetch.report_outcome()
            raise
        if not batch:
            self._fetch.report_outcome()
            raise StopAsyncIteration
        return batch


class EventStream(_Stream[Contact, E_co]):
    """The events of one contact, an async iterator.

    Iterate per event or by `batches` (1 to 256 events long), bare or under ``async with``; the latter gives the
    connection back at once where the loop is left early. Events come in the order of their timestamps, each once, even
    if the connection breaks in between. They are delivered as they arrive, before the response is known to be
    complete: only the end of the iteration says that it was. A stream that was closed, or whose reading was
    cancelled, does not end: it raises `ClientClosed`.

    Raises, while iterating: `APIError`, `TransportError` or `ProtocolError`, depending on what went wrong,
    `ServiceUnavailable` where nobody is answered for too long, `ClientClosed`, and `UsageError` where two tasks read at
    once.
    """

    @property
    def contact(self) -> Contact:
        """Whose events these are."""
        return self._fetch.subject


class ActionStream(_Stream[Action, E_co]):
    """The events of one action, or of all actions of the account, an async iterator.

    It is iterated as an `EventStream` is, and promises and raises the same. Memory stays flat, however many millions of
    events there are; at most 100,000 may share one millisecond.
    """

    @property
    def action(self) -> str | None:
        """The id of the action; None for all actions."""
        return self._fetch.subject.id


class ContactIds(_Stream[None, str]):
    """The ids of a segment's contacts, an async iterator, in the server's order, which has no meaning.

    Iterate per id or by `batches` (some thousand ids long), bare or under ``async with``; the latter gives the
    connection back at once where the loop is left early. Memory is bounded, however many there are. Ids are delivered
    as they arrive: only the end of the iteration says that they were all. A stream that was closed, or whose reading
    was cancelled, does not end: it raises `ClientClosed`.

    A response that breaks off is requested again, and the ids that were delivered are skipped. Where the new one does
    not begin with the very same ids, because the segment changed or the server keeps no order, `OrderError` is raised:
    then start again. Other errors are those of `EventStream`; `NotFound` means that the account has no such segment.
    """


class CampaignEvents(_Stream[None, E_co]):
    """The events of items of a campaign, an async iterator. See `Event.recipient` for the contact of each.

    Order, promises and errors are those of `EventStream`.
    """


class RedListEntries(_Stream[None, RedListEntry]):
    """Entries of the red list, an async iterator, in the server's order, which has no meaning.

    Iterate per entry or by `batches` (1 to 256 entries long), bare or under ``async with``. Memory is bounded, however
    many there are. The promises, and what happens after a response that breaks off, are those of `ContactIds`: the
    entries that were delivered are skipped, and where the repeated response does not begin with the very same ones,
    `OrderError` is raised. Give an `end` that has passed, and entries that are added meanwhile do not disturb.
    """
