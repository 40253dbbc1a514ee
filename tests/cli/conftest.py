"""What tests of commands in this process share: a server, and `np6 events`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from np6_async import RetryPolicy
from np6_async.cli import _command, main
from np6_async.testing import FakeNP6

Run = Callable[..., int]


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    with FakeNP6(6, 12) as running:
        yield running


@pytest.fixture
def run(server: FakeNP6, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`np6 events` with these arguments; gives back the exit code."""
    monkeypatch.setenv("NP6_API_KEY", server.api_key)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)

    def run(*arguments: str) -> int:
        try:
            return main(["events", "--base-url", server.url, *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)

    return run


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is retried, so that what fails fails at once."""
    monkeypatch.setattr(_command, "RetryPolicy", partial(RetryPolicy, max_attempts=1))
