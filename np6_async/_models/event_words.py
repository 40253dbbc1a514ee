"""An event in a few words for a person: no addresses, and nothing that a server wrote freely."""

from __future__ import annotations

from .events import Bounce, Cancellation, Event, Hit


def action(event: Event) -> str | None:
    """The id of the action that the event belongs to."""
    belongs = event.activation or event.execution
    return belongs.id if belongs else None


def what(event: Event) -> str | None:
    """What one wants to know beside the type of the event."""
    match event:
        case Hit(link=link) if link is not None and link.type:
            return link.type
        case Bounce(status=status, verdict=verdict):
            code = status.code.enhanced if status and status.code else None
            said = " ".join(filter(None, [code, status.meaning if status else None]))
            return ": ".join(filter(None, [verdict, said]))
        case Cancellation(cancellation=cancellation) if cancellation is not None and cancellation.type:
            return cancellation.type
    return event.channel
