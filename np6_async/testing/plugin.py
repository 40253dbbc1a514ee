"""pytest plugin of np6_async, active wherever the package is installed.

Importing it must stay light: every pytest run does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import FakeNP6


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "np6_server(**options): options of the FakeNP6 behind the np6_server fixture.",
    )


@pytest.fixture
def np6_server(request: pytest.FixtureRequest) -> Iterator[FakeNP6]:
    """A running `np6_async.testing.FakeNP6`, a new one for each test.

    It runs in a thread of its own, so tests may be plain functions or coroutines under any plugin and event
    loop. Its options come from a marker: `@pytest.mark.np6_server(contacts=3, gzip=True)`.
    """
    from . import FakeNP6

    marker = request.node.get_closest_marker("np6_server")
    with FakeNP6(*(marker.args if marker else ()), **(marker.kwargs if marker else {})) as server:
        yield server
