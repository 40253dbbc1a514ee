"""`trace_configs`: the user's own aiohttp traces on the client's session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from np6_async import ConfigError, NP6Client, RetryPolicy
from np6_async.testing import FakeNP6, Fault

CANARY = "canary-key-7f3a"
SIGNALS = [name for name in dir(aiohttp.TraceConfig) if name.startswith("on_")]


class Tracer:
    """Keeps what every signal of a trace receives, and looks for the key in it at that very moment."""

    def __init__(self) -> None:
        self.config = aiohttp.TraceConfig(lambda trace_request_ctx: SimpleNamespace(mine=trace_request_ctx))
        self.seen: dict[str, list[Any]] = {}
        self.contexts: list[Any] = []
        self.leaks: list[str] = []
        for name in SIGNALS:
            getattr(self.config, name).append(self._receiver(name))

    def _receiver(self, name: str) -> Any:
        async def receive(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
            self.seen.setdefault(name, []).append(params)
            self.contexts.append(context)
            shown = [params, getattr(params, "headers", None), session.headers]
            for holder in (getattr(params, "response", None), getattr(params, "exception", None)):
                shown += [holder, vars(holder) if hasattr(holder, "__dict__") else None]
                shown.append(getattr(getattr(holder, "request_info", None), "headers", None))
            if CANARY in repr(shown):
                self.leaks.append(name)

        return receive


async def test_a_trace_sees_every_signal_and_never_the_key() -> None:
    """Requests, connections, headers and failures, with its own context; the server gets the key."""
    tracer = Tracer()
    async with FakeNP6(contacts=2, api_key=CANARY) as server:
        server.script(Fault.drop())
        retry = RetryPolicy(base_delay=0)
        async with NP6Client(CANARY, base_url=server.url, trace_configs=[tracer.config], retry=retry) as np6:
            for contact in server.contact_ids:
                assert len(await np6.events.list(contact)) == 10
    assert {
        "on_request_start",
        "on_request_headers_sent",
        "on_request_end",
        "on_request_exception",
        "on_connection_create_end",
        "on_connection_reuseconn",
    } <= set(tracer.seen)
    assert tracer.leaks == []
    assert all(hasattr(context, "mine") for context in tracer.contexts)
    for params in tracer.seen["on_request_headers_sent"]:
        assert params.headers["Accept"] == "application/json"
        assert "X-Key" not in params.headers


async def test_one_trace_serves_several_clients() -> None:
    """As it may serve several sessions."""
    tracer = Tracer()
    async with FakeNP6(contacts=1) as server:
        for _ in range(2):
            async with server.client(trace_configs=[tracer.config]) as np6:
                await np6.events.list(server.contact_ids[0])
    assert len(tracer.seen["on_request_end"]) == 2


async def test_a_borrowed_session_has_its_own_traces() -> None:
    """Others would reconfigure it."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigError, match="give them to the session you pass"):
            NP6Client("k", session=session, trace_configs=[aiohttp.TraceConfig()])


@pytest.mark.parametrize("wrong", [[object()], aiohttp.TraceConfig(), None])
def test_anything_but_a_trace_config_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"trace_configs must be an iterable of aiohttp\.TraceConfig"):
        NP6Client("k", trace_configs=wrong)
