"""What an account holds besides events: its segments, the records of its contacts, and its red list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final

from attrs import field, frozen

from .._errors import DecodeError, InvalidBound, NotFound, ProtocolError
from . import convert
from .time_bounds import to_millis

_CONTACT_MEMBERS: Final = {"id", "hash", "creationDate", "lastUpdateDate", "fields"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@frozen(kw_only=True)
class Segment:
    """A segment of the account's contacts; `np6.segments.contacts` takes it, or its `id`.

    `type` is ``static``, ``dynamic``, or whatever the server sent. `creation` and `expiration` are in UTC. `is_test`
    says whether it is for the test phases of actions, and `targets_count` is the server's estimate of how many contacts
    it has. A member that is missing, null or of an undocumented shape is None. `data` holds every member that the
    server sent, as plain JSON types.
    """

    type: str | None = None
    id: int | str | None = None
    name: str | None = None
    creation: datetime | None = None
    expiration: datetime | None = None
    is_test: bool | None = None
    targets_count: int | None = None
    data: dict[str, Any] = field(factory=dict, repr=False, hash=False)


@frozen(kw_only=True, repr=False)
class ContactRecord:
    """What the account knows about a contact.

    `creation_date` and `last_update_date` are in UTC. `fields` holds the values of the account's fields as the server
    sent them. A member that is missing, null or of an undocumented shape is None. `data` holds every member that
    the server sent, as plain JSON types. The repr shows the id alone: the rest is personal data.
    """

    id: str | None = None
    hash: str | None = None
    creation_date: datetime | None = None
    last_update_date: datetime | None = None
    fields: dict[str, Any] | list[Any] | None = field(default=None, hash=False)
    data: dict[str, Any] = field(factory=dict, hash=False)

    def __repr__(self) -> str:
        return f"ContactRecord(id={self.id!r})"


class RedListOrigin(IntEnum):
    """How a contact got onto the red list.

    It equals its number. One that the API does not document is kept as a member of its own: ``RedListOrigin(12)``
    has the name ``ORIGIN_12``.
    """

    UNKNOWN = 0
    API = 1
    IMPORT = 2
    FORM = 3
    LIST_UNSUBSCRIBE = 4
    COMPLAINT = 5
    SMS_STOP = 6
    SMS_BLACKLIST = 7
    SMS_ADMINISTRATIVE = 8
    SMS_SPECIFIC = 9

    @classmethod
    def _missing_(cls, value: object) -> RedListOrigin | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"ORIGIN_{value}"
        member._value_ = value
        return member


@frozen(kw_only=True, repr=False)
class RedListEntry:
    """A contact that must not be written to.

    `id` is the contact's id, `timestamp` when it got onto the list, in epoch milliseconds, and `detail` what the server
    adds to the `origin`. A member that is missing, null or of an undocumented shape is None. `data` holds every member
    that the server sent, as plain JSON types. The repr leaves `detail` and `data` out: they may be personal data.
    """

    id: str | None = None
    timestamp: int | None = None
    origin: RedListOrigin | None = None
    detail: str | None = None
    data: dict[str, Any] = field(factory=dict, hash=False)

    @property
    def at(self) -> datetime | None:
        """`timestamp` as a datetime in UTC."""
        return None if self.timestamp is None else _EPOCH + timedelta(milliseconds=self.timestamp)

    def __repr__(self) -> str:
        return f"RedListEntry(id={self.id!r}, timestamp={self.timestamp!r}, origin={self.origin!r})"


def read_red_list_entry(data: dict[str, Any]) -> RedListEntry:
    """The entry that an object of a response describes."""
    origin = convert.whole_number(data.get("origin"))
    return RedListEntry(
        id=convert.text(data.get("id")),
        timestamp=_millis(data.get("timestamp")),
        origin=None if origin is None else RedListOrigin(origin),
        detail=convert.text(data.get("detail")),
        data=data,
    )


def read_segments(data: Any) -> list[Segment]:
    """The segments of a response; raises `ProtocolError` where it is not an array of objects."""
    if not isinstance(data, list):
        raise ProtocolError(f"the response is a JSON {_kind(data)}, not an array of segments")
    return [_segment(each, position) for position, each in enumerate(data)]


def read_contact(data: Any) -> list[ContactRecord]:
    """The one contact of a response, an object or an array of one; `NotFound` where the array is empty."""
    if data == []:
        raise NotFound("the response holds no contact: not found in this account", status=200)
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, dict):
        raise ProtocolError(f"the response is a JSON {_kind(data)}, not the record of one contact")
    if not _CONTACT_MEMBERS & data.keys():
        raise ProtocolError("the response is a JSON object without any member of a contact's record")
    fields = data.get("fields")
    return [
        ContactRecord(
            id=convert.text(data.get("id")),
            hash=convert.text(data.get("hash")),
            creation_date=_moment(data.get("creationDate")),
            last_update_date=_moment(data.get("lastUpdateDate")),
            fields=fields if isinstance(fields, dict | list) else None,
            data=data,
        )
    ]


def read_count(data: Any) -> list[int]:
    """The count in a response."""
    count = convert.whole_number(data.get("targetsCount")) if isinstance(data, dict) else None
    if count is None or count < 0:
        raise ProtocolError("the response has no valid targetsCount (a whole number from 0)")
    return [count]


def _segment(data: Any, position: int) -> Segment:
    if not isinstance(data, dict):
        error = DecodeError(f"a segment is not a JSON object (element {position} of the response)")
        error.position = position
        raise error
    number, is_test = data.get("id"), data.get("isTest")
    return Segment(
        type=convert.text(data.get("type")),
        id=number if type(number) is int else convert.text(number),
        name=convert.text(data.get("name")),
        creation=_moment(data.get("creation")),
        expiration=_moment(data.get("expiration")),
        is_test=is_test if isinstance(is_test, bool) else None,
        targets_count=convert.whole_number(data.get("targetsCount")),
        data=data,
    )


def _moment(value: Any) -> datetime | None:
    """A time of the API in UTC."""
    at = _millis(value)
    return None if at is None else _EPOCH + timedelta(milliseconds=at)


def _millis(value: Any) -> int | None:
    """A time of the API in epoch milliseconds: ISO 8601 or epoch, in UTC unless it says otherwise."""
    if not isinstance(value, str | int | float):
        return None
    try:
        return to_millis(value, name="time", now=_EPOCH, tz=UTC)
    except InvalidBound:
        return None


def _kind(data: Any) -> str:
    return "object" if isinstance(data, dict) else "array" if isinstance(data, list) else "value"
