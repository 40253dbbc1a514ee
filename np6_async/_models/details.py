"""What an event holds besides its envelope: frozen records, one per JSON object of the API.

Every member is optional, because the API marks none as required. A member that the API does not document is not lost:
it stays in `Event.raw` and `Event.data`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from attrs import field

from .._errors import InvalidContact
from . import mail_status
from .contacts import Contact
from .record import record


@record
class Identity:
    """The account that the event belongs to."""

    type: str | None = None
    agency: str | None = None
    customer: str | None = None


@record
class Stamp:
    """When, and in which run, a message was sent. `time` is epoch milliseconds."""

    time: int | None = None
    id: str | None = None
    thread: str | None = None
    set: str | None = None


@record(repr=False)
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

    @property
    def contact(self) -> Contact | None:
        """The contact that it names, to ask with: by its id if that is known, else by its hash, else by its unicity.

        None where it names none in a form that can be asked with, such as several values of a compound unicity.
        """
        if isinstance(self.value, ContactRef):
            return self.value.contact
        notations: tuple[tuple[Literal["id", "hash", "unicity"], Any], ...] = (
            ("id", self.id or (self.value if self.type == "id" else None)),
            ("hash", self.hash or (self.value if self.type == "hash" else None)),
            ("unicity", self.unicity or (self.value if self.type == "unicity" else None)),
        )
        for kind, value in notations:
            if isinstance(value, list):
                value = value[0] if len(value) == 1 else None
            if value:
                with suppress(InvalidContact):
                    return Contact(kind, value)
        return None

    def __repr__(self) -> str:
        return f"ContactRef(type={self.type!r})"


@record
class ActivationDetail:
    """The message or application that was activated for a contact."""

    id: str | None = None
    kind: str | None = None
    version: str | int | float | None = None
    receiver: ContactRef | None = None
    stamp: Stamp | None = None
    recipient: str | None = field(default=None, repr=False)


@record
class ExecutionDetail:
    """The execution of an action for a contact; `data` is free-form."""

    id: str | None = None
    kind: str | None = None
    recipient: ContactRef | None = None
    data: dict[str, Any] | None = field(default=None, repr=False)
    stamp: Stamp | None = None


@record
class BounceCode:
    """The status code of a bounce; `enhanced` is an RFC 3463 code such as ``5.1.2``."""

    enhanced: str | None = None


@record
class BounceStatus:
    """What the receiving mail server said. `diagnostic` is its text, which may quote the recipient."""

    type: str | None = None
    code: BounceCode | None = None
    diagnostic: str | None = field(default=None, repr=False)
    mta: str | None = None

    @property
    def meaning(self) -> str | None:
        """What the enhanced code says, in English: ``"The mailbox does not exist (permanent)"`` for ``5.1.1``.

        The words are for reading and may change; compare `code`. They follow the IANA registry of enhanced status
        codes, and for some codes outside it the documentation of the mail provider that sends them; a code that is in
        neither is described by its subject and class, ``"Something is wrong with the recipient's mailbox (temporary)"``
        for ``4.2.99``. None where there is no code, or it is not of the form of RFC 3463. `diagnostic` may say more.
        """
        enhanced = self.code.enhanced if self.code else None
        return None if enhanced is None else mail_status.meaning(enhanced)


@record
class BounceSubject:
    """What a bounce was about, from the general to the particular."""

    type: str | None = None
    detail: BounceSubject | None = None


@record
class BounceAnalysis:
    """NP6's analysis of a bounce. `verdict` is ``hard`` or ``soft``."""

    verdict: str | None = None
    subject: BounceSubject | None = None


@record
class BounceDetail:
    """A bounce: what the mail server said, and NP6's analysis of it."""

    status: BounceStatus | None = None
    analysis: BounceAnalysis | None = None


@record
class Link:
    """What was hit: ``open``, ``redirection``, ``unsubscribe``, ``mirror`` or ``form``.

    The API documents only `type`; whatever else the link holds is in `Event.data`.
    """

    type: str | None = None


@record
class CancellationValue:
    """Why a message was not sent. `message` is NP6's text, which may quote what was to be rendered."""

    type: str | None = None
    message: str | None = field(default=None, repr=False)


@record
class CancellationDetail:
    """A message that was not sent."""

    type: str | None = None
    value: CancellationValue | None = None


@record
class Detail:
    """The details of an event. Which members are set depends on the event's type."""

    activation: ActivationDetail | None = None
    execution: ExecutionDetail | None = None
    bounce: BounceDetail | None = None
    link: Link | None = None
    cancellation: CancellationDetail | None = None


@record
class Source:
    """Where an event came from. `type` is the channel: ``email``, ``sms``, ``notification`` or ``display``."""

    type: str | None = None
    detail: Detail | None = None
