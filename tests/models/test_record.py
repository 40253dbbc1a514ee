"""Events and records are attrs classes to attrs, cattrs, copy, pickle and `match`, though they are made otherwise."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import cattrs
import msgspec
import pytest
from cattrs.preconf.json import make_converter as make_json_converter
from cattrs.preconf.msgspec import make_converter as make_msgspec_converter
from cattrs.strategies import configure_union_passthrough
from support import strategies

import np6_async
from np6_async import structure
from np6_async._models import account, details
from np6_async._models.convert import loads
from np6_async._models.details import ContactRef, Detail, Identity, Link, Source, Stamp
from np6_async._models.events import Bounce, Event, EventKind, UnknownEvent, structure_tolerant
from np6_async._models.record import record
from np6_async._protocol.event_decoder import decode_whole

SECRET = "someone@example.com"
SENT: dict[str, Any] = {
    "type": "bounce",
    "id": "0f8b",
    "timestamp": 1_614_089_582_000,
    "identity": {"type": "customer", "agency": "DEMO", "customer": "028"},
    "source": {
        "type": "email",
        "detail": {
            "activation": {"id": "000PE4", "receiver": {"type": "id", "value": SECRET}, "recipient": SECRET},
            "bounce": {"status": {"code": {"enhanced": "5.4.4"}}, "analysis": {"verdict": "soft"}},
        },
    },
}
RECORDS = [
    *strategies.RECORDS,
    *(cls for cls in vars(account).values() if hasattr(cls, "__attrs_attrs__") and cls.__module__ == account.__name__),
]
CLASSES = [
    cls for cls in vars(np6_async).values() if isinstance(cls, type) and issubclass(cls, Event) and cls is not Event
]
DEFAULT = cattrs.Converter()
# It does not know what to do with a union of plain types, such as that of `ActivationDetail.version`.
configure_union_passthrough(str | int | float | None, DEFAULT)
CONVERTERS = [DEFAULT, make_json_converter(), make_msgspec_converter()]


def decoded(body: dict[str, Any] | bytes, kind: str = "all") -> Any:
    """As it comes from the network: by msgspec, in one piece."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    events = decode_whole(b"[" + raw + b"]", EventKind.parse(kind), np6_async.DecodeLimits())
    assert events is not None
    return events[0]


def makers() -> list[Any]:
    return [decoded, structure]


# -- attrs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Event, *CLASSES])
def test_events_are_attrs_classes_with_all_their_members(cls: Any) -> None:
    assert attrs.has(cls)
    assert [each.name for each in attrs.fields(cls)] == ["id", "timestamp", "type", "identity", "raw", "source"]
    assert attrs.fields(cls).source.type == Source | None
    assert attrs.fields_dict(cls)["timestamp"].type is int


@pytest.mark.parametrize("make", makers())
def test_asdict_of_an_event_holds_the_details(make: Any) -> None:
    """Also where nobody has looked at them before."""
    plain = attrs.asdict(make(SENT))
    assert plain["source"]["detail"]["bounce"]["analysis"]["verdict"] == "soft"
    assert plain["source"]["detail"]["activation"]["recipient"] == SECRET
    assert plain["identity"] == SENT["identity"]
    assert loads(plain["raw"]) == SENT
    shallow = attrs.asdict(make(SENT), recurse=False)
    assert isinstance(shallow["source"], Source)
    assert attrs.asdict(make(SENT), filter=lambda attribute, _: attribute.name == "id") == {"id": "0f8b"}
    assert attrs.astuple(make(SENT), recurse=False)[5] == make(SENT).source


@pytest.mark.parametrize("make", makers())
def test_an_event_evolves(make: Any) -> None:
    event = make(SENT)
    later = attrs.evolve(event, timestamp=event.timestamp + 1)
    assert type(later) is Bounce
    assert (later.timestamp, later.id, later.identity, later.raw) == (
        event.timestamp + 1,
        event.id,
        event.identity,
        event.raw,
    )
    assert later.source == event.source
    assert later != event
    assert attrs.evolve(event) == event
    with pytest.raises(TypeError):
        attrs.evolve(event, unheard_of=1)


@pytest.mark.parametrize("cls", RECORDS)
def test_records_are_attrs_classes(cls: Any) -> None:
    assert attrs.has(cls)
    names = [each.name for each in attrs.fields(cls)]
    made = cls(**dict.fromkeys(names))
    assert attrs.asdict(made, recurse=False) == dict.fromkeys(names)
    assert attrs.astuple(made, recurse=False) == (None,) * len(names)
    changed = attrs.evolve(made, **{names[0]: "x"})
    assert getattr(changed, names[0]) == "x"
    assert changed != made
    assert attrs.evolve(changed, **{names[0]: None}) == made
    assert set(names) <= set(dir(made))
    assert cls.__doc__
    assert attrs.resolve_types(cls) is cls
    with pytest.raises(TypeError):
        cls(unheard_of=1)


@pytest.mark.parametrize("cls", RECORDS)
def test_records_copy_pickle_hash_and_compare(cls: Any) -> None:
    names = [each.name for each in attrs.fields(cls)]
    made = cls(**{name: f"{name}!" for name in names})
    for again in (copy.copy(made), copy.deepcopy(made), attrs.evolve(made)):
        assert again == made
        assert type(again) is cls
        assert hash(again) == hash(made)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(made, protocol)) == made  # noqa: S301
    assert len({made, copy.copy(made), cls(**dict.fromkeys(names))}) == 2
    assert made != tuple(f"{name}!" for name in names)


def test_nothing_can_be_assigned_or_deleted() -> None:
    """With a plain AttributeError, and by `object.__setattr__` neither."""
    for made, name in ((Identity("customer"), "type"), (structure(SENT), "id"), (structure(SENT), "source")):
        for change in (
            lambda made=made, name=name: setattr(made, name, "x"),
            lambda made=made, name=name: delattr(made, name),
            lambda made=made: setattr(made, "unheard_of", "x"),
        ):
            with pytest.raises(AttributeError):
                change()
        with pytest.raises((AttributeError, TypeError)):
            object.__setattr__(made, "unheard_of", "x")


# -- cattrs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("converter", CONVERTERS[:2], ids=["default", "json"])
@pytest.mark.parametrize("make", makers())
def test_cattrs_unstructures_an_event_with_its_details(converter: Any, make: Any) -> None:
    plain = converter.unstructure(make(SENT))
    assert plain["source"]["detail"]["bounce"]["analysis"]["verdict"] == "soft"
    assert plain["identity"] == SENT["identity"]
    assert (plain["id"], plain["timestamp"], plain["type"]) == ("0f8b", SENT["timestamp"], "bounce")


@pytest.mark.parametrize("converter", CONVERTERS, ids=["default", "json", "msgspec"])
def test_cattrs_structures_what_it_unstructured(converter: Any) -> None:
    for made in (
        Identity("customer", "DEMO", "028"),
        Source("email", Detail(link=Link("open"))),
        Stamp(time=1, id="x"),
        details.BounceDetail(analysis=details.BounceAnalysis("hard", details.BounceSubject("a"))),
    ):
        assert converter.structure(converter.unstructure(made), type(made)) == made


@pytest.mark.parametrize("converter", CONVERTERS[:2], ids=["default", "json"])
@pytest.mark.parametrize("sent", [SENT, {"timestamp": 5, "type": "bounce"}])
def test_cattrs_structures_the_events_it_unstructured(converter: Any, sent: dict[str, Any]) -> None:
    event = decoded(sent)
    plain = converter.unstructure(event)
    again = converter.structure(plain, Bounce)
    assert again == event
    assert again.source == event.source
    assert type(again) is Bounce
    del plain["source"]
    assert converter.structure(plain, Bounce).source == event.source  # from `raw`


def test_what_is_for_msgspec_goes_through_unstructure() -> None:
    """It sees the struct, and names in it that are nobody's business."""
    event = decoded(SENT)
    assert msgspec.json.decode(msgspec.json.encode(np6_async.unstructure(event))) == SENT
    assert make_msgspec_converter().unstructure(np6_async.unstructure(event)) == SENT


# -- copy, pickle, match, repr ---------------------------------------------------------------------


@pytest.mark.parametrize("make", makers())
@pytest.mark.parametrize("read", [False, True])
def test_events_copy_and_pickle_whether_their_details_were_read_or_not(make: Any, read: bool) -> None:
    event = make(SENT)
    if read:
        assert event.source is not None
    copies = [copy.copy(event), copy.deepcopy(event), copy.deepcopy([event])[0]]
    copies += [pickle.loads(pickle.dumps(event, each)) for each in range(pickle.HIGHEST_PROTOCOL + 1)]  # noqa: S301
    for again in copies:
        assert again == event
        assert type(again) is type(event)
        assert hash(again) == hash(event)
        assert again.source == event.source
        assert again.raw == event.raw


def test_match_by_position_and_by_name() -> None:
    match Identity("customer", "DEMO", "028"):
        case Identity("customer", agency, customer="028"):
            assert agency == "DEMO"
        case _:
            raise AssertionError
    match structure(SENT):
        case Bounce(id="0f8b", source=Source("email", Detail(bounce=details.BounceDetail(analysis=analysis)))):
            assert analysis == details.BounceAnalysis("soft")
        case _:
            raise AssertionError
    match structure(SENT):
        case Bounce(verdict="soft", channel=channel):
            assert channel == "email"
        case _:
            raise AssertionError
    assert Identity.__match_args__ == ("type", "agency", "customer")
    assert Event.__match_args__ == ()  # by name only, as they are made


@pytest.mark.parametrize("make", makers())
def test_reprs_hold_no_personal_data_but_what_else_there_is(make: Any) -> None:
    event = make(SENT)
    for shown in (event, event.source, event.detail, [event], {"event": event}):
        for text in (repr(shown), str(shown), f"{shown}"):
            assert SECRET not in text
    assert repr(Identity("customer", "DEMO")) == "Identity(type='customer', agency='DEMO', customer=None)"
    assert repr(ContactRef("id", value=SECRET)) == "ContactRef(type='id')"
    assert repr(event.source).startswith("Source(type='email', detail=Detail(activation=ActivationDetail(id='000PE4', ")


# -- what a body may not do --------------------------------------------------------------------------


HOSTILE = ["raw", "_source", "source", "_raw", "__class__", "raw ", "_source ", "UNSTRUCTURED", "__attrs_attrs__"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("value", ["aGFja2Vk", None, {"type": "hacked"}, [], 5])
def test_no_member_of_a_body_fills_what_is_not_its_own(name: str, value: Any) -> None:
    sent = SENT | {name: value}
    for event in (decoded(sent), decoded(sent, "bounces"), structure(sent)):
        assert type(event) is Bounce
        assert event.data == sent
        assert loads(event.raw) == sent
        if name != "source":
            assert event.source == structure(SENT).source


def test_not_even_the_names_that_stand_for_them() -> None:
    """They are made for each process, and a body that had them would have to guess 64 bits."""
    names = dict(zip(Event.__struct_fields__, Event.__struct_encode_fields__, strict=True))  # type: ignore[attr-defined]
    assert {name for name, sent in names.items() if name != sent} == {"raw", "_source"}
    secrets = {names[name].split(" ")[1] for name in ("raw", "_source")}
    assert all(len(secret) == 16 for secret in secrets)
    event = decoded(SENT | {f"{name} {'0' * 16}": "aGFja2Vk" for name in ("raw", "_source")})
    assert event.source == structure(SENT).source
    assert structure_tolerant(event.data, event.raw, EventKind.ALL) == event


# -- classes ---------------------------------------------------------------------------------------


def test_events_have_subclasses_and_so_may_applications() -> None:
    class Mine(Bounce):
        @property
        def dead(self) -> bool:
            return self.verdict == "hard"

    mine = Mine(id="a", timestamp=5, raw=b'{"source":{"detail":{"bounce":{"analysis":{"verdict":"hard"}}}}}')
    assert mine.dead
    assert isinstance(mine, Bounce)
    assert attrs.evolve(mine, id="b").dead
    assert attrs.asdict(mine)["id"] == "a"
    assert mine != Bounce(id="a", timestamp=5, raw=mine.raw)
    assert {Bounce, UnknownEvent} <= set(Event.__subclasses__())


def test_the_decorator_keeps_what_a_class_is() -> None:
    """Its module, name and docstring, methods and properties; with options or without."""
    assert Identity.__module__ == details.__name__
    assert Event.__module__ == "np6_async._models.events"
    assert (Identity.__name__, Identity.__qualname__) == ("Identity", "Identity")
    assert str(Event.__doc__).startswith("Something that happened to a contact.")

    @record
    class Pair:
        """Two."""

        one: int = 1
        two: list[int] = attrs.field(factory=list)

        @property
        def both(self) -> tuple[int, list[int]]:
            return self.one, self.two

    assert Pair().both == (1, [])
    assert Pair().two is not Pair().two
    assert Pair(2, [3]) == Pair(one=2, two=[3])


def test_help_and_dir_show_the_members() -> None:
    assert {"id", "timestamp", "type", "identity", "raw", "source", "at", "data"} <= set(dir(structure(SENT)))
    assert "verdict" in dir(Bounce)
    assert {"type", "agency", "customer"} <= set(Identity.__annotations__)
