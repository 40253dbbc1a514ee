"""The call of a client about its campaigns: `np6.campaigns`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, TypedDict, Unpack, overload

from .._errors import InvalidInput
from .._models.contacts import check_item, parse_campaign
from .._models.events import Activation, Bounce, Cancellation, Event, EventKind, Hit, Optout
from .._models.time_bounds import Bound
from .._protocol.campaign_query import CampaignQuery, campaign_body
from .._streams.event_stream import CampaignEvents
from .._streams.fetch import Fetch
from .._streams.runtime import Runtime
from .event_requests import EventRequests
from .kinds import Activations, Bounces, Cancellations, Hits, Stops

_CHANNEL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

Items: TypeAlias = int | str | Iterable[int | str]
SomeHits: TypeAlias = Hits | list[Hits] | tuple[Hits, ...]


class CampaignOptions(TypedDict, total=False):
    """Options of `Campaigns.events`."""

    channel: str
    start: Bound | None
    end: Bound | None
    newest_first: bool


class Campaigns:
    """The events of campaigns; reached as `NP6Client.campaigns`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @overload
    def events(
        self, campaign: int | str, items: Items, *, kinds: Activations, **options: Unpack[CampaignOptions]
    ) -> CampaignEvents[Activation]: ...

    @overload
    def events(
        self, campaign: int | str, items: Items, *, kinds: Cancellations, **options: Unpack[CampaignOptions]
    ) -> CampaignEvents[Cancellation]: ...

    @overload
    def events(
        self, campaign: int | str, items: Items, *, kinds: Bounces, **options: Unpack[CampaignOptions]
    ) -> CampaignEvents[Bounce]: ...

    @overload
    def events(
        self, campaign: int | str, items: Items, *, kinds: Stops, **options: Unpack[CampaignOptions]
    ) -> CampaignEvents[Optout]: ...

    @overload
    def events(
        self, campaign: int | str, items: Items, *, kinds: SomeHits = ..., **options: Unpack[CampaignOptions]
    ) -> CampaignEvents[Hit]: ...

    @overload
    def events(
        self, campaign: int | str, items: Items, *, kinds: str | Iterable[str], **options: Unpack[CampaignOptions]
    ) -> CampaignEvents[Event]: ...

    def events(
        self,
        campaign: int | str,
        items: Items,
        *,
        kinds: str | Iterable[str] = EventKind.HITS,
        channel: str = "email",
        start: Bound | None = None,
        end: Bound | None = None,
        newest_first: bool = False,
    ) -> CampaignEvents[Any]:
        """The events of `items` of a campaign, of all contacts, as an async iterator.

        `campaign` is its id, an int from 0 or a str of the characters of contact ids. `items` are the ids of its items,
        one or more, each as an int or a str; they are sent as they were given, because NP6 documents them as numbers
        and shows them as text. `channel` is the type of the items: ``email``, or ``sms`` and the like.

        `kinds` is an `EventKind` or several, or their values, but for ``all``: NP6 wants to be told which types. The
        default, all hits, is what its reference documents; whether it knows the names of the other kinds is not. The
        events of different kinds come in one order, and of different classes. No request takes `classification`.

        `start`, `end` and `newest_first` are those of `events.stream`. No request is sent before the iterator is
        iterated. It is a POST (``POST /campaigns/{id}/events``) that only reads, and so it is retried, paced and
        resumed as a GET is. `NotFound` means that the account has no such campaign. Invalid arguments raise
        `InvalidInput`, before any I/O.
        """
        asked = _parse_kinds(kinds)
        if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
            raise InvalidInput("channel must be the type of the items, such as 'email' or 'sms'")
        # Those of one class have it whatever their `type`, as everywhere.
        kind = asked[0] if len({each.default_type for each in asked}) == 1 else EventKind.ALL
        query = CampaignQuery(
            campaign=parse_campaign(campaign),
            body=campaign_body(_parse_items(items), str.__str__(channel), asked),
            kind=kind,
            window=EventRequests(self._runtime).window(start, end, ("start", "end")),
            newest_first=bool(newest_first),
            demand=self._runtime.demand,
        )
        return CampaignEvents(Fetch[Any, Any](self._runtime, None, query, self._runtime.slots))


def _parse_kinds(kinds: str | Iterable[str]) -> list[EventKind]:
    given = [kinds] if isinstance(kinds, str) else list(kinds) if isinstance(kinds, Iterable) else []
    parsed = [EventKind.parse(kind) for kind in given]
    if not parsed or EventKind.ALL in parsed:
        accepted = ", ".join(kind for kind in EventKind if kind is not EventKind.ALL)
        raise InvalidInput(f"kinds must be one or more of: {accepted}")
    return parsed


def _parse_items(items: Items) -> list[int | str]:
    given = [items] if isinstance(items, int | str) else list(items) if isinstance(items, Iterable) else []
    if isinstance(items, bytes | bytearray | memoryview | Mapping):
        given = []  # the elements of these are no ids
    if not given:
        raise InvalidInput("items must be the ids of one or more items of the campaign, as int or str")
    return list(map(check_item, given))
