"""The account of a fake server: its segments, and what it knows of its contacts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from ._contacts import ContactIds, Contacts
from ._factories import Json
from ._routes import Refused, name_in

_CREATED = "2023-03-01T10:00:00Z"
_UPDATED = "2024-03-01T10:00:00Z"
_TEST_CONTACTS = 5


class Segment(NamedTuple):
    """A segment as the API lists it, and the ids of its contacts; None where these are all of the account."""

    record: Json
    contacts: Sequence[str] | None


class Answer(NamedTuple):
    """What a request gets: an array of `elements`, or `body`, or where both are None a 404.

    `contact` is the id of the contact it is about, or what was sent where there is none such; None for other requests.
    """

    contact: str | None
    elements: list[bytes] | None = None
    body: bytes | None = None


class Account:
    """Answers what is asked about segments and contacts, events excepted.

    It begins with two segments: 1, of all contacts, also of those added later, and 2, a test segment of the first few.
    """

    def __init__(self, contacts: Contacts) -> None:
        self._contacts = contacts
        self._ids = ContactIds(contacts)
        self._segments: dict[str, Segment] = {}
        self.add("1", None, "All contacts", test=False)
        self.add("2", tuple(self._ids[:_TEST_CONTACTS]), "Test contacts", test=True)

    def add(self, segment: str, contacts: Iterable[str] | None, name: str, *, test: bool) -> None:
        """Add a segment, or replace one."""
        record: Json = {
            "type": "static",
            "id": int(segment) if segment.isdecimal() else segment,
            "name": name,
            "creation": _CREATED,
            "expiration": None,
            "isTest": test,
        }
        self._segments[segment] = Segment(record, None if contacts is None else tuple(contacts))

    def contacts(self, segment: str) -> Sequence[str]:
        """The ids of the segment's contacts; KeyError where there is no such segment."""
        found = self._segments[segment].contacts
        return self._ids if found is None else found

    def answer(self, target: str) -> Answer:
        """The answer to a request, or `Refused`."""
        path, _, query = target.partition("?")
        match path.split("/")[1:]:
            case ["segments"]:
                return Answer(None, [self._listed(each) for each in self._segments])
            case ["segments", segment, "targets"]:
                segment = unquote(segment)
                if segment not in self._segments:
                    return Answer(None)
                return Answer(None, [_dumps(each) for each in self.contacts(segment)])
            case ["targets", "count"]:
                return Answer(None, body=_dumps({"targetsCount": len(self._ids)}))
            case ["targets"]:
                return self._record(*name_in(query, "unicity", "hash"))
            case ["targets", contact]:
                return self._record("id", unquote(contact))
        raise Refused(404, "no such endpoint")

    def _listed(self, segment: str) -> bytes:
        return _dumps({**self._segments[segment].record, "targetsCount": len(self.contacts(segment))})

    def _record(self, addressing: str, value: str) -> Answer:
        contact = self._contacts.find(addressing, value)
        name = self._contacts.name(contact)
        if name is None:
            return Answer(contact)
        record = {
            "id": name.contact,
            "hash": name.hash,
            "creationDate": _CREATED,
            "lastUpdateDate": _UPDATED,
            "fields": {"email": name.unicity},
        }
        return Answer(contact, body=_dumps(record))


def _dumps(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
