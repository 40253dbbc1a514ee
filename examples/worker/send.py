"""Send contacts to the workers: ``python -m examples.worker.send 2026-01-01 2026-02-01 < ids.txt``."""

import argparse
import asyncio
import sys
from collections.abc import Iterable
from itertools import islice

from examples.worker.tasks import broker, fetch
from np6_async import InvalidInput, NP6Client


async def send(contacts: Iterable[str], start: str, end: str, size: int) -> int:
    """Send `contacts` in batches of `size`; returns how many batches there were."""
    rest = iter(contacts)
    sent = 0
    await broker.startup()
    try:
        while batch := list(islice(rest, size)):
            await fetch.kiq(batch, start, end)
            sent += 1
    finally:
        await broker.shutdown()
    return sent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.worker.send", description="contact ids: standard input")
    parser.add_argument("start", help="where the time range begins, such as 2026-01-01")
    parser.add_argument("end", help="where it ends (excluded), in the past")
    parser.add_argument("--size", type=int, default=200, help="contacts in a batch (default: 200)")
    options = parser.parse_args()
    try:  # checks the times here and not in each worker; sends nothing to NP6
        NP6Client("no-key").events.stream("nobody", start=options.start, end=options.end)
    except InvalidInput as error:
        parser.exit(2, f"nothing is sent: {error}\n")
    ids = filter(None, map(str.strip, sys.stdin))
    print(asyncio.run(send(ids, options.start, options.end, options.size)), "batches sent")
