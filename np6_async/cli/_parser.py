"""The command line: options, helps, and what is refused before anything runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from .. import EventKind, InvalidInput, __version__
from .._models.contacts import parse_segment
from . import _export_options, _sync_options
from ._exit import USAGE
from ._time_options import parse_zone

_KEY_OPTIONS: Final = ("--api-key", "--api_key", "--apikey", "--key", "--x-key", "--token")

_MAIN_EPILOG: Final = """\
start here:
  np6 demo                                  see it work: no account, no network, no key
  np6 events --help                         fetch the events of your contacts
  np6 export --help                         those of very many, into a folder of files
  np6 sync --help                           each night, those that are new
  np6 segments                              list the segments of your contacts

the API key is read from the environment, never from the command line:
  NP6_API_KEY         the key itself
  NP6_API_KEY_FILE    a file that holds it
  NP6_BASE_URL        another server than https://api-cm.np6.com, as --base-url
"""

_EVENTS_EPILOG: Final = """\
examples:
  np6 events 000MLGPR 0013KDC0 --kind bounces --start 7d
  np6 events --ids-from ids.txt --start 2026-01-01 --output 2026.ndjson
  cut -d, -f1 list.csv | np6 events --ids-from - --kind hits | gzip > hits.gz
  np6 events --segment 41 --kind bounces --output bounces.ndjson
  np6 events --by unicity jane@example.com | jq -r .event.type

output:
  One JSON object a line, in the order in which answers arrive; the events of
  one contact keep their order:
    {"contact":"000MLGPR","event":{"type":"bounce","id":"0f8b...",...}}
  "contact" is what you gave; "event" has every member that NP6 sent. Events
  that arrived before their contact failed are in the output as well. FILE is
  replaced at the end, if any contact was fetched; until then the lines are in
  a hidden file beside it, .FILE.(8 digits).tmp. A run that was stopped leaves
  FILE alone: what was fetched is in FILE.partial, in whole lines, and the
  contacts that are not done are in FILE.remaining, for --ids-from. Where there
  are such files already, these are FILE.partial.1, FILE.remaining.1 and so on.

the API key:
  Set NP6_API_KEY to it, or NP6_API_KEY_FILE to a file that holds it. There is
  no option for it: other users of the machine can read command lines, and
  shells keep them.

exit codes:
    0  every contact was fetched
    1  at least one contact failed, or a line of a file is no contact; the
       others were fetched, or with --on-error raise the run was stopped
    2  the command line is wrong, there are no contacts, or a file of contacts
       or a segment cannot be read
    3  no usable API key, or the server refused it (401, 403)
    4  network, server or output failed: no contact could be fetched, or the
       run was stopped
  129  SIGHUP, the terminal was closed      130  Ctrl-C
  143  SIGTERM      141  the reader went away, as "| head" does
"""


_SEGMENTS_EPILOG: Final = """\
examples:
  np6 segments
  np6 segments | jq -r 'select(.isTest) | .id'
  np6 events --segment 41 --kind bounces --start 7d

exit codes:
    0  the segments were listed
    2  the command line is wrong
    3  no usable API key, or the server refused it (401, 403)
    4  network, server or output failed
  130  Ctrl-C      141  the reader went away, as "| head" does
"""


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
            "the API key is no option, because other users of the machine can read command lines and shells "
            "keep them; set NP6_API_KEY to the key, or NP6_API_KEY_FILE to a file that holds it"
        )


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `run` of its result is the function to call with that result."""
    parser = _parser("np6", "Contact events of NP6 (ChapsVision CM), fetched concurrently.", _MAIN_EPILOG)
    parser.add_argument("--version", action="version", version=f"np6_async {__version__}")
    parser.set_defaults(run=lambda _: parser.error("say what to do: np6 demo, events, export, sync or segments"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Command)
    _add_demo(commands)
    _add_events(commands)
    _add_export(commands)
    _add_sync(commands)
    _add_segments(commands)
    return parser


def _parser(prog: str, description: str, epilog: str) -> _Parser:
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _refuse_keys(parser)
    return parser


def _refuse_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(*_KEY_OPTIONS, action=_RefuseKey, nargs="?", dest="_key", help=argparse.SUPPRESS)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="fetch from a fake NP6 server on this machine, with faults and a rate limit",
        description="Start a fake NP6 server on this machine, fetch the events of many contacts from it while "
        "connections break, the server fails and a rate limit bites, and compare with what the server holds. "
        "Needs no account and no key, and connects to 127.0.0.1 alone.",
        allow_abbrev=False,
    )
    _refuse_keys(parser)
    parser.add_argument(
        "--contacts", type=_whole(1, 100_000), default=2_000, metavar="N", help="how many contacts (default 2000)"
    )
    parser.add_argument(
        "--concurrency", type=_whole(1, 1_000), default=32, metavar="N", help="requests in flight (default 32)"
    )
    parser.add_argument(
        "--rate-limit",
        type=_whole(0, 1_000_000),
        default=450,
        metavar="N",
        help="requests a second that the server allows (default 450, fewer for few contacts; 0: any number)",
    )
    parser.add_argument("--plain", action="store_true", help="plain lines: no progress bar, no colours")
    parser.set_defaults(run=_run_demo)


def _add_events(commands: Any) -> None:
    parser = commands.add_parser(
        "events",
        help="fetch the events of contacts as NDJSON",
        description="Fetch the events of contacts and write them as NDJSON, one event a line.",
        epilog=_EVENTS_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _refuse_keys(parser)
    _add_contacts(parser)
    events = _add_query(parser)
    _add_end(events)
    events.add_argument("--newest-first", action="store_true", help="the latest event of each contact first")
    how = _add_fetching(parser)
    how.add_argument("-o", "--output", default="-", metavar="FILE", help="write to FILE (default -, standard output)")
    how.add_argument(
        "--on-error",
        choices=("raise", "collect", "skip"),
        default="collect",
        help="when a contact fails for good: stop, list it at the end (default), or only count it",
    )
    parser.set_defaults(run=_run_events, usage_error=parser.error)


def _add_export(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="fetch the events of many contacts into a folder of files",
        description=_export_options.DESCRIPTION,
        epilog=_export_options.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _refuse_keys(parser)
    _add_contacts(parser)
    _add_end(_add_query(parser))
    _export_options.add(parser, seconds=_seconds)
    _add_fetching(parser)
    parser.set_defaults(run=_run_export, usage_error=parser.error)


def _add_sync(commands: Any) -> None:
    parser = commands.add_parser(
        "sync",
        help="fetch the events that no run before has fetched, into a folder of files",
        description=_sync_options.DESCRIPTION,
        epilog=_sync_options.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _refuse_keys(parser)
    _add_contacts(parser)
    _sync_options.add(_add_query(parser))
    _export_options.add_folder(parser, seconds=_seconds)
    _add_fetching(parser)
    parser.set_defaults(run=_run_sync, usage_error=parser.error)


def _add_contacts(parser: argparse.ArgumentParser) -> None:
    contacts = parser.add_argument_group("which contacts")
    contacts.add_argument("contacts", nargs="*", metavar="CONTACT", help="a contact, such as 000MLGPR")
    contacts.add_argument(
        "--ids-from",
        action="append",
        default=[],
        metavar="FILE",
        help="also read contacts from FILE (- is standard input), one a line, UTF-8; empty lines, lines that "
        "begin with # and blanks around a contact are ignored; given several times, one after the other",
    )
    contacts.add_argument(
        "--segment",
        action="append",
        default=[],
        type=_segment,
        metavar="ID",
        help="also take the contacts of the segment with this id ('np6 segments' lists them); given several times, one "
        "after the other",
    )
    contacts.add_argument(
        "--by",
        choices=("id", "unicity", "hash"),
        default="id",
        help="what a contact is given by: its NP6 id (default), the value of its unicity field, often the "
        "e-mail address, or its hash",
    )
    contacts.add_argument(
        "--missing",
        choices=("error", "empty"),
        default="error",
        help="a contact that the account does not have is a failure (default), or has no events",
    )


def _add_query(parser: argparse.ArgumentParser) -> Any:
    events = parser.add_argument_group("which events")
    events.add_argument(
        "--kind",
        choices=tuple(kind.value for kind in EventKind),
        default=EventKind.ALL.value,
        metavar="KIND",
        help=f"one of {', '.join(EventKind)} (default all)",
    )
    events.add_argument(
        "--start",
        metavar="WHEN",
        help="from then on, inclusive: a date (2026-01-31), a time (2026-01-31T08:00Z), epoch seconds or "
        "milliseconds, or a span back from now in seconds, minutes, hours, days or weeks: 90s, 90m, 24h, 7d, 2w",
    )
    events.add_argument(
        "--tz",
        type=parse_zone,
        metavar="ZONE",
        help="time zone of dates without one, such as Europe/Paris (default UTC)",
    )
    events.add_argument(
        "--classification",
        metavar="NAMES",
        help="with kinds of hits: add hits made by robots, of genericrobot,mpp,gsr",
    )
    return events


def _add_end(events: Any) -> None:
    events.add_argument("--end", metavar="WHEN", help="up to then, exclusive; written like --start")


def _add_fetching(parser: argparse.ArgumentParser) -> Any:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--concurrency", type=_whole(1, 1_000), default=16, metavar="N", help="requests in flight (default 16)"
    )
    _add_server(how)
    how.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="retries, waits and failures on standard error, a line each, as they happen, and the progress where there "
        "is no bar; -vv: every request",
    )
    return how


def _add_server(group: Any) -> None:
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="longest wait for the next bytes of an answer (default 30), and for a connection, for which it is 10 "
        "at most",
    )
    group.add_argument("--base-url", metavar="URL", help="another server than https://api-cm.np6.com")


def _add_segments(commands: Any) -> None:
    parser = commands.add_parser(
        "segments",
        help="list the segments of the account",
        description="List the segments of the account: for people where the output is a terminal, else as NDJSON with "
        "every member that NP6 sent. The API key is read from NP6_API_KEY or NP6_API_KEY_FILE.",
        epilog=_SEGMENTS_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _refuse_keys(parser)
    _add_server(parser)
    parser.set_defaults(run=_run_segments, usage_error=parser.error)


def _run_segments(options: argparse.Namespace) -> int:
    from ._segments import run

    return run(options)


def _run_demo(options: argparse.Namespace) -> int:
    from ._demo import run

    return run(
        contacts=options.contacts,
        concurrency=options.concurrency,
        rate_limit=options.rate_limit,
        plain=options.plain,
    )


def _run_events(options: argparse.Namespace) -> int:
    from ._events import run

    return run(options)


def _run_export(options: argparse.Namespace) -> int:
    from ._export import run

    return run(options)


def _run_sync(options: argparse.Namespace) -> int:
    from ._sync import run

    return run(options)


def _whole(least: int, most: int) -> Any:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


def _segment(text: str) -> str:
    try:
        return parse_segment(text)
    except InvalidInput:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no id of a segment; 'np6 segments' lists them") from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of seconds above 0")
    return value
