"""A description of NP6's API in OpenAPI 3.1: every operation that the SDK calls, and how far each is known.

It is reconstructed: the vendor publishes none. What its reference (8.1.0) documents is told from what is inferred from
a sister operation, in each operation's ``x-np6-status``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count
from typing import Any, Final

import msgspec

from .._models.account import RedListOrigin
from .._models.details import Identity, Source
from .._models.events import EVENT_TYPES, EventKind
from .._protocol.event_query import ActionQuery, ContactQuery, ReactivityQuery
from ._factories import Json, Shape, build, names_of
from ._generated_events import ROBOTS

_REFERENCE: Final = "8.1.0"
_AT: Final = 1_769_932_800_000  # 2026-02-01T08:00:00Z
_CONTACT: Final = "0013KDC0"
_ACTION: Final = "000PE4"

# -- what NP6's reference documents ----------------------------------------------------------------------------

# The events of a contact: with its id in the path, and by each of the parameters `id`, `unicity` and `hash`.
_OF_CONTACTS: Final = {
    EventKind.ALL: "path id",
    EventKind.ACTIVATIONS: "path hash",
    EventKind.BOUNCES: "path",
    EventKind.STOPS: "id unicity hash",
    EventKind.HITS: "id",
    EventKind.HITS_OPEN: "path",
    EventKind.HITS_FORM: "path",
}
# The events and reactivities of all actions, and of one.
_OF_ACTIONS: Final = {
    EventKind.ALL: "all",
    EventKind.ACTIVATIONS: "one",
    EventKind.CANCELLATIONS: "all one",
    EventKind.BOUNCES: "one",
    EventKind.HITS_MIRROR: "one",
}
_REACTIVITIES: Final = {
    EventKind.ALL: "all",
    EventKind.BOUNCES: "all",
    EventKind.HITS: "all",
    EventKind.HITS_OPEN: "all",
    EventKind.HITS_REDIRECTION: "all one",
    EventKind.HITS_UNSUBSCRIBE: "one",
    EventKind.HITS_MIRROR: "all one",
    EventKind.HITS_FORM: "all",
}

_TAGS: Final = {
    "contacts' events": "The events of one contact.",
    "actions' events": "The events of all contacts, of all actions or of one. Whether they include creations, "
    "modifications and opt-outs of contacts is not known.",
    "reactivities": "The reactions to what was sent, of all contacts: bounds for the sending, and for the reaction.",
    "campaigns": "The events of items of a campaign, of all contacts.",
    "red list": "The contacts that must not be written to. The path is documented; the shape of the entries comes from "
    "an older reference.",
    "contacts": "The records of contacts.",
    "segments": "Segments, and the ids of the contacts in them.",
}

# -- parts that operations share -------------------------------------------------------------------------------

_ID: Final[Json] = {"type": "string", "pattern": "^[0-9A-Za-z][0-9A-Za-z._~:+=-]{0,255}$"}
_MOMENT: Final = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "format": "int64"}]}
_NUMERIC: Final = "An ISO 8601 time or a number; the unit of a number is not documented, so send ISO with Z."
_PATH: Final = {
    "contact": (_CONTACT, "The id of the contact. Those seen have 8 characters of 0-9 and A-Z."),
    "action": (_ACTION, "The id of the action. Those seen have 6 characters of 0-9 and A-Z."),
    "campaign": ("00C001", "The id of the campaign."),
    "segment": ("1", "The id of the segment, from `GET /segments`."),
}
_BOUNDS: Final = {
    "start": "Events with this timestamp or a later one.",
    "end": "Events with an earlier timestamp than this.",
    "activationStart": "Reactions to what was sent then or later.",
    "activationEnd": "Reactions to what was sent before.",
    "reactivityStart": "Reactions with this timestamp or a later one.",
    "reactivityEnd": "Reactions with an earlier timestamp than this.",
    "startDate": "Contacts that got onto the list then or later.",
    "endDate": "Contacts that got onto the list before. Whether at that very moment is not documented.",
}
_NAMES: Final = {
    "id": (_ID, "The id of the contact."),
    "unicity": (
        {"type": "string", "minLength": 1, "maxLength": 1024},
        "The value of the account's unicity field, such as an e-mail address.",
    ),
    "hash": ({"type": "string", "pattern": "^[0-9A-Fa-f]{32}$"}, "The hash of the contact."),
}
_ERRORS: Final = {
    "400": "The request is not valid.",
    "401": "The key is not valid.",
    "403": "The key has no right to this.",
    "404": "There is no such contact, action, campaign or segment; or no such path.",
    "409": "Conflict.",
    "410": "Gone.",
    "429": "Too many requests. Limits vary by account.",
    "500": "An error of the server.",
    "503": "The server does not serve requests now.",
}
_HEADERS: Final = {
    "x-request-id": ("string", "What the vendor's support asks for."),
    "Retry-After": ("string", "May be present: seconds to wait, or a time."),
    "X-RateLimit-Limit": ("string", "May be present."),
    "X-RateLimit-Remaining": ("string", "May be present."),
    "X-RateLimit-Reset": ("string", "May be present: seconds from now, or epoch seconds or milliseconds."),
}


def openapi() -> Json:
    """The description of NP6's API, as plain JSON types: every operation that the SDK calls, in OpenAPI 3.1.

    Mocks, generators of clients and of tests read it: ``python -m np6_async.testing > np6.json`` writes it into a file.
    It is reconstructed from the vendor's reference, so each operation says in ``x-np6-status`` whether the reference
    has it (``documented``) or it follows from a sister operation (``inferred``), by way of addressing a contact in
    ``x-np6-addressing`` where these differ, and in ``x-np6-call`` which call of the SDK uses it.
    ``x-np6-experimental`` and ``deprecated`` are the vendor's own marks. Where a contact is named by a parameter,
    exactly one of those in ``x-np6-exactly-one-of`` must be given, which OpenAPI cannot say.

    Each call returns an object of its own. `FakeNP6` serves these operations; a test checks that it does.
    """
    return copy.deepcopy(_description())


@cache
def _description() -> Json:
    paths: dict[str, Json] = {}
    for path, method, operation in _operations():
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NP6 events, as np6_async knows them",
            "version": _REFERENCE,
            "summary": "A reconstructed description, not the vendor's.",
            "description": "Documented operations are those of the vendor's reference; inferred ones follow from a "
            "sister operation, and may answer 404. No member of a record is documented as required, and any may be "
            "null. Expect unknown members and unknown values everywhere.",
        },
        "servers": [{"url": "https://api-cm.np6.com"}],
        "security": [{"key": []}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
            "parameters": dict(_parameters()),
            "headers": {
                name: {"description": text, "schema": {"type": kind}} for name, (kind, text) in _HEADERS.items()
            },
            "responses": {status: _error(status, text) for status, text in _ERRORS.items()},
            "examples": {name: {"value": value} for name, value in _examples()},
            "schemas": _schemas(),
        },
    }


# -- operations ------------------------------------------------------------------------------------------------


def _operations() -> Iterator[tuple[str, str, Json]]:
    """Path, method and operation."""
    for tag, each in (
        ("contacts' events", _events_of_contacts()),
        ("actions' events", _events_of_actions()),
        ("reactivities", _reactivities()),
        ("campaigns", [_campaign_events()]),
        ("red list", _red_list()),
        ("contacts", _contacts()),
        ("segments", _segments()),
    ):
        for path, operation in each:
            yield path, "post" if "requestBody" in operation else "get", {"tags": [tag], **operation}


def _events_of_contacts() -> Iterator[tuple[str, Json]]:
    names = ("id", "unicity", "hash")
    for kind in _in_order(ContactQuery.kinds):
        known = _OF_CONTACTS.get(kind, "").split()
        path, summary, response = f"/events{kind.suffix}", f"{_what(kind)} of a contact", _events(kind)
        yield _operation(
            f"/targets/{{contact}}{path}",
            f"{summary}.",
            "path" in known,
            _call("np6.events", "contact", kind),
            _filters(kind),
            response,
        )
        yield _operation(
            f"/targets{path}",
            f"{summary} that a parameter names.",
            bool(set(known) & set(names)),
            _call("np6.events", "Contact.by_unicity(...)", kind),
            [*names, *_filters(kind)],
            response,
            exactly_one_of=list(names),
            addressing={name: _status(name in known) for name in names},
        )


def _events_of_actions() -> Iterator[tuple[str, Json]]:
    for kind in _in_order(ActionQuery.kinds):
        for scope, below, who, call in _scopes("np6.actions", kind):
            yield _operation(
                f"/actions{below}/events{kind.suffix}",
                f"{_what(kind)} of {who}.",
                scope in _OF_ACTIONS.get(kind, "").split(),
                call,
                _filters(kind),
                _events(kind),
            )


def _reactivities() -> Iterator[tuple[str, Json]]:
    for kind in _in_order(ReactivityQuery.kinds):
        what = "Hits and bounces" if kind is EventKind.ALL else _what(kind)
        for scope, below, who, call in _scopes("np6.reactivities", kind):
            yield _operation(
                f"/actions{below}/reactivities{kind.suffix}",
                f"{what} after what {who} sent.",
                scope in _REACTIVITIES[kind].split(),
                call,
                ["activationStart", "activationEnd", *ReactivityQuery.bounds, "sort"],
                _events(kind, "hit-open", "bounce"),
            )


def _campaign_events() -> tuple[str, Json]:
    path, operation = _operation(
        "/campaigns/{campaign}/events",
        "Events of items of a campaign; it only reads.",
        True,
        "np6.campaigns.events(campaign, items)",
        ["start", "end", "sort"],
        _events(EventKind.ALL, "hit-open", "bounce"),
    )
    hits = {"type": "hit", "subtypes": ["open", "redirection"]}
    example = {"itemsEvents": [{"type": "email", "events": [hits], "items": [_ACTION]}]}
    content = {"application/json": {"schema": _ref("CampaignRequest"), "example": example}}
    return path, {**operation, "requestBody": {"required": True, "content": content}}


def _red_list() -> Iterator[tuple[str, Json]]:
    for channel, what in (("mail", "e-mails"), ("sms", "text messages")):
        yield _operation(
            f"/targets/redlist/{channel}",
            f"The contacts that must not get {what}.",
            True,
            f"np6.redlist.{channel}()",
            ["startDate", "endDate"],
            _array("Entries, in no order.", _ref("RedListEntry"), "red-list"),
        )


def _contacts() -> Iterator[tuple[str, Json]]:
    response = _response("One contact; perhaps in an array.", _ref("Contact"), "contact")
    yield _operation(
        "/targets/{contact}",
        "The record of a contact.",
        True,
        "np6.contacts.get(contact)",
        [],
        response,
        experimental=True,
    )
    yield _operation(
        "/targets",
        "The record of a contact that a parameter names.",
        True,
        "np6.contacts.get(Contact.by_unicity(...))",
        ["unicity", "hash"],
        response,
        experimental=True,
        exactly_one_of=["unicity", "hash"],
    )
    number = _response("The number.", _ref("Count"), "count")
    yield _operation("/targets/count", "How many contacts the account has.", True, "np6.contacts.count()", [], number)


def _segments() -> Iterator[tuple[str, Json]]:
    segments = _array("Segments.", _ref("Segment"), "segments")
    yield _operation("/segments", "The segments of the account.", True, "np6.segments.list()", [], segments)
    path, ids = _operation(
        "/segments/{segment}/targets",
        "The ids of a segment's contacts.",
        True,
        "np6.segments.contacts(segment)",
        [],
        _array("Ids of contacts, in no order.", {"type": "string"}, "contact-ids"),
    )
    yield path, {**ids, "deprecated": True}


def _operation(
    path: str, summary: str, documented: bool, call: str, parameters: list[str], response: Json, **marks: Any
) -> tuple[str, Json]:
    """The path and its operation; `parameters` are those beside the ones of the path."""
    first, *others = re.sub(r"[{}]", "", path).replace("/", " ").title().split()
    named = [*re.findall(r"{(\w+)}", path), *parameters]
    return path, {
        "operationId": first.lower() + "".join(others),
        "summary": summary,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in named],
        "responses": {
            "200": response,
            **{status: {"$ref": f"#/components/responses/{status}"} for status in _ERRORS},
        },
        "x-np6-status": _status(documented),
        "x-np6-call": call,
        **{f"x-np6-{name.replace('_', '-')}": value for name, value in marks.items()},
    }


def _status(documented: bool) -> str:
    return "documented" if documented else "inferred"


def _scopes(namespace: str, kind: EventKind) -> Iterator[tuple[str, str, str, str]]:
    """All actions and one: which, what it adds to the path, in words, and the call."""
    yield "all", "", "all actions", _call(namespace, None, kind)
    yield "one", "/{action}", "an action", _call(namespace, None, kind, f'action="{_ACTION}"')


def _call(namespace: str, subject: str | None, kind: EventKind, *more: str) -> str:
    arguments = [*filter(None, [subject]), *([] if kind is EventKind.ALL else [f'"{kind.value}"']), *more]
    return f"{namespace}.stream({', '.join(arguments)})"


def _what(kind: EventKind) -> str:
    if kind is EventKind.ALL:
        return "Events of every type"
    if kind is EventKind.STOPS:
        return "Opt-outs"
    words = kind.value.split("/")
    return words[0].title() if len(words) == 1 else f"Hits of type {words[1]}"


def _filters(kind: EventKind) -> list[str]:
    return ["start", "end", "sort", *(["classification"] if kind.is_hits else [])]


def _in_order(kinds: Iterable[EventKind]) -> list[EventKind]:
    return [kind for kind in EventKind if kind in kinds]


# -- components ------------------------------------------------------------------------------------------------


def _parameters() -> Iterator[tuple[str, Json]]:
    for name, (example, text) in _PATH.items():
        yield name, {"name": name, "in": "path", "required": True, **_described(text, _ID, example)}
    for name, text in _BOUNDS.items():
        yield name, {"name": name, "in": "query", **_described(f"{text} {_NUMERIC}", _MOMENT)}
    for name, (schema, text) in _NAMES.items():
        yield name, {"name": name, "in": "query", **_described(text, schema)}
    order = "The order of events by timestamp. Without it they come in any order, another one for each request."
    yield "sort", {"name": "sort", "in": "query", **_described(order, {"type": "string", "enum": ["asc", "desc"]})}
    robots = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": sorted(ROBOTS)}}
    text = "Add the hits of these classes of robots. Without it they are most likely left out."
    yield (
        "classification",
        {"name": "classification", "in": "query", "style": "form", "explode": False, **_described(text, robots)},
    )


def _described(text: str, schema: Json, example: Any = None) -> Json:
    described: Json = {"description": text, "schema": schema}
    return described if example is None else {**described, "example": example}


def _error(status: str, text: str) -> Json:
    names = ["x-request-id"]
    if status == "429":
        names += [name for name in _HEADERS if name.startswith("X-RateLimit")]
    if status in ("429", "503"):
        names.append("Retry-After")
    return {"description": f"{text} The body is mostly empty, else text or JSON.", "headers": _headers(names)}


def _headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _response(description: str, schema: Json, *examples: str) -> Json:
    """A response with status 200; `examples` are names of components."""
    named = {name: {"$ref": f"#/components/examples/{name}"} for name in examples}
    return {
        "description": description,
        "headers": _headers(name for name in _HEADERS if name != "Retry-After"),
        "content": {"application/json": {"schema": schema, "examples": named}},
    }


def _array(description: str, items: Json, *examples: str) -> Json:
    return _response(description, {"type": "array", "items": items}, *examples)


def _events(kind: EventKind, *types: str) -> Json:
    """The response of events; `types` are those of its examples, where they do not follow from the kind."""
    if kind is EventKind.HITS or "/" in kind:
        types = (f"hit-{kind.value.partition('/')[2] or 'open'}",)
    elif kind.default_type is not None:
        types = (kind.default_type,)
    return _array("Events, streamed as one array.", _ref("Event"), *(types or ("activation", "bounce", "hit-open")))


def _examples() -> Iterator[tuple[str, Any]]:
    for kind in EventKind:
        if kind.default_type is not None and kind is not EventKind.HITS:
            link = kind.value.partition("/")[2]
            yield f"{kind.default_type}-{link}" if link else kind.default_type, [_event(kind.default_type, link)]
    names = names_of(_CONTACT)
    dates = {"creationDate": "2023-03-01T10:00:00Z", "lastUpdateDate": "2024-03-01T10:00:00Z"}
    yield "contact", {"id": _CONTACT, "hash": names.hash, **dates, "fields": {"email": names.unicity}}
    yield "count", {"targetsCount": 1000}
    yield "contact-ids", [_CONTACT]
    yield "segments", [{"type": "static", "id": 1, "name": "All contacts", "isTest": False, "targetsCount": 1000}]
    yield "red-list", [{"id": _CONTACT, "timestamp": _AT, "origin": RedListOrigin.COMPLAINT.value, "detail": None}]


def _event(name: str, link: str) -> Json:
    number = list(EVENT_TYPES).index(name)
    parts = count()

    def uuid() -> str:
        return f"{number:08x}-0000-4000-8000-{next(parts):012x}"

    def pick(options: Any) -> Any:
        return options[0]

    shape = Shape(name, uuid(), _AT, _AT - 5_375, names_of(_CONTACT), pick, uuid)
    return build(shape, link=link or None)


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Json:
    text: Json = {"type": ["string", "null"]}
    moment = {"type": ["string", "integer", "number", "null"]}
    _, details = msgspec.json.schema_components([Source, Identity], ref_template="#/components/schemas/{name}")
    origins = ", ".join(f"{origin.value} {origin.name.lower().replace('_', ' ')}" for origin in RedListOrigin)
    wish = _object(
        "Events of one type; `subtypes` are those of hits.",
        required=["type"],
        type={"type": "string", "examples": ["hit"]},
        subtypes={"type": "array", "items": {"type": "string", "examples": ["open"]}},
    )
    items = _object(
        "Items of one type, and the events to return of them.",
        required=["type", "events", "items"],
        type={"type": "string", "examples": ["email"]},
        events={"type": "array", "items": wish},
        items={
            "type": "array",
            "items": {"type": ["integer", "string"]},
            "description": "int32 in the reference's schema, and strings in its sample.",
        },
    )
    return {
        "Event": _object(
            "Something that happened to a contact. Of the events of a single kind, `type` is not documented.",
            required=["timestamp"],
            type={**text, "examples": list(EVENT_TYPES)},
            id={**text, "description": "A UUID."},
            timestamp={
                "type": "integer",
                "format": "int64",
                "description": "When it was published, in epoch milliseconds; what bounds and order refer to.",
            },
            identity={"anyOf": [_ref("Identity"), {"type": "null"}]},
            source={"anyOf": [_ref("Source"), {"type": "null"}]},
        ),
        **{name: _plain(schema) for name, schema in sorted(details.items())},
        "CampaignRequest": _object(
            "Which events of which items.", required=["itemsEvents"], itemsEvents={"type": "array", "items": items}
        ),
        "RedListEntry": _object(
            "A contact that must not be written to.",
            id=text,
            timestamp={**moment, "description": "When it got onto the list; the notation is not documented."},
            origin={"type": ["integer", "null"], "description": f"How it got onto the list: {origins}."},
            detail=text,
        ),
        "Segment": _object(
            "A segment of the account's contacts.",
            type={**text, "examples": ["static", "dynamic"]},
            id={"type": ["integer", "string", "null"]},
            name=text,
            creation=moment,
            expiration=moment,
            isTest={"type": ["boolean", "null"]},
            targetsCount={"type": ["integer", "null"], "description": "The server's estimate."},
        ),
        "Contact": _object(
            "What the account knows about a contact.",
            id=text,
            hash=text,
            creationDate=moment,
            lastUpdateDate=moment,
            fields={"type": ["object", "array", "null"]},
        ),
        "Count": _object(
            "A number of contacts.", required=["targetsCount"], targetsCount={"type": "integer", "minimum": 0}
        ),
    }


def _object(description: str, *, required: Iterable[str] = (), **properties: Json) -> Json:
    made: Json = {"type": "object", "description": description, "properties": properties}
    return {**made, "required": list(required)} if required else made


def _plain(schema: Any) -> Any:
    """A schema that msgspec made of a record, in fewer words."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _plain(value) for name, value in schema.items() if name not in ("default", "title", "required")}
    if "description" in made:
        made["description"] = re.sub(r"\s+", " ", made["description"].replace("``", "`")).partition(" The values ")[0]
    options = made.get("anyOf")
    if options and all(set(option) == {"type"} for option in options):
        made = {"type": [option["type"] for option in options]}
    return made
