"""The columns of a table of events, the same for CSV, Parquet and Arrow, whatever the events.

Nothing is lost: what has no column, or is not of the type its column has, is in the last column, `rest`, as JSON.
Every cell is text that UTF-8 can hold, as all that `unstructure` returns.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from attrs import Factory, field, frozen

Cell: TypeAlias = str | int | None
Row: TypeAlias = list[Cell]

# Of the columns below. A new column at the end, before `rest`, is an addition; all else gives it another number.
VERSION: Final = 1


def _path(column: Column) -> tuple[str, ...]:
    return tuple(column.member.split(".")) if column.member.replace(".", "").isalpha() else ()


@frozen
class Column:
    """A column of a table of events.

    `type` is ``"text"``; ``"time"``, epoch milliseconds of the years 1970 to 9999; or ``"json"``, the text of a JSON
    object. `member` says where the cell comes from: the member of an event's JSON, such as
    ``source.detail.bounce.status.mta``, or a few words where it is not one member. `empty` says when the cell is null:
    empty text if it never is. `personal`: ``"whole"`` if the cell names a person, ``"inside"`` if it is text that may
    hold an e-mail address, None if neither. `path` is `member` as a tuple; empty where it is not one member.
    """

    name: str
    type: Literal["text", "time", "json"]
    member: str
    empty: str
    personal: Literal["whole", "inside"] | None = None
    path: tuple[str, ...] = field(init=False, repr=False, default=Factory(_path, takes_self=True))

    @property
    def required(self) -> bool:
        """Whether no cell is null."""
        return not self.empty


_NOT_SENT: Final = "the event has no such member"


def _of_event(name: str, member: str, type: Literal["text", "time"] = "text") -> Column:
    return Column(name, type, member, "" if name == "timestamp" else _NOT_SENT)


def _of_message(name: str, place: str, member: str, type: Literal["text", "time", "json"] = "text") -> Column:
    personal: dict[str, Literal["whole", "inside"]] = {"recipient": "whole", "data": "inside"}
    empty = f"there is no {place} in the event, or it has no such member"
    return Column(f"{place}_{name}", type, f"source.detail.{place}.{member}", empty, personal.get(name))


def _of_kind(name: str, member: str, kind: str, personal: Literal["inside"] | None = None) -> Column:
    return Column(
        name, "text", f"source.detail.{member}", f"the event is not a {kind}, or has no such member", personal
    )


def _of_receiver(name: str, personal: Literal["whole"] | None = None) -> Column:
    if name == "type":
        member, empty = "the notation of the receiver", "the event does not name its contact"
    else:
        member, empty = f"the {name} of the receiver", f"the event does not name its contact by {name}"
    return Column(f"receiver_{name}", "text", member, empty, personal)


COLUMNS: Final[tuple[Column, ...]] = (
    Column(
        "contact",
        "text",
        "the contact that was asked for, or the id of the receiver",
        "the events were not asked for by contact, and the event does not name its contact by id",
        "whole",
    ),
    _of_event("id", "id"),
    _of_event("timestamp", "timestamp", "time"),
    _of_event("type", "type"),
    _of_event("identity_type", "identity.type"),
    _of_event("identity_agency", "identity.agency"),
    _of_event("identity_customer", "identity.customer"),
    _of_event("channel", "source.type"),
    _of_receiver("type"),
    _of_receiver("id"),
    _of_receiver("unicity", "whole"),
    _of_receiver("hash", "whole"),
    _of_message("id", "activation", "id"),
    _of_message("kind", "activation", "kind"),
    _of_message("version", "activation", "version"),
    _of_message("time", "activation", "stamp.time", "time"),
    _of_message("stamp", "activation", "stamp.id"),
    _of_message("thread", "activation", "stamp.thread"),
    _of_message("set", "activation", "stamp.set"),
    _of_message("recipient", "activation", "recipient"),
    _of_message("id", "execution", "id"),
    _of_message("kind", "execution", "kind"),
    _of_message("time", "execution", "stamp.time", "time"),
    _of_message("stamp", "execution", "stamp.id"),
    _of_message("thread", "execution", "stamp.thread"),
    _of_message("set", "execution", "stamp.set"),
    _of_message("data", "execution", "data", "json"),
    _of_kind("bounce_type", "bounce.status.type", "bounce"),
    _of_kind("bounce_code", "bounce.status.code.enhanced", "bounce"),
    _of_kind("bounce_diagnostic", "bounce.status.diagnostic", "bounce", "inside"),
    _of_kind("bounce_mta", "bounce.status.mta", "bounce"),
    _of_kind("bounce_verdict", "bounce.analysis.verdict", "bounce"),
    _of_kind("bounce_subject", "bounce.analysis.subject.type", "bounce"),
    _of_kind("bounce_subject_detail", "bounce.analysis.subject.detail.type", "bounce"),
    _of_kind("link_type", "link.type", "hit"),
    _of_kind("cancellation_type", "cancellation.type", "cancellation"),
    _of_kind("cancellation_reason", "cancellation.value.type", "cancellation"),
    _of_kind("cancellation_message", "cancellation.value.message", "cancellation", "inside"),
    Column(
        "bounce_meaning", "text", "what `bounce_code` means, in English", "there is no enhanced code in `bounce_code`"
    ),
    Column("rest", "json", "all members without a column of their own", "there are none", "inside"),
)
INDEX: Final = {column.name: index for index, column in enumerate(COLUMNS)}
