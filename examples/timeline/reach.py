"""Whether a contact can still be reached, by channel, and what says so: rules about events, and nothing else.

The rules, for the events of one channel, in the order in which they happened; hits by robots are left out:

- An opt-out, a complaint, a place on a suppression list or an unsubscribe link that was followed: no. If messages were
  sent to the contact all the same, later than those that were on their way: doubtful.
- A hard bounce: no. If a message was sent later and has not come back: doubtful.
- Something opened or clicked, or a reply, after a bounce: the bounce no longer counts.
- The last message has bounced softly: doubtful.
- By e-mail, nothing opened or clicked for a year: doubtful. What other channels deliver is not known to be opened.
- Nothing sent and nothing opened: doubtful.
- Otherwise: yes.

Where only a part of the events was read, what the others could change is doubtful, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Final, Literal, TypeAlias

from attrs import define, frozen

from np6_async import Activation, Bounce, Complaint, Event, Hit, Optout, Reply, Suppression

from .describe import kind_and_title, short

Verdict: TypeAlias = Literal["yes", "no", "doubtful"]
Kind: TypeAlias = Literal["sent", "hard", "soft", "opened", "clicked", "stopped"]

Read: TypeAlias = Literal["all", "latest", "earlier"]
"""Which of the contact's events were read: all, all since some time, or none since some time."""

ON_ITS_WAY: Final = timedelta(days=2) // timedelta(milliseconds=1)  # a message sent so soon after a stop proves nothing
SILENCE: Final = timedelta(days=365) // timedelta(milliseconds=1)

_ORDER: Final[dict[Kind, int]] = {"sent": 0, "hard": 1, "soft": 1, "opened": 2, "clicked": 2, "stopped": 3}
_MISSING: Final[dict[Read, str]] = {
    "all": "",
    "latest": ", but earlier events were not read",
    "earlier": ", but later events were not read",
}


@frozen
class Sign:
    """What an event says about the contact, at `at` (epoch ms); `hit` is the id of a hit, which may be a robot's."""

    at: int
    kind: Kind
    words: str
    channel: str | None
    is_hit: bool = False
    id: str | None = None


@frozen
class Reach:
    """The answer for one channel, None where the events name none.

    `why` is followed by the date `at` (epoch ms; None for no date) and that by `then`; `said` is what the mail server
    said, in words, where that matters. The others are the last time, in epoch ms, of a message sent, opened and
    clicked, of a hard bounce and of a stop; None for never. `bounce` and `stop` say what happened, in words.
    """

    channel: str | None
    verdict: Verdict
    why: str
    at: int | None
    then: str
    said: str | None
    sent: int | None
    opened: int | None
    clicked: int | None
    bounced: int | None
    bounce: str | None
    stopped: int | None
    stop: str | None


def sign(event: Event) -> Sign | None:
    """What `event` says; None for nothing."""
    channel = short(event.channel) if event.channel else None
    match event:
        case Activation():
            return Sign(event.timestamp, "sent", "a message was sent", channel)
        case Bounce(verdict="hard"):
            return Sign(event.timestamp, "hard", _meaning(event), channel)
        case Bounce():
            return Sign(event.timestamp, "soft", _meaning(event), channel)
        case Optout():
            return Sign(event.timestamp, "stopped", "opted out", channel)
        case Complaint():
            return Sign(event.timestamp, "stopped", "reported a message as unwanted", channel)
        case Suppression():
            return Sign(event.timestamp, "stopped", "was put on a suppression list", channel)
    kind, _ = kind_and_title(event)
    hit = isinstance(event, Hit)
    match kind:
        case "opened":
            return Sign(event.timestamp, "opened", "opened a message", channel, hit, event.id)
        case "clicked":
            words = "replied" if isinstance(event, Reply) else "clicked in a message"
            return Sign(event.timestamp, "clicked", words, channel, hit, event.id)
        case "stopped":
            return Sign(event.timestamp, "stopped", "followed the unsubscribe link", channel, hit, event.id)
    return None


def judge(signs: Iterable[Sign], *, now: int, people: Collection[str] | None, read: Read = "all") -> list[Reach]:
    """The answer for each channel, that of the last message sent first; `signs` are in any order.

    `people` are the ids of the hits that are not by robots. None: not known. Then opens and clicks prove nothing, and a
    followed unsubscribe link counts.
    """
    own = sorted((each for each in signs if _counts(each, people)), key=lambda each: (each.at, _ORDER[each.kind]))
    latest = {each.channel: (False, each.at) for each in own}
    latest |= {each.channel: (True, each.at) for each in own if each.kind == "sent"}
    if len(latest) > 1:
        latest.pop(None, None)  # what names no channel is about all of them
    channels = sorted(latest, key=lambda channel: latest[channel], reverse=True) or [None]
    return [
        _reach(channel, [each for each in own if each.channel in (channel, None)], now, read) for channel in channels
    ]


def _counts(each: Sign, people: Collection[str] | None) -> bool:
    if not each.is_hit:
        return True
    return each.kind == "stopped" if people is None else each.id in people


@define
class _Course:
    """How things stand after the signs so far; the first bounce and the first stop are those that still count."""

    sent: Sign | None = None
    life: Sign | None = None
    hard: Sign | None = None
    soft: Sign | None = None
    stop: Sign | None = None
    ignored: Sign | None = None  # the stop after which messages were sent
    came_back: bool = False  # the last message
    revived: bool = False  # by something that was opened after a hard bounce

    @property
    def said(self) -> str | None:
        """What the mail server said to the last message, if that came back and nothing graver is known."""
        bounce = self.hard or self.soft
        return bounce.words if bounce and self.came_back and not self.stop else None

    def take(self, each: Sign) -> None:
        match each.kind:
            case "sent":
                if self.stop and each.at > self.stop.at + ON_ITS_WAY:
                    self.ignored, self.stop = self.stop, None
                if not self.came_back:
                    self.soft = None  # the message before arrived
                self.sent, self.came_back = each, False
            case "hard":
                self.hard, self.came_back, self.revived = self.hard or each, True, False
            case "soft":
                self.soft, self.came_back = self.soft or each, True
            case "opened" | "clicked":
                self.revived = self.revived or self.hard is not None
                self.life, self.hard, self.soft, self.came_back = each, None, None, False
            case "stopped":
                self.stop, self.ignored = self.stop or each, None


def _reach(channel: str | None, signs: Sequence[Sign], now: int, read: Read) -> Reach:
    course = _Course()
    last: dict[Kind, Sign] = {}
    for each in signs:
        course.take(each)
        last[each.kind] = each
    verdict, why, at, then = _verdict(course, channel, now)
    if read == "earlier" or (read == "latest" and verdict == "yes"):
        verdict, then = "doubtful", f"{then}{_MISSING[read]}"

    def when(kind: Kind) -> int | None:
        return last[kind].at if kind in last else None

    def what(kind: Kind) -> str | None:
        return last[kind].words if kind in last else None

    return Reach(
        channel,
        verdict,
        why,
        at,
        then,
        course.said,
        sent=when("sent"),
        opened=when("opened"),
        clicked=when("clicked"),
        bounced=when("hard"),
        bounce=what("hard"),
        stopped=when("stopped"),
        stop=what("stopped"),
    )


def _verdict(course: _Course, channel: str | None, now: int) -> tuple[Verdict, str, int | None, str]:
    if course.stop:
        return "no", f"{course.stop.words} on", course.stop.at, ""
    if course.hard:
        if course.came_back:
            return "no", "messages have bounced permanently since", course.hard.at, ""
        return "doubtful", "bounced permanently on", course.hard.at, ", and a message sent later has not come back"
    if course.ignored:
        return "doubtful", f"{course.ignored.words} on", course.ignored.at, ", yet messages have been sent since"
    if course.soft and course.came_back:
        return "doubtful", "messages have bounced temporarily since", course.soft.at, ""
    if course.life and now - course.life.at <= SILENCE:
        then = ", after a hard bounce" if course.revived else ""
        return "yes", f"{course.life.words} on", course.life.at, then
    if not course.sent:
        return "doubtful", "no message was sent", None, ""
    if channel not in ("email", None):
        return "yes", "the last message has not come back, sent on", course.sent.at, ""
    if course.life:
        return "doubtful", "messages do not come back, but none is known to have been opened since", course.life.at, ""
    return "doubtful", "messages do not come back, but none is known to have been opened", None, ""


def _meaning(event: Bounce) -> str:
    """What the mail server said, in words."""
    status, analysis = event.status, event.analysis
    if status and status.meaning:
        return status.meaning
    subject = analysis.subject if analysis else None
    return short(subject.type) if subject and subject.type else "no reason given"
