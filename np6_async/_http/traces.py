"""Traces of aiohttp that the user brings along, kept from seeing the API key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import aiohttp

from .._errors import ConfigError

_HeadersSent: TypeAlias = Callable[
    [aiohttp.ClientSession, SimpleNamespace, aiohttp.TraceRequestHeadersSentParams], Awaitable[object]
]
_SIGNALS: Final = tuple(name for name in dir(aiohttp.TraceConfig) if name.startswith("on_"))


def checked(trace_configs: Iterable[aiohttp.TraceConfig], *, borrowed: bool) -> list[aiohttp.TraceConfig]:
    """The traces as a list; raises `ConfigError` for what is none and for those of a session that is `borrowed`."""
    configs = list(trace_configs) if isinstance(trace_configs, Iterable) else None
    if configs is None or not all(isinstance(config, aiohttp.TraceConfig) for config in configs):
        raise ConfigError("trace_configs must be an iterable of aiohttp.TraceConfig")
    if configs and borrowed:
        raise ConfigError("trace_configs are of a session of the client's own: give them to the session you pass")
    return configs


def without_key(theirs: aiohttp.TraceConfig) -> aiohttp.TraceConfig:
    """A trace that calls what `theirs` calls, and shows it the headers that were sent without the key.

    It is the one signal that would: the others get the headers from before the key was put on.
    """
    theirs.freeze()  # as a session does
    ours = aiohttp.TraceConfig(theirs.trace_config_ctx)  # type: ignore[arg-type]
    for name in _SIGNALS:
        receivers: Iterable[Any] = getattr(theirs, name)
        if name == "on_request_headers_sent":
            receivers = [_hide_key(receiver) for receiver in receivers]
        getattr(ours, name).extend(receivers)
    return ours


def _hide_key(receiver: _HeadersSent) -> _HeadersSent:
    async def call(
        session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestHeadersSentParams
    ) -> None:
        headers = params.headers.copy()
        headers.popall("X-Key", None)
        await receiver(session, context, aiohttp.TraceRequestHeadersSentParams(params.method, params.url, headers))

    return call
