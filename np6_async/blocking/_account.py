"""The calls of a blocking client about its account: segments, contacts, campaigns and the red list."""

from __future__ import annotations

import builtins  # `Segments.list` hides the builtin inside its class
from collections.abc import Iterable
from typing import Any, Unpack, overload

from .._api import account, campaigns, red_list
from .._api.campaigns import CampaignOptions, Items, SomeHits
from .._api.kinds import Activations, Bounces, Cancellations, Stops
from .._models.account import ContactRecord, Segment
from .._models.contacts import Contact
from .._models.events import Activation, Bounce, Cancellation, Event, Hit, Optout
from .._models.time_bounds import Bound
from ._job import call
from ._loop import Loop
from ._mirror import mirrors
from ._streams import CampaignEvents, ContactIds, RedListEntries


class Segments:
    """The segments of the account; reached as `np6_async.blocking.NP6Client.segments`.

    The calls, their arguments and their errors are those of `np6_async.Segments`.
    """

    def __init__(self, loop: Loop, calls: account.Segments) -> None:
        self._loop = loop
        self._calls = calls

    def list(self) -> builtins.list[Segment]:
        """As `np6_async.Segments.list`; returns when it has them."""
        return call(self._loop, self._calls.list)

    def contacts(self, segment: int | str | Segment) -> ContactIds:
        """As `np6_async.Segments.contacts`, an iterator. It may be passed to `events.stream_many` as it is."""
        return ContactIds(self._loop, self._calls.contacts(segment))


class Contacts:
    """The contacts of the account; reached as `np6_async.blocking.NP6Client.contacts`.

    The calls, their arguments and their errors are those of `np6_async.Contacts`.
    """

    def __init__(self, loop: Loop, calls: account.Contacts) -> None:
        self._loop = loop
        self._calls = calls

    def get(self, contact: str | Contact) -> ContactRecord:
        """As `np6_async.Contacts.get`; returns when it has the record."""
        return call(self._loop, lambda: self._calls.get(contact))

    def count(self) -> int:
        """As `np6_async.Contacts.count`."""
        return call(self._loop, self._calls.count)


class Campaigns:
    """The events of campaigns; reached as `np6_async.blocking.NP6Client.campaigns`.

    The call, its arguments and its errors are those of `np6_async.Campaigns`.
    """

    def __init__(self, loop: Loop, calls: campaigns.Campaigns) -> None:
        self._loop = loop
        self._calls = calls

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

    @mirrors(campaigns.Campaigns.events)
    def events(self, *args: Any, **options: Any) -> CampaignEvents[Any]:
        """As `np6_async.Campaigns.events`, an iterator."""
        return CampaignEvents(self._loop, self._calls.events(*args, **options))


class RedList:
    """The contacts that must not be written to; reached as `np6_async.blocking.NP6Client.redlist`.

    The calls, their arguments and their errors are those of `np6_async.RedList`.
    """

    def __init__(self, loop: Loop, calls: red_list.RedList) -> None:
        self._loop = loop
        self._calls = calls

    def mail(self, start: Bound | None = None, end: Bound | None = None) -> RedListEntries:
        """As `np6_async.RedList.mail`, an iterator."""
        return RedListEntries(self._loop, self._calls.mail(start, end))

    def sms(self, start: Bound | None = None, end: Bound | None = None) -> RedListEntries:
        """As `np6_async.RedList.sms`, an iterator."""
        return RedListEntries(self._loop, self._calls.sms(start, end))
