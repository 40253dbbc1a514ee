"""What the event factories promise."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from np6_async import EventKind, InvalidInput
from np6_async.testing import (
    FakeNP6,
    make_activation,
    make_bounce,
    make_event,
    make_events,
    make_hit,
    make_optout,
)

TYPES = [
    "activation",
    "bounce",
    "cancellation",
    "complaint",
    "creation",
    "execution",
    "hit",
    "impression",
    "modification",
    "optout",
    "reply",
    "suppression",
]


@pytest.mark.parametrize("kind", TYPES)
def test_every_documented_type_has_its_shape(kind: str) -> None:
    """The envelope of NP6's samples, a source with details, and only values that JSON can represent."""
    event = make_event(kind, contact="000MLGPR")
    assert list(event) == ["type", "id", "timestamp", "identity", "source"]
    assert event["type"] == kind
    assert event["identity"] == {"type": "customer", "agency": "DEMO", "customer": "028"}
    assert set(event["source"]) == {"type", "detail"}
    assert event["source"]["detail"]
    assert json.loads(json.dumps(event)) == event
    assert "000MLGPR" in json.dumps(event)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (make_activation(), "activations"),
        (make_event("cancellation"), "cancellations"),
        (make_bounce(), "bounces"),
        (make_optout(), "stops"),
        *[(make_hit(link), f"hits/{link}") for link in ("open", "redirection", "unsubscribe", "mirror", "form")],
    ],
)
async def test_every_kind_has_a_factory(event: dict[str, Any], kind: str) -> None:
    """Its event belongs to that kind, and to no other kind but `all` and `hits`."""
    async with FakeNP6(contacts=0) as server, server.client() as np6:
        server.add_contact("A", [event])
        for each in EventKind:
            found = [got.id for got in await np6.actions.list(each)]
            expected = each in (kind, "all") or (each == "hits" and kind.startswith("hits/"))
            assert found == ([event["id"]] if expected else [])


def test_a_bounce_is_like_the_one_in_the_reference() -> None:
    """Member for member, and the verdict, code and words asked for."""
    event = make_bounce("soft", code="4.2.2", diagnostic="full", at=1_614_089_582_000, unicity="me@example.com")
    detail = event["source"]["detail"]
    assert set(detail) == {"activation", "bounce"}
    assert set(detail["activation"]) == {"id", "kind", "receiver", "stamp", "recipient"}
    assert detail["activation"]["receiver"] == {"type": "id", "value": "0013KDC0"}
    assert set(detail["activation"]["stamp"]) == {"time", "id", "thread"}
    assert detail["activation"]["stamp"]["time"] < event["timestamp"] == 1_614_089_582_000
    assert detail["activation"]["recipient"] == "me@example.com"
    assert detail["bounce"]["status"] == {
        "type": "sync",
        "code": {"enhanced": "4.2.2"},
        "diagnostic": "full",
        "mta": "",
    }
    assert detail["bounce"]["analysis"]["verdict"] == "soft"
    assert make_bounce()["source"]["detail"]["bounce"]["analysis"]["verdict"] == "hard"


def test_hits_have_the_link_asked_for() -> None:
    """Each type of link, open by default, with a footprint as the receiver."""
    for link in ("redirection", "unsubscribe", "mirror", "form"):
        assert make_hit(link)["source"]["detail"]["link"]["type"] == link
    detail = make_hit()["source"]["detail"]
    assert detail["link"]["type"] == "open"
    assert detail["activation"]["receiver"]["type"] == "footprint"


def test_events_differ_in_id_and_time_and_nothing_else() -> None:
    """Events of two calls never clash, come in order, and are the same apart from ids and times."""
    events = [make_activation() for _ in range(100)]
    assert len({event["id"] for event in events}) == 100
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(set(stamps))
    assert all(stamp % 1000 == 0 for stamp in stamps)
    for event in events:
        del event["id"], event["timestamp"], event["source"]["detail"]["activation"]["stamp"]
    assert all(event == events[0] for event in events)


def test_any_member_can_be_set() -> None:
    """Known members are replaced and unknown ones added; types may be unknown."""
    moment = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    event = make_event("delivery", id="mine", at=moment, source=None, novel=[1])
    assert event["type"] == "delivery"
    assert (event["id"], event["timestamp"]) == ("mine", 1_770_091_506_789)
    assert (event["source"], event["novel"]) == (None, [1])
    assert make_hit(timestamp="soon", extra=1)["timestamp"] == "soon"
    with pytest.raises(ValueError, match=r"at=.* is naive"):
        make_event(at=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("make", [lambda: make_bounce("hrad"), lambda: make_hit("opne")])  # type: ignore[arg-type]
def test_a_misspelt_value_is_refused_and_the_known_ones_are_named(make: Any) -> None:
    """For a deliberately unknown value there is `make_event("hit", source=...)`."""
    with pytest.raises(
        InvalidInput, match=r"='(hrad' is not one of hard, soft|opne' is not one of open, .*, form); for"
    ):
        make()


@pytest.mark.parametrize(
    "at", [1_770_091_506, 1_770_091_506_000, 1_770_091_506.0, "2026-02-03T04:05:06Z", "1770091506"]
)
def test_times_are_read_as_the_client_reads_them(at: Any) -> None:
    """Epoch seconds below 1e11, milliseconds from there, and text: `start=x` finds an event at `x`."""
    assert make_event(at=at)["timestamp"] == 1_770_091_506_000
    assert make_hit(at=at)["timestamp"] == make_bounce(at=at)["timestamp"] == 1_770_091_506_000


def test_histories_end_where_asked() -> None:
    assert make_events(20, now=1_770_091_506) == make_events(20, now=1_770_091_506_000)
    assert max(event["timestamp"] for event in make_events(20, now=1_770_091_506)) < 1_770_091_506_000


def test_a_history_follows_from_its_seed() -> None:
    """`make_events` returns the same for the same arguments: sorted, unique ids, inside the period, with ties."""
    history = make_events(500, seed=3, contact="000MLGPR", period=timedelta(days=1))
    assert history == make_events(500, seed=3, contact="000MLGPR", period=timedelta(days=1))
    assert history != make_events(500, seed=4, contact="000MLGPR", period=timedelta(days=1))
    stamps = [event["timestamp"] for event in history]
    end = 1_767_225_600_000
    assert stamps == sorted(stamps)
    assert end - 86_400_000 <= stamps[0] <= stamps[-1] < end
    assert len(set(stamps)) < 500 == len({event["id"] for event in history})
    assert set(Counter(event["type"] for event in history)) == set(TYPES)
    assert make_events(0) == []
    with pytest.raises(ValueError, match="count"):
        make_events(-1)


def test_histories_show_every_shape() -> None:
    """All notations of a receiver, all links, both verdicts, optional members both present and absent."""
    seen: Counter[str] = Counter()
    for event in make_events(3000):
        detail: dict[str, Any] = event["source"]["detail"]
        seen[event["source"]["type"]] += 1
        if "link" in detail:
            seen[detail["link"]["type"]] += 1
        if "bounce" in detail:
            seen[detail["bounce"]["analysis"]["verdict"]] += 1
            seen[f"subject {'detail' in detail['bounce']['analysis']['subject']}"] += 1
        if activation := detail.get("activation"):
            receiver = activation["receiver"]
            seen[f"{receiver['type']} {type(receiver.get('unicity', receiver.get('value'))).__name__}"] += 1
            seen[f"set {'set' in activation['stamp']}"] += 1
            assert activation["stamp"]["time"] <= event["timestamp"]
    assert {"email", "sms", "notification", "display"} <= set(seen)
    assert {"open", "redirection", "unsubscribe", "mirror", "form", "hard", "soft"} <= set(seen)
    assert {"subject True", "subject False", "set True", "set False"} <= set(seen)
    assert {"id str", "footprint str", "footprint list", "unicity list", "hash str", "contact dict"} <= set(seen)
