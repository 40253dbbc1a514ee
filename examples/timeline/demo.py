"""The demo: a fake NP6 server with a contact who has two years of events, and some for which things go wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from np6_async import Hook, NP6Client
from np6_async.testing import FakeNP6, Fault, make_event

ANNE: Final = "000MLGPR"
ADDRESS: Final = "anne.martin@example.com"
PAUSE = 1.5  # seconds in the middle of Anne's events, so that they can be seen streaming
BUSY = 8.0  # seconds

ABOUT: Final = {
    "demo": True,
    "samples": [
        {"contact": ADDRESS, "label": "Anne, by e-mail"},
        {"contact": ANNE, "label": "Anne, by id"},
        {"contact": "000BUSY0", "label": "NP6 is busy"},
        {"contact": "000DOWN0", "label": "NP6 is down"},
        {"contact": "000NOONE", "label": "nobody"},
    ],
}

_NEWSLETTERS: Final = (
    "Spring collection",
    "Five ideas for the weekend",
    "Your member offer",
    "New in store",
    "Last days",
)
_PAGES: Final = ("collection", "ideas/weekend", "offers/member", "new", "sale")
_PHONE: Final = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)"


@asynccontextmanager
async def connect(hooks: Sequence[Hook]) -> AsyncIterator[NP6Client]:
    """A client of a fake server, which runs as long as the client is open."""
    server = FakeNP6(contacts=0, chunk_size=4096)
    now = datetime.now(UTC)
    server.add_contact(ANNE, events_of_anne(now), unicity=ADDRESS)
    server.script(Fault.stall(after=20_000, seconds=PAUSE), contact=ANNE, times=None)
    server.add_contact("000BUSY0", events_of_anne(now)[-40:])
    server.script(Fault.rate_limited(BUSY), contact="000BUSY0")
    server.set_raw("000DOWN0", b"", status=503)
    async with server, server.client(hooks=hooks) as client:
        yield client


def events_of_anne(now: datetime, seed: int = 7) -> list[dict[str, Any]]:
    """Two years of newsletters, and how Anne reacted; the same for the same `now` and `seed`."""
    rng = random.Random(seed)
    start = now - timedelta(days=730)
    history = [_event("creation", start, {"creation": {"origin": "form", "page": "/welcome"}})]
    for week in range(104):
        sent = start + timedelta(days=7 * week + 0.3, minutes=rng.randrange(90))
        number = week % len(_NEWSLETTERS)
        # Interest varies: low in summer, high before the holidays.
        interest = 0.75 if sent.month in (3, 4, 10, 11, 12) else 0.35
        if sent < now:
            history += _letter(rng, sent, number, interest)
        if week % 9 == 4:
            history.append(_event("modification", sent + timedelta(days=2), {"modification": {"origin": "api"}}))
    stop = {"response": {"channel": "sms", "keyword": "STOP"}}
    history.append(_event("optout", now - timedelta(days=1.5), stop, channel="sms"))
    return [event for event in history if event["timestamp"] < now.timestamp() * 1000]


def _letter(rng: random.Random, sent: datetime, number: int, interest: float) -> list[dict[str, Any]]:
    """One newsletter, and the reactions to it."""

    def later(hours: float) -> datetime:
        return sent + timedelta(hours=rng.uniform(hours / 4, hours))

    message = {"id": f"000PE{number}", "kind": "message", "recipient": ADDRESS}
    execution = {**message, "data": {"subject": _NEWSLETTERS[number]}}
    history = [_event("execution", sent, {"execution": execution})]
    if rng.random() < 0.05:
        bounce = {
            "status": {"type": "sync", "code": {"enhanced": "4.2.2"}, "diagnostic": "452 4.2.2 mailbox full"},
            "analysis": {"verdict": "soft", "subject": {"type": "mailbox full"}},
        }
        return [*history, _event("bounce", later(1), {"activation": message, "bounce": bounce})]
    history.append(_event("activation", sent + timedelta(seconds=4), {"activation": message}))
    opened = sum(rng.random() < chance for chance in (interest, interest / 2, interest / 4))
    history += [_hit("open", later(48), message, agent=_PHONE) for _ in range(opened)]
    if opened and rng.random() < interest:
        pages = dict.fromkeys((_PAGES[number], rng.choice(_PAGES)))
        history += [_hit("redirection", later(50), message, url=f"https://shop.example.com/{page}") for page in pages]
    if opened and rng.random() < 0.08:
        history.append(_hit("form", later(52), message, url="https://shop.example.com/survey"))
    return history


def _hit(link: str, at: datetime, message: dict[str, Any], **members: str) -> dict[str, Any]:
    return _event("hit", at, {"activation": message, "link": {"type": link, **members}})


def _event(type: str, at: datetime, detail: dict[str, Any], channel: str = "email") -> dict[str, Any]:
    return make_event(type, at=at, contact=ANNE, unicity=ADDRESS, source={"type": channel, "detail": detail})
