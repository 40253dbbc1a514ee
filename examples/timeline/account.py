"""The events of the last hour, counted by action: read from NP6 for all browsers together, while one of them looks.

Only counts are kept, none of the events: each read counts the latest minutes again and replaces what was known of them.
So an event that NP6 publishes late is counted once, whichever read finds it, and no ids need to be remembered.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import Factory, define

from np6_async import (
    Activation,
    AuthError,
    BadRequest,
    Bounce,
    Cancellation,
    ClientClosed,
    Event,
    Execution,
    NotFound,
    NP6Client,
    NP6Error,
    RateLimited,
    ServiceUnavailable,
    TLSError,
    UnexpectedRedirect,
)

from .describe import kind_and_title, short
from .notices import Notice, Notices, trying_again
from .words import words

MINUTES: Final = 60
EVERY: Final = 5.0  # seconds from one read to the next
LONGEST: Final = 60.0  # the same, in seconds, after reads that failed
OVERLAP: Final = 120_000  # ms before the latest event that each read counts again
RECOUNT: Final = 300.0  # seconds after which the whole hour is counted again, for events that came even later
PARTIAL: Final = 0.5  # seconds between two counts while the first hour is being read
MOST_ACTIONS: Final = 200  # rows; the actions with fewer events share one

_MINUTE: Final = 60_000
_LATEST: Final = 253_402_300_799_999  # ms, the end of the year 9999
_KINDS: Final = frozenset({"sent", "opened", "clicked", "bounced", "stopped"})

# Asking again cannot help. A browser that looks again starts anew.
_FINAL: Final = (AuthError, BadRequest, ClientClosed, NotFound, TLSError, UnexpectedRedirect)


@define
class Tally:
    """Counts by kind, "all" among them, and of bounces by verdict, too; and when the sending began, in epoch ms.

    `began` is the first activation, `sent` the earliest time at which one of the messages was sent, for actions that
    only have reactions. None: not known.
    """

    counts: Counter[str] = Factory(Counter)
    began: int | None = None
    sent: int | None = None

    def count(self, event: Event) -> None:
        """Count one event."""
        self.counts["all"] += 1
        match event:
            case Cancellation():
                kind = "cancelled"
            case Execution():
                kind = "other"  # its activation is what was sent
            case _:
                kind, _ = kind_and_title(event)
        self.counts[kind if kind in _KINDS or kind == "cancelled" else "other"] += 1
        if isinstance(event, Bounce) and event.verdict in ("hard", "soft"):
            self.counts[event.verdict] += 1
        if isinstance(event, Activation):
            self.began = _earlier(self.began, event.timestamp)
        message = event.activation or event.execution
        if message and message.stamp and message.stamp.time is not None and 0 <= message.stamp.time <= _LATEST:
            self.sent = _earlier(self.sent, message.stamp.time)

    def add(self, other: Tally) -> None:
        """Add the counts of another."""
        self.counts.update(other.counts)
        self.began = _earlier(self.began, other.began)
        self.sent = _earlier(self.sent, other.sent)


# By the number of the minute since 1970 and by the id of the action; None for events of no action.
_Tallies = Mapping[int, Mapping[str | None, Tally]]


class LastHour:
    """The counts, for those who look at them. `client` is asked only while somebody does.

    Memory is bounded by the number of actions that had events in the hour, whatever the number of events.
    """

    contact: Final = None  # whose waits it is notified of: those of requests for no contact

    def __init__(self, client: NP6Client, notices: Notices, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._notices = notices
        self._clock = clock
        self._tallies: _Tallies = {}
        self._newest = 0  # timestamp of the latest event, in epoch ms
        self._counted = -RECOUNT  # when the whole hour was counted, on the clock of the event loop
        self._watches = 0
        self._polling: asyncio.Task[None] | None = None
        self.waiting = False
        self.latest: dict[str, Any] = {}  # messages, by name
        self.changed = asyncio.Event()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Watch]:
        """Look at the counts. The first one who does starts the reads, and the last one who leaves ends them."""
        if self._polling is None or self._polling.done():
            self.latest.clear()
            self._polling = asyncio.create_task(self._poll(), name="account")
        self._watches += 1
        try:
            yield Watch(self)
        finally:
            self._watches -= 1
            if not self._watches and self._polling:
                polling, self._polling = self._polling, None
                polling.cancel()
                await asyncio.wait([polling])

    def close(self) -> None:
        """End the reads, and say so to those who look."""
        if self._polling:
            self._polling.cancel()
            self._end(ClientClosed())

    def notify(self, notice: Notice | None) -> None:
        """Show a wait. It is over when something arrives, and not when a request is sent: that may fail, too."""
        if notice:
            self._show(notice)

    def _show(self, notice: Notice | None) -> None:
        if notice != self.latest.get("notice"):
            self._publish("notice", notice)

    def _publish(self, name: str, data: Any) -> None:
        self.latest[name] = data
        self.changed.set()
        self.changed = asyncio.Event()

    def _end(self, error: NP6Error) -> None:
        self._publish("problem", {"words": words(error)[0], "field": None})

    async def _poll(self) -> None:
        failures = 0
        while True:
            try:
                await self._read()
            except _FINAL as error:
                return self._end(error)
            except NP6Error as error:
                failures += 1
                delay = min(EVERY * 2**failures, LONGEST)
                if isinstance(error, RateLimited | ServiceUnavailable):
                    delay = max(delay, error.retry_after or 0)
                self.notify(trying_again(error, delay))
            except Exception:
                self._end(NP6Error())  # which has no words for the cause
                raise
            else:
                failures, delay = 0, EVERY
                self._show(None)
            await asyncio.sleep(delay)

    async def _read(self) -> None:
        """Count what is new, from some minutes before the latest event to now."""
        timer = asyncio.get_running_loop().time
        begun, now = timer(), int(self._clock() * 1000)
        first = now // _MINUTE - MINUTES + 1
        start = max(first, min((self._newest - OVERLAP) // _MINUTE, now // _MINUTE - 1))
        if begun - self._counted >= RECOUNT:
            start = first
        newest = 0
        fresh: defaultdict[int, defaultdict[str | None, Tally]] = defaultdict(lambda: defaultdict(Tally))
        shown = begun
        self.waiting = True
        with self._notices.notifying(self):
            async with self._client.actions.stream(start=start * _MINUTE, end=now) as events:
                async for batch in events.batches():
                    self._show(None)
                    for event in batch:
                        message = event.activation or event.execution
                        action = short(message.id) if message and message.id else None
                        fresh[event.timestamp // _MINUTE][action].count(event)
                    newest = batch[-1].timestamp
                    if start == first and not self._complete and timer() - shown >= PARTIAL:
                        shown = timer()
                        self._publish("counts", _counts(fresh, first, now, complete=False))
        if start == first:
            self._counted = begun
        self._newest = newest or start * _MINUTE
        self._tallies = {at: known for at, known in self._tallies.items() if first <= at < start} | fresh
        self._publish("counts", _counts(self._tallies, first, now, complete=True))

    @property
    def _complete(self) -> bool:
        """Whether those who look have seen the whole hour."""
        return bool(self.latest.get("counts", {}).get("complete"))


class Watch:
    """What one browser has been sent. A slow one is sent the latest counts, not all in between."""

    def __init__(self, hour: LastHour) -> None:
        self._hour = hour
        self._sent: dict[str, Any] = {}

    async def news(self) -> dict[str, Any]:
        """Wait for what is new; `counts`, `notice` (a wait, or None) and, at the end, `problem`, by name."""
        while not (new := {k: v for k, v in self._hour.latest.items() if v is not self._sent.get(k)}):
            await self._hour.changed.wait()
        self._sent |= new
        return new


def _counts(tallies: _Tallies, first: int, now: int, *, complete: bool) -> dict[str, Any]:
    """What the page shows: `start` and `end` in epoch ms, counts by minute, by action, and of all."""
    actions: defaultdict[str | None, Tally] = defaultdict(Tally)
    minutes = []
    for minute in range(first, first + MINUTES):
        of_all: Counter[str] = Counter()
        for action, tally in tallies.get(minute, {}).items():
            actions[action].add(tally)
            of_all.update(tally.counts)
        minutes.append(of_all)
    largest = sorted(actions.items(), key=lambda item: -item[1].counts["all"])
    rest = Tally()
    for _, tally in largest[MOST_ACTIONS:]:
        rest.add(tally)
    return {
        "start": first * _MINUTE,
        "end": now,
        "complete": complete,
        "minutes": minutes,
        "actions": [_row(action, tally) for action, tally in largest[:MOST_ACTIONS]],
        "others": max(0, len(largest) - MOST_ACTIONS),
        "rest": rest.counts,
        "totals": sum(minutes, Counter()),
    }


def _row(action: str | None, tally: Tally) -> dict[str, Any]:
    began = tally.sent if tally.began is None else tally.began
    return {"action": action, "began": began, "counts": tally.counts}


def _earlier(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)
