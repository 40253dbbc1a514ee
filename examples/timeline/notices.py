"""Notifies the open timelines of what the client is waiting for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from np6_async import Contact, Observation, RateLimitWait, RequestStarted, RetryScheduled

from .words import failure


class View:
    """One open timeline and its latest notice. It is `waiting` until its request has been sent."""

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self.waiting = True
        self._notice: dict[str, Any] | None = None
        self._news = asyncio.Event()

    def notify(self, notice: dict[str, Any] | None) -> None:
        """Replace the notice; None if the client is not waiting."""
        if notice != self._notice:
            self._notice = notice
            self._news.set()

    async def notice(self) -> dict[str, Any] | None:
        """Wait for news and return the latest."""
        await self._news.wait()
        self._news.clear()
        return self._notice


class Notices:
    """A hook for `NP6Client(hooks=...)`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._views: list[View] = []
        self._open_at = 0.0  # when requests may be sent again

    @contextmanager
    def view(self, contact: Contact) -> Iterator[View]:
        """The notices for a timeline of `contact`, while it is open."""
        view = View(contact)
        if (seconds := self._open_at - self._clock()) > 0:
            view.notify(_rate_limited(seconds))
        self._views.append(view)
        try:
            yield view
        finally:
            self._views.remove(view)

    def __call__(self, observation: Observation) -> None:
        match observation:
            case RateLimitWait(seconds=seconds):
                # The whole client pauses: this applies to every timeline that waits for its turn.
                self._open_at = self._clock() + seconds
                for view in self._views:
                    if view.waiting or view.contact == observation.contact:
                        view.waiting = True
                        view.notify(_rate_limited(seconds))
            case RetryScheduled(error=error, delay=delay):
                for view in self._of(observation.contact):
                    view.waiting = True
                    view.notify({"words": f"{failure(error)} Trying again", "seconds": delay})
            case RequestStarted():
                for view in self._of(observation.contact):
                    view.waiting = False
                    view.notify(None)

    def _of(self, contact: Contact | None) -> list[View]:
        return [view for view in self._views if view.contact == contact]


def _rate_limited(seconds: float) -> dict[str, Any]:
    return {"words": "NP6 allows no more requests for now. Resuming", "seconds": seconds}
