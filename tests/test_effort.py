"""What a run costs, in calls of the package's own functions: exact, and the same on every machine and every Python.

Times vary with the machine, calls do not. A change that alters a figure below says so by altering it, and why in the
message of its commit: a lower one is a gain to keep, a higher one needs a reason. Put in the figure that the failing
test shows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import np6_async
from np6_async import NP6Client
from np6_async.testing import FakeNP6

ONE_MORE_CONTACT = 39  # of five events, in a bulk run
ONE_MORE_EVENT = 1
WHOLE_RUN = 218  # of one contact of five events, from the making of the client to its end

PACKAGE = Path(np6_async.__file__).parent
# Where Python 3.12 has no call any more, 3.11 has one of these.
COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>"}


class Calls:
    """Counts the calls of functions of the package, those of `np6_async.testing` left out.

    A coroutine counts once, when it begins, however often it is resumed.
    """

    def __init__(self) -> None:
        self.count = 0
        self._files: dict[str, bool] = {}  # whether the functions of a file count

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not self._counts(code.co_filename) or code.co_name in COMPREHENSIONS:
            return
        # The argument of RESUME tells a beginning (0) from what follows a yield or an await.
        if not code.co_code[frame.f_lasti + 1] & 3:
            self.count += 1

    def _counts(self, file: str) -> bool:
        if file not in self._files:
            path = Path(file)
            self._files[file] = path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "testing")
        return self._files[file]


async def stream(np6: NP6Client, contacts: list[str]) -> int:
    async with np6.events.stream_many(contacts) as events:
        return len([event async for _, event in events])


async def cost_of(contacts: int, events: int) -> int:
    """How many calls a bulk run takes over one connection that is open already."""
    async with FakeNP6(contacts, events) as server, server.client(concurrency=1) as np6:
        counts = []
        for _ in range(4):
            calls = Calls()
            with calls.counted():
                assert await stream(np6, server.contact_ids) == contacts * events
            counts.append(calls.count)
    return min(counts)  # the first run opens the connection; a busy machine may break up a response


@pytest.mark.parametrize("contacts", [10, 20])
async def test_one_more_contact(contacts: int) -> None:
    assert await cost_of(contacts + 1, 5) - await cost_of(contacts, 5) == ONE_MORE_CONTACT


@pytest.mark.parametrize("events", [5, 20])
async def test_one_more_event(events: int) -> None:
    assert await cost_of(10, events + 1) - await cost_of(10, events) == 10 * ONE_MORE_EVENT


async def test_a_whole_run_of_one_contact() -> None:
    counts = []
    for _ in range(4):
        calls = Calls()
        async with FakeNP6(1, 5) as server:
            with calls.counted():
                async with server.client(concurrency=1) as np6:
                    assert await stream(np6, server.contact_ids) == 5
        counts.append(calls.count)
    assert min(counts) == WHOLE_RUN
