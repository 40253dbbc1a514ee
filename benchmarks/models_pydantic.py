"""Models as OpenAPI client generators emit them, decoded in the fastest way that pydantic v2 offers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter


class Identity(BaseModel):
    type: str | None = None
    agency: str | None = None
    customer: str | None = None


class Stamp(BaseModel):
    time: int
    id: str
    thread: str
    set: str | None = None


class ContactRef(BaseModel):
    type: str
    id: str | None = None
    unicity: str | None = None
    hash: str | None = None
    value: str | None = None


class Activation(BaseModel):
    id: str
    kind: str
    receiver: ContactRef
    stamp: Stamp
    recipient: str | None = None
    version: str | None = None


class Code(BaseModel):
    enhanced: str | None = None


class Status(BaseModel):
    type: str
    code: Code
    diagnostic: str | None = None
    mta: str | None = None


class Subject(BaseModel):
    type: str | None = None


class Analysis(BaseModel):
    verdict: str
    subject: Subject


class Bounce(BaseModel):
    status: Status
    analysis: Analysis


class Link(BaseModel):
    type: str


class Detail(BaseModel):
    activation: Activation | None = None
    bounce: Bounce | None = None
    link: Link | None = None


class Source(BaseModel):
    type: str
    detail: Detail


class Event(BaseModel):
    id: str
    timestamp: int
    type: str
    identity: Identity
    source: Source


_events = TypeAdapter(list[Event])


def decode(body: bytes) -> list[Any]:
    """The events in a response body."""
    return _events.validate_json(body)
