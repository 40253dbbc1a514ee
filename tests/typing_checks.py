"""`kind=` narrows the type of the events. Checked by mypy and pyright in .ci/run, never executed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable
from datetime import datetime, timedelta
from typing import Any, assert_type

import attrs
from aiohttp import TraceConfig
from dlt.extract import DltSource

from np6_async import (
    Activation,
    Bounce,
    BulkStream,
    CampaignEvents,
    Cancellation,
    Contact,
    ContactIds,
    ContactRecord,
    Event,
    EventKind,
    EventList,
    EventStream,
    Failure,
    FetchFinished,
    Hit,
    Hook,
    LoggingHook,
    NP6Client,
    NP6Error,
    Observation,
    Optout,
    Page,
    Pages,
    RateLimitStatus,
    RedListEntries,
    RedListEntry,
    RedListOrigin,
    RequestStarted,
    RetryScheduled,
    Segment,
    blocking,
)
from np6_async._models.details import ActivationDetail, BounceAnalysis, BounceDetail, Detail, Identity, Source
from np6_async.integrations.dlt import account_events, contact_events
from np6_async.integrations.otel import OpenTelemetryHook
from np6_async.sync import SQLiteStore, Store, Sync, SyncRun


async def stream(np6: NP6Client, kind: str) -> None:
    assert_type(np6.events.stream("a"), EventStream[Event])
    assert_type(np6.events.stream("a", "all"), EventStream[Event])
    assert_type(np6.events.stream("a", kind="bounces"), EventStream[Bounce])
    assert_type(np6.events.stream("a", kind=EventKind.BOUNCES), EventStream[Bounce])
    assert_type(np6.events.stream("a", kind="activations"), EventStream[Activation])
    assert_type(np6.events.stream("a", kind="stops"), EventStream[Optout])
    assert_type(np6.events.stream("a", kind="hits/open"), EventStream[Hit])
    assert_type(np6.events.stream("a", kind=EventKind.HITS_FORM), EventStream[Hit])
    assert_type(np6.events.stream("a", kind=kind), EventStream[Event])
    async for event in np6.events.stream(Contact.by_hash("0" * 32), kind="bounces"):
        assert_type(event, Bounce)
        assert_type(event.verdict, str | None)
    async for batch in np6.events.stream("a", kind="hits").batches():
        assert_type(batch, list[Hit])


async def stream_many(np6: NP6Client, ids: list[str | Contact], kind: str) -> None:
    assert_type(np6.events.stream_many(ids), BulkStream[str | Contact, Event])
    assert_type(np6.events.stream_many(ids, kind=kind), BulkStream[str | Contact, Event])
    async with np6.events.stream_many(ids, kind="bounces") as bounces:
        async for contact, event in bounces:
            assert_type(contact, str | Contact)
            assert_type(event, Bounce)
    async with np6.events.stream_many((str(i) for i in range(3)), kind="hits/mirror") as hits:
        async for _, batch in hits.batches():
            assert_type(batch, list[Hit])


async def stream_many_gives_what_was_passed(
    np6: NP6Client, ids: list[str], contacts: AsyncIterable[Contact], lines: Any
) -> None:
    assert_type(np6.events.stream_many(ids), BulkStream[str, Event])
    assert_type(np6.events.stream_many(contacts, "stops"), BulkStream[Contact, Optout])
    np6.events.stream_many(lines, "stops")
    both: list[str | Contact] = ["A", Contact.by_id("B")]  # written in the call, mypy would take it for list[object]
    assert_type(np6.events.stream_many(both, "bounces"), BulkStream[str | Contact, Bounce])
    async with np6.events.stream_many(ids, on_error="collect") as events:
        async for contact, _ in events:
            assert_type(contact, str)
        async for contact, _ in events.outcomes():
            assert_type(contact, str)
    again = [failure.contact for failure in events.failures]
    assert_type(again, list[str])


def failures_need_no_parameter(failure: Failure) -> None:
    assert_type(failure.contact, str | Contact)


async def fetch_list(np6: NP6Client, kind: str) -> None:
    assert_type(await np6.events.list("a"), EventList[Event])
    assert_type(await np6.events.list("a", kind="stops"), EventList[Optout])
    assert_type(await np6.events.list("a", kind="bounces", limit=5, newest_first=True), EventList[Bounce])
    assert_type(await np6.events.list("a", kind=kind), EventList[Event])
    assert_type(await np6.events.list("a", kind=EventKind(kind)), EventList[Event])


def a_stream_of_bounces_is_a_stream_of_events(bounces: EventStream[Bounce], many: BulkStream[str, Bounce]) -> None:
    _: EventStream[Event] = bounces
    __: BulkStream[str | Contact, Event] = many


async def pages(np6: NP6Client) -> None:
    """Pages narrow by kind as streams do."""
    day = timedelta(days=1)
    assert_type(np6.events.pages(["A"], "bounces", start=0, every=day), Pages[str, Bounce])
    assert_type(np6.events.pages("A", size=10), Pages[str, Event])
    async for page in np6.events.pages(["A"], kind="hits/open", start=0, every=day):
        assert_type(page, Page[str, Hit])
        assert_type(page.items, list[tuple[str, Hit]])
        assert_type(page.has_more, bool)


async def sync(np6: NP6Client, ids: list[str], kind: str) -> None:
    """A sync narrows by kind as streams do."""
    store: Store = SQLiteStore("state.db")
    assert_type(Sync(np6, store, ids), Sync[Event])
    assert_type(Sync(np6, store, ids, kind), Sync[Event])
    assert_type(Sync(np6, store, ids, "stops"), Sync[Optout])
    assert_type(Sync(np6, store, ids, "activations"), Sync[Activation])
    assert_type(Sync(np6, store, ids, kind="hits/open", classification="mpp"), Sync[Hit])
    bounces = Sync(np6, store, ids, EventKind.BOUNCES)
    assert_type(bounces.run(), SyncRun[Bounce])
    async with bounces.run(autocommit=False) as run:
        async for contact, events in run.batches():
            assert_type(contact, str | Contact)
            assert_type(events, list[Bounce])


async def account(np6: NP6Client) -> None:
    """What an account holds beside events; the ids of a segment are contacts to fetch events of."""
    assert_type(await np6.segments.list(), list[Segment])
    assert_type(np6.segments.contacts(41), ContactIds)
    async for contact in np6.segments.contacts("41"):
        assert_type(contact, str)
    async for batch in np6.segments.contacts(Segment(id=41)).batches():
        assert_type(batch, list[str])
    assert_type(np6.events.stream_many(np6.segments.contacts(41), "bounces"), BulkStream[str, Bounce])
    assert_type(await np6.contacts.get("A"), ContactRecord)
    assert_type(await np6.contacts.get(Contact.by_hash("0" * 32)), ContactRecord)
    assert_type(await np6.contacts.count(), int)


async def red_list(np6: NP6Client) -> None:
    assert_type(np6.redlist.mail(), RedListEntries)
    async for entry in np6.redlist.sms("2026-01-01", timedelta(days=1)):
        assert_type(entry, RedListEntry)
        assert_type(entry.origin, RedListOrigin | None)
        assert_type(entry.at, datetime | None)
    async for batch in np6.redlist.mail(start=0).batches():
        assert_type(batch, list[RedListEntry])


async def campaigns(np6: NP6Client, kind: str, kinds: list[str]) -> None:
    """The events of a campaign narrow by kind, as streams do, and by several kinds of hits."""
    assert_type(np6.campaigns.events(1, 2), CampaignEvents[Hit])
    assert_type(np6.campaigns.events("1", ["2", 3], kinds="hits/open", start=0), CampaignEvents[Hit])
    assert_type(np6.campaigns.events(1, 2, kinds=["hits/open", EventKind.HITS_FORM]), CampaignEvents[Hit])
    assert_type(np6.campaigns.events(1, 2, kinds=("hits/open",), newest_first=True), CampaignEvents[Hit])
    assert_type(np6.campaigns.events(1, 2, kinds="bounces"), CampaignEvents[Bounce])
    assert_type(np6.campaigns.events(1, 2, kinds="stops"), CampaignEvents[Optout])
    assert_type(np6.campaigns.events(1, 2, kinds=EventKind.ACTIVATIONS), CampaignEvents[Activation])
    assert_type(np6.campaigns.events(1, 2, kinds="cancellations"), CampaignEvents[Cancellation])
    assert_type(np6.campaigns.events(1, 2, kinds=["hits/open", "bounces"], channel="sms"), CampaignEvents[Event])
    assert_type(np6.campaigns.events(1, 2, kinds=kind), CampaignEvents[Event])
    assert_type(np6.campaigns.events(1, 2, kinds=kinds), CampaignEvents[Event])
    async with np6.campaigns.events(1, range(5), kinds="bounces") as bounces:
        async for bounce in bounces:
            assert_type(bounce, Bounce)


def without_asyncio(np6: blocking.NP6Client, ids: list[str | Contact], kind: str) -> None:
    """The blocking client narrows as the async one does."""
    assert_type(np6.events.stream("a", kind="bounces"), blocking.EventStream[Bounce])
    assert_type(np6.events.stream("a", kind=kind), blocking.EventStream[Event])
    assert_type(np6.events.list("a", kind="stops"), EventList[Optout])
    assert_type(np6.events.list("a", kind=kind), EventList[Event])
    assert_type(np6.actions.list("cancellations", limit=5), EventList[Cancellation])
    assert_type(np6.reactivities.stream(kind="hits"), blocking.ActionStream[Hit])
    for event in np6.events.stream("a", kind=EventKind.BOUNCES):
        assert_type(event, Bounce)
    for batch in np6.events.stream("a", kind="hits").batches():
        assert_type(batch, list[Hit])
    with np6.events.stream_many(ids, kind="bounces", on_error="collect") as bounces:
        for contact, bounce in bounces:
            assert_type(contact, str | Contact)
            assert_type(bounce, Bounce)
        for _, bounced in bounces.batches():
            assert_type(bounced, list[Bounce])
    with np6.events.stream_many(np6.segments.contacts(41)) as events:
        assert_type(events, blocking.BulkStream[str, Event])
    for page in np6.events.pages(ids, "hits/open", start=0, every="1d"):
        assert_type(page, Page[str | Contact, Hit])
    assert_type(np6.campaigns.events(1, 2, kinds="stops"), blocking.CampaignEvents[Optout])
    assert_type(np6.contacts.get("a"), ContactRecord)
    for entry in np6.redlist.mail():
        assert_type(entry, RedListEntry)
    blocking.NP6Client("key", concurrency=8, hooks=[print])
    blocking.NP6Client("key", session=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def hooks() -> NP6Client:
    """Functions, the hook for logs, and the one for OpenTelemetry."""

    def observe(observation: Observation, /) -> None:
        match observation:
            case FetchFinished():
                assert_type(observation.error, NP6Error | None)
            case RequestStarted():
                assert_type(observation.contact, Contact | None)

    own: Hook = observe
    log = LoggingHook("mine", levels={RetryScheduled: logging.WARNING, FetchFinished: None})
    return NP6Client(hooks=[own, print, log, OpenTelemetryHook()], trace_configs=[TraceConfig()])


def sources() -> None:
    assert_type(account_events(start="2026-01-01", personal="drop"), DltSource)
    assert_type(contact_events(lambda np6: np6.segments.contacts(41), missing="empty"), DltSource)


def rate_limit(np6: NP6Client) -> None:
    said = np6.rate_limit
    assert_type(said, RateLimitStatus | None)
    if said is not None:
        assert_type(said.reset_at, datetime | None)


def records(event: Event, bounce: Bounce) -> Detail:
    """Events and records are attrs classes, with typed members, which cannot be assigned."""
    assert_type(event.id, str | None)
    assert_type(event.timestamp, int)
    assert_type(event.at, datetime)
    assert_type(event.identity, Identity | None)
    assert_type(event.raw, bytes)
    assert_type(event.source, Source | None)
    assert_type(event.data, dict[str, Any])
    assert_type(bounce.verdict, str | None)
    assert_type(attrs.asdict(event), dict[str, Any])
    assert_type(attrs.evolve(bounce, id="b"), Bounce)
    made = Bounce(id="a", timestamp=1, identity=Identity("customer", agency="DEMO"), raw=b"{}")
    made.id = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    Bounce(id="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Identity(unheard_of=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    match made.detail:
        case Detail(activation, bounce=BounceDetail(analysis=BounceAnalysis(verdict))):
            assert_type(activation, ActivationDetail | None)
            assert_type(verdict, str | None)
    return Detail(ActivationDetail("000PE4", version=2), bounce=BounceDetail())
