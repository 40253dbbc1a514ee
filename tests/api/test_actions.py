"""`np6.actions` and `np6.reactivities`: the events of all contacts, on real sockets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import pytest
from support.sync_world import MemoryStore

from np6_async import (
    Bounce,
    BulkError,
    Cancellation,
    Contact,
    Event,
    EventKind,
    Hit,
    InvalidBound,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NP6Client,
    UsageError,
    structure,
)
from np6_async.sync import Sync
from np6_async.testing import FakeNP6, Fault, make_activation, make_hit

NOON = 1_767_182_400_000  # 2025-12-31T12:00:00Z
SECOND = 1000


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(20, (0, 40)) as server:
        yield server


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client() as np6:
        yield np6


def counted(events: Iterable[Event]) -> Counter[bytes]:
    return Counter(event.raw for event in events)


async def of_contacts(np6: NP6Client, server: FakeNP6, kind: str = "all", **options: Any) -> list[Event]:
    """The same events, asked for contact by contact."""
    async with np6.events.stream_many(server.contact_ids, kind, **options) as events:
        return [event async for _, event in events]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("kind", [kind.value for kind in EventKind if kind is not EventKind.CANCELLATIONS])
async def test_one_request_gives_the_events_of_all_contacts_in_order(
    server: FakeNP6, np6: NP6Client, kind: str, newest_first: bool
) -> None:
    found = [event async for event in np6.actions.stream(kind, newest_first=newest_first)]
    times = [event.timestamp for event in found]
    assert times == sorted(times, reverse=newest_first)
    assert server.request_count == 1
    expected = await of_contacts(np6, server, kind)
    assert found
    if kind == "all":
        expected = [event for event in expected if event.recipient is not None]
        found = [event for event in found if event.recipient is not None]
    assert counted(found) == counted(expected)


async def test_an_action_gives_its_own_events(server: FakeNP6, np6: NP6Client) -> None:
    bounces = await np6.actions.list("bounces")
    action = bounces[0].activation and bounces[0].activation.id
    assert action is not None
    own = await np6.actions.list("bounces", action=action)
    assert counted(own) == counted(each for each in bounces if each.activation and each.activation.id == action)
    assert all(isinstance(each, Bounce) for each in own)
    server.assert_requests("GET /actions/events/bounces?sort=asc", f"GET /actions/{action}/events/bounces?sort=asc")


async def test_cancellations_can_be_fetched_by_action_and_not_by_contact(server: FakeNP6, np6: NP6Client) -> None:
    found = await np6.actions.list("cancellations")
    assert found
    assert all(isinstance(each, Cancellation) and each.cancellation is not None for each in found)
    with pytest.raises(
        InvalidInput, match=r"kind='cancellations' is not among the events of contacts; use one of: all, "
    ):
        np6.events.stream("000MLGPR", "cancellations")


async def test_bounds_classification_and_limit_are_those_of_events(server: FakeNP6, np6: NP6Client) -> None:
    everything = await np6.actions.list("hits", classification=["mpp", "gsr"])
    start, end = everything[5].timestamp, everything[-5].timestamp
    part = await np6.actions.list("hits", start=start, end=end, classification="mpp,gsr", limit=7)
    assert [each.id for each in part] == [each.id for each in everything if start <= each.timestamp < end][:7]
    with pytest.raises(InvalidInput, match="limit must be"):
        await np6.actions.list(limit=-1)
    with pytest.raises(InvalidInput, match="classification goes with the kinds of hits"):
        np6.actions.stream("bounces", classification="mpp")


async def test_each_event_names_its_contact(server: FakeNP6, np6: NP6Client) -> None:
    own: dict[Contact, set[bytes]] = {}
    events = [event for event in await np6.actions.list() if event.recipient is not None]
    assert len(events) > 20
    for event in events:
        assert event.recipient is not None
        contact = event.recipient.contact
        assert contact is not None
        if contact not in own:
            own[contact] = {other.raw for other in await np6.events.list(contact)}
        assert event.raw in own[contact]


@pytest.mark.parametrize(
    ("receiver", "contact"),
    [
        ({"type": "id", "value": "000MLGPR"}, Contact.by_id("000MLGPR")),
        ({"type": "footprint", "id": "000MLGPR", "unicity": "a@b.c", "hash": "0" * 32}, Contact.by_id("000MLGPR")),
        ({"type": "footprint", "unicity": ["a@b.c"], "hash": "A" * 32}, Contact.by_hash("A" * 32)),
        ({"type": "unicity", "value": ["a@b.c"]}, Contact.by_unicity("a@b.c")),
        ({"type": "unicity", "value": "a@b.c"}, Contact.by_unicity("a@b.c")),
        ({"type": "unicity", "value": ["a", "b"]}, None),
        ({"type": "hash", "value": "0" * 32}, Contact.by_hash("0" * 32)),
        ({"type": "hash", "value": "short"}, None),
        ({"type": "contact", "value": {"type": "id", "value": "000MLGPR"}}, Contact.by_id("000MLGPR")),
        ({"type": "id", "value": "../x"}, None),
        ({"type": "new"}, None),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("place", ["activation", "execution"])
def test_a_recipient_is_a_contact_to_ask_with_where_its_notation_allows(
    receiver: dict[str, Any], contact: Contact | None, place: str
) -> None:
    detail = {"activation": {"receiver": receiver}} if place == "activation" else {"execution": {"recipient": receiver}}
    event = structure({"timestamp": 1, "type": "hit", "source": {"type": "email", "detail": detail}})
    assert event.recipient is not None
    assert event.recipient.type == receiver["type"]
    assert event.recipient.contact == contact


def test_an_event_that_names_no_contact_has_no_recipient() -> None:
    assert structure({"timestamp": 1, "type": "creation"}).recipient is None


async def test_actions_are_fetched_concurrently_with_their_failures(server: FakeNP6, np6: NP6Client) -> None:
    everything = await np6.actions.list()
    ids = sorted({each.activation.id for each in everything if each.activation and each.activation.id})
    async with np6.actions.stream_many([*ids, "NOSUCH"], on_error="collect") as events:
        found = [(action, event) async for action, event in events]
    assert counted(event for _, event in found) >= counted(
        each for each in everything if each.activation and each.activation.id
    )
    assert all(event.detail.activation is None or event.detail.activation.id == action for action, event in found)
    (failure,) = events.failures
    assert failure.contact == "NOSUCH"
    assert isinstance(failure.error, NotFound)
    assert failure.error.contact == "NOSUCH"
    assert str(failure.error).startswith("action NOSUCH: ")
    assert [each async for each in np6.actions.stream(action="NOSUCH", missing="empty")] == []
    with pytest.raises(BulkError):
        async with np6.actions.stream_many(["NOSUCH", ids[0]]) as events:
            [each async for each in events]


async def test_a_404_for_the_whole_account_is_never_taken_for_no_events(server: FakeNP6, np6: NP6Client) -> None:
    """The account exists: it is the address that is wrong, or a gateway's answer."""
    server.script(Fault.status(404), times=None)
    with pytest.raises(NotFound):
        await np6.actions.list(missing="empty")
    with pytest.raises(NotFound):
        await np6.reactivities.list(missing="empty")
    store = MemoryStore()
    async with Sync(np6, store, account=True, missing="empty").run() as run:
        assert [each async for each in run.batches()] == []
        assert run.stats.failed == 1
    assert "account:" not in store.values


@pytest.mark.parametrize("order", ["input", "time"])
async def test_actions_come_in_the_order_that_is_asked_for(server: FakeNP6, np6: NP6Client, order: Any) -> None:
    everything = await np6.actions.list("hits")
    ids = sorted({each.activation.id for each in everything if each.activation and each.activation.id})
    async with np6.actions.stream_many(ids, "hits", start=0, end=NOON * 2, order=order) as events:
        found = [(action, event) async for action, event in events]
    if order == "time":
        assert [event.timestamp for _, event in found] == sorted(event.timestamp for _, event in found)
    else:
        assert list(dict.fromkeys(action for action, _ in found)) == ids
    assert counted(event for _, event in found) == counted(everything)


@pytest.mark.parametrize("action", [None, "some"])
@pytest.mark.parametrize("form", [{"every": "1w"}, {"size": 17}])
async def test_pages_tile_the_time_and_continue_after_any_cursor(
    server: FakeNP6, np6: NP6Client, action: str | None, form: dict[str, Any]
) -> None:
    everything = await np6.actions.list()
    if action is not None:
        action = next(each.activation.id for each in everything if each.activation)
        everything = await np6.actions.list(action=action)
    start, end = everything[0].timestamp, everything[-1].timestamp + 1
    options: dict[str, Any] = {"action": action, "start": start, "end": end, **form}
    pages = [page async for page in np6.actions.pages(**options)]
    assert counted(event for page in pages for _, event in page.items) == counted(everything)
    assert {name for page in pages for name, _ in page.items} == {action or "all"}
    for number, page in enumerate(pages):
        rest = [page async for page in np6.actions.pages(**options, after=str(page.cursor))]
        assert [len(each.items) for each in rest] == [len(each.items) for each in pages[number + 1 :]]
    with pytest.raises(InvalidInput, match="cursor of another query"):
        np6.events.pages(server.contact_ids[0], start=start, **form, after=pages[0].cursor)


async def test_reactivities_have_a_window_for_the_sending_and_one_for_the_reaction(
    server: FakeNP6, np6: NP6Client
) -> None:
    contact = server.add_contact("C")
    sent = [NOON, NOON + 3600 * SECOND]
    events = []
    for sending in sent:
        for after in (1, 24 * 3600, 100 * 24 * 3600):
            hit = make_hit(at=sending + after * SECOND)
            hit["source"]["detail"]["activation"]["stamp"]["time"] = sending
            events.append(hit)
    server.add_events(contact, events)
    span, long = (sent[0], sent[0] + 1), (NOON, None)
    found = await np6.reactivities.list("hits", sent=span, reacted=long)
    assert [each.timestamp for each in found] == [NOON + after * SECOND for after in (1, 86_400, 8_640_000)]
    found = await np6.reactivities.list(sent=(sent[0], sent[1] + 1), reacted=(sent[0] + 3600 * SECOND, sent[1] + 1001))
    assert [each.timestamp for each in found] == [sent[1] + 1000]
    assert server.requests[-1].query == {
        "sort": "asc",
        "activationStart": "2025-12-31T12:00:00.000Z",
        "activationEnd": "2025-12-31T13:00:00.001Z",
        "reactivityStart": "2025-12-31T13:00:00.000Z",
        "reactivityEnd": "2025-12-31T13:00:01.001Z",
    }
    assert [page.items[0][1].timestamp async for page in np6.reactivities.pages(sent=span, reacted=long, size=2)] == [
        NOON + SECOND,
        NOON + 8_640_000 * SECOND,
    ]


async def test_reactivities_refuse_what_they_do_not_have(np6: NP6Client) -> None:
    for kind in ("activations", "stops", "cancellations"):
        with pytest.raises(
            InvalidInput, match=f"kind='{kind}' is not among the reactivities of actions; use one of: all, bounces"
        ):
            np6.reactivities.stream(kind)
    with pytest.raises(InvalidInput, match=r"sent must be a pair \(start, end\)"):
        np6.reactivities.stream(sent="2026-01-01")  # type: ignore[arg-type]
    with pytest.raises(InvalidBound, match=r"^reacted\[0\]=.* is later than reacted\[1\]="):
        np6.reactivities.stream(reacted=(2 * NOON, NOON))
    with pytest.raises(InvalidInput, match=r"every= needs reacted\[0\]=: the time from there on is cut into windows"):
        np6.reactivities.pages(reacted=(None, NOON), every="1d")


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a?b", 7])
async def test_an_action_that_cannot_be_one_is_refused_before_any_request(
    server: FakeNP6, np6: NP6Client, bad: Any
) -> None:
    with pytest.raises(InvalidInput, match="action"):
        np6.actions.stream(action=bad)
    with pytest.raises(InvalidInput, match="action"):
        await np6.reactivities.list(action=bad)
    with pytest.raises(InvalidInput, match="stream_many takes an iterable of actions"):
        np6.actions.stream_many("000PE4")
    with pytest.raises(InvalidInput, match="kind='000PE4' is not a kind of event"):
        np6.actions.stream("000PE4")
    assert server.request_count == 0


async def test_an_error_of_the_account_says_so(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.status(400))
    with pytest.raises(Exception, match=r"^the account: "):
        await np6.actions.list()


async def test_more_ties_than_can_be_told_apart_are_an_error_and_not_a_guess(
    monkeypatch: pytest.MonkeyPatch, server: FakeNP6, np6: NP6Client
) -> None:
    monkeypatch.setattr("np6_async._protocol.resume.MAX_TIES", 500)
    for number in range(3):
        server.add_contact(f"T{number}", [make_activation(at=NOON) for _ in range(200)])
    with pytest.raises(LimitExceeded, match="share one timestamp"):
        await np6.actions.list("activations", start=NOON, end=NOON + 1)


async def test_a_stream_of_the_account_is_read_by_one_task_and_closed_like_any(server: FakeNP6, np6: NP6Client) -> None:
    stream = np6.actions.stream("hits", action=None)
    assert stream.action is None
    async with stream:
        first = await anext(stream)
    assert isinstance(first, Hit)
    assert stream.stats.requests == 1
    with pytest.raises(UsageError):
        await anext(np6.actions.stream_many(["A"]))
    assert (await np6.actions.list("bounces", start=timedelta(0), end=timedelta(0))) == []
