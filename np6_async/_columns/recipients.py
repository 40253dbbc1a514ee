"""Many events at once, by their JSON: whose they are, and whether it can be written as it is.

One event after the other takes ten times as long, which is what happens to those of an undocumented shape.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Final

import msgspec

from .._models.contacts import Contact
from .._models.convert import dumps, loads
from .._models.events import Event, unstructure
from .personal import Mask


class _Envelope(msgspec.Struct, gc=False, frozen=True):
    """An event whose envelope is as `unstructure` would have it."""

    timestamp: int
    type: str


class _Ref(msgspec.Struct, gc=False, frozen=True):
    type: str | None = None
    id: str | None = None
    value: Any = None


class _Activation(msgspec.Struct, gc=False, frozen=True):
    receiver: _Ref | None = None


class _Execution(msgspec.Struct, gc=False, frozen=True):
    recipient: _Ref | None = None


_NO_ACTIVATION: Final = _Activation()
_NO_EXECUTION: Final = _Execution()


class _Detail(msgspec.Struct, gc=False, frozen=True):
    activation: _Activation = _NO_ACTIVATION
    execution: _Execution = _NO_EXECUTION


_NO_DETAIL: Final = _Detail()


class _Source(msgspec.Struct, gc=False, frozen=True):
    detail: _Detail = _NO_DETAIL


_NO_SOURCE: Final = _Source()


class _Sent(msgspec.Struct, gc=False, frozen=True):
    source: _Source = _NO_SOURCE


class _SentEnvelope(_Envelope, gc=False, frozen=True):
    source: _Source = _NO_SOURCE


_envelopes: Final = msgspec.json.Decoder(list[_Envelope]).decode
_sent: Final = msgspec.json.Decoder(list[_Sent]).decode
_sent_envelopes: Final = msgspec.json.Decoder(list[_SentEnvelope]).decode
# The notations that have no id, unless it is in the member of that name.
_WITHOUT_ID: Final = frozenset({"footprint", "unicity", "hash", None})
_KINDS: Final = frozenset({str, type(None)})  # their types: JSON may have a list there


def texts(events: Sequence[Event]) -> list[bytes]:
    """The JSON of each, as `unstructure` has it, in one line of UTF-8."""
    array = _array(events)
    if _is_text(array):
        try:
            _envelopes(array)
            return [event.raw for event in events]
        except msgspec.MsgspecError:
            pass
    return _made(events)


def named_texts(events: Sequence[Event]) -> tuple[list[str | None], list[bytes]]:
    """The `recipient_ids` and `texts` of the events."""
    array = _array(events)
    if _is_text(array):
        try:
            return _ids(events, _sent_envelopes(array)), [event.raw for event in events]
        except msgspec.MsgspecError:
            pass
    return recipient_ids(events), _made(events)


def recipient_ids(events: Sequence[Event]) -> list[str | None]:
    """The id of the recipient of each event; None where the event does not name one by its id."""
    try:
        return _ids(events, _sent(_array(events)))
    except msgspec.MsgspecError:
        return list(map(_recipient_id, events))


def name(contact: str | Contact, mask: Mask | None) -> str | None:
    """A contact as a text that UTF-8 can hold, also where it is of a subclass such as numpy.str_."""
    if isinstance(contact, Contact):
        return contact.value if mask is None else mask.contact(contact)
    text: str = loads(dumps(str.__str__(contact)))
    return text if mask is None else mask.contact(text)


def names(contact: str | Contact | None, events: Sequence[Event], mask: Mask | None) -> Sequence[str | None]:
    """The contact of each of the events of this one; None: of many, so that each has the id of its recipient."""
    return recipient_ids(events) if contact is None else [name(contact, mask)] * len(events)


def of_contacts(events: Sequence[Event], ids: Container[str]) -> tuple[list[Event], int]:
    """Those of the events whose recipient has one of these ids, and how many do not name theirs by its id."""
    named = recipient_ids(events)
    kept = [event for event, each in zip(events, named, strict=True) if each is not None and each in ids]
    return kept, named.count(None)


def _array(events: Sequence[Event]) -> bytes:
    return b"[%b]" % b",".join([event.raw for event in events])


def _is_text(array: bytes) -> bool:
    """Whether it is UTF-8, without line ends; what is more, msgspec refuses lone surrogates, even in what it skips."""
    if b"\n" in array or b"\r" in array:
        return False
    try:
        return array.isascii() or array.decode() != ""
    except UnicodeDecodeError:
        return False


def _made(events: Sequence[Event]) -> list[bytes]:
    return [dumps(unstructure(event)) for event in events]


def _ids(events: Sequence[Event], sent: Sequence[_Sent | _SentEnvelope]) -> list[str | None]:
    """In the usual notations; any other is left to the event."""
    found: list[str | None] = []
    for event, each in zip(events, sent, strict=True):
        detail = each.source.detail
        ref = detail.activation.receiver or detail.execution.recipient
        if ref is None:
            found.append(None)
            continue
        kind, name, value = ref.type, ref.id, ref.value
        if type(value) is dict:  # as for the event, it counts alone
            kind, name, value = value.get("type"), value.get("id"), value.get("value")
        if kind == "id":
            name = name or value
        if type(value) is dict or type(kind) not in _KINDS:
            found.append(_recipient_id(event))
        elif name is None and kind in _WITHOUT_ID:
            found.append(None)
        elif type(name) is str and name.isalnum() and len(name) <= 256 and name.isascii():
            found.append(name)
        else:
            found.append(_recipient_id(event))
    return found


def _recipient_id(event: Event) -> str | None:
    contact = None if event.recipient is None else event.recipient.contact
    return contact.value if contact is not None and contact.kind == "id" else None
