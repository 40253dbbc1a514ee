"""Test tools for programs that use np6_async: a fake NP6 server, event factories and a pytest fixture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._app import RequestSeen
    from ._events import make_events
    from ._factories import make_activation, make_bounce, make_event, make_hit
    from ._faults import Fault
    from ._rate import RateLimit
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
]

# Loaded when first used: pytest imports this package, for its plugin, in every run.
_HOMES = {
    "FakeNP6": "_server",
    "Fault": "_faults",
    "RateLimit": "_rate",
    "RequestSeen": "_app",
    "make_activation": "_factories",
    "make_bounce": "_factories",
    "make_event": "_factories",
    "make_events": "_events",
    "make_hit": "_factories",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
