"""`np6 demo`: a bulk fetch from a fake NP6 server in this process, and a check that nothing was lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from .. import NP6Client
from ..testing import FakeNP6, Fault, RateLimit
from ._demo_report import Found, Screen, Truth, show
from ._exit import DONE, SOME_FAILED, Interrupts, run_until_signal
from ._observing import Watch
from ._progress import Progress

_EVENTS_PER_CONTACT = (10, 60)
# Contacts for each of the faults below; a small demo still meets each fault once.
_CONTACTS_PER_FAULT = 60
_FAULTS = (
    Fault.cut(how="chunked"),
    Fault.status(503),
    Fault.cut(how="rst"),
    Fault.reset(),
    Fault.cut(how="length"),
    Fault.status(502),
    Fault.cut(how="eof"),
    Fault.html(),
)


class DemoCommand:
    """One run of `np6 demo`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._screen = Screen(plain=options.plain)
        # Half the contacts a second at most, so that a small demo meets the limit as well.
        most = min(options.rate_limit, options.contacts // 2)
        self._limit = RateLimit(limit=max(1, most), headers=False) if options.rate_limit else None

    def run(self) -> int:
        """Show the demo; returns the exit code."""
        return run_until_signal(self._run)

    async def _run(self, interrupts: Interrupts) -> int:
        screen, limit, contacts = self._screen, self._limit, self._options.contacts
        try:
            # On this event loop and not in a thread: two threads of Python take turns, which costs both.
            async with FakeNP6(contacts, _EVENTS_PER_CONTACT, rate_limit=limit) as server:
                faulty = _order_faults(server)
                allowed = f"{limit.limit:,} requests a second" if limit else "any number of requests a second"
                screen.say(f"A fake NP6 server runs at {server.url} with {contacts:,} contacts.")
                screen.say(f"It allows {allowed}, and {len(faulty)} of its responses will go wrong.")
                screen.say()
                found = await _fetch(screen, server, contacts, self._options.concurrency)
                truth = await _compare(server, found)
        except asyncio.CancelledError:
            if interrupts.code is None:
                raise
            print(f"np6 demo: {interrupts.cause}; the fake server is closed, nothing is left running", file=sys.stderr)
            return interrupts.code
        if limit is not None:
            found.rate_limit = limit.limit
        screen.say()
        show(screen, found, truth)
        return DONE if truth.complete else SOME_FAILED


def _order_faults(server: FakeNP6) -> Sequence[str]:
    """Script faults for contacts spread over the whole run; returns their ids."""
    ids = server.contact_ids
    number = min(len(ids), max(len(_FAULTS), len(ids) // _CONTACTS_PER_FAULT))
    faulty = [ids[n * len(ids) // number] for n in range(number)]
    for n, contact in enumerate(faulty):
        server.script(_FAULTS[n % len(_FAULTS)], contact=contact)
    return faulty


async def _fetch(screen: Screen, server: FakeNP6, contacts: int, concurrency: int) -> Found:
    progress: Progress
    watch = Watch(lambda seconds: progress.paused(seconds))
    found = Found(watch=watch)
    began = time.perf_counter()
    async with NP6Client(server.api_key, base_url=server.url, hooks=[watch]) as np6:
        with screen.progress(contacts) as progress:
            async with np6.events.stream_many(
                server.contact_ids, concurrency=concurrency, on_error="collect"
            ) as stream:
                async for contact, batch in stream.batches():
                    found.add(str(contact), batch)
                    progress.update(watch.contacts, found.events, watch.retries)
                # The last contacts are known to be complete only after their last batch.
                progress.update(watch.contacts, found.events, watch.retries)
                found.stats = stream.stats
                found.failures = [str(failure) for failure in stream.failures]
    found.seconds = time.perf_counter() - began
    return found


async def _compare(server: FakeNP6, found: Found) -> Truth:
    """Compare what arrived with what the server has."""
    truth = Truth(injected=server.faults_consumed)
    exact = set()
    for contact in server.contact_ids:
        expected = Counter((event["id"], event["timestamp"]) for event in server.events(contact))
        arrived = found.arrived.get(contact, [])
        got = Counter(arrived)
        truth.expected += expected.total()
        truth.missing += (expected - got).total()
        truth.surplus += (got - expected).total()
        in_order = all(before[1] <= after[1] for before, after in pairwise(arrived))
        truth.disordered += not in_order
        if expected == got and in_order:
            exact.add(contact)
        await asyncio.sleep(0)  # a hundred thousand contacts take a while: Ctrl-C must be handled
    for request in server.requests:
        truth.recovered += request.fault is not None and request.contact in exact
        truth.refused += request.status == 429
    truth.requests = server.request_count
    return truth
