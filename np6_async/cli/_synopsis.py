"""What each command says of itself in its help, and which options it takes."""

from __future__ import annotations

from typing import Final, NamedTuple

from . import _help_texts as texts
from . import _options as options


class Synopsis(NamedTuple):
    """A command: its line in `np6 --help`, its own help, and its options in groups with a title."""

    summary: str
    description: str
    epilog: str | None
    groups: dict[str, list[options.Option]]


COMMANDS: Final = {
    "demo": Synopsis(
        "fetch from a fake NP6 server on this machine, with faults and a rate limit",
        texts.DEMO,
        None,
        {"": options.DEMO},
    ),
    "events": Synopsis(
        "fetch the events of contacts, as a table or NDJSON",
        texts.EVENTS,
        texts.EVENTS_MORE,
        {
            "which contacts": options.CONTACTS,
            "or all contacts": options.ACTIONS,
            "which events": [
                *options.EVENTS,
                options.END,
                options.flag("--newest-first", "the latest event of each contact first"),
            ],
            "how": [*options.FETCHING, *options.LINES],
        },
    ),
    "export": Synopsis(
        "fetch the events of many contacts into a folder of files",
        texts.EXPORT,
        texts.EXPORT_MORE,
        {
            "which contacts": options.CONTACTS,
            "or all contacts": options.ACTIONS,
            "which events": [*options.EVENTS, options.END],
            "where to": [*options.FILES, *options.RESUMING],
            "how": options.FETCHING,
            "in many processes": options.WORKERS,
        },
    ),
    "sync": Synopsis(
        "fetch the events that no earlier run has fetched, into a folder of files",
        texts.SYNC,
        texts.SYNC_MORE,
        {
            "which contacts": options.CONTACTS,
            "or all contacts": options.ACTIONS,
            "which events": [*options.EVENTS, *options.STATE],
            "where to": options.FILES,
            "how": options.FETCHING,
            "in many processes": options.WORKERS,
        },
    ),
    "report": Synopsis(
        "make a page of what happened to messages, with pictures",
        texts.REPORT,
        texts.REPORT_MORE,
        {
            "which contacts": options.CONTACTS,
            "or all contacts": options.ACTIONS,
            "which events": [*options.TIMES, options.END],
            "the page": options.PAGE,
            "how": options.FETCHING,
        },
    ),
    "compare": Synopsis(
        "find out which events the responses for all contacts lack",
        texts.COMPARE,
        texts.COMPARE_MORE,
        {
            "which contacts": [*options.NAMED, *options.SAMPLE],
            "which events": [options.KIND, *options.TIMES, options.END],
            "how": options.FETCHING,
        },
    ),
    "segments": Synopsis("list the segments of the account", texts.SEGMENTS, texts.SEGMENTS_MORE, {"": options.SERVER}),
    "fake-server": Synopsis(
        "run a fake NP6 server, to work on a program without an account",
        texts.FAKE_SERVER,
        texts.FAKE_SERVER_MORE,
        {"": options.FAKE_SERVER},
    ),
    "completion": Synopsis(
        "print a script that lets a shell complete np6",
        texts.COMPLETION,
        texts.COMPLETION_MORE,
        {"": options.COMPLETION},
    ),
}
