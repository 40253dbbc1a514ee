"""A plain asyncio service: ``python -m examples.recipes.asyncio_service``, ended by SIGTERM or Ctrl-C."""

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path

from np6_async import NP6Client, NP6Error

CONTACTS = Path(os.environ.get("CONTACTS", "ids.txt"))
CURSOR = Path(os.environ.get("CURSOR", "cursor.txt"))
EVERY = timedelta(hours=1)


def contacts() -> list[str]:
    return CONTACTS.read_text().split()


async def new_bounces(np6: NP6Client, ids: list[str]) -> None:
    """Print the hard bounces since the last call; after an interrupted call, the next one resumes where it was."""
    async for page in np6.events.pages(ids, "bounces", every=EVERY, start=timedelta(days=1), after=saved()):
        for contact, bounce in page.items:
            if bounce.verdict == "hard":
                print(contact, bounce.at.isoformat(), flush=True)
        save(str(page.cursor))  # after the page, never before


def saved() -> str | None:
    return CURSOR.read_text() if CURSOR.exists() else None


def save(cursor: str) -> None:
    temporary = CURSOR.with_suffix(".tmp")
    temporary.write_text(cursor)
    os.replace(temporary, CURSOR)


async def serve() -> None:
    async with NP6Client() as np6:
        while True:
            try:
                async with asyncio.timeout(EVERY.total_seconds()):
                    await new_bounces(np6, contacts())
            except (NP6Error, TimeoutError) as error:
                print("will resume after the last page:", error, flush=True)
            await asyncio.sleep(EVERY.total_seconds())


async def main() -> None:
    service = asyncio.create_task(serve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.cancel)
    await asyncio.wait([service])
    if not service.cancelled():
        service.result()  # raises the error that ended it, if any


if __name__ == "__main__":
    asyncio.run(main())
