"""`np6 events` in this process, against a server of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from np6_async.cli import main
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
