"""The calls of a client about the account: `np6.segments` and `np6.contacts`."""

from __future__ import annotations

import builtins  # `Segments.list` hides the builtin inside its class
from typing import TypeVar

from .._errors import InvalidInput
from .._models.account import ContactRecord, Segment, read_contact, read_count, read_segments
from .._models.contacts import Contact, parse, parse_segment, path_template, target_path
from .._protocol.json_document import Document
from .._protocol.segment_ids import SegmentIds
from .._streams.event_stream import ContactIds
from .._streams.fetch import Fetch, Runtime

T = TypeVar("T")


class Segments:
    """The segments of the account; reached as `NP6Client.segments`.

    Requests are sent, paced, retried and bounded as those for events are. An account that lacks the right, or a
    segment that it does not have, raises as it does there: `AuthError`, `NotFound`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self) -> builtins.list[Segment]:
        """All segments, in the server's order. The answer may have `DecodeLimits.event_bytes` (2 MiB)."""
        question = Document("/segments", "", "/segments", "the segments", read_segments, self._runtime.limits)
        return await _ask(self._runtime, None, question)

    def contacts(self, segment: int | str | Segment) -> ContactIds:
        """The ids of the segment's contacts as an async iterator, streamed: as many millions as there are.

        `segment` is a `Segment` or its id; a bad one raises `InvalidInput`. No request goes out before the iterator is
        iterated. The iterator may be given to `events.stream_many` as it is.

        NP6 marks the call deprecated, without naming another.
        """
        if isinstance(segment, Segment):
            if segment.id is None:
                raise InvalidInput("the segment has no id")
            segment = segment.id
        question = SegmentIds(parse_segment(segment))
        return ContactIds(Fetch(self._runtime, None, question, self._runtime.slots))


class Contacts:
    """The contacts of the account; reached as `NP6Client.contacts`.

    Requests are sent, paced, retried and bounded as those for events are.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def get(self, contact: str | Contact) -> ContactRecord:
        """What the account knows of a contact, an id or a `Contact`.

        Raises `InvalidContact` before any I/O, and `NotFound` where the account has no such contact.
        """
        asked = parse(contact)
        path, query = target_path(asked)
        question = Document(path, query, path_template(asked), asked.label, read_contact, self._runtime.limits)
        (record,) = await _ask(self._runtime, asked, question)
        return record

    async def count(self) -> int:
        """How many contacts the account has."""
        path = "/targets/count"
        question = Document(path, "", path, "the count of contacts", read_count, self._runtime.limits)
        (count,) = await _ask(self._runtime, None, question)
        return count


async def _ask(runtime: Runtime, contact: Contact | None, question: Document[T]) -> list[T]:
    """All of a document: it comes in one batch, and the fetch has then let go of everything."""
    return await Fetch(runtime, contact, question, runtime.slots).next_batch()
