"""What late events cost: a day of events that are published late, and runs at regular intervals.

The table of docs/how-to/sync.md is what this measures.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_left, insort
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from support.sync_world import MINUTE, NOON, Clock, MemoryStore

from np6_async import Event, structure
from np6_async.sync import Sync
from np6_async.sync._state import State
from np6_async.testing import FakeNP6, make_hit

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "sync.md"
HOUR = 60 * MINUTE
SAFETY = 2 * MINUTE
OVERLAPS = (0, 5 * MINUTE, 15 * MINUTE, HOUR)
EVENTS = 10_000

DELAYS: dict[str, Callable[[random.Random], float]] = {
    "up to 3 min": lambda rng: rng.uniform(0, 3 * MINUTE),
    "1 min on average": lambda rng: rng.expovariate(1 / MINUTE),
    "5 min on average": lambda rng: rng.expovariate(1 / (5 * MINUTE)),
    "99 % at once, 1 % up to 2 h": lambda rng: 0 if rng.random() < 0.99 else rng.uniform(0, 2 * HOUR),
}


class Late(NamedTuple):
    """An event, by when it is published."""

    published: int
    at: int
    id: str


def late_events(delay: Callable[[random.Random], float], count: int) -> list[Late]:
    rng = random.Random(1)
    ats = [NOON + int(rng.random() * 24 * HOUR) for _ in range(count)]
    return sorted(Late(at + int(delay(rng)), at, f"{number:08x}") for number, at in enumerate(ats))


def lost(events: list[Late], every: int, overlap: int) -> set[str]:
    """The ids that no run delivers; the runs continue until all events were there for a while."""
    state: bytes | None = None
    there: list[tuple[int, str]] = []
    got: list[str] = []
    coming = iter([*events, Late(1 << 60, 0, "")])
    following = next(coming)
    for now in range(NOON, events[-1].published + 2 * HOUR, every):
        while following.published <= now:
            insort(there, (following.at, following.id))
            following = next(coming)
        progress = State(overlap, None) if state is None else State.decode(overlap, state)
        window = progress.window(now - SAFETY)
        assert window.end is not None
        response = there[bisect_left(there, (window.start or 0, "")) : bisect_left(there, (window.end, ""))]
        if response and (fresh := progress.fresh([event(at, id_) for at, id_ in response])):
            progress.advance(fresh)
            got += [str(each.id) for each in fresh]
        progress.complete(window.end)
        state = progress.encode()
    assert len(got) == len(set(got))
    return {each.id for each in events} - set(got)


def event(at: int, id_: str) -> Event:
    return structure({"type": "hit", "timestamp": at, "id": id_})


def predicted(events: list[Late], every: int, overlap: int) -> set[str]:
    """An event is lost where the last run before it was published began its next request after it."""
    missed = set()
    for each in events:
        last_run = NOON + (each.published - 1 - NOON) // every * every
        if last_run >= NOON and each.at < last_run - SAFETY - overlap:
            missed.add(each.id)
    return missed


@pytest.mark.parametrize("every", [5 * MINUTE, HOUR], ids=["5 min", "1 h"])
@pytest.mark.parametrize("delay", DELAYS)
def test_only_events_later_than_overlap_and_safety_are_lost(delay: str, every: int) -> None:
    """Nothing that is less late is lost, and a longer overlap loses less; the page has these figures."""
    events = late_events(DELAYS[delay], EVENTS)
    shares = []
    for overlap in OVERLAPS:
        missed = lost(events, every, overlap)
        assert missed == predicted(events, every, overlap)
        assert missed <= {each.id for each in events if each.published - each.at > overlap + SAFETY}
        shares.append(len(missed) / len(events))
    assert shares == sorted(shares, reverse=True)
    row = f"| {delay} | {every // MINUTE} min | {' | '.join(f'{share:.2%}' for share in shares)} |".replace(
        "60 min", "1 h"
    )
    print(row)
    if not PAGE.exists():
        pytest.skip("the docs are not part of this distribution")
    assert row in [re.sub(r" +", " ", line) for line in PAGE.read_text(encoding="utf-8").splitlines()]


async def test_a_sync_over_the_wire_loses_the_same() -> None:
    """Four hours of it, with events 5 min late on average and an overlap of 5 min."""
    every, overlap = 5 * MINUTE, 5 * MINUTE
    events = [each for each in late_events(DELAYS["5 min on average"], 3_000) if each.at < NOON + 4 * HOUR]
    clock = Clock()
    got: list[str] = []
    async with FakeNP6(contacts=0) as server, clock.client(server) as np6:
        server.add_contact("A")
        sync = Sync(
            np6, MemoryStore(), ["A"], overlap=timedelta(milliseconds=overlap), safety=timedelta(milliseconds=SAFETY)
        )
        while clock.now < events[-1].published + 2 * HOUR:
            new = [each for each in events if clock.now - every < each.published <= clock.now]
            server.add_events("A", [make_hit(at=each.at, id=each.id) for each in new])
            async with sync.run() as run:
                got += [str(each.id) async for _, batch in run.batches() for each in batch]
            clock.now += every
    assert len(got) == len(set(got))
    assert {each.id for each in events} - set(got) == lost(events, every, overlap)
    assert 0 < len(events) - len(got) < len(events) * 0.2
