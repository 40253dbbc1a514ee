"""What `np6 sync` has beside the options of every command that fetches, and its help page."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from ._time_options import parse_every

_NONE: Final = re.compile(r"0+[smhdw]?", re.IGNORECASE)

DESCRIPTION: Final = """\
Fetch the events of contacts that no run before has fetched, into NDJSON, CSV or
Parquet files. The state file remembers how far each contact has come: run it each
night, with the same state. Each event comes once, even where a run is killed.
"""

EPILOG: Final = """\
examples:
  np6 sync --ids-from ids.txt --kind bounces --start 2026-01-01 --state state.db --output new
  np6 sync --segment 41 --state state.db --output new --format parquet
  0 3 * * *  np6 sync --ids-from ids.txt --state state.db --output new    (in a crontab)

what is in the folder:
  all-20260101T020000.000Z-000001.ndjson
                        new events of a run up to that time, with those of
                        hits/open: hits-open-... (.ndjson.gz, .csv, .csv.gz,
                        .parquet). A contact's events may be in several files.
  Names that begin with a dot are files in progress. A file with another name is
  complete and will not change: load it, then remove it.

which events are new:
  Of a contact that the state does not know, all of them from --start on; of the
  others, those behind the last run. Events younger than --safety are left to the
  next run, and the last --overlap is looked at again: an event is found if NP6
  publishes it at most so long after its time, both together.
  A contact that failed goes on in the next run where it stopped. Contacts may be
  added and left out at any time. The state is for one --kind and --classification.

going on:
  Stopped or killed, the next run goes on: nothing is missing, nothing is there
  twice. A signal (Ctrl-C, SIGTERM, SIGHUP) lets contacts in flight end, writes what
  is there and exits within 2 seconds; a second one exits at once.

the files' formats, and the API key:
  as 'np6 export --help' tells. The state holds what contacts are called, e-mail
  addresses with --by unicity; its owner alone may read it.

exit codes:
    0  all new events are there
    1  so are they, but contacts failed, or lines of a file are no contacts
    2  the command line is wrong, there are no contacts, or contacts, the folder or
       the state cannot be used
    3  no usable API key, or the server refused it (401, 403)
    4  network, server or disk failed and the run was stopped
  129  SIGHUP, 130  Ctrl-C, 143  SIGTERM
"""


def add(events: Any) -> None:
    """Add the options of the state to those of what is asked for."""
    events.add_argument(
        "--state", required=True, metavar="FILE", help="what was fetched before; made where there is none"
    )
    events.add_argument(
        "--overlap",
        type=_length,
        default=timedelta(minutes=5),
        metavar="TIME",
        help="look again at so much of the time before (15m, 6h, 1d; 0 is none; default 5m)",
    )
    events.add_argument(
        "--safety",
        type=_length,
        default=timedelta(minutes=2),
        metavar="TIME",
        help="leave the latest events, younger than this, to the next run (0 is none; default 2m)",
    )


def _length(text: str) -> timedelta:
    return timedelta() if _NONE.fullmatch(text.strip()) else parse_every(text)
