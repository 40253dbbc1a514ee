"""An event as the page shows it: plain JSON, whose texts must be escaped when they are displayed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from np6_async import (
    Activation,
    Bounce,
    Cancellation,
    Complaint,
    Creation,
    Event,
    Execution,
    Hit,
    Impression,
    Modification,
    Optout,
    Reply,
    Suppression,
    unstructure,
)

LONGEST: Final = 300  # characters in a fact
LONGEST_DATA: Final = 20_000
_MOST_FACTS: Final = 6

Fact = tuple[str, str]

_HITS: Final = {
    "open": ("opened", "Message opened"),
    "mirror": ("opened", "Message viewed in the browser"),
    "redirection": ("clicked", "Link followed"),
    "form": ("clicked", "Form sent"),
    "unsubscribe": ("stopped", "Unsubscribe link followed"),
}


def describe(event: Event) -> dict[str, Any]:
    """`at` (epoch ms), `kind` (what the page filters by), `title`, `facts` (pairs) and `data` (everything, as text)."""
    kind, title = kind_and_title(event)
    data = unstructure(event)
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return {
        "at": event.timestamp,
        "kind": kind,
        "title": short(title),
        "facts": list(dict.fromkeys(_facts(event, data)))[:_MOST_FACTS],  # some occur twice
        "data": text if len(text) <= LONGEST_DATA else f"{text[:LONGEST_DATA]}\n… cut here",
    }


def kind_and_title(event: Event) -> tuple[str, str]:
    """What the page filters by and shows in colour, and what happened in words."""
    match event:
        case Activation():
            return "sent", "Message sent"
        case Execution():
            return "sent", "Action executed"
        case Impression():
            return "opened", "Message displayed"
        case Hit(link=link):
            name = link.type if link else None
            return _HITS.get(name or "", ("clicked", f"Hit: {name or 'unknown link'}"))
        case Reply():
            return "clicked", "Contact replied"
        case Bounce(verdict="hard"):
            return "bounced", "Bounced permanently"
        case Bounce(verdict="soft"):
            return "bounced", "Bounced temporarily"
        case Bounce():
            return "bounced", "Bounced"
        case Optout():
            return "stopped", "Contact opted out"
        case Complaint():
            return "stopped", "Reported as unwanted"
        case Suppression():
            return "stopped", "Put on a suppression list"
        case Cancellation():
            return "other", "Message not sent"
        case Creation():
            return "other", "Contact created"
        case Modification():
            return "other", "Contact changed"
        case _:
            return "other", f"Event of type {event.type or 'unknown'}"


def _facts(event: Event, data: dict[str, Any]) -> Iterator[Fact]:
    """What every event may have, then what its type adds."""
    message = event.activation or event.execution
    if message and message.id:
        yield "message", short(message.id)
    if event.channel:
        yield "channel", short(event.channel)
    match event:
        case Bounce(status=status) if status:
            if status.code and status.code.enhanced:
                yield "code", short(status.code.enhanced)
            if status.meaning:
                yield "means", status.meaning
            if status.diagnostic:
                yield "server said", short(status.diagnostic)
        case Cancellation(cancellation=cancellation) if cancellation and cancellation.value:
            yield "reason", short(cancellation.value.message or "not given")
        case Execution(execution=execution) if execution and execution.data:
            yield from _leaves(execution.data)
        case _:
            # The API documents little about the others: everything next to the message is shown.
            source = data.get("source")
            detail = source.get("detail") if isinstance(source, dict) else None
            if isinstance(detail, dict):
                yield from _leaves({k: v for k, v in detail.items() if k not in {"activation", "execution"}})


def _leaves(values: dict[str, Any]) -> Iterator[Fact]:
    """Texts and numbers at any depth, by name; a `type` is in the title already."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        elif isinstance(value, str | int | float) and name != "type" and value != "":
            yield short(name), short(str(value))


def short(text: str) -> str:
    """`text`, cut where it is longer than `LONGEST`."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
