"""The contacts or actions of a bulk run, taken one at a time from any iterable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from .._errors import InvalidInput
from .._models.actions import Action
from .._models.contacts import Contact

END: Final = object()
C = TypeVar("C", bound=str | Contact)
Many: TypeAlias = Iterable[C] | AsyncIterable[C]
ContactIterable: TypeAlias = Many[str | Contact]


def given(contacts: Any, name: str = "contacts") -> ContactIterable:
    """Contacts as an iterable, where a single one may be given; raises `InvalidInput`."""
    if isinstance(contacts, str | Contact):
        return [contacts]
    return _many(contacts, f"a{'n' * (name[0] == 'a')} {name[:-1]} or an iterable of them", name)


def reusable(contacts: Any) -> ContactIterable:
    """Contacts that can be iterated repeatedly; raises `InvalidInput`."""
    contacts = given(contacts)
    if hasattr(contacts, "__next__") or hasattr(contacts, "__anext__"):
        raise InvalidInput(
            "the contacts are read once for each window of time, and an iterator can be read only once; pass a list, "
            "or an object whose __iter__ starts again"
        )
    return contacts  # type: ignore[no-any-return]


def several(contacts: Any, name: str = "contacts") -> ContactIterable:
    """Contacts as an iterable, where a single one is refused; raises `InvalidInput`."""
    if isinstance(contacts, str | Contact | Action):
        raise InvalidInput(f"stream_many takes an iterable of {name}; for a single one use stream()")
    return _many(contacts, f"an iterable of {name}", name)


class ContactQueue:
    """Contacts from any iterable, one at a time, for many workers."""

    def __init__(self, contacts: Any, name: str = "contacts") -> None:
        contacts = several(contacts, name)
        self._iterator: Iterator[Any] | AsyncIterator[Any]
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


def _many(contacts: Any, wanted: str, name: str = "contacts") -> ContactIterable:
    """Contacts as an iterable of them; raises `InvalidInput` for what is not one, and for what only looks like one."""
    reason = _why_not(contacts, type(contacts))
    if reason is not None:
        raise InvalidInput(f"{name} must be {wanted}, not {type(contacts).__name__}{reason}")
    return _ArrowColumn(contacts) if hasattr(type(contacts), "to_pylist") else contacts


def _why_not(contacts: Any, cls: type) -> str | None:
    """The end of a message: why these are not contacts, although they may be iterable.

    A column of ids (a Series, an array of one dimension) is taken for the ids. A table would give the names of its
    columns, and a mapping its keys. The class is asked, because pandas finds the labels of data as attributes.
    """
    if hasattr(cls, "columns") or hasattr(cls, "column_names"):
        return ", which is a table: pass its column of ids, such as table['id']"
    if isinstance(contacts, Mapping) or (hasattr(cls, "keys") and not hasattr(cls, "dtype")):
        return ", which is a mapping: pass list(ids) for its keys, list(ids.values()) for its values"
    if hasattr(cls, "ndim") and contacts.ndim != 1:
        return f" of {contacts.ndim} dimensions: pass one column of it, such as array[:, 0]"
    if hasattr(cls, "dtype") and getattr(contacts.dtype, "names", None):
        return " of records: pass one field of it, such as array['id']"
    if isinstance(contacts, bytes | bytearray | memoryview):
        return ": decode them first"
    return None if isinstance(contacts, Iterable | AsyncIterable) else ""


class _ArrowColumn:
    """The values of an array of pyarrow, whose elements are scalars of its own."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __iter__(self) -> Iterator[Any]:
        return (value.as_py() for value in self._column)
