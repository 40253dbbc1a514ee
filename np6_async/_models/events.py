"""The event classes, and which of them each endpoint returns.

An event keeps the exact JSON it arrived as. Only the envelope (id, timestamp, type, identity) is decoded on arrival;
everything else is structured on first access.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

import attrs
import msgspec
from attrs import field

from .._errors import DecodeError, InvalidInput
from . import convert
from .details import (
    ActivationDetail,
    BounceAnalysis,
    BounceDetail,
    BounceStatus,
    CancellationDetail,
    ContactRef,
    Detail,
    ExecutionDetail,
    Identity,
    Link,
    Source,
)
from .kind_names import meant
from .record import NOT_IN_JSON, not_in_json, record

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_key: Final = attrgetter("id", "timestamp", "type")


UNSTRUCTURED: Final = Source()  # stands for a source that is not structured yet


@record(kw_only=True, eq=False, repr=False)
class Event:
    """Something that happened to a contact.

    `id` is the event's UUID, None if the server sent none. `timestamp` is when it was published, in epoch milliseconds;
    `start`, `end` and the order refer to it. `type` is the type that the server sent, or that of the endpoint where the
    server sent none. `raw` is the JSON object as it arrived, in bytes. Everywhere else a lone surrogate, such as the
    half of an emoji that JSON escapes as ``\\ud83d`` and strict readers refuse, is U+FFFD.

    Events are equal when all their members are, whatever the white space in their JSON. `structure` creates one from
    plain JSON types, and `unstructure` turns it into such. To attrs and cattrs an event is an attrs class, and `source`
    one of its members: `attrs.asdict` and `cattrs.unstructure` hold the details, and `attrs.evolve` keeps them. msgspec
    and `cattrs.preconf.msgspec` do not know that: encode what `unstructure` returns. There are no weak references.
    """

    id: str | None = None
    timestamp: convert.Timestamp
    type: str | None = None
    identity: convert.EnvelopeIdentity = None
    raw: bytes = field(default=b"", metadata=NOT_IN_JSON)
    _source: Source | None = field(default=UNSTRUCTURED, metadata=NOT_IN_JSON, init=False)

    @property
    def at(self) -> datetime:
        """`timestamp` as an aware datetime in UTC."""
        return _EPOCH + self.timestamp * _MILLISECOND

    @property
    def data(self) -> dict[str, Any]:
        """Every member the server sent, as plain JSON types: a new dict at each access. Lone surrogates are U+FFFD."""
        data: dict[str, Any] = convert.loads(self.raw)
        return data

    @property
    def source(self) -> Source | None:
        """Where the event came from, with its details. Parts of an undocumented shape are None."""
        source = self._source
        return self._structure() if source is UNSTRUCTURED else source

    def _structure(self) -> Source | None:
        source = convert.structure_source(self.raw)
        set_source(self, source)
        return source

    @property
    def channel(self) -> str | None:
        """``email``, ``sms``, ``notification``, ``display``, or whatever the server sent."""
        source = self.source
        return source.type if source else None

    @property
    def detail(self) -> Detail:
        """The details of `source`; an empty record where there are none."""
        source = self._source
        if source is UNSTRUCTURED:
            source = self._structure()
        return (None if source is None else source.detail) or _NO_DETAIL

    @property
    def activation(self) -> ActivationDetail | None:
        """The message the event belongs to."""
        return self.detail.activation

    @property
    def execution(self) -> ExecutionDetail | None:
        """The execution the event belongs to."""
        return self.detail.execution

    @property
    def recipient(self) -> ContactRef | None:
        """The contact that the event is about, as the event names it; None where it does not.

        That is the receiver of its activation or the recipient of its execution. ``event.recipient.contact`` is a
        `Contact` to ask with, where the notation allows.
        """
        detail = self.detail
        if (activation := detail.activation) is not None and activation.receiver is not None:
            return activation.receiver
        return None if detail.execution is None else detail.execution.recipient

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return type(self) is type(other) and _key(self) == _key(other) and unstructure(self) == unstructure(other)

    def __hash__(self) -> int:
        return hash(_key(self))

    def __repr__(self) -> str:
        # Neither identity nor source: they may hold personal data.
        return f"{type(self).__name__}(id={self.id!r}, at={self.at.isoformat(timespec='milliseconds')})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.id, self.timestamp, self.type, self.identity, self.raw)


# How a member of a frozen struct is set: by its descriptor.
set_raw: Final = vars(Event)["raw"].__set__
set_source: Final = vars(Event)["_source"].__set__
get_source: Final = vars(Event)["_source"].__get__
set_identity: Final = vars(Event)["identity"].__set__
set_type: Final = vars(Event)["type"].__set__


_NAMES: Final = {"raw": not_in_json("raw"), "_source": "source"}


class DetailedEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True, eq=False, rename=_NAMES):
    """An event that is decoded with its details. It is given the class it is to have, whose layout it has."""

    id: str | None = None
    timestamp: convert.Timestamp
    type: str | None = None
    identity: convert.EnvelopeIdentity = None
    raw: bytes = b""
    _source: Source | None = None


def is_structured(event: Event) -> bool:
    """Whether somebody has read its details."""
    return get_source(event) is not UNSTRUCTURED


@attrs.frozen(kw_only=True)
class _Members:
    """The members of an event as the tools of attrs and cattrs see them, `source` included."""

    id: str | None = None
    timestamp: int
    type: str | None = None
    identity: Identity | None = None
    raw: bytes = b""
    source: Source | None = field(default=None, alias="_source")  # cattrs leaves out what is not an argument


Event.__attrs_attrs__ = attrs.fields(attrs.resolve_types(_Members))  # type: ignore[assignment]


class Activation(Event):
    """A message was sent to the contact."""


class Execution(Event):
    """An action was executed for the contact."""


class Bounce(Event):
    """A message came back."""

    @property
    def bounce(self) -> BounceDetail | None:
        """What the mail server said, and NP6's analysis of it."""
        return self.detail.bounce

    @property
    def status(self) -> BounceStatus | None:
        """What the receiving mail server said."""
        bounce = self.detail.bounce
        return bounce.status if bounce else None

    @property
    def analysis(self) -> BounceAnalysis | None:
        """NP6's analysis of the bounce."""
        bounce = self.detail.bounce
        return bounce.analysis if bounce else None

    @property
    def verdict(self) -> str | None:
        """``hard``: the address is dead; ``soft``: try again later; None if the server did not say."""
        bounce = self.detail.bounce
        analysis = bounce.analysis if bounce else None
        return analysis.verdict if analysis else None


class Hit(Event):
    """The contact opened a message or followed one of its links."""

    @property
    def link(self) -> Link | None:
        """What was hit."""
        return self.detail.link


class Cancellation(Event):
    """A message was not sent."""

    @property
    def cancellation(self) -> CancellationDetail | None:
        """Why the message was not sent."""
        return self.detail.cancellation


class Creation(Event):
    """The contact was created."""


class Modification(Event):
    """The contact was changed."""


class Impression(Event):
    """A message was displayed."""


class Suppression(Event):
    """The contact was put on, or held back by, a suppression list."""


class Optout(Event):
    """The contact opted out of further messages."""


class Reply(Event):
    """The contact replied to a message."""


class Complaint(Event):
    """The contact reported a message as unwanted."""


class UnknownEvent(Event):
    """An event of a type this version does not know. All of it is in `data`."""


_NO_DETAIL: Final = Detail()

EVENT_TYPES: Final[dict[str | None, type[Event]]] = {
    "activation": Activation,
    "bounce": Bounce,
    "cancellation": Cancellation,
    "complaint": Complaint,
    "creation": Creation,
    "execution": Execution,
    "hit": Hit,
    "impression": Impression,
    "modification": Modification,
    "optout": Optout,
    "reply": Reply,
    "suppression": Suppression,
}


class EventKind(StrEnum):
    """Which events to fetch. The `kind=` arguments also accept the values as text.

    `CANCELLATIONS` can be fetched by action only: NP6 has no such path for contacts. `HITS` and its parts leave out the
    hits by robots unless `classification` asks for them; `ALL` may have them.
    """

    ALL = "all"
    ACTIVATIONS = "activations"
    CANCELLATIONS = "cancellations"
    BOUNCES = "bounces"
    STOPS = "stops"
    HITS = "hits"
    HITS_OPEN = "hits/open"
    HITS_REDIRECTION = "hits/redirection"
    HITS_UNSUBSCRIBE = "hits/unsubscribe"
    HITS_MIRROR = "hits/mirror"
    HITS_FORM = "hits/form"

    @property
    def suffix(self) -> str:
        """What follows ``/events`` in the path (NP6 API reference 8.1.0, contact events)."""
        if self is EventKind.ALL:
            return ""
        return "/responses/stop" if self is EventKind.STOPS else f"/{self.value}"

    @property
    def is_hits(self) -> bool:
        """Whether the endpoint takes `classification`."""
        return self.value.startswith("hits")

    @property
    def default_type(self) -> str | None:
        """The type of an event that names none; None where the endpoint returns every type."""
        if self.is_hits:
            return "hit"
        return _TYPES_OF_KINDS.get(self.value)

    @classmethod
    def parse(cls, kind: str, accepted: Container[EventKind] | None = None, source: str = "") -> EventKind:
        """`kind` as a member; raises `InvalidInput` naming what was meant and what is `accepted` (None: all)."""
        kinds = [each.value for each in cls if accepted is None or each in accepted]
        names = ", ".join(kinds)
        try:
            member = cls(kind)
        except ValueError:
            advice = f"use one of: {names}"
            if suggested := " or ".join(map(repr, meant(str(kind), kinds))):
                advice = f"did you mean {suggested}? The kinds are: {names}"
            elif str(kind).lower().removesuffix("s") in EVENT_TYPES:
                advice = f"events of this type come with 'all' only; the kinds are: {names}"
            raise InvalidInput(f"kind={str(kind)[:60]!r} is not a kind of event; {advice}") from None
        if accepted is not None and member not in accepted:
            raise InvalidInput(f"kind={member.value!r} is not among {source}; use one of: {names}")
        return member


_TYPES_OF_KINDS: Final = {
    "activations": "activation",
    "cancellations": "cancellation",
    "bounces": "bounce",
    "stops": "optout",
}


def event_class(kind: EventKind) -> type[Event] | None:
    """The one class that an endpoint returns; None for the endpoint of every type.

    An endpoint of one kind decides the class by itself, whatever `type` its events carry: the API does not promise one
    there, and code that asked for bounces is typed to get `Bounce`.
    """
    return EVENT_TYPES[kind.default_type] if kind.default_type else None


def structure(data: dict[str, Any], kind: str = EventKind.ALL) -> Event:
    """The event that `data`, plain JSON types, describes: the inverse of `unstructure`.

    `kind` is the endpoint it came from and decides the type of an event without one. Reading is tolerant: numeric text
    is read as a number, and parts of an undocumented shape are left out of the typed view, but not out of
    `Event.data`. Raises `DecodeError` where `data` is not a dict or has no usable timestamp, and `InvalidInput` for an
    unknown `kind`.
    """
    raw = convert.dumps(data)
    return structure_tolerant(convert.loads(raw), raw, EventKind.parse(kind))


def structure_tolerant(data: Any, raw: bytes, kind: EventKind) -> Event:
    """The event of `data`, already parsed from `raw`, read as leniently as possible; else `DecodeError`."""
    if not isinstance(data, dict):
        raise DecodeError("an element of the response is not a JSON object")
    timestamp = convert.whole_number(data.get("timestamp"))
    if timestamp is None:
        raise DecodeError("an event has no usable timestamp: expected epoch milliseconds")
    name = data.get("type")
    if name is None:
        name = kind.default_type
    name = name if isinstance(name, str) else None
    return _restore(
        event_class(kind) or EVENT_TYPES.get(name, UnknownEvent),
        convert.text(data.get("id")),
        timestamp,
        name,
        convert.structure_identity(data.get("identity")),
        raw,
    )


def unstructure(event: Event) -> dict[str, Any]:
    """`event` as plain JSON types, with every member the server sent, known to this version or not.

    The envelope is normalised: `timestamp` is an int, and `type` is present where the endpoint implies it. Every text
    can be encoded as UTF-8, and so can its JSON, by any library: lone surrogates are U+FFFD.
    """
    data = event.data
    data["timestamp"] = event.timestamp
    if event.type is not None:
        data["type"] = event.type
    return data


def _restore(
    cls: type[Event], id: str | None, timestamp: int, type: str | None, identity: Identity | None, raw: bytes
) -> Event:
    if not 0 <= timestamp <= convert.MAX_TIMESTAMP:
        raise DecodeError("an event's timestamp lies outside the years 1970 to 9999")
    return cls(id=id, timestamp=timestamp, type=type, identity=identity, raw=raw)
