"""The contacts that must not be written to: as a stream of entries, however long the list is."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from attrs import frozen

from .._config import DecodeLimits
from .._errors import DecodeError
from .._models.account import RedListEntry, read_red_list_entry
from .._models.time_bounds import Window
from .array_decoder import ArrayDecoder, decode_objects
from .endpoint import Endpoint
from .event_query import encode_bounds
from .prefix import Prefix


@frozen
class RedListQuery(Endpoint[None, RedListEntry]):
    """The entries of one channel in a window. No order can be requested, so the progress is a `Prefix`."""

    channel: Literal["mail", "sms"]
    window: Window

    @cached_property
    def empty(self) -> bool:
        """Whether no entry can lie in the window."""
        return self.window.empty

    def template(self, _: object) -> str:
        """The path, for logs."""
        return f"/targets/redlist/{self.channel}"

    def label(self, _: object) -> str:
        """The list, for messages."""
        return f"the red list ({self.channel})"

    def target(self, _: object, __: object) -> tuple[str, str]:
        """Path and query of each request: what is missing cannot be requested."""
        return self.template(None), "&".join(encode_bounds(self.window, ("startDate", "endDate")))

    def progress(self) -> Prefix[RedListEntry]:
        """The progress before anything is delivered."""
        return Prefix("entries", "the red list", lambda batch: [entry.data for entry in batch])

    def decoder(self, limits: DecodeLimits) -> RedListDecoder:
        """The decoder of one response."""
        return RedListDecoder(limits)


class RedListDecoder(ArrayDecoder[RedListEntry]):
    """Decodes one response."""

    elements = "red list entries"

    def decode(self, array: bytes, _: object) -> list[RedListEntry]:
        """The entries of `array`."""
        return list(map(read_red_list_entry, decode_objects(array)))

    def decode_tolerant(self, data: Any, _: object) -> RedListEntry:
        """The entry of one object."""
        if not isinstance(data, dict):
            raise DecodeError("an element is not a JSON object")
        return read_red_list_entry(data)
