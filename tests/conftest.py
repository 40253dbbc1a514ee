"""What every test shares: hypothesis profiles, processes, timeouts, and aioresponses for today's aiohttp."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Iterator
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import HealthCheck, settings

# A slow machine is no failure; in CI the examples are the same at every run.
settings.register_profile("np6", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("np6"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "np6")


# What the developer has set for his own use: no test is to ask that server, in this process or another.
for _name in ("NP6_BASE_URL", "NP6_API_KEY", "NP6_API_KEY_FILE", "NP6_PROFILE"):
    os.environ.pop(_name, None)
os.environ["NP6_CONFIG"] = os.devnull

# Coverage is measured in the processes of pytest-xdist, and not in those that tests start: it would fill their full
# disks, and load what they must not load.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


# What measures time and memory, drives a browser, a Redis, an S3 server or a cluster, or takes minutes.
ALONE = ("reliability", "browser", "services", "openapi", "lake", "fleet")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """All cores, or one process for what is to have the machine to itself."""
    alone = re.search(rf"(?<!not )\b({'|'.join(ALONE)})\b", config.option.markexpr)
    return 0 if alone else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(name) for name in ALONE):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("reliability"):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture
def responses(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """aioresponses, for tests of statuses, headers and parameters: it replaces aiohttp's request, so that
    middlewares (the API key among them), timeouts, compression and streaming do not take part."""
    original = aiohttp.ClientResponse.__init__
    if "stream_writer" in inspect.signature(original).parameters:
        # aioresponses 0.7 does not know this argument of aiohttp 3.14.
        initialise = functools.partialmethod(original, stream_writer=Mock(output_size=0))
        monkeypatch.setattr(aiohttp.ClientResponse, "__init__", initialise)
    with aioresponses() as mocked:
        yield mocked
