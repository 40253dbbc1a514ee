"""From the first use of a client to its close: one event loop, and an end for whatever waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from ._errors import ClientClosed, TimeoutExceeded


class Lifetime:
    """Whether a client may be used here and now. `close` ends every scope at once with `ClientClosed`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scopes: set[asyncio.Timeout] = set()
        self._runs: list[Callable[[], None]] = []
        self.closed: bool = False

    def check(self) -> None:
        """Raise `ClientClosed` after close and on another event loop than that of the first use."""
        loop = asyncio.get_running_loop()
        if self.closed:
            raise ClientClosed("this NP6Client is closed; create a new one")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientClosed("this NP6Client belongs to another event loop; create one client in each loop")

    def scope(self, seconds: float | None = None) -> Scope:
        """A context that ends when the client closes, or after `seconds` with `TimeoutExceeded`."""
        return Scope(self, self._scopes, seconds)

    @contextmanager
    def ends(self, run: Callable[[], None]) -> Iterator[None]:
        """`run` is called when the client closes while the context lasts."""
        self._runs.append(run)
        try:
            yield
        finally:
            self._runs.remove(run)

    def soon(self, call: Callable[[], None]) -> None:
        """`call` on the loop, from wherever the garbage collector runs; nothing once the loop is closed."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """End every scope and run, and let no new one begin."""
        if self._loop is not None and not self.closed and self._loop is not asyncio.get_running_loop():
            raise ClientClosed("this NP6Client belongs to another event loop; close it there")
        self.closed = True
        for run in tuple(self._runs):
            run()
        for timeout in self._scopes:
            if not timeout.expired():  # its deadline may have passed a moment ago
                timeout.reschedule(0)


class Scope:
    """See `Lifetime.scope`. asyncio.timeout tells its own cancellation from others, so this does too."""

    def __init__(self, lifetime: Lifetime, scopes: set[asyncio.Timeout], seconds: float | None) -> None:
        self._lifetime = lifetime
        self._scopes = scopes
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        self._lifetime.check()
        await self._timeout.__aenter__()
        self._scopes.add(self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._scopes.discard(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._lifetime.closed:
                raise ClientClosed("this NP6Client was closed while a call was waiting") from None
            raise TimeoutExceeded("the contact took longer than Timeout.deadline", limit="deadline") from None
