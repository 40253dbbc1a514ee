"""The command line: its options, and what is refused before anything runs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn, get_args

from .. import EventKind, InvalidInput, __version__
from .._columns.personal import Personal
from .._models.actions import Action
from .._models.contacts import parse_segment
from ..export import Format
from ..export._writers import CsvDialect
from . import _help_texts as texts
from ._exit import USAGE
from ._time_options import parse_every, parse_length, parse_zone

_KEY_OPTIONS: Final = ("--api-key", "--api_key", "--apikey", "--key", "--x-key", "--token")
_SIZE: Final = re.compile(r"([0-9]{1,9})([KMG]?)B?", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


# Values


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def _segment(text: str) -> str:
    try:
        return parse_segment(text)
    except InvalidInput:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not the id of a segment; 'np6 segments' lists them"
        ) from None


def _action(text: str) -> str:
    try:
        return Action(text).id or text
    except InvalidInput:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not the id of an action, such as 000PE4") from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0")
    return value


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number above 0 and up to 1")
    return value


def _outage(text: str) -> float:
    return parse_length(text).total_seconds()


def _partitions(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if len(set(names)) != len(names) or not set(names) <= {"kind", "day"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not of kind,day, each once")
    return names


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not size:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a size above 0, such as 512K, 64M or 1G")
    return size


# Options: what argparse is to know of each

Option = tuple[list[str], dict[str, Any]]


def _value(spec: str, help: str, type: Callable[[str], Any] = str, default: Any = None, **more: Any) -> Option:
    """An option with a value; `spec` is its names and what the help calls the value."""
    *names, metavar = spec.split()
    return names, {"metavar": metavar, "help": help, "type": type, "default": default, **more}


def _choice(name: str, help: str, choices: Sequence[str], default: str | None, **more: Any) -> Option:
    return [name], {"help": help, "choices": choices, "default": default, **more}


def _flag(name: str, help: str) -> Option:
    return [name], {"help": help, "action": "store_true"}


_NAMED: Final[list[Option]] = [
    (["contacts"], {"nargs": "*", "metavar": "CONTACT", "help": "a contact, such as 000MLGPR"}),
    _value(
        "--ids-from FILE",
        "also read contacts from FILE (- is standard input), one a line, UTF-8; empty lines, lines that begin with # "
        "and spaces around a contact are ignored; may be repeated",
        default=[],
        action="append",
    ),
    _value(
        "--segment ID",
        "also take the contacts of the segment with this id ('np6 segments' lists them); may be repeated",
        _segment,
        default=[],
        action="append",
    ),
]
_CONTACTS: Final = [
    *_NAMED,
    _choice(
        "--by",
        "how contacts are named: by their NP6 id (default), the value of their unicity field, often the e-mail "
        "address, or their hash",
        ("id", "unicity", "hash"),
        None,
    ),
    _choice(
        "--missing",
        "a contact or action that the account does not have is a failure (default), or has no events",
        ("error", "empty"),
        "error",
    ),
]
_ACTIONS: Final = [
    _flag("--account", "the events of all contacts, by one request"),
    _value(
        "--action ID",
        "the events of all contacts that belong to the action with this id, by one request; may be repeated",
        _action,
        default=[],
        action="append",
    ),
    _value(
        "--only-ids FILE",
        "of these, keep the events of the contacts whose NP6 ids are in FILE (- is standard input), which is read as "
        "--ids-from reads it, a million ids in 9 MB of memory; may be repeated",
        default=[],
        action="append",
    ),
]
_KIND: Final = _choice(
    "--kind",
    f"one of {', '.join(EventKind)} (default all); cancellations only of all contacts",
    [*map(str, EventKind)],
    "all",
    metavar="KIND",
)
_TIMES: Final = [
    _value(
        "--start WHEN",
        "from then on, inclusive: a date (2026-01-31), a time (2026-01-31T08:00Z), epoch seconds or milliseconds, or a "
        "span back from now in seconds, minutes, hours, days or weeks: 90s, 90m, 24h, 7d, 2w",
    ),
    _value("--tz ZONE", "time zone of dates, and of times without one, such as Europe/Paris (default UTC)", parse_zone),
]
_EVENTS: Final = [
    _KIND,
    *_TIMES,
    _value("--classification NAMES", "with kinds of hits: also hits made by robots, of genericrobot,mpp,gsr"),
]
_END: Final = _value("--end WHEN", "up to then, exclusive; written like --start")
_SERVER: Final = [
    _value(
        "--timeout SECONDS",
        "longest wait for the next bytes of a response (default 30), and for a connection (10 at most)",
        _seconds,
    ),
    _value(
        "--outage TIME",
        "while NP6 answers nobody, wait this long for it, and then stop, so that a later run can continue (5m, 2h; "
        "0 is not at all; default 90s)",
        _outage,
        90.0,
    ),
    _value("--base-url URL", "another server than https://api-cm.np6.com"),
]
_VERBOSE: Final[Option] = (
    ["-v", "--verbose"],
    {
        "action": "count",
        "default": 0,
        "help": "retries, waits and failures on standard error, a line each, as they happen, and the progress where "
        "there is no bar; -vv: every request",
    },
)
_FETCHING: Final = [
    _value("--concurrency N", "requests in flight (default 16)", _whole(1, 1_000), 16),
    _value(
        "--shared-limit URL",
        "share the rate limit of the account with all processes that name the same Redis or Valkey, such as "
        "redis://10.0.0.7:6379 (default: the environment variable NP6_SHARED_LIMIT; a URL with a password goes there)",
    ),
    _value(
        "--limit-share FRACTION",
        "while Redis is away, go on at this share of the rate, such as 0.25 (default: stop)",
        _fraction,
    ),
    *_SERVER,
    _VERBOSE,
]
_WORKERS: Final = [
    _value(
        "--workers N",
        "fetch in N processes of this machine; --concurrency is then that of each",
        _whole(1, 256),
    ),
    _value(
        "--scheduler ADDRESS",
        "fetch in the workers of a Dask scheduler: tcp://HOST:8786, or tls://; NP6_API_KEY must be set where they run",
    ),
    _value(
        "--shard-size N",
        "contacts that a worker gets at once (default 5000): what it loses when it is killed",
        _whole(1, 1_000_000),
        5_000,
    ),
]
_FILES: Final = [
    _value(
        "-o --output FOLDER",
        "the folder, created if it does not exist, or one of an object store: s3://BUCKET/FOLDER, gs://, abfs://",
        required=True,
    ),
    _choice("--format", "of the files (default ndjson)", get_args(Format), "ndjson"),
    _flag("--gzip", "compress ndjson and csv"),
    _choice(
        "--csv-dialect",
        "of csv: excel-fr has ; and a byte order mark, for Excel in French (default rfc4180)",
        get_args(CsvDialect),
        "rfc4180",
    ),
    _choice(
        "--personal",
        "what becomes of unicities, hashes and e-mail addresses: hash replaces them by keyed hashes, drop leaves them "
        "out (default keep)",
        get_args(Personal),
        "keep",
    ),
    _value("--personal-key FILE", "with --personal hash: the file that holds the key, 16 bytes or more"),
    _value(
        "--partition-by NAMES",
        "of kind,day: a folder for each type of event, for each day in UTC, or for both in this order, such as "
        "kind=hit/day=2026-01-31, which readers take for columns",
        _partitions,
        (),
    ),
    _value("--part-size SIZE", "begin another file at this size: 512K, 64M, 1G (default 64M)", _size, 64 * 1024**2),
    _value(
        "--part-time SECONDS",
        "begin another file after this time: the most that a kill costs (default 30)",
        _seconds,
        30.0,
    ),
]
_RESUMING: Final = [
    _value(
        "--every TIME",
        "cut the time from --start to --end into windows of this length (15m, 6h), or into days, weeks or months of "
        "the calendar in --tz (1d, 1w, 1mo), fetched one after the other, each with its own parts; the contacts are "
        "then read from a file, not from a pipe",
        parse_every,
    ),
    _flag("--resume", "resume the export in FOLDER, if there is one"),
    _flag("--retry-failed", "with --resume: fetch the contacts that failed once more, into the same folder"),
]
_STATE: Final = [
    _value("--state FILE", "what was fetched before; created if it does not exist", required=True),
    _value(
        "--overlap TIME",
        "how much of the time before is looked at again (15m, 6h, 1d; 0 is none; default 5m)",
        parse_length,
        timedelta(minutes=5),
    ),
    _value(
        "--safety TIME",
        "leave events younger than this to the next run (0 is none; default 2m)",
        parse_length,
        timedelta(minutes=2),
    ),
]
_LINES: Final = [
    _value("-o --output FILE", "write to FILE (default -, standard output)", default="-"),
    _choice(
        "--on-error",
        "when a contact fails permanently: stop, list it at the end (default), or only count it",
        ("raise", "collect", "skip"),
        "collect",
    ),
]
_SAMPLE: Final = [
    _value("--sample N", "compare the first N of these contacts (default 200)", _whole(1, 100_000), 200),
]
_DEMO: Final = [
    _value("--contacts N", "how many contacts (default 2000)", _whole(1, 100_000), 2_000),
    _value("--concurrency N", "requests in flight (default 32)", _whole(1, 1_000), 32),
    _value(
        "--rate-limit N",
        "requests a second that the server allows (default 450, fewer for few contacts; 0: any number)",
        _whole(0, 1_000_000),
        450,
    ),
    _flag("--plain", "plain lines: no progress bar, no colours"),
]


class _Spec(NamedTuple):
    """A command: its line in `np6 --help`, its own help, and its options in groups with a title."""

    summary: str
    description: str
    epilog: str | None
    groups: dict[str, list[Option]]


_COMMANDS: Final = {
    "demo": _Spec(
        "fetch from a fake NP6 server on this machine, with faults and a rate limit", texts.DEMO, None, {"": _DEMO}
    ),
    "events": _Spec(
        "fetch the events of contacts as NDJSON",
        texts.EVENTS,
        texts.EVENTS_MORE,
        {
            "which contacts": _CONTACTS,
            "or all contacts": _ACTIONS,
            "which events": [*_EVENTS, _END, _flag("--newest-first", "the latest event of each contact first")],
            "how": [*_FETCHING, *_LINES],
        },
    ),
    "export": _Spec(
        "fetch the events of many contacts into a folder of files",
        texts.EXPORT,
        texts.EXPORT_MORE,
        {
            "which contacts": _CONTACTS,
            "or all contacts": _ACTIONS,
            "which events": [*_EVENTS, _END],
            "where to": [*_FILES, *_RESUMING],
            "how": _FETCHING,
            "in many processes": _WORKERS,
        },
    ),
    "sync": _Spec(
        "fetch the events that no earlier run has fetched, into a folder of files",
        texts.SYNC,
        texts.SYNC_MORE,
        {
            "which contacts": _CONTACTS,
            "or all contacts": _ACTIONS,
            "which events": [*_EVENTS, *_STATE],
            "where to": _FILES,
            "how": _FETCHING,
            "in many processes": _WORKERS,
        },
    ),
    "compare": _Spec(
        "find out which events the responses for all contacts lack",
        texts.COMPARE,
        texts.COMPARE_MORE,
        {
            "which contacts": [*_NAMED, *_SAMPLE],
            "which events": [_KIND, *_TIMES, _END],
            "how": _FETCHING,
        },
    ),
    "segments": _Spec("list the segments of the account", texts.SEGMENTS, texts.SEGMENTS_MORE, {"": _SERVER}),
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        if message in ("argument --start: expected one argument", "argument --end: expected one argument"):
            message += ", such as 7d: a span back from now has no minus"
        self.exit(USAGE, f"{self.prog}: error: {message} (see '{self.prog} --help')\n")


class _Command(_Parser):
    """Says itself which option it does not know, and takes contacts after options as well as before them."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        given = list(args or ())
        parsed, extras = super().parse_known_args(args, namespace)
        ends = extras.index("--") if "--" in extras else len(extras)
        unknown = next((extra for extra in extras[:ends] if extra.startswith("-")), None)
        if unknown is not None:
            self.error(f"there is no option {_shown(unknown, given)}")
        extras = extras[:ends] + extras[ends + 1 :]
        if extras:
            if not isinstance(getattr(parsed, "contacts", None), list):
                self.error("there is an argument too many")
            parsed.contacts = [*parsed.contacts, *extras]
        return parsed, []


def _shown(option: str, given: Sequence[str]) -> str:
    """An unknown option with its value, if that is a small number; others may be a secret or an address."""
    name = option.partition("=")[0][:40]
    after = given[given.index(option) + 1 :] if option in given else []
    value = next(iter(after), "")
    return f"{name} {value}" if value.isdecimal() and len(value) < 8 else name


class _RefuseKey(argparse.Action):
    """An API key given as an option, out of habit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        parser.error(
            "the API key is not an option, because other users of the machine can read command lines and shells "
            "keep them; set NP6_API_KEY to the key, or NP6_API_KEY_FILE to a file that holds it"
        )


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `run` of its result is the function to call with that result."""
    layout: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Parser(
        prog="np6",
        description="Contact events of NP6 (ChapsVision CM), fetched concurrently.",
        epilog=texts.MAIN,
        **layout,
    )
    _refuse_keys(parser)
    parser.add_argument("--version", action="version", version=f"np6_async {__version__}")
    parser.set_defaults(
        run=lambda _: parser.error("say what to do: np6 demo, events, export, sync, compare or segments")
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Command)
    for name, spec in _COMMANDS.items():
        command = commands.add_parser(
            name, help=spec.summary, description=spec.description, epilog=spec.epilog, **layout
        )
        _refuse_keys(command)
        for title, options in spec.groups.items():
            group = command.add_argument_group(title) if title else command
            for names, settings in options:
                group.add_argument(*names, **settings)
        command.set_defaults(command=name, run=partial(_run, name), usage_error=command.error)
    return parser


def _refuse_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(*_KEY_OPTIONS, action=_RefuseKey, nargs="?", dest="_key", help=argparse.SUPPRESS)


def _run(name: str, options: argparse.Namespace) -> int:
    if name == "events" and (options.account or options.action):
        name = "action_events"
    module = import_module(f"._{name}", __package__)  # the others are not needed
    code: int = getattr(module, f"{name.title().replace('_', '')}Command")(options).run()
    return code
