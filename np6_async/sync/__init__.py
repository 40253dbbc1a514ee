"""Incremental sync: each run hands out the events that no run before has handed out.

::

    async with NP6Client() as np6:
        sync = Sync(np6, SQLiteStore("state.db"), ids, "bounces", start="2026-01-01")
        async with sync.run() as run:
            async for contact, events in run.batches():
                await warehouse.write(contact, events)    # data first; asking for the next batch says it is written

What holds, whatever happens:

- **Nothing is lost.** Progress is written after the events: a batch that was not known to be written comes again. A
  contact that failed goes on, in the next run, behind the last of its events that was written; its answer came in the
  order of time, so nothing before was left out. What lies before, in the overlap, is looked at again as for any other.
- **Nothing is doubled** as long as the run is left in an orderly way, which includes exceptions, cancellation and a
  SIGTERM that cancels the task: but for the batch in hand, whose write nobody has confirmed.
- **kill -9 or a loss of power** costs the last second or 500 contacts with `run()`: they come again, and a sink that
  writes by id does not mind. With ``run(autocommit=False)`` and `SyncRun.commit` nothing comes twice, if the sink's
  position is in the note: the sink reads it in `SyncRun.note` at the start and drops what lies behind.
- **Late events**, published at most ``overlap + safety`` after their timestamp, are found.

The state holds what contacts are called, e-mail addresses too if contacts are named by unicity: personal data, in a
file that its owner alone may read. It holds no event and no key, but digests of the ids of the latest events.
"""

from ._run import SyncRun
from ._sqlite import SQLiteStore
from ._store import Store
from ._sync import Sync

__all__ = ["SQLiteStore", "Store", "Sync", "SyncRun"]
