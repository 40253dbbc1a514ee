"""The client of a process that others give work to.

It is kept between two pieces of work, with its connections and with what it knows of the rate limit and of the server,
and closed when none comes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from attrs import Factory, define

from .._client import ClientSettings, NP6Client

T = TypeVar("T")

_IDLE: Final = 30.0  # seconds
_lock = threading.Lock()
_open: dict[bytes, _Open] = {}


def with_client(run: bytes, settings: ClientSettings, work: Callable[[NP6Client], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, with the client of the `run` that it belongs to, which has these settings.

    Blocks; the coroutine runs in another thread, on the loop of the client. Several threads may call it at once.

    Raises `ConfigError` where there is no API key, and CancelledError of `concurrent.futures` where the work is
    cancelled.
    """
    with _lock:
        opened = _open.get(run)
        if opened is None:
            opened = _open[run] = _Open(settings.make())
            opened.start(lambda: _open.pop(run))
        opened.users += 1
    try:
        return asyncio.run_coroutine_threadsafe(work(opened.client), opened.loop).result()
    finally:
        with _lock:
            opened.users -= 1
        opened.loop.call_soon_threadsafe(opened.rest)


@define(eq=False, repr=False)
class _Open:
    """A client in a thread of its own."""

    client: NP6Client
    users: int = 0
    loop: asyncio.AbstractEventLoop = Factory(asyncio.new_event_loop)
    _forget: Callable[[], object] | None = None
    _timer: asyncio.TimerHandle | None = None

    def start(self, forget: Callable[[], object]) -> None:
        self._forget = forget
        threading.Thread(target=self._run, name="np6 client", daemon=True).start()

    def rest(self) -> None:
        """Close the client if nobody uses it for a while."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(_IDLE, self._end)

    def _end(self) -> None:
        with _lock:
            if self.users or self._forget is None:
                return
            self._forget()
        self.loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.client.close())
        finally:
            self.loop.close()
