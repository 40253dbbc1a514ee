"""What `np6 export` has beside the options of every command that fetches, and its help page."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, Final

from ..export._formats import FORMATS, is_installed
from ._setup import refuse
from ._time_options import parse_every

_SIZE: Final = re.compile(r"([0-9]{1,9})([KMG]?)B?", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_PART_SIZE: Final = 64 * 1024**2
_PART_TIME: Final = 30.0

DESCRIPTION: Final = """\
Fetch the events of contacts, ten million if need be, into a folder of NDJSON,
CSV or Parquet files. Stopped or killed at any moment and started again with
--resume, it goes on: nothing is missing, nothing is there twice. (A contact that
is given twice is fetched twice.)
"""

EPILOG: Final = """\
examples:
  np6 export --ids-from ids.txt --kind bounces --start 2026-01-01 --output out
  np6 export --ids-from ids.txt --kind bounces --start 2026-01-01 --output out --resume
  np6 export --ids-from ids.txt --start 2026-01-01 --end 2026-02-01 --every 1d \\
             --format parquet --output january
  np6 export --by unicity --ids-from addresses.txt --start 30d --format csv --gzip --output csv

what is in the folder:
  part-000001.ndjson    whole contacts: all of a contact's events are in one part
                        (.ndjson.gz, .csv, .csv.gz, .parquet; of each window of
                        --every: part-20260101T000000Z-000001.ndjson)
  failures.txt          the contacts that failed, one a line, for --ids-from; none
                        of their events are in the parts (with --every, one for
                        each window: failures-20260101T000000Z.txt)
  manifest.json         what was asked for, which files count and how far it got
  Names that begin with a dot are files in progress. A part appears when it is
  whole, and only the manifest makes it count: read the files it names, at any
  time, or all of them when the command has ended.

going on:
  Give the same command and --resume, as often as need be; where nothing was begun
  it begins. --end is frozen when the export begins (now, if it is not given), and
  so is a --start that counts back from now. The contacts must be the same, in the
  same order; from standard input, give all of them again. (A segment may change:
  for a long export, save its ids in a file.) At most what came since the last
  part is fetched a second time. A signal (Ctrl-C, SIGTERM, SIGHUP)
  lets contacts in flight end, writes the last part and exits within 2 seconds; a
  second one exits at once. Without --resume a folder that holds an export is
  refused.

formats:
  ndjson   {"contact":"000MLGPR","event":{...}} with every member that NP6 sent
  csv      RFC 4180, UTF-8 without a byte order mark, a line of column names in each
           part, times as 2026-01-31T08:00:00.000Z. A cell that a spreadsheet would
           take for a formula (it begins with = + - @, a tab or a line end) has a '
           in front
  parquet  the same columns, typed, times as timestamp[ms, UTC], compressed with
           zstd; needs: pip install 'np6_async[parquet]'
  The columns are the same whatever events there are: those of the event, of the
  message it belongs to and of its particulars; what has no column is in the last
  one, "rest", as JSON.

the API key:
  Set NP6_API_KEY to it, or NP6_API_KEY_FILE to a file that holds it. It is written
  nowhere.

exit codes:
    0  the export is complete
    1  it is complete, but contacts failed, or lines of a file are no contacts
    2  the command line is wrong, there are no contacts, or contacts or the folder
       cannot be used
    3  no usable API key, or the server refused it (401, 403)
    4  network, server or disk failed and the run was stopped: --resume goes on
  129  SIGHUP, 130  Ctrl-C, 143  SIGTERM: stopped; --resume goes on
"""


def add(parser: argparse.ArgumentParser, *, seconds: Callable[[str], float]) -> None:
    """Add the options of the folder."""
    where = add_folder(parser, seconds=seconds)
    where.add_argument(
        "--every",
        type=parse_every,
        metavar="TIME",
        help="cut the time from --start to --end into windows of this length (6h, 1d, 1w), fetched one after the "
        "other with parts of their own; the contacts are then read from a file, not from a pipe",
    )
    where.add_argument("--resume", action="store_true", help="go on with the export in FOLDER, if there is one")


def add_folder(parser: argparse.ArgumentParser, *, seconds: Callable[[str], float]) -> Any:
    """Add the options of a folder of parts; returns their group."""
    where = parser.add_argument_group("where to")
    where.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="the folder, which is made if it does not exist"
    )
    where.add_argument("--format", choices=FORMATS, default="ndjson", help="of the files (default ndjson)")
    where.add_argument("--gzip", action="store_true", help="compress ndjson and csv")
    where.add_argument(
        "--part-size",
        type=_size,
        default=_PART_SIZE,
        metavar="SIZE",
        help="begin another part at this size, such as 512K, 64M or 1G (default 64M)",
    )
    where.add_argument(
        "--part-time",
        type=seconds,
        default=_PART_TIME,
        metavar="SECONDS",
        help="begin another part after so long: the most that a kill costs (default 30)",
    )
    return where


def check_format(options: argparse.Namespace) -> None:
    """Refuse a format that cannot be written, as the parser's own errors do."""
    if options.format == "parquet" and options.gzip:
        refuse(options, "--gzip is for ndjson and csv: parquet is compressed already")
    if not is_installed(options.format):
        refuse(options, f"--format {options.format} needs pyarrow: pip install 'np6_async[parquet]'")


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not size:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no size above 0, such as 512K, 64M or 1G")
    return size
