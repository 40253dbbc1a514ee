"""The two ways of a request: over aiohttp's connections alone, or by its session.

A module with ``pytestmark = pytest.mark.both_ways`` runs its tests that touch the network both ways; a test with
``@pytest.mark.one_way(reason)`` is too slow for that.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import pytest

from np6_async._http.transport import Transport
from np6_async._http.wire import Wire

Way = Literal["wire", "session"]

WAYS: Final[tuple[Way, ...]] = ("wire", "session")
_SERVERS: Final = {"server", "np6", "np6_server", "FakeNP6", "raw_server", "fetch"}
_SESSION_ANYWAY: Final = {"ClientSession", "responses", "trace_configs"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """For the conftest of a folder, as the fixture is."""
    item = metafunc.definition
    if item.get_closest_marker("both_ways") is None or item.get_closest_marker("one_way") is not None:
        return
    names = {*metafunc.fixturenames, *metafunc.function.__code__.co_names}
    if names & _SERVERS and not names & _SESSION_ANYWAY:
        metafunc.parametrize("way", WAYS, indirect=True)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """The way that clients with a session of their own take: the session's where aiohttp is not the one we know."""
    asked: Way = getattr(request, "param", "wire")
    if asked == "session":
        monkeypatch.setattr("np6_async._http.transport.supported", lambda: False)
    return asked


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Way]:
    """The way of each request, as it is sent."""
    ways: list[Way] = []
    over_wire, by_session = Wire.get, Transport._send

    async def get(self: Wire, target: str) -> Any:
        ways.append("wire")
        return await over_wire(self, target)

    async def send(self: Transport, request: Any, handler: Any) -> Any:
        ways.append("session")
        return await by_session(self, request, handler)

    monkeypatch.setattr(Wire, "get", get)
    monkeypatch.setattr(Transport, "_send", send)
    return ways
