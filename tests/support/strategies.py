"""Hypothesis strategies for events, their JSON, and the ways a body arrives."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs
from hypothesis import strategies as st

from np6_async._models import details as records

# The classes of everything that an event holds.
RECORDS: list[Any] = [
    value for value in vars(records).values() if isinstance(value, type) and value.__module__ == records.__name__
]

MAX_TIMESTAMP = 253_402_300_799_999
EVENT_TYPES = [
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

# What trips a cutter of JSON: its own punctuation and escapes inside strings.
_PUNCTUATION = st.sampled_from(
    ["},{", "}, {", "]", "[", "{", "}", '"', "\\", '\\"', ',"', "}]", "é", "🎉", "\n", " ", ""]
)
texts = st.one_of(st.lists(_PUNCTUATION, max_size=6).map("".join), st.text(st.characters(exclude_categories=["Cs"])))
# Texts with lone surrogates, which JSON can escape and UTF-8 cannot hold.
odd_texts = st.text(st.characters(categories=["Cs"]) | st.sampled_from('a"é🎉'), max_size=20)


def whole(value: Any) -> Any:
    """JSON with U+FFFD in place of each lone surrogate, as it is read."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {whole(name): whole(member) for name, member in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


timestamps = st.integers(0, MAX_TIMESTAMP)
uuids = st.uuids().map(str)

integers = st.integers(-(10**30), 10**30)
scalars = st.one_of(st.none(), st.booleans(), integers, st.floats(allow_nan=False, allow_infinity=False), texts)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def members(documented: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of the documented members, each present, null or missing, and with others."""
    known = st.fixed_dictionaries({}, optional={name: st.none() | value for name, value in documented.items()})
    others = {"extra", "x-y", "é", "raw", "data", "__class__"} - documented.keys()
    unknown = st.dictionaries(st.sampled_from(sorted(others)), json_values, max_size=1)
    return st.builds(lambda a, b: b | a, known, unknown)


contact_refs = st.one_of(
    members({"type": st.just("id"), "value": texts}),
    members({"type": st.just("hash"), "value": texts}),
    members({"type": st.just("footprint"), "id": texts, "unicity": texts | st.lists(texts, max_size=3), "hash": texts}),
    members({"type": st.just("unicity"), "value": st.lists(texts, max_size=3) | texts}),
    members({"type": st.just("contact"), "value": members({"type": texts, "value": texts})}),
)
stamps = members({"time": integers, "id": uuids, "thread": uuids, "set": uuids})
activations = members(
    {
        "id": texts,
        "kind": st.sampled_from(["message", "application", "new"]),
        "version": texts | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "receiver": contact_refs,
        "stamp": stamps,
        "recipient": texts,
    }
)
executions = members(
    {
        "id": texts,
        "kind": texts,
        "recipient": contact_refs,
        "data": st.dictionaries(texts, json_values, max_size=3),
        "stamp": stamps,
    }
)
bounces = members(
    {
        "status": members(
            {"type": texts, "code": members({"enhanced": texts}), "diagnostic": texts, "mta": texts},
        ),
        "analysis": members(
            {
                "verdict": st.sampled_from(["hard", "soft", "other"]),
                "subject": members({"type": texts, "detail": members({"type": texts})}),
            }
        ),
    }
)
links = members({"type": st.sampled_from(["open", "redirection", "unsubscribe", "mirror", "form", "new"])})
cancellations = members({"type": texts, "value": members({"type": texts, "message": texts})})
details = members(
    {
        "activation": activations,
        "execution": executions,
        "bounce": bounces,
        "link": links,
        "cancellation": cancellations,
    }
)
# Sources as the API documents them, with unknown members.
sources = members({"type": st.sampled_from(["email", "sms", "notification", "display", "new"]), "detail": details})
identities = members({"type": st.just("customer"), "agency": texts, "customer": texts})

# Everything of a documented source, each part replaced now and then by anything.
_NAMES = sorted({attribute.name for cls in RECORDS for attribute in attrs.fields(cls)})
odd_sources = st.recursive(
    scalars | st.sampled_from(["1", "1.0", "NaN", "inf", 1.0, 1.5, 10**40]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=25,
)


@st.composite
def events(draw: st.DrawFn, /, **replaced: st.SearchStrategy[Any]) -> dict[str, Any]:
    """An event as the API documents it, with unknown members, optional ones missing."""
    event: dict[str, Any] = draw(
        members(
            {
                "type": st.sampled_from([*EVENT_TYPES, "delivery"]),
                "id": uuids,
                "identity": identities,
                "source": sources,
            }
            | {name: value for name, value in replaced.items() if name != "timestamp"}
        )
    )
    event["timestamp"] = draw(replaced.get("timestamp", timestamps))
    return event


class _Style:
    def __init__(self, comma: str, colon: str, before: str, after: str, ascii: bool) -> None:
        self.comma, self.colon, self.before, self.after, self.ascii = comma, colon, before, after, ascii

    def __repr__(self) -> str:
        return f"Style({', '.join(map(repr, vars(self).values()))})"

    def body(self, items: list[Any]) -> bytes:
        separators = self.comma, self.colon
        text = json.dumps(items, separators=separators, ensure_ascii=self.ascii)
        return (self.before + text + self.after).encode()


_SPACES = st.text(" \t\r\n", max_size=3)
styles = st.builds(
    _Style,
    st.builds("{},{}".format, _SPACES, _SPACES),
    st.builds("{}:{}".format, _SPACES, _SPACES),
    st.builds("{}{}".format, st.sampled_from(["", "\ufeff"]), _SPACES),
    _SPACES,
    st.booleans(),
)


def chunkings(length: int) -> st.SearchStrategy[list[int]]:
    """Where to cut a body of `length` bytes: nowhere, at a few places, or everywhere."""
    anywhere = st.lists(st.integers(0, length), max_size=12).map(sorted)
    every = st.integers(1, 40).map(lambda step: list(range(step, length, step)))
    return anywhere | every


def chunks(body: bytes, cuts: list[int]) -> list[bytes]:
    """The pieces of `body`, cut at `cuts`."""
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
