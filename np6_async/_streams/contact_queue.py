"""The contacts of a bulk run, taken one at a time from any iterable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Final, TypeAlias

from .._errors import InvalidInput
from .._models.contacts import Contact

END: Final = object()
ContactIterable: TypeAlias = Iterable[str | Contact] | AsyncIterable[str | Contact]


def given(contacts: Any) -> ContactIterable:
    """Contacts as an iterable, where a single one may be given; raises `InvalidInput`."""
    if isinstance(contacts, str | Contact):
        return [contacts]
    if not isinstance(contacts, Iterable | AsyncIterable):
        raise InvalidInput(f"contacts must be a contact or an iterable of them, not {type(contacts).__name__}")
    return contacts


def reusable(contacts: Any) -> ContactIterable:
    """Contacts that can be iterated repeatedly; raises `InvalidInput`."""
    contacts = given(contacts)
    if hasattr(contacts, "__next__") or hasattr(contacts, "__anext__"):
        raise InvalidInput(
            "the contacts are read once for each window of time, and an iterator can be read only once; pass a list, "
            "or an object whose __iter__ starts again"
        )
    return contacts  # type: ignore[no-any-return]


class ContactQueue:
    """Contacts from any iterable, one at a time, for many workers."""

    def __init__(self, contacts: ContactIterable) -> None:
        if isinstance(contacts, str | bytes | Contact):
            raise InvalidInput("stream_many takes an iterable of contacts; for a single one use stream()")
        if not isinstance(contacts, AsyncIterable | Iterable):
            raise InvalidInput(f"contacts must be an iterable or async iterable, not {type(contacts).__name__}")
        self._iterator: Iterator[str | Contact] | AsyncIterator[str | Contact]
        self._iterator = aiter(contacts) if isinstance(contacts, AsyncIterable) else iter(contacts)
        self._ended = False
        self._lock = asyncio.Lock()  # an async generator allows one call of anext() at a time

    async def next(self) -> Any:
        """The next contact, whatever it is; `END` when there are no more, or when the iterable has failed."""
        if self._ended:
            return END
        try:
            if isinstance(self._iterator, Iterator):
                given = next(self._iterator, END)
            else:
                async with self._lock:
                    given = END if self._ended else await anext(self._iterator, END)
        except StopAsyncIteration as error:  # from a synchronous iterator: it must not look like the end of the run
            self._ended = True
            raise RuntimeError("the iterable of contacts raised StopAsyncIteration") from error
        except BaseException:
            self._ended = True
            raise
        self._ended = given is END
        return given
