"""Both clients have the same calls: what is added to one and not to the other fails here."""

from __future__ import annotations

import inspect
from typing import Any, get_overloads

import pytest

import np6_async
from np6_async import _client, blocking
from np6_async.blocking._client import ClientOptions

NAMESPACES = ["Events", "Actions", "Reactivities", "Segments", "Contacts", "Campaigns", "RedList"]
STREAMS = ["EventStream", "ActionStream", "CampaignEvents", "ContactIds", "RedListEntries", "BulkStream", "Pages"]
OTHERWISE = {"aclose": "close"}


def public(cls: type) -> dict[str, Any]:
    found = {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}
    return {OTHERWISE.get(name, name): value for name, value in found.items()}


def calls() -> list[tuple[str, str]]:
    return [(cls, name) for cls in NAMESPACES for name in public(getattr(np6_async, cls))]


@pytest.mark.parametrize("name", [*NAMESPACES, *STREAMS])
def test_each_class_has_the_members_of_the_async_one(name: str) -> None:
    assert public(getattr(blocking, name)).keys() == public(getattr(np6_async, name)).keys()


@pytest.mark.parametrize(("cls", "name"), calls())
def test_each_call_takes_the_arguments_of_the_async_one(cls: str, name: str) -> None:
    mine, original = getattr(getattr(blocking, cls), name), getattr(getattr(np6_async, cls), name)
    assert inspect.signature(mine) == inspect.signature(original)


@pytest.mark.parametrize(("cls", "name"), calls())
def test_each_call_has_the_types_of_the_async_one(cls: str, name: str) -> None:
    """What `kind="bounces"` narrows there, it narrows here."""
    mine, original = getattr(getattr(blocking, cls), name), getattr(getattr(np6_async, cls), name)
    assert list(map(inspect.signature, get_overloads(mine))) == list(map(inspect.signature, get_overloads(original)))


def test_the_client_has_the_members_of_the_async_one() -> None:
    with blocking.NP6Client("key") as np6:
        assert {name for name in dir(np6) if not name.startswith("_")} == {
            name for name in dir(np6_async.NP6Client("key")) if not name.startswith("_")
        }


def test_other_options_for_some_calls_are_those_of_the_async_client() -> None:
    mine, original = blocking.NP6Client.with_options, np6_async.NP6Client.with_options
    assert inspect.signature(mine) == inspect.signature(original)


def test_the_client_takes_the_options_of_the_async_one_but_for_a_session() -> None:
    original = inspect.signature(_client.NP6Client.__init__).parameters
    assert set(inspect.signature(blocking.NP6Client).parameters) == set(original) - {"self", "session"}
    annotations = {name: each.annotation for name, each in original.items()}
    options = {name: each.__forward_arg__ for name, each in ClientOptions.__annotations__.items()}
    assert options == {name: annotations[name] for name in set(original) - {"self", "session", "api_key", "unknown"}}
