"""Notifies the open pages of what the client is waiting for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypedDict

from np6_async import Contact, NP6Error, Observation, OutageWait, RateLimitWait, RequestStarted, RetryScheduled

from .words import failure


class Notice(TypedDict):
    """What the client waits for, in words that "in 5 s" can follow, and for how many seconds."""

    words: str
    seconds: float


class Notified(Protocol):
    """Whoever shows the waits of requests for `contact`; None: of those that are for no contact.

    It is `waiting` until its request has been sent.
    """

    waiting: bool

    @property
    def contact(self) -> Contact | None: ...

    def notify(self, notice: Notice | None) -> None: ...


class View:
    """One open timeline and its latest notice. It is `waiting` until its request has been sent."""

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self.waiting = True
        self._notice: Notice | None = None
        self._news = asyncio.Event()

    def notify(self, notice: Notice | None) -> None:
        """Replace the notice; None if the client is not waiting."""
        if notice != self._notice:
            self._notice = notice
            self._news.set()

    async def notice(self) -> Notice | None:
        """Wait for news and return the latest."""
        await self._news.wait()
        self._news.clear()
        return self._notice


class Notices:
    """A hook for `NP6Client(hooks=...)`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._views: list[Notified] = []
        self._open_at = 0.0  # when requests may be sent again

    @contextmanager
    def view(self, contact: Contact) -> Iterator[View]:
        """The notices for a timeline of `contact`, while it is open."""
        view = View(contact)
        with self.notifying(view):
            yield view

    @contextmanager
    def notifying(self, view: Notified) -> Iterator[None]:
        """Notify `view`, first of a wait that has begun."""
        if (seconds := self._open_at - self._clock()) > 0:
            view.notify(_rate_limited(seconds))
        self._views.append(view)
        try:
            yield
        finally:
            self._views.remove(view)

    def __call__(self, observation: Observation) -> None:
        match observation:
            case RateLimitWait(seconds=seconds):
                # The whole client pauses: this applies to every timeline that waits for its turn.
                self._open_at = self._clock() + seconds
                self._notify_waiting(observation.contact, _rate_limited(seconds))
            case OutageWait(error=error, delay=delay):
                self._notify_waiting(observation.contact, trying_again(error, delay))
            case RetryScheduled(error=error, delay=delay):
                for view in self._of(observation.contact):
                    view.waiting = True
                    view.notify(trying_again(error, delay))
            case RequestStarted():
                for view in self._of(observation.contact):
                    view.waiting = False
                    view.notify(None)

    def _notify_waiting(self, contact: Contact | None, notice: Notice) -> None:
        for view in self._views:
            if view.waiting or view.contact == contact:
                view.waiting = True
                view.notify(notice)

    def _of(self, contact: Contact | None) -> list[Notified]:
        return [view for view in self._views if view.contact == contact]


def trying_again(error: NP6Error, seconds: float) -> Notice:
    """That something went wrong and is tried again."""
    return {"words": f"{failure(error)} Trying again", "seconds": seconds}


def _rate_limited(seconds: float) -> Notice:
    return {"words": "NP6 allows no more requests for now. Resuming", "seconds": seconds}
