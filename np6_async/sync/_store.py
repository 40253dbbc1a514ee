"""Where the state of a sync is kept: what a store must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Store(Protocol):
    """A few bytes by name, for one run at a time.

    `SQLiteStore` is one in a file. Another, on Redis or PostgreSQL, is these four coroutines: the names are short
    texts, the values opaque bytes that are small (17 bytes for most contacts), and all of them belong to one sync.
    Names of contacts are what the contacts are called, so a store holds personal data where these are addresses.

    What goes wrong should be raised as `StoreError`; whatever is raised ends the run.
    """

    async def open(self) -> None:
        """A run begins. Keep other runs out until `close`, also those of other processes, by raising an error."""

    async def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """What `write` put there last under these names, at most 500, as bytes; those without anything are left out."""
        ...

    async def write(self, values: Mapping[str, bytes]) -> None:
        """Put values there, all or none of them, and come back when they are safe."""

    async def close(self) -> None:
        """The run has ended; another may `open`. Not called where `open` has failed."""
