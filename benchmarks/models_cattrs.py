"""Models as one would write them by hand with attrs and cattrs: slotted, frozen, no detailed validation."""

from __future__ import annotations

from typing import Any

import cattrs
import orjson
from attrs import frozen


@frozen
class Identity:
    type: str | None = None
    agency: str | None = None
    customer: str | None = None


@frozen
class Stamp:
    time: int
    id: str
    thread: str
    set: str | None = None


@frozen
class ContactRef:
    type: str
    id: str | None = None
    unicity: str | None = None
    hash: str | None = None
    value: str | None = None


@frozen
class Activation:
    id: str
    kind: str
    receiver: ContactRef
    stamp: Stamp
    recipient: str | None = None
    version: str | None = None


@frozen
class Code:
    enhanced: str | None = None


@frozen
class Status:
    type: str
    code: Code
    diagnostic: str | None = None
    mta: str | None = None


@frozen
class Subject:
    type: str | None = None


@frozen
class Analysis:
    verdict: str
    subject: Subject


@frozen
class Bounce:
    status: Status
    analysis: Analysis


@frozen
class Link:
    type: str


@frozen
class Detail:
    activation: Activation | None = None
    bounce: Bounce | None = None
    link: Link | None = None


@frozen
class Source:
    type: str
    detail: Detail


@frozen
class Event:
    id: str
    timestamp: int
    type: str
    identity: Identity
    source: Source


_converter = cattrs.Converter(detailed_validation=False)


def decode(body: bytes) -> list[Any]:
    """The events in a response body."""
    return _converter.structure(orjson.loads(body), list[Event])
