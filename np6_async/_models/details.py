"""What an event holds besides its envelope: frozen attrs records, one per JSON object of the API.

Every member is optional, because the API marks none as required. A member that the API does not document is not lost:
it stays in `Event.raw` and `Event.data`.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen


@frozen
class Identity:
    """The account that the event belongs to."""

    type: str | None = None
    agency: str | None = None
    customer: str | None = None


@frozen
class Stamp:
    """When, and in which run, a message was sent. `time` is epoch milliseconds."""

    time: int | None = None
    id: str | None = None
    thread: str | None = None
    set: str | None = None


@frozen(repr=False)
class ContactRef:
    """A contact as an event names it.

    `type` is the notation: ``id`` and ``hash`` fill `value` with a string, ``unicity`` with a list of strings,
    ``contact`` with another `ContactRef`; ``footprint`` fills `id`, `unicity` and `hash`. The values are personal data
    and stay out of the repr.
    """

    type: str | None = None
    id: str | None = None
    unicity: str | list[str] | None = None
    hash: str | None = None
    value: str | list[str] | ContactRef | None = None

    def __repr__(self) -> str:
        return f"ContactRef(type={self.type!r})"


@frozen
class ActivationDetail:
    """The message or application that was activated for a contact."""

    id: str | None = None
    kind: str | None = None
    version: str | int | float | None = None
    receiver: ContactRef | None = None
    stamp: Stamp | None = None
    recipient: str | None = field(default=None, repr=False)


@frozen
class ExecutionDetail:
    """The execution of an action for a contact; `data` is free-form."""

    id: str | None = None
    kind: str | None = None
    recipient: ContactRef | None = None
    data: dict[str, Any] | None = field(default=None, repr=False)
    stamp: Stamp | None = None


@frozen
class BounceCode:
    """The status code of a bounce; `enhanced` is an RFC 3463 code such as ``5.1.2``."""

    enhanced: str | None = None


@frozen
class BounceStatus:
    """What the receiving mail server said. `diagnostic` is its text, which may quote the recipient."""

    type: str | None = None
    code: BounceCode | None = None
    diagnostic: str | None = field(default=None, repr=False)
    mta: str | None = None


@frozen
class BounceSubject:
    """What a bounce was about, from the general to the particular."""

    type: str | None = None
    detail: BounceSubject | None = None


@frozen
class BounceAnalysis:
    """NP6's analysis of a bounce. `verdict` is ``hard`` or ``soft``."""

    verdict: str | None = None
    subject: BounceSubject | None = None


@frozen
class BounceDetail:
    """A bounce: what the mail server said, and NP6's analysis of it."""

    status: BounceStatus | None = None
    analysis: BounceAnalysis | None = None


@frozen
class Link:
    """What was hit: ``open``, ``redirection``, ``unsubscribe``, ``mirror`` or ``form``.

    The API documents only `type`; whatever else the link holds is in `Event.data`.
    """

    type: str | None = None


@frozen
class CancellationValue:
    """Why a message was not sent. `message` is NP6's text, which may quote what was to be rendered."""

    type: str | None = None
    message: str | None = field(default=None, repr=False)


@frozen
class CancellationDetail:
    """A message that was not sent."""

    type: str | None = None
    value: CancellationValue | None = None


@frozen
class Detail:
    """The details of an event. Which members are set depends on the event's type."""

    activation: ActivationDetail | None = None
    execution: ExecutionDetail | None = None
    bounce: BounceDetail | None = None
    link: Link | None = None
    cancellation: CancellationDetail | None = None


@frozen
class Source:
    """Where an event came from. `type` is the channel: ``email``, ``sms``, ``notification`` or ``display``."""

    type: str | None = None
    detail: Detail | None = None
