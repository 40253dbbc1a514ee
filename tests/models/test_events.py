"""What users may rely on about events."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import strategies

import np6_async
from np6_async._errors import DecodeError, InvalidInput
from np6_async._models.convert import loads
from np6_async._models.details import Detail, Identity, Link, Source
from np6_async._models.events import (
    EVENT_TYPES,
    Activation,
    Bounce,
    Cancellation,
    EventKind,
    Execution,
    Hit,
    Optout,
    UnknownEvent,
    event_class,
    structure,
    structure_tolerant,
    unstructure,
)

SECRET = "someone@example.com"
BOUNCE = {
    "type": "bounce",
    "id": "0f8b2c52-6a1e-4d0e-9d6e-2a7c3f1b9e10",
    "timestamp": 1614089582000,
    "identity": {"type": "customer", "agency": "DEMO", "customer": "028"},
    "source": {
        "type": "email",
        "detail": {
            "activation": {
                "id": "000PE4",
                "kind": "message",
                "receiver": {"type": "footprint", "id": "0013KDC0", "unicity": SECRET, "hash": "ab"},
                "recipient": SECRET,
            },
            "bounce": {
                "status": {"type": "sync", "code": {"enhanced": "5.4.4"}, "diagnostic": f"<{SECRET}> unknown"},
                "analysis": {"verdict": "soft"},
            },
        },
    },
}

events = strategies.events()
kinds = st.sampled_from(list(EventKind))


# --- which class ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", strategies.EVENT_TYPES)
def test_every_documented_type_has_its_public_class(name: str) -> None:
    cls = getattr(np6_async, name.capitalize())
    event = structure({"type": name, "timestamp": 1})
    assert type(event) is cls
    assert event.type == name


def test_there_are_no_other_classes() -> None:
    assert sorted(filter(None, EVENT_TYPES)) == strategies.EVENT_TYPES


@pytest.mark.parametrize("name", ["delivery", "Bounce", "", "bounce ", 5, None, [], {}, True])
def test_any_other_type_is_an_unknown_event_that_keeps_everything(name: Any) -> None:
    sent = {"type": name, "timestamp": 1, "new": {"a": [1]}, "source": {"type": "pigeon"}}
    event = structure(sent)
    assert type(event) is UnknownEvent
    assert event.type == (name if isinstance(name, str) else None)
    assert event.data == unstructure(event) == sent
    assert event.channel == "pigeon"


@pytest.mark.parametrize("kind", list(EventKind))
def test_an_endpoint_of_one_kind_decides_the_type_of_events_that_have_none(kind: EventKind) -> None:
    event = structure({"timestamp": 1}, kind)
    cls = event_class(kind)
    assert type(event) is (cls or UnknownEvent)
    assert event.type == kind.default_type
    assert unstructure(event).get("type") == kind.default_type


@pytest.mark.parametrize("kind", [kind for kind in EventKind if kind is not EventKind.ALL])
def test_an_endpoint_of_one_kind_decides_the_class_and_keeps_the_type_that_the_server_sent(kind: EventKind) -> None:
    event = structure({"type": "delivery", "timestamp": 1}, kind)
    assert type(event) is event_class(kind)
    assert event.type == "delivery"


@pytest.mark.parametrize(
    ("kind", "suffix", "cls"),
    [
        ("all", "", None),
        ("activations", "/activations", Activation),
        ("bounces", "/bounces", Bounce),
        ("stops", "/responses/stop", Optout),
        ("hits", "/hits", Hit),
        ("hits/open", "/hits/open", Hit),
        ("hits/redirection", "/hits/redirection", Hit),
        ("hits/unsubscribe", "/hits/unsubscribe", Hit),
        ("hits/mirror", "/hits/mirror", Hit),
        ("hits/form", "/hits/form", Hit),
    ],
)
def test_a_kind_is_named_by_its_value_and_knows_its_path_and_class(kind: str, suffix: str, cls: Any) -> None:
    member = EventKind.parse(kind)
    assert member == kind
    assert EventKind.parse(member) is member
    assert member.suffix == suffix
    assert member.is_hits == kind.startswith("hits")
    assert event_class(member) is cls


@pytest.mark.parametrize("kind", ["", "bounce", "ALL", "hits/", "x" * 10_000])
def test_an_unknown_kind_is_refused_naming_the_known_ones(kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        EventKind.parse(kind)
    message = str(caught.value)
    assert all(member in message for member in EventKind)
    assert len(message) < 300
    with pytest.raises(InvalidInput):
        structure({"timestamp": 1}, kind)


# --- the envelope -----------------------------------------------------------------------------------------


def test_the_envelope_is_available_without_structuring_the_source() -> None:
    event = structure(BOUNCE)
    assert (event.id, event.timestamp, event.type) == (BOUNCE["id"], 1614089582000, "bounce")
    assert event.identity == Identity("customer", "DEMO", "028")
    assert event.at == datetime(2021, 2, 23, 14, 13, 2, tzinfo=UTC)


@given(strategies.timestamps)
def test_at_is_the_timestamp_to_the_millisecond_in_utc(timestamp: int) -> None:
    at = structure({"timestamp": timestamp}).at
    assert at.tzinfo is UTC
    assert (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == timestamp
    assert at.microsecond % 1000 == 0


@pytest.mark.parametrize("sent", [1614089582000, 1614089582000.0, "1614089582000", "1614089582000.0", "1.614089582e12"])
def test_a_timestamp_is_read_in_every_notation_and_given_as_an_int(sent: Any) -> None:
    event = structure({"timestamp": sent})
    assert event.timestamp == 1614089582000
    assert type(event.timestamp) is int
    assert event.data["timestamp"] == sent
    assert unstructure(event)["timestamp"] == 1614089582000


@pytest.mark.parametrize(
    "sent",
    [
        None,
        True,
        False,
        1.5,
        "",
        "soon",
        "2021-02-23T14:13:02Z",
        [],
        {},
        float("nan"),
        float("inf"),
        "9" * 5000,
        strategies.MAX_TIMESTAMP + 1,
        10**30,
        -1,
        "-1",
    ],
)
def test_an_event_without_a_usable_timestamp_is_a_decode_error(sent: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        structure({"timestamp": sent})
    assert "timestamp" in str(caught.value)
    with pytest.raises(DecodeError):
        structure({})


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_anything_but_an_object_is_a_decode_error(data: Any) -> None:
    with pytest.raises(DecodeError):
        structure(data)


@pytest.mark.parametrize(
    ("sent", "identifier"), [("a", "a"), ("", ""), (5, "5"), (None, None), (True, None), ([], None), ({}, None)]
)
def test_an_id_is_text_or_none(sent: Any, identifier: str | None) -> None:
    assert structure({"id": sent, "timestamp": 1}).id == identifier
    assert structure({"timestamp": 1}).id is None


@pytest.mark.parametrize("odd", [5, "x", [], True])
def test_an_odd_identity_is_none(odd: Any) -> None:
    assert structure({"timestamp": 1, "identity": odd}).identity is None


def test_events_cannot_be_changed() -> None:
    event = structure(BOUNCE)
    assert event.source is not None
    for name in ("id", "timestamp", "type", "identity", "raw", "source", "unheard_of"):
        with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
            setattr(event, name, None)


# --- details ----------------------------------------------------------------------------------------------


def test_a_bounce_has_shortcuts_to_its_status_and_analysis() -> None:
    event = structure(BOUNCE)
    assert isinstance(event, Bounce)
    assert event.channel == "email"
    assert event.verdict == "soft"
    assert event.status is not None
    assert event.status.code is not None
    assert event.status.code.enhanced == "5.4.4"
    assert event.analysis is event.bounce.analysis if event.bounce else False
    assert event.activation is not None
    assert event.activation.receiver is not None
    assert event.activation.receiver.unicity == SECRET
    assert event.execution is None


def test_hits_cancellations_and_executions_have_shortcuts_to_their_details() -> None:
    def source(**detail: Any) -> dict[str, Any]:
        return {"timestamp": 1, "source": {"detail": detail}}

    hit = structure(source(link={"type": "open"}) | {"type": "hit"})
    assert isinstance(hit, Hit)
    assert hit.link == Link("open")
    cancelled = structure(source(cancellation={"type": "user defined policy"}) | {"type": "cancellation"})
    assert isinstance(cancelled, Cancellation)
    assert cancelled.cancellation is not None
    assert cancelled.cancellation.type == "user defined policy"
    executed = structure(source(execution={"data": {"a": 1}}) | {"type": "execution"})
    assert isinstance(executed, Execution)
    assert executed.execution is not None
    assert executed.execution.data == {"a": 1}


@pytest.mark.parametrize("source", [None, {}, {"detail": None}, {"detail": 5}, 5, "x", {"detail": {"bounce": []}}])
@pytest.mark.parametrize("name", strategies.EVENT_TYPES)
def test_shortcuts_are_none_where_nothing_is_there(name: str, source: Any) -> None:
    event = structure({"type": name, "timestamp": 1, "source": source})
    assert event.detail == Detail()
    for shortcut in (
        "channel",
        "activation",
        "execution",
        "bounce",
        "status",
        "analysis",
        "verdict",
        "link",
        "cancellation",
    ):
        assert getattr(event, shortcut, None) is None


def test_the_source_is_structured_once() -> None:
    event = structure(BOUNCE)
    assert isinstance(event.source, Source)
    assert event.source is event.source


@pytest.mark.slow
@given(strategies.events(source=strategies.odd_sources))
def test_no_source_is_too_odd_to_be_looked_at(data: dict[str, Any]) -> None:
    event = structure(data)
    assert event.source is None or isinstance(event.source, Source)
    assert isinstance(event.detail, Detail)
    assert event.channel is None or isinstance(event.channel, str)
    assert unstructure(event)["timestamp"] == data["timestamp"]


def test_no_member_of_a_body_can_take_the_place_of_what_the_class_holds() -> None:
    event = structure({"timestamp": 1, "raw": "x", "data": 5, "at": None, "__class__": "x", "detail": 1, "_Raw": 1})
    assert isinstance(event.raw, bytes)
    assert event.data["raw"] == "x"
    assert event.at.year == 1970
    assert event.detail == Detail()


# --- to plain JSON types and back -------------------------------------------------------------------------


@pytest.mark.slow
@given(events, kinds)
def test_unstructure_keeps_every_member_known_or_not(data: dict[str, Any], kind: EventKind) -> None:
    event = structure(data, kind)
    expected = dict(data)
    if data.get("type") is None and kind.default_type:
        expected["type"] = kind.default_type
    assert unstructure(event) == expected
    assert event.data == data
    json.dumps(unstructure(event), allow_nan=False)


@pytest.mark.slow
@given(events, kinds)
def test_structure_is_the_inverse_of_unstructure(data: dict[str, Any], kind: EventKind) -> None:
    event = structure(data, kind)
    again = structure(unstructure(event), kind)
    assert again == event
    assert hash(again) == hash(event)
    assert (again.source, again.identity, again.raw) == (event.source, event.identity, again.raw)
    exported = structure(json.loads(json.dumps(unstructure(event))), kind)
    assert exported == event


def test_data_is_the_callers_own() -> None:
    event = structure(BOUNCE)
    event.data["source"].clear()
    unstructure(event).clear()
    assert event.data == unstructure(event) == BOUNCE


@pytest.mark.parametrize(
    "raw",
    [
        b'{"timestamp":1,"id":"a","source":{"type":"caf\xe9"}}',
        b'{"timestamp":1,"id":"\\ud800","source":{"type":"\\udfff"}}',
        b'{"timestamp":1,"id":"a","source":{"type":NaN,"detail":{"activation":{"version":1e999}}}}',
        b'{"timestamp":1,"id":"a","x":' + b"9" * 5000 + b"}",
    ],
)
def test_json_with_odd_characters_or_numbers_is_read_and_kept_as_it_came(raw: bytes) -> None:
    event = structure_tolerant(loads(raw), raw, EventKind.ALL)
    assert event.raw == raw
    assert isinstance(event.source, Source | None)
    assert structure(unstructure(event)) == event
    assert structure(unstructure(event)).id == event.id


# --- equality, pickle, repr -------------------------------------------------------------------------------


@pytest.mark.slow
@given(events)
def test_white_space_and_the_order_of_members_make_no_difference(data: dict[str, Any]) -> None:
    raw = json.dumps(dict(reversed(data.items())), indent=2).encode()
    other = structure_tolerant(json.loads(raw), raw, EventKind.ALL)
    assert other == structure(data)
    assert hash(other) == hash(structure(data))
    assert other.raw == raw


@pytest.mark.slow
@given(events, events)
def test_events_that_differ_in_any_member_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (structure(one) == structure(other)) == (one == other)
    changed = one | {"timestamp": other["timestamp"]}
    assert (structure(one) == structure(changed)) == (one["timestamp"] == other["timestamp"])


def test_equal_events_hash_alike_whatever_notation_their_numbers_have() -> None:
    same = [structure({"timestamp": 5, "id": 1}), structure({"timestamp": "5", "id": 1})]
    assert same[0] == same[1]
    assert len(set(same)) == 1
    assert structure({"timestamp": 5, "id": 1}) != structure({"timestamp": 5, "id": 1.0})


def test_events_of_different_classes_differ_and_nothing_else_is_equal() -> None:
    assert structure({"timestamp": 1}) != structure({"timestamp": 1}, "bounces")
    assert structure({"timestamp": 1, "type": "x"}, "hits") != structure({"timestamp": 1, "type": "x"}, "bounces")
    assert structure(BOUNCE) != BOUNCE


@pytest.mark.slow
@given(events, kinds, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_events_survive_pickle_and_copy(data: dict[str, Any], kind: EventKind, protocol: int) -> None:
    event = structure(data, kind)
    for again in (pickle.loads(pickle.dumps(event, protocol)), copy.copy(event), copy.deepcopy(event)):  # noqa: S301
        assert type(again) is type(event)
        assert again == event
        assert (again.raw, again.type, again.id, again.identity) == (event.raw, event.type, event.id, event.identity)
        assert again.source == event.source


@pytest.mark.parametrize("name", [*strategies.EVENT_TYPES, "delivery"])
@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_personal_data_stays_out_of_the_repr_of_events_and_of_all_they_hold(name: str, show: Any) -> None:
    event = structure(BOUNCE | {"type": name, "unicity": SECRET})
    assert show(event).startswith(type(event).__name__ + "(id='0f8b2c52-6a1e-4d0e-9d6e-2a7c3f1b9e10', at=2021-02-23T14")
    for shown in (event, [event], event.source, event.detail, event.activation, event.detail.bounce, event.identity):
        assert SECRET not in show(shown)


def test_errors_do_not_quote_the_event() -> None:
    with pytest.raises(DecodeError) as caught:
        structure(BOUNCE | {"timestamp": SECRET})
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None
