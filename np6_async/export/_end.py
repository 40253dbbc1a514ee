"""The end of an export, where that is "now"."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

from attrs import define, evolve

from .._models.events import Event
from .._models.time_bounds import isoformat
from .._streams.open_end import OpenEnd
from ._folder import Folder
from ._manifest import Query


@define(eq=False, repr=False)
class End:
    """The end of the export in `folder`.

    `moving` is that of an export which ends now, and of which nothing was committed before. It may turn out to lie
    earlier than the manifest has it, and later again, until an event is left out because of it.
    """

    folder: Folder
    moving: OpenEnd | None
    _left_out_from: int | None = None  # the end, once events were left out because of it

    @property
    def open(self) -> OpenEnd | None:
        """The end, as long as it may move."""
        return None if self._left_out_from is not None else self.moving

    @property
    def query(self) -> Query:
        """What is fetched: up to this machine's now, as long as the end may be that."""
        query = self.folder.manifest.query
        return query if self.open is None else evolve(query, end=isoformat(self.open.own))

    def before(self, events: list[Event]) -> list[Event]:
        """Those that lie before the end; once some are left out, the end stays where it is."""
        if self.moving is None:
            return events
        last, end = events[-1].timestamp, self._left_out_from or self.moving.ms
        if last < end or (self.open is not None and self.moving.refuted_by(last)):
            return events
        self._left_out_from = end
        return events[: bisect_left(events, end, key=attrgetter("timestamp"))]

    def settle(self) -> None:
        """Let the end stay where it is now."""
        if self.open is not None:
            self._left_out_from = self.open.ms
            self.write()

    def write(self) -> None:
        """Let the manifest have the end as it is now."""
        if self.moving is not None:
            query = self.folder.manifest.query
            end = isoformat(self._left_out_from or self.moving.ms)  # of one form: they are in the order of time
            self.folder.manifest.query = evolve(query, end=end if query.start is None else max(query.start, end))
