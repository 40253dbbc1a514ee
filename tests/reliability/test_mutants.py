"""A3: the check of A1 is worth something, because it catches every way of getting resuming wrong that we know of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from support.delivery import KINDS, SEED, deliver, fewest

from np6_async import NP6Error, ProtocolError, StreamInterrupted
from np6_async._models.time_bounds import Window
from np6_async._protocol.array_decoder import _Expect
from np6_async._protocol.event_decoder import EventDecoder
from np6_async._protocol.event_query import EventQuery
from np6_async._protocol.resume import ResumePoint
from np6_async._streams.fetch import Fetch
from np6_async.testing import FakeNP6

if TYPE_CHECKING:
    from conftest import Figure

CONTACTS = 1_500
Mutate = Callable[[pytest.MonkeyPatch], None]


def resume_at_last_plus_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events that share the last timestamp are not requested again."""
    original = ResumePoint.window.fget

    def window(self: Any) -> Window:
        whole: Window = original(self)
        if self._last is None:
            return whole
        if self._newest_first:
            return Window(whole.start, self.delivered_to)
        return Window(self.delivered_to + 1, whole.end)

    monkeypatch.setattr(ResumePoint, "window", property(window))


def no_dedupe_at_the_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are requested again, and delivered again."""
    original = ResumePoint.restart

    def restart(self: Any) -> None:
        self._ids = set()
        self._without_id = {}
        original(self)

    monkeypatch.setattr(ResumePoint, "restart", restart)


def restart_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole response is fetched again, and what was delivered is forgotten."""
    original = ResumePoint.restart

    def restart(self: Any) -> None:
        self._last = None
        self._ids = set()
        self._without_id = {}
        original(self)

    monkeypatch.setattr(ResumePoint, "window", property(lambda self: self._window))
    monkeypatch.setattr(ResumePoint, "restart", restart)


def an_end_without_the_bracket_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = EventDecoder.finish

    def finish(self: Any) -> None:
        with suppress(StreamInterrupted):
            original(self)

    monkeypatch.setattr(EventDecoder, "finish", finish)


def resuming_without_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second request of a contact leaves `sort` out."""
    original = EventQuery._encode

    def encode(self: Any, window: Window) -> str:
        sent = original(self, window)
        return sent if window is self.window else sent.replace("sort=asc", "").replace("sort=desc", "").strip("&")

    monkeypatch.setattr(EventQuery, "_encode", encode)


def an_object_is_taken_for_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    original = EventDecoder.next_batch

    def next_batch(self: Any) -> Any:
        try:
            return original(self)
        except ProtocolError as error:
            if "a JSON object, not" not in str(error):
                raise
            self._fault, self._expect, self._received, self._pending = None, _Expect.NOTHING, b"", b""
            return None

    monkeypatch.setattr(EventDecoder, "next_batch", next_batch)


def no_retry_once_an_answer_began(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Fetch._recover

    async def recover(self: Any, error: NP6Error) -> None:
        if self._response is not None:
            self._fail(error, "in the middle of its response")
        await original(self, error)

    monkeypatch.setattr(Fetch, "_recover", recover)


def only_the_last_id_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several events at the last timestamp, all but one come again."""
    original = ResumePoint.accept

    def accept(self: Any, batch: list[Any]) -> list[Any]:
        accepted: list[Any] = original(self, batch)
        if accepted:
            self._ids = {accepted[-1].id}
        return accepted

    monkeypatch.setattr(ResumePoint, "accept", accept)


def a_body_that_breaks_is_a_body_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that broke counts as the end, bracket or not."""
    original = Fetch._recover

    async def recover(self: Any, error: NP6Error) -> None:
        if isinstance(error, StreamInterrupted) and self.stats.events:
            self._finish()
        else:
            await original(self, error)

    monkeypatch.setattr(Fetch, "_recover", recover)


def the_last_batch_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that sees its contact complete forgets the batch that completed it."""
    original = Fetch.next_batch

    async def next_batch(self: Any) -> list[Any]:
        batch = await original(self)
        return [] if self.complete else batch

    monkeypatch.setattr(Fetch, "next_batch", next_batch)


# The seven of the goal, and three more.
MUTANTS: list[Mutate] = [
    resume_at_last_plus_one,
    no_dedupe_at_the_boundary,
    restart_from_the_beginning,
    an_end_without_the_bracket_is_accepted,
    resuming_without_an_order,
    an_object_is_taken_for_no_events,
    no_retry_once_an_answer_began,
    only_the_last_id_is_remembered,
    a_body_that_breaks_is_a_body_that_ends,
    the_last_batch_is_not_handed_on,
]


def a_server() -> FakeNP6:
    server = FakeNP6(contacts=CONTACTS, events_per_contact=19, seed=SEED)
    server.fault_rate(0.35)
    return server


@pytest.mark.parametrize("newest_first", [False, True], ids=["asc", "desc"])
async def test_A3_the_unchanged_library_passes_the_check_that_its_mutants_fail(
    figure: Figure, newest_first: bool
) -> None:
    """What the check of A1 reports of 1,500 contacts is nothing, unless something is wrong."""
    async with a_server() as server:
        delivery = await deliver(server, server.contact_ids, newest_first=newest_first)
    order = "desc" if newest_first else "asc"
    figure("A3", f"no mutant, {order}", "0 differences", f"{len(delivery.differences)} differences")
    assert not delivery.differences
    assert delivery.done == CONTACTS
    assert set(server.faults_consumed) == set(KINDS), fewest(server.faults_consumed)


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
async def test_A3_a_mutant_of_the_resume_logic_is_caught(
    figure: Figure, monkeypatch: pytest.MonkeyPatch, mutate: Mutate
) -> None:
    """A mistake in resuming does not go unseen: 1,500 contacts under faults show it, in either order."""
    mutate(monkeypatch)
    reports = []
    for order in ("asc", "desc"):
        async with a_server() as server:
            delivery = await deliver(server, server.contact_ids, newest_first=order == "desc", to_the_end=False)
        print(f"\nseed {SEED}, {mutate.__name__}, {order}, after {delivery.done} contacts: {delivery.differences[:1]}")
        if delivery.differences:
            reports.append(f"{order} after {delivery.done} contacts")
    figure("A3", mutate.__name__, "caught, asc and desc", f"caught, {' and '.join(reports)}" if reports else "NOT")
    assert len(reports) == 2
