"""The progress in what has no order to resume by: after a response broke off, the next one starts from the beginning.

What was delivered is then skipped, provided that the new response begins with the very same items, as a digest proves.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

from .._errors import OrderError
from .._models import convert
from .endpoint import Progress

T = TypeVar("T")


class Prefix(Progress[T]):
    """How many items were delivered, and their digest: what the next response must begin with.

    `items` and `whole` are for messages, such as "ids" and "the segment". `plain` makes JSON types of a batch.
    """

    def __init__(self, items: str, whole: str, plain: Callable[[list[T]], list[Any]] = list) -> None:
        self._items = items
        self._whole = whole
        self._plain = plain
        self._count = 0
        self._digest = blake2b(digest_size=16)
        self._to_repeat = 0  # items that this response has still to repeat
        self._repeated = blake2b(digest_size=16)

    def restart(self) -> None:
        """Another response begins."""
        self._to_repeat = self._count
        self._repeated = blake2b(digest_size=16)

    def accept(self, batch: list[T]) -> list[T]:
        """The items of `batch` that were not delivered; `OrderError` where the response begins with other items."""
        if self._to_repeat:
            repeated, batch = batch[: self._to_repeat], batch[self._to_repeat :]
            self._to_repeat -= len(repeated)
            self._repeated.update(self._framed(repeated))
            if not self._to_repeat and self._repeated.digest() != self._digest.digest():
                raise self._changed()
        if batch:
            self._count += len(batch)
            self._digest.update(self._framed(batch))
        return batch

    def finish(self) -> None:
        """Raises `OrderError` where the response had fewer items than were delivered."""
        if self._to_repeat:
            raise self._changed()

    def _framed(self, batch: list[T]) -> bytes:
        """Bytes that are the same for the same items, whatever the batches they come in, and different for others."""
        return convert.dumps(self._plain(batch))[1:-1] + b","

    def _changed(self) -> OrderError:
        return OrderError(
            f"the response broke off after {self._count} {self._items}, and the repeated one does not begin with the "
            f"same {self._items}: {self._whole} or its order changed, so the rest cannot be told from what was "
            "delivered; start again"
        )
