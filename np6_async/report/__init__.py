"""One page of what happened to messages: sent, bounced, opened, clicked and stopped, over time and by whom.

The command `np6 report` writes it. In Python::

    report = Report("Spring campaign", tz="Europe/Paris")
    async for _, events in np6.events.stream_many(contacts, "all").batches():
        report.add(events, robots=True)
    async for _, events in np6.events.stream_many(contacts, "hits").batches():
        report.add(events)
    report.write("report.html")

NP6 leaves the hits of robots out where hits are asked for, and may not where all events are.
"""

from ._report import Report
from ._tally import Totals

__all__ = ["Report", "Totals"]
