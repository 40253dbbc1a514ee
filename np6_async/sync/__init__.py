"""Incremental sync: each run delivers the events that no earlier run has delivered.

::

    async with NP6Client() as np6:
        sync = Sync(np6, SQLiteStore("state.db"), ids, "bounces", start="2026-01-01")
        async with sync.run() as run:
            async for contact, events in run.batches():
                await warehouse.write(contact, events)    # data first: asking for the next batch confirms this one

What holds, whatever happens:

- **Nothing is lost.** Progress is saved after the events: a batch that is not known to be written is delivered again.
  Where a contact failed, the next run resumes it after the last of its events that was written; its response came in
  the order of time, so nothing before was left out. Its overlap is checked again, as for any other contact.
- **Nothing is delivered twice** as long as the run is left in an orderly way, which includes exceptions, cancellation
  and a SIGTERM that cancels the task. The one exception is the last batch, if nothing has confirmed that it is written.
- **kill -9 or a power failure** costs the last second or 500 contacts with `run()`: their events are delivered again,
  which does no harm to a sink that writes by id. With ``run(autocommit=False)`` and `SyncRun.commit` nothing is doubled
  if the note holds the sink's position: at the start the sink drops whatever it has written after `SyncRun.note`.
- **A clock that is wrong** loses nothing: a run ends at the server's time where this machine's clock is ahead of it, by
  the ``Date`` of the responses. A clock that is behind leaves events to later runs. Both are logged as a warning.
- **Late events**, published at most ``overlap + safety`` after their timestamp, are found.

The state holds the contacts as they are named, e-mail addresses included if that is by unicity: personal data, in a
file that only its owner may read. It holds no event and no key, only digests of the ids of the latest events.
"""

from ._run import SyncRun
from ._store import SQLiteStore, Store
from ._sync import Sync

__all__ = ["SQLiteStore", "Store", "Sync", "SyncRun"]
