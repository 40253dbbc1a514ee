"""The caller's iterables and functions, for the client's loop: they run in the thread that waits for the events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from inspect import isawaitable
from typing import Any, Final, Generic, Self, TypeVar

from .._errors import InvalidInput
from .._models.contacts import Contact
from .._streams.contact_queue import several
from .._streams.failures import ErrorPolicy
from ._handover import Handover

T = TypeVar("T")

# Contacts that are read at a time, unless that takes longer than so many seconds.
_CHUNK: Final = 256
_PATIENCE: Final = 0.01
# Collections that run no code of the caller: any thread may read them.
_PLAIN: Final = (list, tuple, set, frozenset, range)


def fed(contacts: Any, handover: Handover[Any], name: str = "contacts") -> Any:
    """`contacts` for a call of the async client: an iterable of them is read in the thread; raises `InvalidInput`."""
    checked = several(contacts, name)
    if type(checked) in _PLAIN:
        return checked
    if not isinstance(checked, Iterable):
        raise InvalidInput(
            f"{name} must be an iterable here, not the async {type(contacts).__name__}; np6_async.NP6Client takes both"
        )
    if isinstance(checked, Iterator):
        return _Feed(checked, handover)
    return _Feeds(checked, handover)


def asked(on_error: ErrorPolicy, handover: Handover[Any]) -> ErrorPolicy:
    """`on_error` for a call of the async client: a callable is called in the thread, after the events before it."""
    if not callable(on_error):
        return on_error

    async def ask(failure: Any) -> Any:
        decision = await handover.ask(partial(on_error, failure))
        return await decision if isawaitable(decision) else decision

    return ask


def prepared(
    name: str | None, args: tuple[Any, ...], options: dict[str, Any], handover: Handover[Any], *, single: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call for many, of which the argument `name`, the first, is iterated; None: none is.

    `single`: one contact may stand there. What is missing or wrong is for the call to refuse.
    """
    options = dict(options)
    if "on_error" in options:
        options["on_error"] = asked(options["on_error"], handover)
    if name is not None:
        given = args[0] if args else options.get(name)
        if given is not None and not (single and isinstance(given, str | Contact)):
            given = fed(given, handover, name)
        if args:
            args = given, *args[1:]
        elif name in options:
            options[name] = given
    return args, options


class _Feeds(Generic[T]):
    """An iterable that can be read again."""

    def __init__(self, items: Iterable[T], handover: Handover[Any]) -> None:
        self._items = items
        self._handover = handover

    def __aiter__(self) -> AsyncIterator[T]:
        return _Feed(self._items, self._handover)


class _Feed(Generic[T]):
    """Reads an iterable some items ahead, so that the loop need not wait for the thread."""

    def __init__(self, items: Iterable[T], handover: Handover[Any]) -> None:
        self._handover = handover
        self._chunk: Callable[[], tuple[list[T], bool]] = _Reader(items).chunk
        self._ready: deque[T] = deque()
        self._coming: Awaitable[tuple[list[T], bool]] | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if len(self._ready) < _CHUNK // 2 and self._coming is None and not self._ended:
            self._coming = self._handover.ask(self._chunk, urgent=True)
        while not self._ready:
            if self._coming is None:
                raise StopAsyncIteration
            try:
                items, self._ended = await self._coming
            finally:
                self._coming = None
            self._ready.extend(items)
            if not self._ended:
                self._coming = self._handover.ask(self._chunk, urgent=True)
        return self._ready.popleft()


class _Reader(Generic[T]):
    """Reads an iterable, which begins with its first chunk."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._iterator: Iterator[T] | None = None
        self._error: Exception | None = None

    def chunk(self) -> tuple[list[T], bool]:
        """The next items, and whether they were the last. What was read before an error comes before it."""
        if self._error is not None:
            raise self._error
        if self._iterator is None:
            self._iterator = iter(self._items)
        items: list[T] = []
        until = time.monotonic() + _PATIENCE
        try:
            for item in self._iterator:
                items.append(item)
                if len(items) == _CHUNK or time.monotonic() > until:
                    return items, False
        except Exception as error:
            if not items:
                raise
            self._error = error
            return items, False
        return items, True
