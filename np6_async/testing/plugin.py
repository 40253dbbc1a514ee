"""pytest plugin of np6_async, active wherever the package is installed.

Importing it must stay light: every pytest run does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from np6_async import NP6Client

    from . import FakeNP6


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "np6_server(**options): options of the FakeNP6 behind the np6_server fixture.",
    )
    config.addinivalue_line(
        "markers",
        "np6_client(**options): options of the NP6Client behind the np6_client fixture.",
    )


@pytest.fixture
def np6_server(request: pytest.FixtureRequest) -> Iterator[FakeNP6]:
    """A running `np6_async.testing.FakeNP6`, a new one for each test.

    It runs in a thread of its own, so tests may be plain functions or coroutines under any plugin and event
    loop. Its options come from a marker: `@pytest.mark.np6_server(contacts=3, gzip=True)`.
    """
    from . import FakeNP6

    arguments, options = _marked(request, "np6_server")
    with FakeNP6(*arguments, **options) as server:
        yield server


@pytest.fixture
def np6_client(request: pytest.FixtureRequest, np6_server: FakeNP6) -> Iterator[NP6Client]:
    """An `np6_async.NP6Client` of the `np6_server` of the test, closed after it.

    Like any client it belongs to the event loop that it is first used on: that of the test, or the one that a plain
    test runs by itself. It retries without waiting. Options come from a marker:
    `@pytest.mark.np6_client(concurrency=2)`.
    """
    from np6_async import RetryPolicy

    from ._clients import closing

    arguments, options = _marked(request, "np6_client")
    if arguments:
        raise pytest.UsageError("the marker np6_client takes options of NP6Client by name")
    with closing(np6_server.client(**{"retry": RetryPolicy(base_delay=0), **options})) as client:
        yield client


def _marked(request: pytest.FixtureRequest, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the nearest marker of this name holds."""
    marker = request.node.get_closest_marker(name)
    return (marker.args, marker.kwargs) if marker else ((), {})
