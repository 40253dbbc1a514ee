"""The options of the commands, in groups that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, get_args

from .. import EventKind
from .._columns.personal import Personal
from .._http.proxies import ENVIRONMENT
from ..export import Format
from ..export._writers import CsvDialect
from . import _values as values
from ._time_options import parse_every, parse_length, parse_zone

Option = tuple[list[str], dict[str, Any]]
"""The names of an option, and what argparse is to know of it."""


def value(spec: str, help: str, type: Callable[[str], Any] = str, default: Any = None, **more: Any) -> Option:
    """An option with a value; `spec` is its names and what the help calls the value."""
    *names, metavar = spec.split()
    return names, {"metavar": metavar, "help": help, "type": type, "default": default, **more}


def choice(name: str, help: str, choices: Sequence[str], default: str | None, **more: Any) -> Option:
    """An option with one of these values."""
    return [name], {"help": help, "choices": choices, "default": default, **more}


def flag(name: str, help: str) -> Option:
    """An option without a value."""
    return [name], {"help": help, "action": "store_true"}


NAMED: Final[list[Option]] = [
    (["contacts"], {"nargs": "*", "metavar": "CONTACT", "help": "a contact, such as 000MLGPR"}),
    value(
        "--ids-from FILE",
        "also read contacts from FILE (- is standard input), one a line, UTF-8, also compressed by gzip; empty lines, "
        "lines that begin with # and spaces around a contact are ignored; may be repeated",
        default=[],
        action="append",
    ),
    value(
        "--segment ID",
        "also take the contacts of the segment with this id ('np6 segments' lists them); may be repeated",
        values.segment,
        default=[],
        action="append",
    ),
]
CONTACTS: Final = [
    *NAMED,
    choice(
        "--by",
        "how contacts are named: by their NP6 id (default), the value of their unicity field, often the e-mail "
        "address, or their hash",
        ("id", "unicity", "hash"),
        None,
    ),
    choice(
        "--missing",
        "a contact or action that the account does not have is a failure (default), or has no events",
        ("error", "empty"),
        "error",
    ),
]
ACTIONS: Final = [
    flag("--account", "the events of all contacts, by one request"),
    value(
        "--action ID",
        "the events of all contacts that belong to the action with this id, by one request; may be repeated",
        values.action,
        default=[],
        action="append",
    ),
    value(
        "--only-ids FILE",
        "of these, keep the events of the contacts whose NP6 ids are in FILE (- is standard input), which is read as "
        "--ids-from reads it, a million ids in 9 MB of memory; may be repeated",
        default=[],
        action="append",
    ),
]
KIND: Final = choice(
    "--kind",
    f"which kind of events (default all): one of {', '.join(EventKind)}; cancellations only of all contacts; "
    "hits and their parts leave out those by robots, which all may have",
    [*map(str, EventKind)],
    "all",
    type=values.kind,
    metavar="KIND",
)
TIMES: Final = [
    value(
        "--start WHEN",
        "from then on, inclusive: a date (2026-01-31), a time (2026-01-31T08:00Z), epoch seconds or milliseconds, or a "
        "span back from now in seconds, minutes, hours, days or weeks: 90s, 90m, 24h, 7d, 2w",
    ),
    value("--tz ZONE", "time zone of dates, and of times without one, such as Europe/Paris (default UTC)", parse_zone),
]
EVENTS: Final = [
    KIND,
    *TIMES,
    value(
        "--classification NAMES",
        "with hits and their parts: also hits made by robots, which these leave out otherwise, of genericrobot,mpp,gsr",
    ),
]
END: Final = value("--end WHEN", "up to then, exclusive; written like --start")
SERVER: Final = [
    value(
        "--timeout SECONDS",
        "longest wait for the next bytes of a response (default 30), and for a connection (10 at most)",
        values.seconds,
    ),
    value(
        "--outage TIME",
        "while NP6 answers nobody, wait this long for it, and then stop, so that a later run can continue (5m, 2h; "
        "0 is not at all; default 90s)",
        values.outage,
        90.0,
    ),
    value("--base-url URL", "another server than https://api-cm.np6.com"),
    value(
        "--profile NAME",
        "the server, key file, time zone and proxy of this name in ~/.config/np6/config.toml (default: the environment "
        "variable NP6_PROFILE)",
    ),
    value(
        "--proxy URL",
        "through this HTTP proxy, or none (default: HTTPS_PROXY, ALL_PROXY and NO_PROXY of the environment; a URL with "
        "a password goes there)",
        values.proxy,
        ENVIRONMENT,
    ),
]
VERBOSE: Final[Option] = (
    ["-v", "--verbose"],
    {
        "action": "count",
        "default": 0,
        "help": "retries, waits and failures on standard error, a line each, as they happen, and the progress where "
        "there is no bar; -vv: every request",
    },
)
QUIET: Final[Option] = (
    ["-q", "--quiet"],
    {"action": "store_true", "help": "nothing on standard error where all goes well (exit code 0), as for cron"},
)
FETCHING: Final = [
    value("--concurrency N", "requests in flight (default 16)", values.whole(1, 1_000), 16),
    value(
        "--shared-limit URL",
        "share the rate limit of the account with all processes that name the same Redis or Valkey, such as "
        "redis://10.0.0.7:6379 (default: the environment variable NP6_SHARED_LIMIT; a URL with a password goes there)",
    ),
    value(
        "--limit-share FRACTION",
        "while Redis is away, go on at this share of the rate, such as 0.25 (default: stop)",
        values.fraction,
    ),
    *SERVER,
    VERBOSE,
    QUIET,
]
WORKERS: Final = [
    value(
        "--workers N",
        "fetch in N processes of this machine; --concurrency is then that of each",
        values.whole(1, 256),
    ),
    value(
        "--scheduler ADDRESS",
        "fetch in the workers of a Dask scheduler: tcp://HOST:8786, or tls://; NP6_API_KEY must be set where they run",
    ),
    value(
        "--shard-size N",
        "contacts that a worker gets at once (default 5000): what it loses when it is killed",
        values.whole(1, 1_000_000),
        5_000,
    ),
]
FILES: Final = [
    value(
        "-o --output FOLDER",
        "the folder, made with those that it lies in unless they exist, or one of an object store: s3://BUCKET/FOLDER, "
        "gs://, abfs://",
        required=True,
    ),
    choice("--format", "of the files (default ndjson)", get_args(Format), "ndjson"),
    flag("--gzip", "compress ndjson and csv"),
    choice(
        "--csv-dialect",
        "of csv: excel-fr has ; and a byte order mark, for Excel in French (default rfc4180)",
        get_args(CsvDialect),
        "rfc4180",
    ),
    choice(
        "--personal",
        "what becomes of unicities, hashes and e-mail addresses: hash replaces them by keyed hashes, drop leaves them "
        "out (default keep)",
        get_args(Personal),
        "keep",
    ),
    value("--personal-key FILE", "with --personal hash: the file that holds the key, 16 bytes or more"),
    value(
        "--partition-by NAMES",
        "of kind,day: a folder for each type of event, for each day in UTC, or for both in this order, such as "
        "kind=hit/day=2026-01-31, which readers take for columns",
        values.partitions,
        (),
    ),
    value(
        "--part-size SIZE", "begin another file at this size: 512K, 64M, 1G (default 64M)", values.size, 64 * 1024**2
    ),
    value(
        "--part-time SECONDS",
        "begin another file after this time: the most that a kill costs (default 30)",
        values.seconds,
        30.0,
    ),
]
RESUMING: Final = [
    value(
        "--every TIME",
        "cut the time from --start to --end into windows of this length (15m, 6h), or into days, weeks or months of "
        "the calendar in --tz (1d, 1w, 1mo), fetched one after the other, each with its own parts; the contacts are "
        "then read from a file, not from a pipe",
        parse_every,
    ),
    flag("--resume", "resume the export in FOLDER, if there is one"),
    flag("--retry-failed", "with --resume: fetch the contacts that failed once more, into the same folder"),
]
STATE: Final = [
    value("--state FILE", "what was fetched before; created if it does not exist", required=True),
    value(
        "--overlap TIME",
        "how much of the time before is looked at again (15m, 6h, 1d; 0 is none; default 5m)",
        parse_length,
        timedelta(minutes=5),
    ),
    value(
        "--safety TIME",
        "leave events younger than this to the next run (0 is none; default 2m)",
        parse_length,
        timedelta(minutes=2),
    ),
]
LINES: Final = [
    value(
        "-o --output FILE",
        "write to FILE, in a folder that is made unless it exists (default -, standard output)",
        default="-",
    ),
    flag("--json", "lines of JSON in a terminal too, where a table is shown otherwise"),
    choice(
        "--on-error",
        "when a contact fails permanently: stop, list it at the end (default), or only count it",
        ("raise", "collect", "skip"),
        "collect",
    ),
]
PAGE: Final = [
    value("-o --output FILE", "the page, such as report.html (- is standard output)", required=True),
    value("--title TEXT", "what the page is called (default Messages)"),
]
SAMPLE: Final = [
    value("--sample N", "compare the first N of these contacts (default 200)", values.whole(1, 100_000), 200),
]
DEMO: Final = [
    value("--contacts N", "how many contacts (default 2000)", values.whole(1, 100_000), 2_000),
    value("--concurrency N", "requests in flight (default 32)", values.whole(1, 1_000), 32),
    value(
        "--rate-limit N",
        "requests a second that the server allows (default 450, fewer for few contacts; 0: any number)",
        values.whole(0, 1_000_000),
        450,
    ),
    flag("--plain", "plain lines: no progress bar, no colours"),
]
FAKE_SERVER: Final = [
    value("--port N", "on 127.0.0.1 (default 8006; 0: any that is free)", values.whole(0, 65_535), 8_006),
    value("--contacts N", "how many contacts (default 1000)", values.whole(1, 10_000_000), 1_000),
    value(
        "--events N",
        "events of each contact: a number, or the least and the most (default 0-40), in the 90 days before now",
        values.number_or_range,
        (0, 40),
    ),
    value("--seed N", "other contacts and events for another number (default 0)", values.whole(0, 999_999_999), 0),
    value(
        "--faults SHARE",
        "this share of the requests, such as 0.05, meets a fault: connections that break, stall or end early, 5xx, "
        "HTML, what is not JSON (default none)",
        values.fraction,
    ),
    value("--rate-limit N", "requests a second that it allows (default any number)", values.whole(1, 1_000_000)),
    value("--latency SECONDS", "wait before each response, such as 0.2 (default none)", values.seconds, 0.0),
    (
        ["-v", "--verbose"],
        {"action": "store_true", "help": "each request on standard error, with its status and fault"},
    ),
]
COMPLETION: Final[list[Option]] = [
    (["shell"], {"choices": ("bash", "zsh", "fish"), "metavar": "SHELL", "help": "bash, zsh or fish"}),
]
