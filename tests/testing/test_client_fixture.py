"""The fixture `np6_client` in other test suites: every plugin, every way to run an event loop, nothing left open."""

from __future__ import annotations

import textwrap

import pytest

pytestmark = pytest.mark.slow

pytest_plugins = "pytester"

USE = """
    import asyncio, threading

    import pytest

    from np6_async import ClientClosed, NP6Client
    from np6_async.testing import Fault

    made = []

    @pytest.fixture(autouse=True)
    def _closed_afterwards():
        # Set up before the client, and so torn down after it.
        yield
        assert all(client.closed for client in made)

    async def use(np6_client, np6_server):
        made.append(np6_client)
        assert len(await np6_client.events.list(np6_server.contact_ids[0])) == 10
        # Left half read, with a connection open.
        stream = np6_client.events.stream(np6_server.contact_ids[1])
        async for event in stream:
            break
        return stream
"""

ASYNC = """
    async def test_used(np6_client, np6_server):
        await use(np6_client, np6_server)

    async def test_not_used(np6_client):
        made.append(np6_client)
        assert not np6_client.closed

    async def test_closed_by_the_test(np6_client, np6_server):
        async with np6_client:
            await use(np6_client, np6_server)
        assert np6_client.closed

    @pytest.mark.np6_server(events_per_contact=10, latency=0.01)
    @pytest.mark.np6_client(concurrency=3)
    async def test_options_come_from_markers(np6_client, np6_server):
        async with np6_client.events.stream_many(np6_server.contact_ids[:20]) as events:
            assert len([pair async for pair in events]) == 200
        assert np6_server.max_in_flight == 3

    async def test_it_retries_without_waiting(np6_client, np6_server):
        np6_server.script(Fault.status(503), Fault.drop())
        await np6_client.events.list(np6_server.contact_ids[0])
        assert np6_server.request_count == 3

    @pytest.mark.xfail(strict=True)
    async def test_that_fails_in_the_middle(np6_client, np6_server):
        stream = await use(np6_client, np6_server)
        raise AssertionError

    ASYNC_FIXTURE
    async def filled(np6_client, np6_server):
        stream = await use(np6_client, np6_server)
        yield
        assert len(await np6_client.events.list(np6_server.contact_ids[2])) == 10

    async def test_async_fixtures_share_it(filled, np6_client, np6_server):
        assert len(await np6_client.events.list(np6_server.contact_ids[3])) == 10
"""

SYNC = """
    def test_run(np6_client, np6_server):
        asyncio.run(use(np6_client, np6_server))
        assert np6_client.closed  # with the loop

    def test_a_loop_that_stays_open(np6_client, np6_server):
        with asyncio.Runner() as runner:
            runner.run(use(np6_client, np6_server))
            runner.run(use(np6_client, np6_server))
            assert not np6_client.closed

    @pytest.fixture
    def runner():
        with asyncio.Runner() as runner:
            yield runner

    def test_a_loop_that_outlives_the_client(runner, np6_client, np6_server):
        runner.run(use(np6_client, np6_server))

    @pytest.fixture
    def thread():
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        yield loop
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def test_a_loop_in_a_thread(thread, np6_client, np6_server):
        asyncio.run_coroutine_threadsafe(use(np6_client, np6_server), thread).result()

    def test_not_used(np6_client):
        made.append(np6_client)
        assert not np6_client.closed

    def test_another_loop_is_refused(np6_client, np6_server):
        asyncio.run(use(np6_client, np6_server))
        with pytest.raises(ClientClosed):
            asyncio.run(use(np6_client, np6_server))

    def test_none_is_used_after_its_test():
        for client in made:
            with pytest.raises(ClientClosed):
                asyncio.run(client.events.list("A"))
"""

ANYIO = """
    @pytest.fixture
    def anyio_backend():
        return "asyncio"
"""


def run(pytester: pytest.Pytester, mode: str, *sources: str, passed: int, xfailed: int = 0) -> None:
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
        "filterwarnings = error\naddopts = --strict-markers\n"
    )
    pytester.makepyfile("\n".join(textwrap.dedent(source) for source in (USE, *sources)))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=passed, xfailed=xfailed)
    assert result.ret == 0  # nor does a warning at the end of the session say that something was left open


def test_with_pytest_asyncio_in_auto_mode(pytester: pytest.Pytester) -> None:
    run(pytester, "auto", ASYNC.replace("ASYNC_FIXTURE", "@pytest.fixture"), passed=6, xfailed=1)


@pytest.mark.parametrize("scope", ["function", "module"])
def test_with_pytest_asyncio_in_strict_mode(pytester: pytest.Pytester, scope: str) -> None:
    """Each test has its own loop, or the tests of a module share one."""
    mark = f"import pytest_asyncio\npytestmark = pytest.mark.asyncio(loop_scope={scope!r})"
    fixture = f"@pytest_asyncio.fixture(loop_scope={scope!r})"
    run(pytester, "strict", mark, ASYNC.replace("ASYNC_FIXTURE", fixture), passed=6, xfailed=1)


@pytest.mark.parametrize("scope", ["function", "module"])
def test_with_anyio(pytester: pytest.Pytester, scope: str) -> None:
    """Its asyncio backend, with a loop for each test or one for the module."""
    backend = ANYIO.replace("@pytest.fixture", f"@pytest.fixture(scope={scope!r})")
    source = ASYNC.replace("ASYNC_FIXTURE", "@pytest.fixture")
    run(pytester, "strict", "pytestmark = pytest.mark.anyio", backend, source, passed=6, xfailed=1)


def test_without_any_plugin_for_asyncio(pytester: pytest.Pytester) -> None:
    """Plain tests that run a loop themselves, in every possible way."""
    run(pytester, "strict", SYNC, passed=7)


def test_marker_options_without_names_are_an_error(pytester: pytest.Pytester) -> None:
    """The error says how to write it."""
    pytester.makepyfile(
        "import pytest\n@pytest.mark.np6_client(5)\ndef test_it(np6_client): ...",
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the marker np6_client takes options of NP6Client by name*"])
