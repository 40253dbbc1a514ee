"""The longer help texts of the commands."""

from __future__ import annotations

from typing import Final


def _key_and_exit_codes(done: str, some: str, unusable: str, stopped: str, signals: str) -> str:
    """The end of the help of a command that fetches events."""
    return f"""
the API key:
  Set NP6_API_KEY to it, or NP6_API_KEY_FILE to a file that holds it. There is no option
  for it: other users of the machine can read command lines, and shells keep them.

exit codes:
    0  {done}
    1  {some}
    2  the command line is wrong, there are no contacts, or {unusable}
    3  no usable API key, or the server (401, 403) or a proxy (407) refused
    4  {stopped}
  129  SIGHUP, the terminal was closed   130  Ctrl-C   143  SIGTERM{signals}
"""


MAIN: Final = """\
start here:
  np6 demo                                  see it work: no account, no network, no key
  np6 events --help                         fetch the events of your contacts
  np6 export --help                         those of very many, into a folder of files
  np6 sync --help                           each night, those that are new
  np6 events --account --start 1h           those of all contacts, by one request
  np6 report --help                         a page of what happened to messages, to look at
  np6 compare --help                        find out whether these are all of them
  np6 segments                              list the segments of your contacts
  np6 fake-server                           a server to work with before there is an account

the API key is read from the environment, never from the command line:
  NP6_API_KEY         the key itself
  NP6_API_KEY_FILE    a file that holds it
  NP6_BASE_URL        another server than https://api-cm.np6.com, as --base-url
  NP6_PROFILE         the profile to use, as --profile: its server, key file, zone and proxy
  NP6_CONFIG          the file of profiles (default ~/.config/np6/config.toml)
"""

DEMO: Final = """\
Start a fake NP6 server on this machine, fetch the events of many contacts from
it while connections break, the server fails and a rate limit applies, and
compare the result with what the server holds. Needs no account and no key, and
connects to 127.0.0.1 only.
"""

EVENTS: Final = """\
Fetch the events of contacts, or of all contacts: a table in a terminal, and NDJSON, one event a
line, into a pipe or a file.
"""

EVENTS_MORE: Final = """\
examples:
  np6 events 000MLGPR 0013KDC0 --kind bounces --start 7d
  np6 events --ids-from ids.txt --start 2026-01-01 --output 2026.ndjson
  cut -d, -f1 list.csv | np6 events --ids-from - --kind hits | gzip > hits.gz
  np6 events --segment 41 --kind bounces --output bounces.ndjson
  np6 events --by unicity jane@example.com | jq -r .event.type
  np6 events --account --start 1h | jq -r .event.type | sort | uniq -c
  np6 events --action 000PE4 --kind hits --only-ids ids.txt --output clicks.ndjson

output:
  In a terminal, a row for each event as it comes: its time in --tz, the id of its action, the
  link that was hit, what a bounce means. Addresses are in it only where --by unicity named the
  contacts by them. Into a pipe, with --output and with --json it is one JSON object a line, in
  the order in which responses arrive; the events of one contact keep their order:
    {"contact":"000MLGPR","event":{"type":"bounce","id":"0f8b...",...}}
  "contact" is what you gave; "event" has every member that NP6 sent. Events that arrived
  before their contact failed are in the output as well. FILE is replaced at the end, if any
  contact was fetched; until then the lines are in .FILE.(8 digits).tmp beside it. A run that
  was stopped leaves FILE alone: what was fetched is in FILE.partial, in whole lines, and the
  contacts that are not done are in FILE.remaining, for --ids-from. Where such files exist
  already, these are FILE.partial.1, FILE.remaining.1 and so on.

all contacts:
  One request for --account, or for each --action, brings the events of all contacts in the
  order of time. "contact" is then the NP6 id of the event's recipient, or null where the event
  does not name it by its id; --only-ids leaves such events out, and counts them. Memory stays
  flat, however many events there are. A run that was stopped says up to which time the events
  are complete: the same command with that --start fetches the rest. Whether NP6 has every type
  of event in these responses is not known: 'np6 compare' finds out for your account.
""" + _key_and_exit_codes(
    "every contact or action was fetched",
    "contacts or actions failed, or lines of a file are not contacts; with --on-error raise, stopped by that",
    "contacts cannot be read",
    "network, server or output failed: no contact could be fetched, or the run was stopped",
    '\n  141  the reader went away, as "| head" does',
)

EXPORT: Final = """\
Fetch the events of contacts, ten million if need be, into a folder of NDJSON,
CSV or Parquet files. Stopped or killed at any moment and started again with
--resume, it continues: no event is missing, none is there twice. (A contact that
is given twice is fetched twice.)
"""

EXPORT_MORE: Final = """\
examples:
  np6 export --ids-from ids.txt --kind bounces --start 2026-01-01 --output out
  np6 export --ids-from ids.txt --kind bounces --start 2026-01-01 --output out --resume
  np6 export --ids-from ids.txt --start 2026-01-01 --end 2026-02-01 --every 1d \\
             --format parquet --output january
  np6 export --by unicity --ids-from addresses.txt --start 30d --format csv --gzip --output csv
  np6 export --account --start 2026-01-01 --end 2026-02-01 --format parquet --output january
  np6 export --ids-from ids.txt --start 2026-01-01 --format parquet --output out --workers 4

what is in the folder:
  part-000001.ndjson    all events of whole contacts (.ndjson.gz, .csv, .csv.gz, .parquet)
  and nothing else, so that readers take the folder as a whole. Beside it, in january.np6 for
  --output january:
  manifest.json         what was asked for, which parts count, and the progress
  failures.txt          the contacts that failed, one a line, for --ids-from; none of their
                        events are in the parts
  and files in progress. With --every, each window has its own parts and failures:
  part-20260101T000000Z-000001.ndjson, failures-20260101T000000Z.txt. A part appears when it is
  complete, and counts when the manifest names it: read the parts it names, at any time, or the
  whole folder when the command has ended. Keep the two folders together, or delete both.
  With --partition-by kind,day the parts are in folders such as kind=hit/day=2026-01-31, as Hive,
  Spark, pandas, polars, pyarrow and duckdb read them. Each part then has a file in each of these
  that it has events of: take a larger --part-size and --part-time, or there are many small ones.

all contacts:
  With --account or one --action, parts hold the events of all contacts in the order of time,
  each with the NP6 id of its recipient if the event names it; --only-ids keeps those of some.
  There is one request, so no contact can fail: a failure ends the command, and --resume goes on
  in the middle of the response. --every and --retry-failed are for contacts that are named.

resuming:
  Give the same command and --resume, as often as need be; where nothing was begun it begins.
  --end is fixed when the export begins (now, if it is not given), and so is a --start that
  counts back from now. The contacts must be the same, in the same order; from standard input,
  give all of them again. (A segment may change: for a long export, save its ids in a file.)
  At most what came since the last part is fetched a second time. A signal (Ctrl-C, SIGTERM,
  SIGHUP) lets contacts in flight end, writes the last part and exits within 2 seconds; a
  second one exits at once. Without --resume a folder that holds an export is refused.

in many processes:
  With --workers N or --scheduler, contacts are fetched by other processes, --shard-size of them
  at a time; this one reads the contacts, and is the only one that writes the folder. A worker
  that is killed costs its shard, which another one gets. A signal lets contacts in flight end
  and waits up to 8 seconds for what the workers have. All processes share the rate limit of the
  account: say where with --shared-limit, or each has to find it by itself. Needs
  pip install 'np6_async[dask]', and [redis] for --shared-limit.

formats:
  ndjson   {"contact":"000MLGPR","event":{...}} with every member that NP6 sent
  csv      RFC 4180, UTF-8 without a byte order mark, a line of column names in each part,
           times as 2026-01-31T08:00:00.000Z. A cell that a spreadsheet would take for a
           formula (it begins with = + - @, a tab or a line end) has a ' in front
  parquet  the same columns, typed, times as timestamp[ms, UTC], compressed with zstd; needs:
           pip install 'np6_async[parquet]'
  The columns are the same whatever the events: those of the event, of the message it belongs
  to and of its details; what has no column is in the last one, "rest", as JSON.
""" + _key_and_exit_codes(
    "the export is complete",
    "it is complete, but contacts failed, or lines of a file are not contacts",
    "contacts or the folder cannot be used",
    "network, server or disk failed and the run was stopped: --resume continues",
    ": stopped; --resume continues",
)

SYNC: Final = """\
Fetch the events of contacts, or of all contacts, that no earlier run has fetched, into
NDJSON, CSV or Parquet files. The state file remembers how far each contact was fetched: run it
each night, with the same state. Each event comes once, even where a run is killed.
"""

SYNC_MORE: Final = """\
examples:
  np6 sync --ids-from ids.txt --kind bounces --start 2026-01-01 --state state.db --output new
  np6 sync --segment 41 --state state.db --output new --format parquet
  np6 sync --account --start 2026-01-01 --overlap 1h --state account.db --output new
  0 3 * * *  np6 sync -q --ids-from ids.txt --state state.db --output new    (in a crontab)

what is in the folder:
  all-20260101T020000.000Z-000001.ndjson
                        new events of a run up to that time; with --kind hits/open the name is
                        hits-open-... (.ndjson.gz, .csv, .csv.gz, .parquet). A contact's events
                        may be in several files. 'np6 export --help' describes the formats.
  A file is complete when it appears, and will not change: load it, then remove it. Files in
  progress are in the folder beside it, new.np6 for --output new.

which events are new:
  Of a contact that the state does not know, all of them from --start on; of the others, those
  after the last run. Events younger than --safety are left to the next run, and the last
  --overlap is looked at again: an event is found if NP6 publishes it no later after its time
  than these two together. The next run resumes a contact that failed where it stopped.
  Contacts may be added and left out at any time. The state is for one --kind and
  --classification. It holds what contacts are called, e-mail addresses with --by unicity; only
  its owner may read it.

all contacts:
  With --account, one request brings what is new of all contacts, and the state remembers one
  time, and 24 bytes for each event of --overlap; with --action, one of each. Each event has the
  NP6 id of its recipient if the event names it. --only-ids keeps those of some contacts; the
  others count as fetched, so that a run with more ids does not bring them.

resuming:
  Stopped or killed, the next run resumes: no event is missing, none is there twice. A signal
  (Ctrl-C, SIGTERM, SIGHUP) lets contacts in flight end, writes what arrived and exits within 2
  seconds; a second one exits at once.

in many processes:
  With --workers N or --scheduler, contacts are fetched by other processes, --shard-size of them
  at a time; this one reads the contacts, and is the only one that writes the state. A worker
  that is killed costs its shard, which another one gets. A signal lets contacts in flight end
  and waits up to 8 seconds for what the workers have. All processes share the rate limit of the
  account: say where with --shared-limit, or each has to find it by itself. Needs
  pip install 'np6_async[dask]', and [redis] for --shared-limit.
""" + _key_and_exit_codes(
    "all new events were fetched",
    "all but those of contacts that failed, or lines of a file are not contacts",
    "contacts, the folder or the state cannot be used",
    "network, server or disk failed and the run was stopped",
    "",
)

REPORT: Final = """\
Make one page of what happened to messages: sent, bounced, opened without robots, clicked and
stopped, over time, by action and by domain of the recipient, with the codes of bounces in
words. The page is HTML that stands alone, to be read, sent and printed; no address is in it.
"""

REPORT_MORE: Final = """\
examples:
  np6 report --segment 41 --start 90d --output report.html
  np6 report --account --start 2026-01-01 --tz Europe/Paris --output january.html
  np6 report --action 000PE4 --title "Spring sale" --output spring.html
  np6 report --ids-from ids.txt --start 4w --output - > report.html

what it fetches:
  All events, and then the hits once more: NP6 leaves those of robots out of hits, and may not
  leave them out of all events. That is two requests for each contact or action, or two for the
  account. Contacts are read twice, from files and segments, not from a pipe. Memory is bounded,
  however many events there are.

what is in the page:
  Totals, and rates for the messages that were sent in the same time; columns for days, weeks,
  months or years, as many as fit; the 30 actions and the 20 domains with most messages, and the
  15 codes with most bounces. A domain of fewer than ten people is counted among the others, so
  that it names nobody. No contact, no address and no text of a mail server is in it.

  The page appears when it is whole: a run that is stopped writes nothing, and leaves a page
  that is there as it was. Where contacts failed, the page says so at its head.
""" + _key_and_exit_codes(
    "the page was written",
    "it was written, but contacts failed, or lines of a file are not contacts",
    "contacts cannot be read or the page cannot be written",
    "network, server or disk failed and nothing was written",
    ": nothing was written",
)

COMPARE: Final = """\
Find out, on your own account, whether the responses for all contacts (--account)
have every event that the responses for single contacts have: fetch the events of
a sample of contacts both ways, and count by type which of the two has them.
"""

COMPARE_MORE: Final = """\
examples:
  np6 compare --ids-from ids.txt --start 7d
  np6 compare --segment 41 --sample 1000 --kind hits --start 2026-01-01 --end 2026-01-08

what it does:
  It takes a request for each contact of the sample, and one for all contacts in the same time,
  of which it reads everything: choose a time in which each type of event comes up a few times.
  Contacts with events in the latter alone are then requested once more, because these may have
  been published meanwhile. Events are compared by their ids, or by a digest where they have
  none. Those of the last 2 minutes are left out, because more of them may still appear. The
  table and what follows from it go to standard output, and name no contact. With --kind hits or
  one of the hits, those by robots are in neither.

exit codes:
    0  both have the same events
    1  they differ, contacts failed or lines are not contacts, or there was nothing to compare
    2  the command line is wrong, there are no contacts, or contacts cannot be read
    3  no usable API key, or the server (401, 403) or a proxy (407) refused
    4  network, server or output failed
  129  SIGHUP, the terminal was closed   130  Ctrl-C   143  SIGTERM
  141  the reader went away, as "| head" does
"""

SEGMENTS: Final = """\
List the segments of the account: for people where the output is a terminal,
otherwise as NDJSON with every member that NP6 sent. The API key is read from
NP6_API_KEY or NP6_API_KEY_FILE.
"""

SEGMENTS_MORE: Final = """\
examples:
  np6 segments
  np6 segments | jq -r 'select(.isTest) | .id'
  np6 events --segment 41 --kind bounces --start 7d

exit codes:
    0  the segments were listed
    2  the command line is wrong
    3  no usable API key, or the server (401, 403) or a proxy (407) refused
    4  network, server or output failed
  130  Ctrl-C      141  the reader went away, as "| head" does
"""

FAKE_SERVER: Final = """\
Run a fake NP6 server on this machine until Ctrl-C, for work on a program that has
no account yet: contacts, events, segments, actions, red lists and, if you like, faults and a
rate limit. It prints the two variables that send np6 and every NP6Client() there.
"""

FAKE_SERVER_MORE: Final = """\
examples:
  np6 fake-server
  np6 fake-server --contacts 100000 --rate-limit 50 --faults 0.02
  np6 fake-server --port 0 > np6.env &      and then, in any shell:  . ./np6.env

what it holds:
  The ids and addresses of the contacts follow from --seed, so they are the same each time; the
  events are those of the 90 days before it began. It listens on 127.0.0.1 only, asks for the
  key that it prints, and forgets everything at its end. In tests, use the fixture np6_server of
  np6_async.testing, which is the same server.

exit codes:
    2  the command line is wrong, or the port is in use
  129  SIGHUP, the terminal was closed   130  Ctrl-C   143  SIGTERM
"""

COMPLETION: Final = """\
Print a script with which a shell completes the commands, options, kinds and files of np6.
"""

COMPLETION_MORE: Final = """\
in the file that the shell reads when it starts:
  source <(np6 completion bash)       ~/.bashrc
  source <(np6 completion zsh)        ~/.zshrc, after compinit

or once, in the folder of such scripts:
  np6 completion bash > ~/.local/share/bash-completion/completions/np6
  np6 completion fish > ~/.config/fish/completions/np6.fish
"""
