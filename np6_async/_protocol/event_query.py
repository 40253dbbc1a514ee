"""What is asked of each contact: its events, of one kind, in one window."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from attrs import frozen

from .._config import DecodeLimits
from .._models.contacts import Contact, path_template, target_path
from .._models.events import EventKind
from .._models.time_bounds import Window, isoformat
from .event_decoder import Decoder, decode_whole
from .resume import ResumePoint


@frozen
class Query:
    """A `Question` about each of any number of contacts. `missing_is_empty`: a 404 means no events, not an error."""

    kind: EventKind
    window: Window
    newest_first: bool = False
    classification: str | None = None
    missing_is_empty: bool = False

    @property
    def nothing(self) -> bool:
        """Whether no event can lie in the window."""
        return self.window.empty

    @cached_property
    def _below(self) -> str:
        return f"/events{self.kind.suffix}"

    @cached_property
    def _whole(self) -> str:
        return self._encode(self.window)

    def template(self, contact: Contact) -> str:
        """The path without the contact, for logs."""
        return path_template(contact, self._below)

    def label(self, contact: Contact) -> str:
        """The contact, as messages name it."""
        return contact.label

    def target(self, contact: Contact, resume: ResumePoint) -> tuple[str, str]:
        """Path and query of a request for what is not delivered yet."""
        path, query = target_path(contact, self._below)
        parameters = self.parameters(resume.window)
        return path, f"{query}&{parameters}" if query else parameters

    def parameters(self, window: Window) -> str:
        """The parameters of a request for `window`, percent-encoded; the same for every whole answer."""
        return self._whole if window is self.window else self._encode(window)

    def resume_point(self) -> ResumePoint:
        """Where the query begins."""
        return ResumePoint(self.window, newest_first=self.newest_first)

    def whole(self, body: bytes, limits: DecodeLimits) -> list[Any] | None:
        """The events of a whole answer that needs no decoder."""
        return decode_whole(body, self.kind, limits)

    def decoder(self, limits: DecodeLimits) -> Decoder[Any]:
        """The decoder of one answer."""
        return Decoder(self.kind, limits)

    def _encode(self, window: Window) -> str:
        parts = ["sort=desc" if self.newest_first else "sort=asc"]
        if window.start is not None:
            parts.append(f"start={isoformat(window.start)}")
        if window.end is not None:
            parts.append(f"end={isoformat(window.end)}")
        if self.classification is not None:
            parts.append(f"classification={self.classification}")
        return "&".join(parts)
