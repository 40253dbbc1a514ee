"""The events of items of a campaign: a POST that only reads, in one window of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from .._models import convert
from .._models.events import EventKind
from .event_query import EventQuery


@frozen(kw_only=True)
class CampaignQuery(EventQuery[Any]):
    """What is requested of one campaign, whose id is percent-encoded. There is no subject: it is None everywhere."""

    campaign: str
    body: bytes | None

    def template(self, subject: object) -> str:
        """The path without the id, for logs."""
        return "/campaigns/{id}/events"

    def label(self, subject: object) -> str:
        """The campaign, for messages."""
        return f"campaign {self.campaign}"

    def path(self, subject: object) -> tuple[str, str]:
        """Path and query without the parameters of the events."""
        return f"/campaigns/{self.campaign}/events", ""


def campaign_body(items: Iterable[int | str], channel: str, kinds: Iterable[EventKind]) -> bytes:
    """The JSON that asks for the events of these kinds, of these items."""
    subtypes: dict[str, set[str]] = {}
    for kind in kinds:
        assert kind.default_type is not None
        asked = subtypes.setdefault(kind.default_type, set())
        if kind.is_hits:
            asked |= _HITS if kind is EventKind.HITS else {_subtype(kind)}
    events: list[dict[str, Any]] = [
        {"type": name, "subtypes": sorted(asked)} if asked else {"type": name} for name, asked in subtypes.items()
    ]
    return convert.dumps({"itemsEvents": [{"type": channel, "events": events, "items": list(items)}]})


def _subtype(kind: EventKind) -> str:
    return kind.value.partition("/")[2]


_HITS = {_subtype(kind) for kind in EventKind if kind.is_hits and kind is not EventKind.HITS}
