"""Many events at once, by their JSON: whose they are, and whether it can be written as it is.

One event after the other takes ten times as long, which is what happens to those of an undocumented shape.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Final

import msgspec

from .._models.events import Event


class _Plain(msgspec.Struct, gc=False):
    """An event whose envelope is as `unstructure` would have it."""

    timestamp: int
    type: str


class _Ref(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    value: Any = None


class _Activation(msgspec.Struct, gc=False):
    receiver: _Ref | None = None


class _Execution(msgspec.Struct, gc=False):
    recipient: _Ref | None = None


class _Detail(msgspec.Struct, gc=False):
    activation: _Activation | None = None
    execution: _Execution | None = None


class _Source(msgspec.Struct, gc=False):
    detail: _Detail | None = None


class _Sent(msgspec.Struct, gc=False):
    source: _Source | None = None


_plain: Final = msgspec.json.Decoder(list[_Plain]).decode
_sent: Final = msgspec.json.Decoder(list[_Sent]).decode


def is_plain(events: Sequence[Event]) -> bool:
    """Whether the JSON of all of these is a line of text, equal to what `unstructure` returns."""
    array = _array(events)
    if b"\n" in array or b"\r" in array:
        return False
    try:
        # msgspec refuses lone surrogates, even in what it skips, but does not look whether it is UTF-8.
        array.decode()
        return len(_plain(array)) == len(events)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def recipient_ids(events: Sequence[Event]) -> list[str | None]:
    """The id of the recipient of each event; None where the event does not name one by its id."""
    try:
        sent = _sent(_array(events))
    except msgspec.MsgspecError:
        return [_recipient_id(event) for event in events]
    return [_id(event, each) for event, each in zip(events, sent, strict=True)]


def of_contacts(events: Sequence[Event], ids: Container[str]) -> tuple[list[Event], int]:
    """Those of the events whose recipient has one of these ids, and how many do not name theirs by its id."""
    names = recipient_ids(events)
    kept = [event for event, name in zip(events, names, strict=True) if name is not None and name in ids]
    return kept, names.count(None)


def _array(events: Sequence[Event]) -> bytes:
    return b"[%b]" % b",".join([event.raw for event in events])


def _id(event: Event, sent: _Sent) -> str | None:
    """In the usual notations; any other is left to the event."""
    detail = None if sent.source is None else sent.source.detail
    if detail is None:
        return _recipient_id(event)
    ref = None if detail.activation is None else detail.activation.receiver
    if ref is None and detail.execution is not None:
        ref = detail.execution.recipient
    name = None if ref is None else ref.id or (ref.value if ref.type == "id" else None)
    usual = type(name) is str and name.isalnum() and len(name) <= 256 and name.isascii()
    return name if usual else _recipient_id(event)


def _recipient_id(event: Event) -> str | None:
    contact = None if event.recipient is None else event.recipient.contact
    return contact.value if contact is not None and contact.kind == "id" else None
