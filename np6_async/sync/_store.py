"""Where the state of a sync is kept: what any store must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Store(Protocol):
    """A few bytes by name, for one run at a time.

    `SQLiteStore` keeps them in a file. To keep them elsewhere, in Redis or PostgreSQL, implement these four coroutines:
    names are short texts, values small opaque bytes (17 for most contacts), and all of them belong to one sync. The
    names contain the contacts as they are named, so a store holds personal data where these are addresses.

    Errors should be raised as `StoreError`; any exception ends the run.
    """

    async def open(self) -> None:
        """Start a run. Keep out other runs until `close`, those of other processes included, by raising an error."""

    async def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """The bytes last written under these names, at most 500 of them; leave out names without any."""
        ...

    async def write(self, values: Mapping[str, bytes]) -> None:
        """Save the values, all or none of them, and return when they are safe."""

    async def close(self) -> None:
        """End the run, so that another may `open`. Not called where `open` has failed."""
