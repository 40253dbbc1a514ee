"""What a request asks for: the endpoint, the contact, and which of its events."""

from __future__ import annotations

import functools
import math
import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from ._events import KINDS, ROBOTS
from ._factories import EPOCH, MILLISECOND

Addressing = Literal["id", "unicity", "hash"]
_NUMBER = re.compile(r"-?[0-9]{1,17}(\.[0-9]+)?")


class Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(why)
        self.status = status


class Filters(NamedTuple):
    """Which events, in which order; bounds in epoch ms."""

    start: int | None = None
    end: int | None = None
    sort: str | None = None
    robots: frozenset[str] = frozenset()


def locate(target: str) -> tuple[str, Addressing, str, Filters]:
    """The endpoint (a key of `KINDS`), how the contact is named, its name, and the filters of a request.

    Raises `Refused` with 404 where there is no such endpoint and 400 where a parameter is wrong.
    """
    path, _, query = target.partition("?")
    parts = path.split("/")
    if parts[:2] != ["", "targets"] or "events" not in parts[2:4]:
        raise Refused(404, "no such endpoint")
    by_path = parts[3:4] == ["events"]
    kind = "/".join(parts[4 if by_path else 3 :])
    if kind not in KINDS:
        raise Refused(404, "no such endpoint")
    if by_path:
        return kind, "id", unquote(parts[2]), filters(query, kind.startswith("hits"))
    addressing, contact = name_in(query, "id", "unicity", "hash")
    return kind, addressing, contact, filters(query, kind.startswith("hits"))


def is_events(target: str) -> bool:
    """Whether events are asked for, as far as the path begins so."""
    parts = target.partition("?")[0].split("/")
    return parts[1:2] == ["targets"] and "events" in parts[2:4]


def name_in(query: str, *accepted: Addressing) -> tuple[Addressing, str]:
    """The contact that a query names in exactly one of the ways `accepted`, or `Refused`."""
    names: list[tuple[Addressing, str]] = [
        (way, value) for way in accepted for name, value in parse(query) if name == way
    ]
    if len(names) != 1 or not names[0][1]:
        raise Refused(400, f"exactly one of {', '.join(accepted[:-1])} and {accepted[-1]} is needed")
    return names[0]


def parse(query: str) -> list[tuple[str, str]]:
    """The parameters of a query, decoded."""
    return parse_qsl(query, keep_blank_values=True)


# A bulk run asks for the same window of every contact.
@functools.lru_cache(maxsize=256)
def filters(query: str, hits: bool) -> Filters:
    """The filters in a query; `classification` counts for `hits` only."""
    values = dict(parse(query)) if query else {}
    sort = values.get("sort")
    if sort not in (None, "asc", "desc"):
        raise Refused(400, "sort must be asc or desc")
    robots: frozenset[str] = frozenset()
    if hits and "classification" in values:
        robots = frozenset(name.strip() for name in values["classification"].split(","))
        if not robots.issubset(ROBOTS):
            raise Refused(400, f"classification must be one or more of {', '.join(ROBOTS)}")
    return Filters(_moment(values, "start"), _moment(values, "end"), sort, robots)


def _moment(values: dict[str, str], name: str) -> int | None:
    """A bound in epoch milliseconds; a number is taken for milliseconds, a time without offset for UTC."""
    text = values.get(name)
    if text is None:
        return None
    if _NUMBER.fullmatch(text):
        return math.ceil(float(text)) if "." in text else int(text)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return -((EPOCH - moment) // MILLISECOND)
    except (ValueError, OverflowError):
        raise Refused(400, f"{name} must be an ISO date or a timestamp") from None
