"""A list of events that a notebook shows as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, TypeVar

from . import event_words as words
from .contacts import Contact
from .events import Event

E = TypeVar("E", bound=Event)

_LEFT: Final = "text-align:left"


class EventList(list[E]):
    """A list of events, as any other, which a notebook shows as a small table."""

    def to_html(self, *, rows: int = 20) -> str:
        """The first `rows` events as an HTML table, without anything that names a contact.

        Times are in UTC. What is in it may change; it is for reading.
        """
        return html_table([(None, event) for event in self[:rows]], len(self))

    def _repr_html_(self) -> str:
        return self.to_html()


def html_table(pairs: Sequence[tuple[str | Contact | None, Event]], count: int) -> str:
    """Pairs of a contact, or None where it is not to be shown, and an event, the first of so many, as a table."""
    named = any(contact is not None for contact, _ in pairs)
    lines = [_row("th", ["time (UTC)", *(["contact"] if named else []), "type", "action", "what"])]
    for contact, event in pairs:
        name = contact.value if isinstance(contact, Contact) else contact
        cells = [f"{event.at:%Y-%m-%d %H:%M:%S}", *([name] if named else [])]
        lines.append(_row("td", [*cells, event.type, words.action(event), words.what(event)]))
    more = f" (the first {len(pairs):,})" if len(pairs) < count else ""
    title = f"{count:,} event{'s' * (count != 1)}{more}"
    return f'<table><caption style="{_LEFT}">{title}</caption>{"".join(lines)}</table>'


def _row(tag: str, cells: Iterable[str | None]) -> str:
    written = (f'<{tag} style="{_LEFT}">{escape(cell or "")}</{tag}>' for cell in cells)
    return f"<tr>{''.join(written)}</tr>"
