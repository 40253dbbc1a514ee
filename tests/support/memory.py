"""How much memory decoding takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from typing import Any


def peak(decoder: Any, delivered: Any, body: Iterable[bytes]) -> tuple[int, int]:
    """Decode `body` and let `delivered` accept it: the bytes that this took at most, and how many items there were."""
    count = 0
    tracemalloc.start()
    try:
        for piece in body:
            decoder.feed(piece)
            while (batch := decoder.next_batch()) is not None:
                count += len(delivered.accept(batch))
        return tracemalloc.get_traced_memory()[1], count
    finally:
        tracemalloc.stop()
