"""The streams of a blocking client: plain iterators over what its loop fetches ahead."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .._models.account import RedListEntry
from .._models.contacts import Contact
from .._models.events import Event
from .._streams.stats import StreamStats
from ._handover import Handover
from ._loop import Loop
from ._reader import Reader, one_by_one, size_of

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E_co = TypeVar("E_co", bound=Event, covariant=True)


class _Batches(Generic[T]):
    """The batches of a reader, of which the current one may have been taken in part."""

    def __init__(self, reader: Reader[list[T]]) -> None:
        self.reader = reader
        self.rest: Iterator[T] = iter(())

    @property
    def complete(self) -> bool:
        return self.reader.complete

    def advance(self) -> None:
        self.rest = iter(self.reader.next())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[T]:
        return list(self.rest) or self.reader.next()


class _Stream(Generic[T_co]):
    """The items of a fetch as an iterator: one by one, or in batches."""

    def __init__(self, loop: Loop, stream: Any) -> None:
        self._stream = stream
        self._batches: _Batches[T_co] = _Batches(Reader(loop, lambda handover: _pump(stream, handover)))

    def __iter__(self) -> Iterator[T_co]:
        return one_by_one(self._batches)

    def __next__(self) -> T_co:
        return next(one_by_one(self._batches))

    def batches(self) -> Iterator[list[T_co]]:
        """The same in lists as they were decoded.

        Continues where iteration one by one left off, and vice versa.
        """
        return self._batches

    @property
    def stats(self) -> StreamStats:
        """Live counts of events (or ids), bytes, requests, retries and time waited, of what was fetched up to now."""
        stats: StreamStats = self._stream.stats
        return stats

    def close(self) -> None:
        """End the stream and give its connection back. Iterating after that raises `ClientClosed`, unless it had come
        to its end."""
        self._batches.reader.close()
        list(self._batches.rest)  # which an iterator may hold

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._stream)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a stream cannot be copied or pickled; start another")


async def _pump(stream: Any, handover: Handover[Any]) -> None:
    async with stream:
        async for batch in stream.batches():
            await handover.put(batch, size_of(batch))


class EventStream(_Stream[E_co]):
    """The events of one contact, an iterator; the promises and errors are those of `np6_async.EventStream`.

    Iterate per event or by `batches`, bare or in a ``with``; the latter gives the connection back at once where the
    loop is left early, and a bare loop when nothing refers to the stream any more. Up to 1 MiB of events is fetched
    ahead. Interrupting the wait for an event, as Ctrl-C does, ends the stream.
    """

    @property
    def contact(self) -> Contact:
        """Whose events these are."""
        contact: Contact = self._stream.contact
        return contact


class ActionStream(_Stream[E_co]):
    """The events of one action, or of all actions of the account, an iterator. It is used as an `EventStream` is; the
    promises and errors are those of `np6_async.ActionStream`.
    """

    @property
    def action(self) -> str | None:
        """The id of the action; None for all actions."""
        action: str | None = self._stream.action
        return action


class ContactIds(_Stream[str]):
    """The ids of a segment's contacts, an iterator. It is used as an `EventStream` is; the promises and errors are
    those of `np6_async.ContactIds`.
    """


class CampaignEvents(_Stream[E_co]):
    """The events of items of a campaign, an iterator. It is used as an `EventStream` is; the promises and errors are
    those of `np6_async.CampaignEvents`.
    """


class RedListEntries(_Stream[RedListEntry]):
    """Entries of the red list, an iterator. It is used as an `EventStream` is; the promises and errors are those of
    `np6_async.RedListEntries`.
    """
