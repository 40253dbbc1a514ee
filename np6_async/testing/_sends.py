"""Histories made of sends, as a sender of newsletters has them: the same for the same seed, and cheap to make.

A send goes to its share of the contacts within seconds. What they do with it follows within days, or months later.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, cast

from ._factories import MESSAGES, build
from ._generated_events import Entry, Template, base36, blank, template_of, templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._factories import Names, T
    from ._generated_events import Calendar

_FIRST_ID = int("PE4", 36)
_ID_STEP = 7
MAX_SENDS = 100_000

_VARIANTS = 6  # of the JSON of a step
_APPLICATIONS = 8  # every so many sends are made by an application, which leaves an execution for each contact

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_SECONDS = 6  # that a send takes, most contacts being served in the first
_SOON, _LATE = 6 * _HOUR, 30 * _DAY  # means of how long a reaction takes
_LATE_FROM = 2 * _DAY
_LATE_SHARE = 0.1

# What may become of a message for one contact, and for how many of a thousand contacts it does.
_JOURNEYS = (
    (600, "activation"),
    (150, "activation open"),
    (60, "activation open open"),
    (55, "activation mpp"),
    (10, "activation gsr"),
    (5, "activation genericrobot"),
    (50, "activation open redirection"),
    (15, "activation open redirection open redirection"),
    (6, "activation open redirection form"),
    (6, "activation open mirror"),
    (4, "activation open unsubscribe"),
    (24, "activation bounce"),
    (10, "cancellation"),
    (3, "activation optout"),
    (2, "activation complaint"),
)
JOURNEYS = tuple(tuple(steps.split()) for share, steps in _JOURNEYS for _ in range(share))

# The label and the robot of each step whose name is not its label.
_STEPS: dict[str, tuple[str, str | None]] = {
    **{link: (f"hit/{link}", None) for link in ("open", "redirection", "form", "mirror", "unsubscribe")},
    "mpp": ("hit/open", "mpp"),
    "gsr": ("hit/redirection", "gsr"),
    "genericrobot": ("hit/redirection", "genericrobot"),
}


class Send(dict[str, "Sequence[Template]"]):
    """One action that was sent once: when it began, in epoch ms, and the variants of each step, made when needed."""

    def __init__(self, number: int, at: int) -> None:
        self.action = "00" + base36(_FIRST_ID + _ID_STEP * number, 4)
        self.at = at
        self.by_application = number % _APPLICATIONS == _APPLICATIONS - 1
        self._message = (self.action, *MESSAGES[number % len(MESSAGES)][1:])

    def __missing__(self, step: str) -> Sequence[Template]:
        rng = random.Random(f"{self.action}/{step}")
        self[step] = tuple(self._template(step, rng) for _ in range(_VARIANTS))
        return self[step]

    def _template(self, step: str, rng: random.Random) -> Template:
        def pick(options: Sequence[T], /) -> T:
            return cast("T", self._message) if options is MESSAGES else rng.choice(options)

        label, robot = _STEPS.get(step, (step, None))
        kind, _, link = label.partition("/")
        event = build(blank(kind, pick, rng), link=link or None)
        source = event["source"]
        if kind == "activation":
            source["type"] = "email"  # as that of all that follows from it
        for sending in source["detail"].values():
            if "kind" in sending:
                sending["kind"] = "application" if self.by_application else "message"
        return template_of(event, label, robot)


class Sends:
    """The sends of an account, and the histories that its contacts have of them."""

    def __init__(self, count: int, seed: int, calendar: Calendar) -> None:
        if not 1 <= count <= MAX_SENDS:
            raise ValueError(f"sends is {count}: it must be 1 to {MAX_SENDS}, or None")
        rng = random.Random(f"{seed}/sends")
        times = sorted(calendar.draw(rng) for _ in range(count))
        self._sends = [Send(number, at + -at % 1000) for number, at in enumerate(times)]
        self._strides = [stride for stride in range(1, count + 1) if math.gcd(stride, count) == 1][:1000]
        self._calendar = calendar
        self._born = [each for each in templates() if each.label in ("creation", "modification")]

    @property
    def actions(self) -> list[str]:
        """Their ids, oldest first."""
        return [send.action for send in self._sends]

    def generate(self, seed: int, names: Names, number: int | tuple[int, int], salt: int) -> list[Entry]:
        """Up to `number` events of one contact, unsorted; fewer where there are not as many sends."""
        rng = random.Random(seed << 40 | salt)
        number = number if isinstance(number, int) else rng.randint(*number)
        count, start, end = len(self._sends), self._calendar.start, self._calendar.end
        draw = rng.random
        fields: dict[bytes, Any] = {
            b"contact": names.contact.encode(),
            b"unicity": names.unicity.encode(),
            b"hash": names.hash.encode(),
        }
        entries: list[Entry] = []
        digits = rng.randbytes(16 * number).hex()

        def add(at: int, sent: int, template: Template) -> None:
            h = digits[32 * len(entries) : 32 * len(entries) + 32]
            fields[b"id"] = f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:]}".encode()
            fields[b"at"] = at
            fields[b"sent"] = sent
            text, label, robot, action, _ = template
            entries.append(Entry(at, text % fields, label, robot, action, None if action is None else sent))

        if number and draw() < 0.15:
            add(start + int(draw() * (end - start) / 10), 0, self._born[int(draw() * len(self._born))])
        position, stride = int(draw() * count), self._strides[int(draw() * len(self._strides))]
        for _ in range(count):
            if len(entries) >= number:
                break
            send = self._sends[position]
            position = (position + stride) % count
            at = send.at + 1000 * int(draw() ** 2 * _SECONDS)
            sent = at - 1 - int(draw() * 900)
            if send.by_application and at < end:
                add(sent, sent, send["execution"][int(draw() * _VARIANTS)])
            for step in JOURNEYS[int(draw() * len(JOURNEYS))]:
                match step:
                    case "activation" | "cancellation":
                        pass
                    case "bounce":
                        at += 1000 - int(60 * math.log(1 - draw())) * 1000
                    case "mpp" | "gsr" | "genericrobot":
                        at += int(draw() * 20_000)
                    case "open" | "optout" | "complaint":
                        at += _delay(draw(), draw())
                    case _:
                        at += 2_000 + int(draw() * 120_000)
                if at >= end or len(entries) >= number:
                    break
                add(at, sent, send[step][int(draw() * _VARIANTS)])
        return entries


def _delay(share: float, place: float) -> int:
    """How long, in ms, a contact takes to react: most take hours, and some take months."""
    waited = -math.log(1 - place)
    return int(waited * _SOON) if share >= _LATE_SHARE else _LATE_FROM + int(waited * _LATE)
