"""When a blocking client or one of its streams ends, whatever ends it, no thread, task or connection is left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.waiting import until

from np6_async import ClientClosed, ConnectError, RetryPolicy, UsageError
from np6_async.blocking import NP6Client
from np6_async.testing import FakeNP6, Fault, make_bounce

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    with FakeNP6(contacts=200, events_per_contact=300, chunk_size=2_000) as server:
        yield server


@pytest.fixture
def np6(server: FakeNP6) -> Iterator[NP6Client]:
    with client(server) as np6:
        yield np6


def client(server: FakeNP6, **options: Any) -> NP6Client:
    return NP6Client(server.api_key, base_url=server.url, retry=RetryPolicy(base_delay=0), **options)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "np6_async"]


@pytest.fixture(autouse=True)
def nothing_is_left(server: FakeNP6) -> Iterator[None]:
    yield
    gc.collect()
    until(lambda: not threads(), 20)
    until(lambda: server.open_connections == 0, 20)


def test_creating_one_starts_no_thread(server: FakeNP6) -> None:
    np6 = client(server)
    assert not threads()
    np6.close()
    np6.close()
    assert np6.closed
    with pytest.raises(ClientClosed, match="create a new one"):
        np6.events.list(server.contact_ids[0])
    with pytest.raises(ClientClosed), np6:
        pass


def test_closing_returns_when_the_thread_has_ended(server: FakeNP6) -> None:
    with client(server) as np6:
        np6.events.list(server.contact_ids[0])
        assert len(threads()) == 1
    assert not threads()


def test_closing_ends_the_calls_of_other_threads(server: FakeNP6) -> None:
    server.script(Fault.hang(), times=None)
    np6 = client(server)
    contacts = server.contact_ids

    def bulk() -> None:
        with np6.events.stream_many(contacts[2:]) as events:
            next(events)

    with ThreadPoolExecutor(3) as others:
        calls = [
            others.submit(np6.events.list, contacts[0]),
            others.submit(lambda: next(np6.events.stream(contacts[1]))),
            others.submit(bulk),
        ]
        until(lambda: server.in_flight >= 3)
        np6.close()
        for call in calls:
            with pytest.raises(ClientClosed):
                call.result(20)


@pytest.mark.parametrize("leave", ["break", "raise", "close", "forget"])
def test_a_stream_that_is_left_early_ends_its_request(server: FakeNP6, np6: NP6Client, leave: str) -> None:
    server.script(Fault.stall(after=100_000))

    def read() -> None:
        if leave == "close":
            with np6.events.stream(server.contact_ids[0]) as events:
                next(events)
            return
        for _ in np6.events.stream(server.contact_ids[0]):
            if leave == "break":
                break
            if leave == "raise":
                raise LookupError
            return

    with suppress(LookupError):
        read()
    until(lambda: server.in_flight == 0, 20)
    assert server.request_count == 1


def test_a_bulk_run_that_is_left_early_ends_its_requests(server: FakeNP6, np6: NP6Client) -> None:
    with np6.events.stream_many(server.contact_ids) as events:
        next(events)
    until(lambda: server.in_flight == 0, 20)
    with pytest.raises(ClientClosed, match="the stream is closed"):
        next(events)
    with pytest.raises(UsageError, match="entered once"), events:
        pass
    assert server.request_count < 150


def test_a_bulk_run_that_nobody_refers_to_ends_its_requests(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.stall(after=100_000), times=None)
    events = np6.events.stream_many(server.contact_ids).__enter__()
    next(events)
    del events
    gc.collect()
    until(lambda: server.in_flight == 0, 20)


def test_a_closed_stream_raises_in_place_of_ending(server: FakeNP6, np6: NP6Client) -> None:
    """Also where some of its events were there: an end would look like completeness."""
    stream = np6.events.stream(server.contact_ids[0])
    iterator = iter(stream)
    next(iterator)
    stream.close()
    for _ in range(2):
        with pytest.raises(ClientClosed, match="the stream is closed"):
            next(iterator)
        with pytest.raises(ClientClosed, match="the stream is closed"):
            next(stream)


def test_a_stream_that_failed_does_not_look_complete(server: FakeNP6, np6: NP6Client) -> None:
    server.script(Fault.status(400))
    iterator = iter(np6.events.stream(server.contact_ids[0]))
    with pytest.raises(Exception, match="400"):
        next(iterator)
    with pytest.raises(ClientClosed):
        next(iterator)


@pytest.mark.slow
def test_a_slow_reader_stops_the_fetching(server: FakeNP6, np6: NP6Client) -> None:
    """60,000 events are 35 MiB; while nobody takes them, some MiB are read and no more."""
    with np6.events.stream_many(list(server.contact_ids)) as events:
        next(events)
        settles(lambda: events.stats.bytes)
        assert events.stats.bytes < 8 * 1024 * 1024
        assert sum(1 for _ in events) == 200 * 300 - 1


def settles(value: Callable[[], int]) -> None:
    """Wait until it is the same ten times in a row."""
    last = [-1] * 10

    def same() -> bool:
        last.append(value())
        return len(set(last[-10:])) == 1

    until(same, 20)


def test_a_client_that_nobody_refers_to_ends_its_thread(server: FakeNP6) -> None:
    events = client(server).events.stream(server.contact_ids[0])
    next(events)
    assert len(threads()) == 1
    assert sum(1 for _ in events) == 299  # the stream keeps it
    del events
    gc.collect()
    until(lambda: not threads(), 20)


def test_a_hook_that_calls_its_client_is_refused_and_may_close_it(server: FakeNP6) -> None:
    """It would wait for itself."""
    problems: list[BaseException] = []

    def hook(_: object) -> None:
        if not problems:
            try:
                np6.contacts.count()
            except UsageError as error:
                problems.append(error)
            np6.close()

    np6 = client(server, hooks=[hook])
    with pytest.raises(ClientClosed):
        np6.events.list(server.contact_ids[0])
    assert "on its own thread" in str(problems[0])
    np6.close()


def test_no_thread_is_a_connect_error(server: FakeNP6, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    np6 = client(server)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(ConnectError, match="can't start new thread"):
            np6.contacts.count()
    assert np6.contacts.count() == 200
    np6.close()


# -- processes -------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """The exit code of a forked process that does `work`; it ends without the hooks of pytest."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.slow
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_a_used_client_says_so(server: FakeNP6, np6: NP6Client) -> None:
    """In place of a wait for a thread that is not there; the one that forked goes on."""
    contact = server.contact_ids[0]
    server.add_contact("LONG", [make_bounce(at=1_700_000_000 + second) for second in range(4_000)])  # 2 MiB
    stream = np6.events.stream("LONG")
    next(stream)

    def child() -> None:
        for call in (lambda: np6.events.list(contact), lambda: next(np6.events.stream(contact))):
            with pytest.raises(ClientClosed, match=r"one client in each process: see docs/how-to/scripts\.md"):
                call()
        with pytest.raises(ClientClosed):
            for _ in stream:
                pass
        np6.close()

    assert in_child(child) == 0
    assert sum(1 for _ in stream) == 3_999
    assert len(np6.events.list(contact)) == 300


@pytest.mark.slow
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_client_that_was_not_used_before_a_fork_works_in_both_processes(server: FakeNP6, np6: NP6Client) -> None:
    """So a module may make one, as those of a Celery task or a preloaded application do."""

    def child() -> None:
        assert len(np6.events.list(server.contact_ids[0])) == 300
        np6.close()

    assert in_child(child) == 0
    assert len(np6.events.list(server.contact_ids[0])) == 300


PROGRAM = """
import sys, threading
from np6_async.blocking import NP6Client

contacts = {contacts!r}
np6 = NP6Client({key!r}, base_url={url!r})
"""


def program(server: FakeNP6, code: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "program.py"
    head = PROGRAM.format(contacts=list(server.contact_ids), key=server.api_key, url=server.url)
    file.write_text(head + code)
    return [sys.executable, "-X", "dev", "-W", "error", str(file)]


INTERRUPTED = {
    "list": "np6.events.list(contacts[0])",
    "stream": "for event in np6.events.stream(contacts[0]): pass",
    "bulk": "with np6.events.stream_many(contacts) as events:\n    for contact, event in events: pass",
    "pages": "for page in np6.events.pages(contacts, start=0, every='1mo'): pass",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("call", INTERRUPTED)
def test_ctrl_c_ends_a_program_that_waits(server: FakeNP6, tmp_path: Path, call: str) -> None:
    """With no word but the traceback of the interrupt, and in development mode: nothing was left open."""
    server.script(Fault.stall(after=100_000), times=None)
    command = program(server, INTERRUPTED[call], tmp_path)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: server.in_flight > 0, 60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT, said
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "Warning" not in said
    until(lambda: server.in_flight == 0, 20)


@pytest.mark.slow
def test_a_program_may_end_without_closing_anything(server: FakeNP6, tmp_path: Path) -> None:
    """In development mode nothing is said."""
    code = "stream = np6.events.stream(contacts[0]); next(stream)\nprint(len(np6.events.list(contacts[1])))"
    done = subprocess.run(program(server, code, tmp_path), capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("300\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_a_client_that_goes_on(server: FakeNP6, tmp_path: Path) -> None:
    """As in a notebook whose cell was interrupted: other streams are not concerned."""
    code = """
stream = np6.events.stream(contacts[0])
for count, event in enumerate(stream, 1):
    if count == 150:
        break
try:
    np6.events.list(contacts[1])
except KeyboardInterrupt:
    print("interrupted")
print(len(np6.events.list(contacts[2])))
print(150 + sum(1 for _ in stream))
np6.close()
print(threading.active_count())
"""
    server.script(Fault.hang(), contact=server.contact_ids[1])
    with subprocess.Popen(
        program(server, code, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        until(lambda: server.request_count == 2, 60)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert said == "interrupted\n300\n300\n1\n"
