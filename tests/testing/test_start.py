"""A `FakeNP6` that cannot start says so at once: it never hangs."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import pytest

from np6_async.testing import FakeNP6

if sys.platform == "win32":
    pytest.skip("limits of POSIX", allow_module_level=True)

import resource

pytest_plugins = "pytester"


@contextmanager
def descriptors(free: int) -> Iterator[None]:
    """This process may open so many more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 64, limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture(params=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """New event loops are of this kind."""
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        monkeypatch.setattr(asyncio, "new_event_loop", uvloop.new_event_loop)


@pytest.mark.usefixtures("loops")
def test_without_descriptors_it_is_an_error_at_once() -> None:
    """However few are left: it runs, or it says what it lacks. Nothing is left over."""
    threads = threading.active_count()
    for free in range(16):
        with descriptors(free), pytest.raises(OSError, match="FakeNP6 cannot make an event loop: Too many"), FakeNP6(1):
            pass
    for free in range(16, 20):
        with descriptors(free), FakeNP6(1) as server:
            assert server.url
    assert threading.active_count() == threads


async def test_on_a_running_loop_it_says_that_it_cannot_listen() -> None:
    with (
        descriptors(0),
        pytest.raises(OSError, match=r"FakeNP6 cannot listen on 127\.0\.0\.1, port 0: Too many open files"),
    ):
        async with FakeNP6(1):
            pass


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"FakeNP6 cannot listen on 127\.0\.0\.1, port {port}: Address already in use"
        ):
            async with FakeNP6(1, port=port):
                pass
        with pytest.raises(OSError, match="Address already in use"), FakeNP6(1, port=port):
            pass


class Broken(asyncio.SelectorEventLoop):
    """Made, and not able to run in a thread."""

    def run_forever(self) -> NoReturn:
        raise RuntimeError("no loop in this thread")


class Brief(asyncio.SelectorEventLoop):
    """Ends when a server listens."""

    async def create_server(self, *arguments: Any, **options: Any) -> Any:
        server = await super().create_server(*arguments, **options)
        self.stop()
        return server


def test_a_thread_that_cannot_run_a_loop_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cause."""
    threads = threading.active_count()
    monkeypatch.setattr(asyncio, "new_event_loop", Broken)
    with (
        pytest.raises(RuntimeError, match="the event loop of its thread has ended, or cannot run") as caught,
        FakeNP6(1),
    ):
        pass
    assert str(caught.value.__cause__) == "no loop in this thread"
    assert threading.active_count() == threads


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
def test_a_loop_that_ends_too_soon_is_an_error_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "new_event_loop", Brief)
    with pytest.raises(RuntimeError, match="the event loop of its thread has ended"), FakeNP6(1):
        pass
    gc.collect()  # of the server, which nobody could close


def test_no_thread_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"), FakeNP6(1):
        pass


def test_a_loop_that_cannot_be_made_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    with pytest.raises(OSError, match="FakeNP6 cannot make an event loop: Too many open files"), FakeNP6(1):
        pass


@pytest.mark.slow
def test_the_fixtures_say_it_too(pytester: pytest.Pytester) -> None:
    """As an error of each test, and the run goes on."""
    pytester.makepyfile(
        """
        import asyncio, pytest

        class Broken(asyncio.SelectorEventLoop):
            def run_forever(self):
                raise RuntimeError("no loop in this thread")

        @pytest.fixture
        def broken(monkeypatch):
            monkeypatch.setattr(asyncio, "new_event_loop", Broken)

        def test_server(broken, np6_server): ...
        def test_client(broken, np6_client): ...
        def test_other(np6_server): ...
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:asyncio", timeout=60)
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(["*the event loop of its thread has ended, or cannot run*"])
