"""The description of NP6's API: it has every operation that the SDK calls, says how far each is known, and fits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from np6_async import Contact, EventKind, NP6Client, Observation, RequestStarted, structure
from np6_async._models.account import read_contact, read_count, read_red_list_entry, read_segments
from np6_async._protocol.event_query import ActionQuery, ContactQuery, ReactivityQuery
from np6_async.testing import FakeNP6, make_activation, make_bounce, make_hit, make_optout, openapi

ACTION = "000PE4"
# The paths that NP6's reference has.
DOCUMENTED = """
/targets/{contact}/events /targets/{contact}/events/activations /targets/{contact}/events/bounces
/targets/{contact}/events/hits/open /targets/{contact}/events/hits/form
/targets/events /targets/events/activations /targets/events/responses/stop /targets/events/hits
/actions/events /actions/events/cancellations
/actions/{action}/events/activations /actions/{action}/events/cancellations /actions/{action}/events/bounces
/actions/{action}/events/hits/mirror
/actions/reactivities /actions/reactivities/bounces /actions/reactivities/hits /actions/reactivities/hits/open
/actions/reactivities/hits/redirection /actions/reactivities/hits/mirror /actions/reactivities/hits/form
/actions/{action}/reactivities/hits/redirection /actions/{action}/reactivities/hits/unsubscribe
/actions/{action}/reactivities/hits/mirror
/campaigns/{campaign}/events /targets/redlist/mail /targets/redlist/sms
/targets /targets/{contact} /targets/count /segments /segments/{segment}/targets
"""

Operation = tuple[str, str]  # method and path


def operations() -> dict[Operation, Any]:
    return {
        (method.upper(), path): operation
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
    }


def as_logged(path: str) -> str:
    """The path as observations have it: they call every id so."""
    return re.sub(r"{\w+}", "{id}", path)


async def call_everything(np6: NP6Client, server: FakeNP6) -> None:
    """Every call of the client, in every way to name a contact or an action."""
    bounds: dict[str, Any] = {"start": "2025-01-01", "end": "2026-01-01"}
    contact = server.contact_ids[0]
    by_unicity, by_hash = Contact.by_unicity(server.unicity(contact)), Contact.by_hash(server.hash(contact))
    for kind in EventKind:
        robots = {"classification": ["gsr", "mpp"]} if kind.is_hits else {}
        if kind in ContactQuery.kinds:
            for each in (contact, by_unicity, by_hash):
                await np6.events.list(each, kind, **bounds, **robots)
        for action in (None, ACTION):
            if kind in ActionQuery.kinds:
                await np6.actions.list(kind, action=action, **bounds, **robots)
            if kind in ReactivityQuery.kinds:
                window = bounds["start"], bounds["end"]
                await np6.reactivities.list(kind, action=action, sent=window, reacted=window)
    async for _ in np6.campaigns.events(next(iter(server.campaigns)), [ACTION, 7], kinds=["hits", "bounces"], **bounds):
        pass
    for entries in (np6.redlist.mail(**bounds), np6.redlist.sms(**bounds)):
        async for _ in entries:
            pass
    for segment in await np6.segments.list():
        async for _ in np6.segments.contacts(segment):
            pass
    for each in (contact, by_unicity, by_hash):
        await np6.contacts.get(each)
    await np6.contacts.count()


async def test_it_has_every_operation_that_the_sdk_calls_and_no_other() -> None:
    seen: set[Operation] = set()

    def observe(observation: Observation, /) -> None:
        if isinstance(observation, RequestStarted):
            seen.add((observation.method, observation.path))

    async with FakeNP6(contacts=5) as server, server.client(hooks=[observe]) as np6:
        await call_everything(np6, server)
    assert seen == {(method, as_logged(path)) for method, path in operations()}


async def test_its_parameters_are_those_that_the_sdk_sends() -> None:
    """And `id`: the SDK puts the id of a contact into the path."""
    described = operations()
    components = openapi()["components"]["parameters"]
    patterns = {
        operation: re.compile(re.sub(r"{\w+}", "[^/]+", operation[1]))
        for operation in sorted(described, key=lambda each: each[1].count("{"))  # the concrete ones first
    }
    sent: dict[Operation, set[str]] = {}
    async with FakeNP6(contacts=5) as server, server.client() as np6:
        await call_everything(np6, server)
        for request in server.requests:
            operation = next(
                each
                for each, pattern in patterns.items()
                if each[0] == request.method and pattern.fullmatch(request.path)
            )
            sent.setdefault(operation, set()).update(request.query)
    for operation, each in described.items():
        parameters = [components[parameter["$ref"].rsplit("/", 1)[1]] for parameter in each["parameters"]]
        names = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
        assert sent[operation] == names - {"id"}, operation
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", operation[1]))


def test_it_says_what_is_documented_and_what_is_inferred() -> None:
    statuses = {path: operation["x-np6-status"] for (_, path), operation in operations().items()}
    assert {path for path, status in statuses.items() if status == "documented"} == set(DOCUMENTED.split())
    assert set(statuses.values()) == {"documented", "inferred"}
    ways = {path: each["x-np6-addressing"] for (_, path), each in operations().items() if "x-np6-addressing" in each}
    documented = {path: {way for way, how in each.items() if how == "documented"} for path, each in ways.items()}
    assert {path: each for path, each in documented.items() if each} == {
        "/targets/events": {"id"},
        "/targets/events/activations": {"hash"},
        "/targets/events/responses/stop": {"id", "unicity", "hash"},
        "/targets/events/hits": {"id"},
    }
    assert {path for (_, path), each in operations().items() if each.get("deprecated")} == {
        "/segments/{segment}/targets"
    }
    assert {path for (_, path), each in operations().items() if each.get("x-np6-experimental")} == {
        "/targets",
        "/targets/{contact}",
    }


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_leads_to_a_component_and_every_component_is_used() -> None:
    description = openapi()
    components = {
        f"#/components/{kind}/{name}"
        for kind, named in description["components"].items()
        if kind != "securitySchemes"
        for name in named
    }
    used = set(references(description))
    assert used == components
    identifiers = [operation["operationId"] for operation in operations().values()]
    assert len(set(identifiers)) == len(identifiers)


def test_the_sdk_reads_its_examples() -> None:
    examples = {name: each["value"] for name, each in openapi()["components"]["examples"].items()}
    (entry,) = map(read_red_list_entry, examples.pop("red-list"))
    assert entry.origin is not None
    assert read_segments(examples.pop("segments"))[0].id == 1
    assert read_contact(examples.pop("contact"))[0].id == "0013KDC0"
    assert read_count(examples.pop("count")) == [1000]
    assert examples.pop("contact-ids") == ["0013KDC0"]
    for name, (event,) in examples.items():
        found = structure(event)
        assert found.type == name.partition("-")[0]
        assert found.recipient is not None


def test_each_call_returns_a_description_of_its_own() -> None:
    changed = openapi()
    changed["paths"].clear()
    assert openapi()["paths"]


def test_a_command_writes_it_into_a_file(tmp_path: Path) -> None:
    file = tmp_path / "np6.json"
    with file.open("wb") as output:
        subprocess.run([sys.executable, "-W", "error", "-m", "np6_async.testing"], stdout=output, check=True)
    assert json.loads(file.read_bytes()) == openapi()


# A request needs exactly one of some parameters, which OpenAPI cannot say: one with none of them is refused.
SETTINGS = """
[[operations]]
include-path-regex = "^/targets(/events.*)?$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404"]
"""


@pytest.mark.openapi
@pytest.mark.timeout(900)
def test_the_fake_server_does_what_it_says(tmp_path: Path) -> None:
    """As schemathesis checks it, with requests that fit the description and with others that do not."""
    from openapi_spec_validator import validate

    validate(openapi())
    settings, file = tmp_path / "schemathesis.toml", tmp_path / "np6.json"
    settings.write_text(SETTINGS)
    file.write_text(json.dumps(openapi()))
    with FakeNP6(contacts=20) as server:
        server.add_contact("0013KDC0", [make_bounce(), make_hit(), make_activation(), make_optout()])  # its example
        command = ["schemathesis", "--config-file", str(settings), "run", str(file), "--url", server.url]
        options = [f"--header=X-Key:{server.api_key}", "--seed=1", "--max-examples=20", "--continue-on-failure"]
        phases = "--phases=examples,coverage,fuzzing"
        program = Path(sys.executable).with_name(command[0])
        found = subprocess.run([program, *command[1:], *options, phases], cwd=tmp_path, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout[-20_000:] + found.stderr
        assert {request.status for request in server.requests} >= {200, 400, 401, 404, 405}
