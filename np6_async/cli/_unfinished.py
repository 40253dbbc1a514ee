"""The list of contacts that are not done, beside the output of a run that was stopped."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ._output import place

_LINES: Final = 10_000


async def write_remaining(lines: AsyncIterable[bytes], wanted: Path) -> tuple[Path, int]:
    """Write a file of `lines` that appears when it is whole; returns its name and the number of lines."""
    temporary = wanted.with_name(f".{wanted.name}.{secrets.token_hex(4)}.tmp")
    count = 0
    try:
        # A disk: a block of lines is written in no time.
        with open(temporary, "xb") as file:  # noqa: ASYNC230
            async for line in lines:
                file.write(line + b"\n")
                count += 1
                if count % _LINES == 0:
                    await asyncio.sleep(0)
        return place(temporary, wanted), count
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
