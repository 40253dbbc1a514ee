"""Events in every shape that the API is known to send, built from a few choices.

The public factories always take the first choice, so that their events are predictable; the generated events of a
`FakeNP6` draw theirs from a seed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from .._errors import InvalidInput
from .._models.time_bounds import to_millis

if TYPE_CHECKING:
    from .._models.time_bounds import Bound

T = TypeVar("T")
Json = dict[str, Any]

ANCHOR = 1_767_225_600_000
"""2026-01-01T00:00:00Z in epoch milliseconds: the fixed "now" before which generated events lie."""

FOREVER = 2**62
"""Timestamps in epoch ms that are farther from 0 count as this."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

EVENT_TYPES = (
    *("activation", "bounce", "cancellation", "complaint", "creation", "execution"),
    *("hit", "impression", "modification", "optout", "reply", "suppression"),
)
VERDICTS = ("hard", "soft")
LINK_TYPES = ("open", "redirection", "unsubscribe", "mirror", "form")

# Messages as (action id, name, link), not all of them ASCII: a body may be cut inside a character.
MESSAGES = (
    ("000PE4", "Soldes d'été", "https://shop.example.com/ete?utm_source=np6"),
    ("000PF7", "Newsletter n° 12", "https://www.example.com/actualites/12"),
    ("000Q0A", "Rappel panier", "https://shop.example.com/panier/reprendre"),
    ("000Q3K", "Grüße aus Köln: -20 %", "https://shop.example.com/de/angebote"),
    ("000R9Z", "Bienvenue 🎉", "https://www.example.com/bienvenue"),
)
BOUNCES = (
    ("soft", "other or undefined status", "5.4.4", "no mail hosts for domain"),
    ("hard", "bad mailbox", "5.1.1", "550 5.1.1 user unknown"),
    ("hard", "bad domain", "5.1.2", "host not found: domaine inconnu"),
    ("soft", "mailbox full", "4.2.2", "452 4.2.2 boîte pleine, over quota"),
    ("soft", "spam", "5.7.1", "554 5.7.1 message refused by policy"),
)
AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0)",
)
NOTATIONS = ("footprint", "id", "footprint list", "unicity", "hash", "contact")


class Pick(Protocol):
    """Chooses one of `options`: `random.Random.choice`, or always the first."""

    def __call__(self, options: Sequence[T], /) -> T: ...


class Names(NamedTuple):
    """The three names of a contact: its id, its unicity and its hash."""

    contact: str
    unicity: str
    hash: str


class Shape(NamedTuple):
    """What an event is built from; times in epoch ms, `sent` is that of the message."""

    type: str
    id: str
    at: int
    sent: int
    names: Names
    pick: Pick
    uuid: Callable[[], str]


def names_of(contact: str, unicity: str | None = None) -> Names:
    """The names of the contact with this id; an e-mail address is made up unless it is given."""
    if not unicity:
        plain = contact.isascii() and contact.isalnum()
        unicity = f"contact.{contact.lower() if plain else md5(contact)[:12]}@example.com"
    return Names(contact, unicity, md5(unicity))


def md5(text: str) -> str:
    """The hash by which NP6 knows the contact with this unicity."""
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def milliseconds(at: Bound, name: str = "at") -> int:
    """`at` in epoch milliseconds, read as the client reads a `start`: numbers are seconds below 1e11."""
    return to_millis(at, name=name, now=datetime.now(UTC), tz=None)


def build(shape: Shape, *, link: str | None = None, verdict: str | None = None) -> Json:
    """Build one event; the `link` of a hit and the `verdict` of a bounce are picked when None."""
    source, detail = _source(shape, link, verdict)
    return {
        "type": shape.type,
        "id": shape.id,
        "timestamp": shape.at,
        "identity": {"type": "customer", "agency": "DEMO", "customer": "028"},
        "source": {"type": source, "detail": detail},
    }


def _source(shape: Shape, link: str | None, verdict: str | None) -> tuple[str, Json]:
    pick = shape.pick
    match shape.type:
        case "activation":
            return pick(("email", "email", "sms", "notification")), {"activation": _activation(shape)}
        case "execution":
            return pick(("email", "email", "sms")), {"execution": _execution(shape)}
        case "bounce":
            activation = _activation(shape, pick(("id",) * 12 + NOTATIONS))
            return "email", {"activation": activation, "bounce": _bounce(pick, verdict)}
        case "hit":
            activation = _activation(shape, "footprint")
            return "email", {"activation": activation, "link": _link(pick, link)}
        case "cancellation":
            why = {"type": "render", "message": pick(("no consent for this channel", "modèle sans prénom"))}
            cancelled = {"type": "user defined policy", "value": why}
            return "email", {"execution": _execution(shape), "cancellation": cancelled}
        case "impression":
            kind = pick(("display", "notification"))
            return kind, {"activation": _activation(shape), "impression": {"placement": "home", "count": 1}}
        case "optout":
            stop = {"type": "stop", "channel": "sms", "keyword": "STOP"}
            return "sms", {"activation": _activation(shape), "response": stop}
        case "reply":
            text = pick(("Merci !", "OK 👍", "Qui êtes-vous ?"))
            return "sms", {"activation": _activation(shape), "reply": {"message": text}}
        case "complaint":
            loop = {"type": "abuse", "feedback": "arf", "reporter": "fbl.example.net"}
            return "email", {"activation": _activation(shape), "complaint": loop}
        case "creation" | "modification" | "suppression":
            changed = {
                "origin": pick(("import", "api", "form")),
                "contact": _reference(shape, pick(NOTATIONS)),
            }
            return "email", {shape.type: changed}
        case _:
            return "email", {"activation": _activation(shape)}


def _activation(shape: Shape, notation: str | None = None) -> Json:
    activation: Json = {
        "id": shape.pick(MESSAGES)[0],
        "kind": shape.pick(("message", "message", "application")),
        "receiver": _reference(shape, notation or shape.pick(NOTATIONS)),
        "stamp": _stamp(shape),
        "recipient": shape.names.unicity,
    }
    if shape.pick((False, True, False)):
        activation["version"] = "2"
    return activation


def _execution(shape: Shape) -> Json:
    message = shape.pick(MESSAGES)
    return {
        "id": message[0],
        "kind": "message",
        "recipient": _reference(shape, shape.pick(NOTATIONS)),
        "data": {"subject": message[1], "locale": shape.pick(("fr-FR", "de-DE", "en-GB")), "variant": "A"},
        "stamp": _stamp(shape),
    }


def _stamp(shape: Shape) -> Json:
    stamp: Json = {"time": shape.sent, "id": shape.uuid(), "thread": shape.uuid()}
    if shape.pick((False, True, False)):
        stamp["set"] = shape.uuid()
    return stamp


def _reference(shape: Shape, notation: str) -> Json:
    contact, unicity, digest = shape.names
    match notation:
        case "id":
            return {"type": "id", "value": contact}
        case "footprint":
            return {"type": "footprint", "id": contact, "unicity": unicity, "hash": digest}
        case "footprint list":
            return {"type": "footprint", "id": contact, "unicity": [unicity], "hash": digest}
        case "unicity":
            return {"type": "unicity", "value": [unicity]}
        case "hash":
            return {"type": "hash", "value": digest}
        case _:
            return {"type": "contact", "value": {"type": "id", "value": contact}}


def _bounce(pick: Pick, verdict: str | None) -> Json:
    outcome, subject, code, diagnostic = pick([b for b in BOUNCES if verdict in (None, b[0])])
    mta = pick(("", "mx1.example.net"))
    about: Json = {"type": subject}
    if pick((False, True)):
        about["detail"] = {"type": "permanent" if outcome == "hard" else "transient"}
    return {
        "status": {"type": "sync", "code": {"enhanced": code}, "diagnostic": diagnostic, "mta": mta},
        "analysis": {"verdict": outcome, "subject": about},
    }


def _link(pick: Pick, link: str | None) -> Json:
    kind = link or pick(LINK_TYPES)
    agent = pick(AGENTS)
    if kind in ("redirection", "form"):
        return {"type": kind, "url": pick(MESSAGES)[2], "agent": agent}
    return {"type": kind, "agent": agent}


_counter = itertools.count(1)


def make_event(
    type: str = "bounce",
    *,
    id: str | None = None,
    at: Bound | None = None,
    contact: str = "0013KDC0",
    unicity: str | None = None,
    **members: Any,
) -> Json:
    """A realistic event as the API would send it, for `FakeNP6.add_contact` or `json.dumps`.

    `type` is one of the twelve documented types, or another, to see how a program handles an unknown one. `at` is
    anything that the client takes as a `start`: an aware datetime, a text such as "2026-01-31T08:00Z", epoch seconds
    or milliseconds (from 1e11), or a timedelta (that long ago). `unicity` is the e-mail address of the contact.

    Without `id` and `at`, each call in a process makes a new id, and a timestamp one second after that of the previous
    call, counted from 2026-01-01T00:00:00Z; everything else is always the same. `members` replace members of the event
    or add unknown ones: `make_event(source=None)`.
    """
    return {**_make(type, id, at, contact, unicity), **members}


def make_activation(**members: Any) -> Json:
    """An activation: a message or an application was run for a contact. Takes the arguments of `make_event`."""
    return make_event("activation", **members)


def make_bounce(
    verdict: Literal["hard", "soft"] = "hard",
    *,
    id: str | None = None,
    at: Bound | None = None,
    contact: str = "0013KDC0",
    unicity: str | None = None,
    code: str | None = None,
    diagnostic: str | None = None,
    **members: Any,
) -> Json:
    """A bounce with this `verdict`; `code` is its enhanced status code ("5.1.1"), `diagnostic` the text of the MTA.

    The other arguments are those of `make_event`, which also makes a bounce of any other shape:
    ``make_event("bounce", source=...)``. Raises `InvalidInput` for any other verdict.
    """
    _check("verdict", verdict, VERDICTS)
    event = _make("bounce", id, at, contact, unicity, verdict=verdict)
    status = event["source"]["detail"]["bounce"]["status"]
    if code is not None:
        status["code"]["enhanced"] = code
    if diagnostic is not None:
        status["diagnostic"] = diagnostic
    return {**event, **members}


def make_hit(
    link: str = "open",
    *,
    id: str | None = None,
    at: Bound | None = None,
    contact: str = "0013KDC0",
    unicity: str | None = None,
    **members: Any,
) -> Json:
    """A hit on a link: "open", "redirection", "unsubscribe", "mirror" or "form".

    The other arguments are those of `make_event`, which also makes a hit of any other shape:
    ``make_event("hit", source=...)``. Raises `InvalidInput` for any other link.
    """
    _check("link", link, LINK_TYPES)
    return {**_make("hit", id, at, contact, unicity, link=link), **members}


def make_optout(**members: Any) -> Json:
    """A contact's opt-out, of the kind ``stops``. Takes the arguments of `make_event`."""
    return make_event("optout", **members)


def _make(kind: str, id_: str | None, at: Bound | None, contact: str, unicity: str | None, **choice: str) -> Json:
    number = next(_counter)
    moment = ANCHOR + 1000 * number if at is None else milliseconds(at)
    parts = itertools.count(1)
    shape = Shape(
        type=kind,
        id=id_ or _uuid(number, 0),
        at=moment,
        sent=moment - 5_375,
        names=names_of(contact, unicity),
        pick=_first,
        uuid=lambda: _uuid(number, next(parts)),
    )
    return build(shape, **choice)


def _check(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidInput(
            f"{name}={value!r} is not one of {', '.join(choices)}; for a value that the API does not document, "
            "pass your own source= to make_event"
        )


def _first(options: Sequence[T], /) -> T:
    return options[0]


def _uuid(number: int, part: int) -> str:
    return f"{number:08x}-0000-4000-8000-{part:012x}"


def label_of(event: Mapping[str, Any]) -> str:
    """What the endpoints select an event by: its type, for hits with the type of the link ("hit/open")."""
    kind = str(event.get("type"))
    if kind != "hit":
        return kind
    link: Any = event
    for member in ("source", "detail", "link", "type"):
        link = link.get(member) if isinstance(link, Mapping) else None
    return f"hit/{link}"


def sending_of(event: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The id of the action that an event belongs to, and when that was sent, in epoch ms; None for what it lacks."""
    source = event.get("source")
    detail: Any = source.get("detail") if isinstance(source, Mapping) else None
    for name in ("activation", "execution"):
        sending = detail.get(name) if isinstance(detail, Mapping) else None
        if isinstance(sending, Mapping) and sending.get("id") is not None:
            stamp = sending.get("stamp")
            with suppress(TypeError, ValueError, OverflowError, KeyError):
                return str(sending["id"]), time_of(stamp["time"] if isinstance(stamp, Mapping) else None)
            return str(sending["id"]), None
    return None, None


def time_of(value: Any) -> int:
    """A timestamp in any notation that events have, in epoch ms; TypeError, ValueError, OverflowError for others."""
    time = int(value) if isinstance(value, int | str) and str(value).isdigit() else int(float(value))
    return max(-FOREVER, min(time, FOREVER))
