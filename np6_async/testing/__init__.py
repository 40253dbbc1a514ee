"""Test tools for programs that use np6_async: a fake NP6 server, event factories and pytest fixtures.

`FakeNP6` is a real HTTP server on loopback, so the client under test is the one that runs in production: nothing is
patched. The fixture `np6_server` gives each test a running one, and `np6_client` a client of it that is closed after
the test; they work in plain tests, and in async ones under any plugin. The guide is docs/testing.md. A complete test
file::

    from collections.abc import Sequence

    import pytest

    from np6_async import Contact, NP6Client, RetryPolicy, ServerError
    from np6_async.testing import FakeNP6, Fault, make_bounce, make_hit

    AT_ONCE = RetryPolicy(base_delay=0)


    async def dead_addresses(np6: NP6Client, contacts: Sequence[str]) -> list[str | Contact]:
        # The program under test: contacts with a hard bounce.
        found = []
        async with np6.events.stream_many(contacts, kind="bounces") as events:
            async for contact, event in events:
                if event.verdict == "hard":
                    found.append(contact)
        return found


    async def test_hard_bounces_count(np6_server: FakeNP6) -> None:
        np6_server.add_contact("ANNE", [make_bounce("soft"), make_hit("open")])
        np6_server.add_contact("BILL", [make_bounce("hard")])
        async with np6_server.client() as np6:
            assert await dead_addresses(np6, ["ANNE", "BILL"]) == ["BILL"]
        assert {request.path for request in np6_server.requests} == {
            "/targets/ANNE/events/bounces",
            "/targets/BILL/events/bounces",
        }


    async def test_a_broken_connection_loses_nothing(np6_server: FakeNP6) -> None:
        np6_server.add_contact("BILL", [make_bounce("hard"), make_bounce("hard")])
        np6_server.script(Fault.cut(after=700), Fault.status(503), contact="BILL")
        async with np6_server.client(retry=AT_ONCE) as np6:
            assert await dead_addresses(np6, ["BILL"]) == ["BILL", "BILL"]
        assert not np6_server.faults_pending
        assert np6_server.request_count == 3


    @pytest.mark.np6_server(contacts=1_000, events_per_contact=(0, 20), latency=0.001)
    async def test_every_bounce_is_checked(np6_server: FakeNP6) -> None:
        contacts = np6_server.contact_ids[:50]
        async with np6_server.client() as np6:
            found = await dead_addresses(np6, contacts)
        bounces = [event for contact in contacts for event in np6_server.events(contact, "bounces")]
        assert 0 < len(found) < len(bounces)
        assert np6_server.max_in_flight <= 16


    async def test_an_outage_is_reported(np6_server: FakeNP6) -> None:
        np6_server.script(Fault.status(500), times=None)
        async with np6_server.client(retry=AT_ONCE) as np6:
            with pytest.raises(ServerError):
                await np6.events.list(np6_server.contact_ids[0])

Under pytest-asyncio's strict mode such tests need ``@pytest.mark.asyncio``. Without pytest, use
``async with FakeNP6() as server`` or, in code that is not async, ``with FakeNP6() as server``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._app import RequestSeen
    from ._factories import make_activation, make_bounce, make_event, make_hit, make_optout
    from ._faults import Fault
    from ._generated_events import make_events
    from ._openapi import openapi
    from ._rate_limit import RateLimit
    from ._server import FakeNP6

__all__ = [
    "FakeNP6",
    "Fault",
    "RateLimit",
    "RequestSeen",
    "make_activation",
    "make_bounce",
    "make_event",
    "make_events",
    "make_hit",
    "make_optout",
    "openapi",
]

# The modules are loaded when they are first used: every run of pytest imports this package, for its plugin.
_MODULES = {
    "FakeNP6": "_server",
    "Fault": "_faults",
    "RateLimit": "_rate_limit",
    "RequestSeen": "_app",
    "make_events": "_generated_events",
    "openapi": "_openapi",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_MODULES.get(name, '_factories')}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
