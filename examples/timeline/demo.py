"""The demo: a fake NP6 server with a contact who has two years of events, and others for whom things go wrong.

For the page of the whole account, messages go to other contacts all the time, and some of these react.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from np6_async import Hook, NP6Client
from np6_async.testing import FakeNP6, Fault, make_event

ANNE: Final = "000MLGPR"
ADDRESS: Final = "anne.martin@example.com"
BOB: Final = "000DEAD0"
BOBS_ADDRESS: Final = "bob.durand@old-company.example.com"
PAUSE = 1.5  # seconds in the middle of Anne's events, so that they can be seen streaming
BUSY = 8.0  # seconds
READERS: Final = 240  # contacts to whom messages go while the demo runs
PUBLISH = 1.0  # seconds between two looks at what has happened to them

ABOUT: Final = {
    "demo": True,
    "samples": [
        {"contact": ADDRESS, "label": "Anne, by e-mail"},
        {"contact": ANNE, "label": "Anne, by id"},
        {"contact": BOBS_ADDRESS, "label": "Bob, who bounces"},
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
_EARLIER: Final = (timedelta(hours=24), timedelta(hours=5), timedelta(hours=2))  # before now
_FIRST: Final = timedelta(minutes=52)  # before now
_PHONE: Final = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)"


@asynccontextmanager
async def connect(hooks: Sequence[Hook]) -> AsyncIterator[NP6Client]:
    """A client of a fake server, which runs as long as the client is open."""
    server = FakeNP6(READERS, events_per_contact=0, seed=6, chunk_size=4096)
    now = datetime.now(UTC)
    sends = Sends(server, now)
    server.add_contact(ANNE, events_of_anne(now), unicity=ADDRESS)
    server.add_events(ANNE, robots_of_anne(now), robot="mpp")
    server.add_contact(BOB, events_of_bob(now), unicity=BOBS_ADDRESS)
    server.script(Fault.stall(after=20_000, seconds=PAUSE), contact=ANNE, path="*/events", times=None)
    server.add_contact("000BUSY0", events_of_anne(now)[-40:])
    server.script(Fault.rate_limited(BUSY), contact="000BUSY0")
    server.set_raw("000DOWN0", b"", status=503)
    async with server, server.client(hooks=hooks) as client:
        publishing = asyncio.create_task(_publish(sends))
        try:
            yield client
        finally:
            publishing.cancel()
            with suppress(asyncio.CancelledError):
                await publishing


async def _publish(sends: Sends) -> None:
    while True:
        await asyncio.sleep(PUBLISH)
        sends.publish(datetime.now(UTC))


class Sends:
    """Messages to the contacts of `server`, one every few minutes, and what the contacts do with them.

    At first the server has what has happened until `now`.
    """

    def __init__(self, server: FakeNP6, now: datetime, seed: int = 11) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self._readers = [(contact, server.unicity(contact)) for contact in server.contact_ids[:READERS]]
        self._due: list[tuple[datetime, str, dict[str, Any]]] = []  # when, to whom, and the event
        self._number = 0
        for ago in _EARLIER:
            self._send(now - ago)
        self._next = now - _FIRST
        self.publish(now)

    def publish(self, now: datetime) -> None:
        """Add to the server what has happened until `now`."""
        while self._next <= now:
            self._send(self._next)
            self._next += timedelta(minutes=self._rng.uniform(3, 12))
        happened: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for at, contact, event in self._due:
            if at <= now:
                happened[contact].append(event)
        self._due = [each for each in self._due if each[0] > now]
        for contact, events in happened.items():
            self._server.add_events(contact, events)

    def _send(self, start: datetime) -> None:
        """A message to some of the contacts, within two minutes or so."""
        action = f"000Q{self._number:02X}"
        self._number += 1
        share, seconds = self._rng.uniform(0.3, 1), self._rng.uniform(20, 150)
        for contact, address in self._readers:
            if self._rng.random() < share:
                sent = start + timedelta(seconds=self._rng.uniform(0, seconds))
                message = {
                    "id": action,
                    "kind": "message",
                    "receiver": {"type": "id", "value": contact},
                    "stamp": {"time": int(sent.timestamp() * 1000)},
                    "recipient": address,
                }
                for at, name, detail in self._journey(sent, message):
                    source = {"type": "email", "detail": detail}
                    event = make_event(name, at=at, contact=contact, unicity=address, source=source)
                    self._due.append((at, contact, event))

    def _journey(self, sent: datetime, message: dict[str, Any]) -> Iterator[tuple[datetime, str, dict[str, Any]]]:
        """What becomes of a message for one contact."""
        rng = self._rng

        def later(seconds: float) -> timedelta:
            return timedelta(seconds=1 + rng.expovariate(1 / seconds))

        if rng.random() < 0.01:
            why = {"type": "user defined policy", "value": {"type": "render", "message": "no first name"}}
            yield sent, "cancellation", {"activation": message, "cancellation": why}
            return
        yield sent, "activation", {"activation": message}
        if rng.random() < 0.03:
            yield sent + later(20), "bounce", {"activation": message, "bounce": _bounce(rng.choice(("hard", "soft")))}
            return
        if rng.random() < 0.45:
            opened = sent + later(600 if rng.random() < 0.7 else 20_000)
            yield opened, "hit", {"activation": message, "link": {"type": "open", "agent": _PHONE}}
            link = rng.choices(("redirection", "mirror", "unsubscribe", ""), (30, 3, 2, 65))[0]
            if link:
                yield opened + later(40), "hit", {"activation": message, "link": {"type": link, "agent": _PHONE}}


def _bounce(verdict: str) -> dict[str, Any]:
    code, text, subject = {
        "soft": ("4.2.2", "452 4.2.2 mailbox full", "mailbox full"),
        "hard": ("5.1.1", "550 5.1.1 user unknown", "bad mailbox"),
    }[verdict]
    return {
        "status": {"type": "sync", "code": {"enhanced": code}, "diagnostic": text},
        "analysis": {"verdict": verdict, "subject": {"type": subject}},
    }


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


def robots_of_anne(now: datetime, seed: int = 8) -> list[dict[str, Any]]:
    """What her mail provider's robots opened and clicked, seconds after some of the newsletters of `events_of_anne`."""
    rng = random.Random(seed)
    history = []
    for letter in events_of_anne(now):
        if letter["type"] == "activation" and rng.random() < 0.3:
            sent = datetime.fromtimestamp(letter["timestamp"] / 1000, UTC)
            message = letter["source"]["detail"]["activation"]
            link = rng.choice(("open", "open", "redirection"))
            history.append(_hit(link, sent + timedelta(seconds=rng.randrange(3, 40)), message))
    return [event for event in history if event["timestamp"] < now.timestamp() * 1000]


def events_of_bob(now: datetime) -> list[dict[str, Any]]:
    """A year of monthly newsletters, read until the address was closed five weeks ago."""
    history = []
    for month in range(12):
        sent = now - timedelta(days=7 + 30.5 * month, hours=5)
        number = month % len(_NEWSLETTERS)
        message = {"id": f"000PE{number}", "kind": "message", "recipient": BOBS_ADDRESS}
        history.append(_event("activation", sent, {"activation": message}, to=BOB))
        if month < 2:
            bounce = {"activation": message, "bounce": _bounce("hard")}
            history.append(_event("bounce", sent + timedelta(seconds=20), bounce, to=BOB))
        elif month % 2:
            opened = {"activation": message, "link": {"type": "open", "agent": _PHONE}}
            history.append(_event("hit", sent + timedelta(hours=month), opened, to=BOB))
    return history


def _letter(rng: random.Random, sent: datetime, number: int, interest: float) -> list[dict[str, Any]]:
    """One newsletter, and the reactions to it."""

    def later(hours: float) -> datetime:
        return sent + timedelta(hours=rng.uniform(hours / 4, hours))

    message = {"id": f"000PE{number}", "kind": "message", "recipient": ADDRESS}
    execution = {**message, "data": {"subject": _NEWSLETTERS[number]}}
    history = [_event("execution", sent, {"execution": execution})]
    if rng.random() < 0.05:
        return [*history, _event("bounce", later(1), {"activation": message, "bounce": _bounce("soft")})]
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


def _event(type: str, at: datetime, detail: dict[str, Any], channel: str = "email", to: str = ANNE) -> dict[str, Any]:
    address = ADDRESS if to == ANNE else BOBS_ADDRESS
    return make_event(type, at=at, contact=to, unicity=address, source={"type": channel, "detail": detail})
