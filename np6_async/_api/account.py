"""The calls of a client about its account: `np6.segments` and `np6.contacts`."""

from __future__ import annotations

import builtins  # `Segments.list` hides the builtin inside its class
from typing import TypeVar

from .._errors import InvalidInput
from .._models.account import ContactRecord, Segment, read_contact, read_count, read_segments
from .._models.contacts import Contact, parse, parse_segment, path_template, target_path
from .._protocol.json_document import JSONDocument
from .._protocol.segment_ids import SegmentIds
from .._streams.event_stream import ContactIds
from .._streams.fetch import Fetch
from .._streams.runtime import Runtime

T = TypeVar("T")


class Segments:
    """The segments of the account; reached as `NP6Client.segments`.

    Requests are paced, retried and limited as those for events are, and raise the same errors: `AuthError` if the
    account lacks the right, `NotFound` if it has no such segment.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self) -> builtins.list[Segment]:
        """All segments, in the server's order. The response may have up to `DecodeLimits.event_bytes` (2 MiB)."""
        endpoint = JSONDocument("/segments", "", "/segments", "the segments", read_segments)
        return await _ask(self._runtime, None, endpoint)

    def contacts(self, segment: int | str | Segment) -> ContactIds:
        """The ids of the segment's contacts as an async iterator, streamed, however many millions there are.

        `segment` is a `Segment` or its id; an invalid one raises `InvalidInput`. No request is sent before the iterator
        is iterated. It may be passed to `events.stream_many` as it is.

        NP6 marks the call as deprecated, without naming a replacement.
        """
        if isinstance(segment, Segment):
            if segment.id is None:
                raise InvalidInput("the segment has no id")
            segment = segment.id
        endpoint = SegmentIds(parse_segment(segment))
        return ContactIds(Fetch(self._runtime, None, endpoint, self._runtime.slots))


class Contacts:
    """The contacts of the account; reached as `NP6Client.contacts`.

    Requests are paced, retried and limited as those for events are.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def get(self, contact: str | Contact) -> ContactRecord:
        """The record of a contact, given as an id or a `Contact`.

        Raises `InvalidContact` before any I/O, and `NotFound` where the account has no such contact.
        """
        asked = parse(contact)
        path, query = target_path(asked)
        endpoint = JSONDocument(path, query, path_template(asked), asked.label, read_contact)
        (record,) = await _ask(self._runtime, asked, endpoint)
        return record

    async def count(self) -> int:
        """How many contacts the account has."""
        path = "/targets/count"
        endpoint = JSONDocument(path, "", path, "the count of contacts", read_count)
        (count,) = await _ask(self._runtime, None, endpoint)
        return count


async def _ask(runtime: Runtime, contact: Contact | None, endpoint: JSONDocument[T]) -> list[T]:
    """The records of a document: they come in one batch, and the fetch has then released everything."""
    return await Fetch(runtime, contact, endpoint, runtime.slots).next_batch()
