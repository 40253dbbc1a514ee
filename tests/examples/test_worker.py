"""The taskiq example: real worker processes on a real Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.needs import needs

from np6_async.testing import FakeNP6, Fault

needs("taskiq", "taskiq_redis", command="redis-server")

import redis
from support.services import kill, process, redis_server
from support.waiting import until

pytestmark = pytest.mark.services

Rows = Counter[tuple[str, str]]
WORKER = (sys.executable, "-m", "taskiq", "worker", "examples.worker.tasks:broker", "--workers=1", "--max-async-tasks")


@pytest.fixture
def np6() -> Iterator[FakeNP6]:
    with FakeNP6(contacts=30, events_per_contact=(0, 300)) as server:
        yield server


@pytest.fixture
def environment(np6: FakeNP6, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of the workers and the sender."""
    with redis_server(tmp_path) as url:
        yield {
            "BATCH_SECONDS": "5",  # after which a killed worker is noticed
            "NP6_API_KEY": np6.api_key,
            "NP6_BASE_URL": np6.url,
            "PARTS": str(tmp_path / "parts"),
            "REDIS_URL": url,
        }


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return tmp_path / "parts"


@pytest.fixture
def queue(environment: dict[str, str]) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(environment["REDIS_URL"]) as connection:
        yield connection


def send(np6: FakeNP6, environment: dict[str, str]) -> None:
    """Three batches of ten contacts each."""
    command = [sys.executable, "-m", "examples.worker.send", "2025-01-01", "2026-01-01", "--size", "10"]
    ids = "\n".join(np6.contact_ids).encode()
    done = subprocess.run(command, env={**os.environ, **environment}, input=ids, check=True, capture_output=True)
    assert done.stdout == b"3 batches sent\n"


@pytest.mark.parametrize(
    ("bounds", "words"),
    [(["2026-01-01", "tomorrow"], "end='tomorrow' "), (["2026-02-01", "2026-01-01"], "is later than end=")],
)
def test_impossible_bounds_are_refused_before_anything_is_sent(bounds: list[str], words: str) -> None:
    """In one line, even without a running Redis."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.worker.send", *bounds],
        env={**os.environ, "REDIS_URL": "redis://127.0.0.1:9"},
        input=b"A\n",
        check=False,
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("nothing is sent: ")
    assert words in line


def rows(parts: Path) -> Rows:
    """All rows of all parts, and how often each occurs."""
    lines = [line for part in parts.glob("*.ndjson") for line in part.read_bytes().splitlines()]
    return Counter((row["contact"], row["event"]["id"]) for row in map(json.loads, lines))


def truth(np6: FakeNP6) -> Rows:
    return Counter((contact, event["id"]) for contact in np6.contact_ids for event in np6.events(contact))


def unacknowledged(queue: redis.Redis) -> int:
    return int(queue.xpending("taskiq", "taskiq")["pending"])


def test_a_killed_worker_loses_and_duplicates_no_row(
    np6: FakeNP6, environment: dict[str, str], parts: Path, queue: redis.Redis
) -> None:
    """It is killed in the middle of a batch, with rows on disk: another one takes over that batch and does the rest."""
    held = max(np6.contact_ids[10:20], key=lambda contact: len(np6.events(contact)))
    np6.script(Fault.stall(after=1_000), contact=held, times=None)
    with process(*WORKER, "1", **environment) as first:
        send(np6, environment)
        # The first batch is done; of the second, one contact is missing, whose response has stalled.
        until(lambda: np6.faults_consumed["stall"] > 0 and np6.in_flight == 1)
        until(lambda: any(part.stat().st_size for part in parts.glob(".*.tmp")))
        kill(first)
    assert len(list(parts.glob("*.ndjson"))) == 1
    assert 0 < rows(parts).total() < truth(np6).total()
    assert unacknowledged(queue) >= 1
    np6.reset()
    with process(*WORKER, "2", **environment) as second:
        until(lambda: len(list(parts.glob("*.ndjson"))) == 3)
        until(lambda: rows(parts) == truth(np6))
        until(lambda: unacknowledged(queue) == 0)
        assert second.poll() is None


def test_sigterm_finishes_only_what_was_started(
    np6: FakeNP6, environment: dict[str, str], parts: Path, queue: redis.Redis
) -> None:
    """The worker ends by itself; the batches that it did not start remain for the next one."""
    np6.script(Fault.stall(after=1_000, seconds=5), contact=np6.contact_ids[0])
    with process(*WORKER, "1", **{**environment, "BATCH_SECONDS": "60"}) as worker:
        send(np6, environment)
        until(lambda: np6.faults_consumed["stall"] == 1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0
    assert len(list(parts.glob("*.ndjson"))) == 1
    assert not list(parts.glob(".*.tmp"))
    assert {contact for contact, _ in rows(parts)} <= set(np6.contact_ids[:10])
    until(lambda: np6.open_connections == 0)
    with process(*WORKER, "1", **environment):
        until(lambda: len(list(parts.glob("*.ndjson"))) == 3)
        until(lambda: rows(parts) == truth(np6))


def test_a_failed_batch_is_tried_again(
    np6: FakeNP6, environment: dict[str, str], parts: Path, queue: redis.Redis
) -> None:
    """The failed attempt leaves nothing behind."""
    np6.script(Fault.status(501), contact=np6.contact_ids[0])
    with process(*WORKER, "2", **environment):
        send(np6, environment)
        until(lambda: len(list(parts.glob("*.ndjson"))) == 3)
        until(lambda: unacknowledged(queue) == 0)
    assert np6.faults_consumed["status_501"] == 1
    assert rows(parts) == truth(np6)
    assert not list(parts.glob(".*.tmp"))
