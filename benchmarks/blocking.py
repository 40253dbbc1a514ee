"""The client without asyncio beside the async one: events a second, and a second of processor time, round by round.

python -m benchmarks.blocking [--rounds 5] [--events 100000]

A server in a process of its own sends prepared bytes; contacts have 5, 100 or 10,000 events. Both clients read every
event one by one, with the same members of each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count, islice
from typing import Final, NamedTuple

import np6_async
from np6_async import blocking

from .processes import Spread, interleaved, ratios

EVENTS: Final = {"S": 5, "M": 100, "L": 10_000}


class Speed(NamedTuple):
    """Events a second, and a second of processor time."""

    passed: float
    processor: float


class Clock:
    """Runs from its creation."""

    def __init__(self) -> None:
        self._passed, self._processor = time.perf_counter(), time.process_time()

    def speed(self, events: int) -> Speed:
        """Of so many events."""
        return Speed(events / (time.perf_counter() - self._passed), events / (time.process_time() - self._processor))


class Reading:
    """Contacts of one shape, as many of them as make up about so many events."""

    def __init__(self, url: str, shape: str, events: int) -> None:
        self._url = url
        self._contacts = [f"{shape}{number}" for number in islice(count(), max(2, events // EVENTS[shape]))]

    def asynchronous(self) -> Speed:
        """Of the async client."""
        return asyncio.run(self._asynchronous())

    async def _asynchronous(self) -> Speed:
        async with np6_async.NP6Client("key", base_url=self._url) as np6:
            seen, clock = 0, Clock()
            async with np6.events.stream_many(self._contacts) as events:
                async for _, event in events:
                    seen += event.timestamp > 0
            return clock.speed(seen)

    def blocking(self, given: Callable[[list[str]], object] = list) -> Speed:
        """Of the client without asyncio."""
        with blocking.NP6Client("key", base_url=self._url) as np6:
            seen, clock = 0, Clock()
            with np6.events.stream_many(given(self._contacts)) as events:  # type: ignore[arg-type]
                for _, event in events:
                    seen += event.timestamp > 0
            return clock.speed(seen)

    def from_iterator(self) -> Speed:
        """The same, where the contacts come from an iterator, which is read in the thread of the caller."""
        return self.blocking(iter)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocking", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100_000, help="in each run")
    options = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        for shape, each in EVENTS.items():
            reading = Reading(url, shape, options.events)
            found = interleaved(
                options.rounds,
                {"async": reading.asynchronous, "list": reading.blocking, "iterator": reading.from_iterator},
            )
            print(f"{each:,} events a contact")
            for name in Speed._fields:
                speeds = {way: [getattr(speed, name) for speed in speeds] for way, speeds in found.items()}
                print(
                    f"  {name}: async {Spread.of(speeds['async']).show(0)} a second; blocking, times that: "
                    f"{ratios(speeds['list'], speeds['async']).show()}, with contacts of an iterator "
                    f"{ratios(speeds['iterator'], speeds['async']).show()}",
                    flush=True,
                )
        server.kill()


if __name__ == "__main__":
    main()
