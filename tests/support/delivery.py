"""The check of goal A1: what was delivered, compared with what the server has, event by event.

The same check looks at the library as it is and at its mutants.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import define, field

from np6_async import BulkStats, ContactDone, ContactFailed, Event, Observation, RetryPolicy, Timeout
from np6_async.testing import FakeNP6, Fault

SEED = 20_260_101
KINDS = [fault.name for fault in Fault.ALL]
_decode = msgspec.json.Decoder().decode


async def immediately(_: float) -> None:
    """Sleep, without the waiting."""
    await asyncio.sleep(0)


# A contact of which each request fails with 35 % gets through within 60 in a row, for all that is probable.
PATIENT = RetryPolicy(max_attempts=60, max_protocol_attempts=60, budget=1e9, sleep=immediately, random=lambda: 0.0)


@define
class _Contact:
    """What has not been delivered yet of one contact, by id, and how far its order has got."""

    missing: dict[str, dict[str, Any]]
    delivered: dict[str, int] = field(factory=dict)
    last: int | None = None


@define
class Delivery:
    """Counts what went wrong; `differences` says how, the first few times."""

    server: FakeNP6
    newest_first: bool = False
    lost: int = 0
    duplicated: int = 0
    foreign: int = 0
    out_of_order: int = 0
    failed: int = 0
    done: int = 0
    events: int = 0
    tied: int = 0  # events delivered at the timestamp of the one before
    differences: list[str] = field(factory=list)
    stats: BulkStats | None = None
    _open: dict[str, _Contact] = field(factory=dict)
    _ended: set[str] = field(factory=set)

    @property
    def measured(self) -> str:
        """The five figures."""
        return f"{self.lost}/{self.duplicated}/{self.foreign}/{self.out_of_order}/{self.failed}"

    def take(self, contact: str, batch: list[Event]) -> None:
        """A batch was delivered."""
        state = self._state(contact)
        for event in batch:
            self.events += 1
            if state.last is not None:
                step = event.timestamp - state.last
                self.tied += step == 0
                if step > 0 if self.newest_first else step < 0:
                    self.out_of_order += 1
                    self._note(f"{contact}: {event.timestamp} after {state.last}")
            state.last = event.timestamp
            name = event.id or ""
            expected = state.missing.pop(name, None)
            if expected is not None:
                state.delivered[name] = event.timestamp
                if _decode(event.raw) != expected or event.timestamp != expected["timestamp"]:
                    self.foreign += 1
                    self._note(f"{contact}: event {name} is not what the server has")
            elif name in state.delivered:
                self.duplicated += 1
                self._note(f"{contact}: event {name} came twice")
            else:
                self.foreign += 1
                self._note(f"{contact}: event {name!r} is not of this contact")

    def hear(self, observation: Observation) -> None:
        """A hook: of a contact that is done nothing may be missing."""
        if isinstance(observation, ContactFailed):
            self.failed += 1
            self._ended.add(observation.contact.value)
            self._open.pop(observation.contact.value, None)
            self._note(str(observation.error))
        elif isinstance(observation, ContactDone):
            contact = observation.contact.value
            self.done += 1
            state = self._state(contact)
            del self._open[contact]
            self._ended.add(contact)
            if state.missing:
                self.lost += len(state.missing)
                self._note(f"{contact}: done without {len(state.missing)} of its events")

    def _state(self, contact: str) -> _Contact:
        state = self._open.get(contact)
        if state is None:
            if contact in self._ended:
                self._note(f"{contact}: events after its end")
            truth = self.server.events(contact)
            state = self._open[contact] = _Contact({event["id"]: event for event in truth})
            assert len(state.missing) == len(truth)
        return state

    def _note(self, difference: str) -> None:
        if len(self.differences) < 20:
            self.differences.append(difference)


async def deliver(
    server: FakeNP6,
    contacts: Sequence[str],
    *,
    newest_first: bool = False,
    read_timeout: float = 0.4,
    concurrency: int = 48,
    to_the_end: bool = True,
) -> Delivery:
    """Fetch these contacts and check them; unless `to_the_end`, stop at the first difference."""
    delivery = Delivery(server, newest_first)
    async with (
        server.client(retry=PATIENT, timeout=Timeout(read=read_timeout), hooks=[delivery.hear]) as np6,
        np6.events.stream_many(
            contacts, newest_first=newest_first, concurrency=concurrency, on_error="collect"
        ) as events,
    ):
        async for contact, batch in events.batches():
            assert isinstance(contact, str)
            delivery.take(contact, batch)
            if delivery.differences and not to_the_end:
                break
        else:
            assert delivery.done + delivery.failed == len(contacts)
        delivery.stats = events.stats
    return delivery


def fewest(consumed: Counter[str]) -> tuple[str, int]:
    """The kind of fault that happened least, of all kinds there are."""
    return min(((name, consumed[name]) for name in KINDS), key=lambda each: each[1])
