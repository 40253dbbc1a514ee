"""The pytest plugin in other test suites."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import np6_async.testing
from np6_async.testing import FakeNP6

pytestmark = pytest.mark.slow

pytest_plugins = "pytester"

FETCH = """
import aiohttp, json, urllib.request

import pytest
from np6_async.testing import FakeNP6, Fault

async def fetch(server):
    async with aiohttp.ClientSession(headers={"X-Key": server.api_key}) as session:
        async with session.get(f"{server.url}/targets/{server.contact_ids[0]}/events") as response:
            return response.status, await response.json(content_type=None)
"""

ASYNC = """
async def test_one(np6_server):
    status, events = await fetch(np6_server)
    assert (status, len(events)) == (200, 10)
    assert np6_server.request_count == 1

async def test_another_has_its_own_server(np6_server):
    assert np6_server.request_count == 0

@pytest.mark.np6_server(contacts=1, events_per_contact=3)
class TestMarked:
    async def test_options_come_from_the_marker(self, np6_server):
        assert len(np6_server.contact_ids) == 1
        assert len((await fetch(np6_server))[1]) == 3

async def test_a_fault_in_one_line(np6_server):
    np6_server.script(Fault.object())
    assert await fetch(np6_server) == (200, {"error": "internal error"})
    assert np6_server.faults_consumed == {"object": 1}

@pytest.fixture
async def filled(np6_server):
    return await fetch(np6_server)

async def test_async_fixtures_can_use_it(filled, np6_server):
    assert np6_server.request_count == 1
"""

STRICT = "import pytest_asyncio\npytestmark = pytest.mark.asyncio\n" + ASYNC.replace(
    "@pytest.fixture\n", "@pytest_asyncio.fixture\n"
)

SYNC = """
def test_sync(np6_server):
    url = f"{np6_server.url}/targets/{np6_server.contact_ids[0]}/events"
    request = urllib.request.Request(url, headers={"X-Key": np6_server.api_key})
    with urllib.request.urlopen(request) as response:
        assert len(json.load(response)) == 10
    assert np6_server.request_count == 1
"""


@pytest.mark.parametrize(("mode", "source", "passed"), [("strict", SYNC, 1), ("auto", ASYNC, 5), ("strict", STRICT, 5)])
def test_the_fixture_works_in_sync_auto_and_strict_tests(
    pytester: pytest.Pytester, mode: str, source: str, passed: int
) -> None:
    """Each test has its own server with the options of its marker; warnings are errors and markers strict."""
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
        "filterwarnings = error\naddopts = --strict-markers\n"
    )
    pytester.makepyfile(FETCH + source)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=passed)


def test_the_example_in_the_docstring_runs_as_it_is(pytester: pytest.Pytester) -> None:
    """The test file in the docstring of `np6_async.testing` passes."""
    _, _, rest = (np6_async.testing.__doc__ or "").partition("::\n\n")
    example = rest[: rest.index("\nUnder pytest-asyncio")]
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    pytester.makepyfile(textwrap.dedent(example))
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=4)


def test_the_plugin_is_listed_with_its_fixture_and_marker(pytester: pytest.Pytester) -> None:
    """`pytest --fixtures` and `--markers` explain it."""
    pytester.runpytest_subprocess("--fixtures").stdout.fnmatch_lines(["np6_server*", "*FakeNP6*"])
    pytester.runpytest_subprocess("--fixtures").stdout.fnmatch_lines(["np6_client*", "*NP6Client*"])
    markers = ["@pytest.mark.np6_server(*", "@pytest.mark.np6_client(*"]
    pytester.runpytest_subprocess("--markers").stdout.fnmatch_lines(markers)


def test_loading_the_plugin_loads_no_server() -> None:
    """In a test suite that does not use it, neither the server nor the factories are imported."""
    code = (
        "import sys, np6_async.testing.plugin\n"
        "print(sorted(m for m in sys.modules if m.startswith('np6_async.testing.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['np6_async.testing.plugin']"


def test_the_public_names_are_these() -> None:
    """`__all__` is sorted, complete and importable; any other name is an AttributeError."""
    assert np6_async.testing.__all__ == [
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
    for name in np6_async.testing.__all__:
        assert getattr(np6_async.testing, name).__doc__
        assert name in dir(np6_async.testing)
    with pytest.raises(AttributeError, match="FakeServer"):
        _ = np6_async.testing.FakeServer


@pytest.mark.parametrize("form", ["thread", "loop"])
async def test_a_client_for_the_server_in_one_call(form: str) -> None:
    """`server.client()` is a client with the right address and key, and takes the options of any client."""

    async def count(server: FakeNP6) -> int:
        async with server.client(concurrency=2, user_agent="mine") as np6:
            events = await np6.events.list(server.contact_ids[0])
        assert server.requests[0].headers["user-agent"].startswith("mine")
        return len(events)

    if form == "thread":
        with FakeNP6(1, 7) as server:
            assert await count(server) == 7
    else:
        async with FakeNP6(1, 7) as server:
            assert await count(server) == 7
    assert server.request_count == 1
