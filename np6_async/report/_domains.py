"""Domains of recipients, of which none is told that few people share."""

from __future__ import annotations

import re
from typing import Final

from .._models.details import ActivationDetail, ExecutionDetail
from ._rows import Row, Rows

LEAST: Final = 10  # people of a domain that is told
_MOST: Final = 5_000
_DOMAIN: Final = re.compile(r"[^\W_]([\w-]*[^\W_])?(\.[^\W_]([\w-]*[^\W_])?)+")
_LONGEST: Final = 80
UNKNOWN: Final = ""  # no e-mail address, or one without a domain


class Domains:
    """A row for each domain, and for each how many different people there are, up to the number that allows to tell it.

    Of a person a hash is remembered for as long as that takes, which means nothing outside of this process.
    """

    def __init__(self) -> None:
        self._rows = Rows(_MOST, self._folded)
        self._few: dict[str, set[int]] = {}  # people of domains that may not be told
        self._many: set[str] = {UNKNOWN}

    def of(self, address: str | None) -> Row:
        """The row of the domain of an address, to count in."""
        if address is None:
            return self._rows.of(UNKNOWN)
        domain = address[address.rfind("@") + 1 :].lower() if "@" in address else UNKNOWN
        if domain not in self._many:
            domain = self._few_more(domain, address)
        return self._rows.of(domain)

    def shown(self, most: int) -> tuple[list[tuple[str, Row]], Row, int]:
        """The largest domains that may be told, and the others in one row, with their number."""
        return self._rows.shown(most, self._many.__contains__)

    @property
    def exact(self) -> bool:
        """Whether no domain was given up for want of memory."""
        return not self._rows.folded

    def _few_more(self, domain: str, address: str) -> str:
        people = self._few.get(domain)
        if people is None:
            if len(domain) > _LONGEST or not _DOMAIN.fullmatch(domain):
                return UNKNOWN
            people = self._few[domain] = set()
        people.add(hash(address.lower()))
        if len(people) >= LEAST:
            del self._few[domain]
            self._many.add(domain)
        return domain

    def _folded(self, kept: set[str]) -> None:
        self._many = {UNKNOWN, *(self._many & kept)}
        self._few = {domain: people for domain, people in self._few.items() if domain in kept}


def address_of(message: ActivationDetail | ExecutionDetail | None) -> str | None:
    """The address that a message went to, as its event names it."""
    if message is None:
        return None
    if isinstance(message, ActivationDetail):
        if message.recipient:
            return message.recipient
        ref = message.receiver
    else:
        ref = message.recipient
    unicity = None if ref is None else ref.unicity or (ref.value if ref.type == "unicity" else None)
    if isinstance(unicity, list):
        unicity = unicity[0] if unicity else None
    return unicity if isinstance(unicity, str) else None
