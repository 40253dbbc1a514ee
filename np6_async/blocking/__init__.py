"""The client without asyncio: for scripts, notebooks, sync views of Django and Flask, and tasks of Celery.

::

    from np6_async.blocking import NP6Client

    with NP6Client() as np6:                          # the key is in NP6_API_KEY
        print(np6.contacts.get("000MLGPR"))
        with np6.events.stream_many(ids, kind="bounces", start="2026-01-01") as events:
            for contact, event in events:
                print(contact, event.at, event.verdict)

Errors, events, pages and settings are those of `np6_async`. The guide is docs/how-to/scripts.md.
"""

from ._account import Campaigns, Contacts, RedList, Segments
from ._actions import Actions, Reactivities
from ._bulk import BulkStream
from ._client import NP6Client
from ._events import Events
from ._pages import Pages
from ._streams import ActionStream, CampaignEvents, ContactIds, EventStream, RedListEntries

__all__ = [
    "ActionStream",
    "Actions",
    "BulkStream",
    "CampaignEvents",
    "Campaigns",
    "ContactIds",
    "Contacts",
    "EventStream",
    "Events",
    "NP6Client",
    "Pages",
    "Reactivities",
    "RedList",
    "RedListEntries",
    "Segments",
]
