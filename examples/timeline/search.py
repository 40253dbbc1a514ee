"""The input of the search form: a contact and, optionally, dates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

from attrs import frozen

from np6_async import Contact, InvalidContact

Field = Literal["contact", "from", "to"]

_HASH: Final = re.compile(r"[0-9A-Fa-f]{32}")
_NO_CONTACT: Final = {
    "id": "That is not a contact id: use only letters, digits and . _ ~ : + = -, as in 000MLGPR.",
    "unicity": "That is not an e-mail address: it has characters that cannot be sent, or more than 1,024 characters.",
    "hash": "That is not a hash: a hash has 32 digits from 0 to 9 and a to f.",
}


class BadSearch(Exception):
    """What is wrong with the form, in words for the page, and in which `field`."""

    def __init__(self, words: str, field: Field) -> None:
        super().__init__(words)
        self.field = field


@frozen
class Search:
    """Whose events, from `start` (included) to `end` (excluded); None for no bound."""

    contact: Contact
    start: datetime | None
    end: datetime | None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Search:
        """Read `contact`, `by` (auto, id, unicity or hash), and `from` and `to` (ISO 8601 with an offset).

        Raises `BadSearch`.
        """
        contact = _contact(query.get("contact", "").strip(), query.get("by", "auto"))
        start, end = _moment(query, "from"), _moment(query, "to")
        if start and end and start >= end:
            raise BadSearch("The first day is after the last day.", "from")
        return cls(contact, start, end)


def _contact(value: str, by: str) -> Contact:
    if not value:
        raise BadSearch("Type the id, the e-mail address or the hash of a contact.", "contact")
    if by == "auto":
        by = "unicity" if "@" in value else "hash" if _HASH.fullmatch(value) else "id"
    make = {"id": Contact.by_id, "unicity": Contact.by_unicity, "hash": Contact.by_hash}.get(by)
    if make is None:
        raise BadSearch("A contact is looked up by id, unicity or hash.", "contact")
    try:
        return make(value)
    except InvalidContact:
        raise BadSearch(_NO_CONTACT[by], "contact") from None


def _moment(query: Mapping[str, str], name: Literal["from", "to"]) -> datetime | None:
    text = query.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        which = "first" if name == "from" else "last"
        raise BadSearch(f"The {which} day is not a calendar date.", name)
    return moment
