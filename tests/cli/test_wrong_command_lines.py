"""What `np6 events` says to whoever mistypes: in the command's own words, with what to type instead."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from np6_async import (
    AuthError,
    ConnectError,
    EndpointNotFound,
    NP6Error,
    ProxyError,
    ServerError,
    TimeoutExceeded,
    TLSError,
    UnexpectedRedirect,
)
from np6_async.cli import main
from np6_async.cli._messages import BadInput, By, key_problem, words
from np6_async.cli._time_options import read_span
from np6_async.testing import FakeNP6

Run = Callable[..., int]

DAY = 86_400
PYTHON = re.compile(r"api_key|base_url|ssl_context|Contact\.|Timeout\.|RetryPolicy|datetime|timedelta|NP6Client")


# Points in time


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90m", 5400), ("24h", DAY), (" 7d ", 7 * DAY), ("7D", 7 * DAY), ("2w", 14 * DAY)]
)
def test_a_number_with_a_unit_is_that_long_ago(text: str, seconds: int) -> None:
    """Measured from the same now as the other bound."""
    span = read_span(text, f"{seconds}s", None)
    assert span.start == span.end
    assert not span.future


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-01", "2026-01-01T00:00:00.000Z"),
        ("2026-07-01T08:00+02:00", "2026-07-01T06:00:00.000Z"),
        ("20260101", "2026-01-01T00:00:00.000Z"),
        ("1767225600", "2026-01-01T00:00:00.000Z"),
        ("1767225600000", "2026-01-01T00:00:00.000Z"),
        ("1971-01-01", "1971-01-01T00:00:00.000Z"),
    ],
)
def test_everything_else_is_read_as_the_client_reads_it(text: str, meant: str) -> None:
    assert read_span(text, None, None).start == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "nonsense",
            (
                "expected a date (2026-01-01), a time (2026-01-01T08:00Z), an epoch, "
                "or a span back from now: 90m, 24h, 7d, 2w"
            ),
        ),
        ("", "expected a date"),
        ("1.5d", "expected a date"),
        ("-7d", "write 7d"),
        ("3M", "months or minutes?"),
        ("7", "7 of what? Write 7d, 7h or a date"),
        ("2026", "Write a date as 2026-01-31, this epoch as 1970-01-01T00:33:46.000Z"),
        ("202601011200", "Write a date as 2026-01-31"),
        ("9" * 17, "too large for an epoch"),
        ("30000d", "before 1970"),
        ("999999999w", "before 1970"),
        ("2026-02-30", "no such day or time"),
        ("1969-12-31", "no such day or time"),
        ("2026-03-29T02:30", "no such day or time in Europe/Paris"),
    ],
)
def test_what_is_no_time_is_answered_with_what_to_type(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)) as caught:
        read_span(text, None, ZoneInfo("Europe/Paris"))
    assert str(caught.value).startswith(f"--start {text!r}: ")
    assert not PYTHON.search(str(caught.value))


def test_the_advice_for_an_ambiguous_number_can_be_typed() -> None:
    assert read_span("1970-01-01T00:33:46.000Z", None, None).start == "1970-01-01T00:33:46.000Z"


def test_bounds_in_the_wrong_order_are_repeated_as_they_were_typed() -> None:
    with pytest.raises(BadInput, match=r"^--start 1d is later than --end 7d$"):
        read_span("1d", "7d", None)


def test_a_start_in_the_future_is_a_warning(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(server.contact_ids[0], "--start", "2999-01-01") == 0
    assert "warning: --start 2999-01-01 lies in the future" in capfd.readouterr().err


# Contacts


@pytest.mark.parametrize(
    ("by", "value", "words"),
    [
        ("id", "jane@example.com", "contact 2 contains '@'; e-mail addresses need --by unicity"),
        ("hash", "jane@example.com", "contact 2 contains '@'"),
        ("id", "A,B", "contact 2 contains a comma; separate contacts with spaces"),
        ("id", "Jane D", "contact 2 contains U+0020 as character 5; an id consists of"),
        ("id", "a" * 300, "contact 2 has 300 characters, more than 256"),
        ("id", "..", "contact 2 consists of dots only"),
        ("id", "", "contact 2 is empty"),
        ("hash", "xyz", "contact 2 has 3 characters, not 32; a hash is 32 hex digits"),
        ("hash", "x" * 32, "contact 2 contains U+0078 as character 1"),
        ("unicity", "jane\n", "contact 2 contains U+000A as character 5"),
        ("unicity", "j" * 2000, "contact 2 has 2000 characters, more than 1024"),
        ("id", "-", "--ids-from -"),
        ("unicity", "-", "--ids-from -"),
    ],
)
def test_a_bad_contact_is_named_by_its_place_and_not_quoted(
    by: By, value: str, words: str, run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--by", by, "a" * 32, value) == 2
    err = capfd.readouterr().err
    assert words in err
    assert "jane" not in err.lower()
    assert not PYTHON.search(err)
    assert server.request_count == 0


def test_the_name_of_a_file_is_no_contact(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Although ids.txt could be an id: whoever types it means --ids-from."""
    (tmp_path / "ids.txt").write_text("000MLGPR")
    monkeypatch.chdir(tmp_path)
    for name in ("ids.txt", str(tmp_path / "ids.txt")):
        assert run(name) == 2
        assert (
            "contact 1 is the name of a file: contacts come from a file with --ids-from FILE" in capfd.readouterr().err
        )


def test_contacts_may_stand_anywhere(run: Run, server: FakeNP6, capfd: pytest.CaptureFixture[str]) -> None:
    """Before options, between them and after them, and after -- whatever they begin with."""
    ids = server.contact_ids
    server.add_contact("-X")
    assert run(ids[0], "--kind", "hits", ids[1], "--newest-first", ids[2], "--", "-X") == 0
    assert {request.contact for request in server.requests} == {*ids[:3], "-X"}


# Options


def test_an_unknown_option_points_to_the_right_help(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """With the number that came with it; anything else that did may be a secret."""
    assert run("--limit", "5", "A") == 2
    expected = "np6 events: error: there is no option --limit 5 (see 'np6 events --help')\n"
    assert capfd.readouterr().err == expected
    assert run("A", "--secret", "s3cr3t") == 2
    assert run("A", "--secret=s3cr3t") == 2
    assert "s3cr3t" not in capfd.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--limit", "5"])
    assert "np6 demo: error: there is no option --limit 5 (see 'np6 demo --help')" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "5"])
    assert "an argument too many" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("event A", "there is no command 'event'; did you mean 'events'?"),
        ("fake_server", "there is no command 'fake_server'; did you mean 'fake-server'?"),
        ("jump", "there is no command 'jump': say demo, events, "),
        ("events A --kinds hits", "there is no option --kinds; did you mean --kind?"),
        ("events A --base_url=x", "there is no option --base_url; did you mean --base-url?"),
        ("events A --format csv", "there is no option --format; np6 export and np6 sync have it"),
        ("export A -o x --json", "there is no option --json; np6 events has it"),
        ("--quiet events A", "options come after the command, such as np6 events --quiet"),
        ("--profile=x events A", "options come after the command, such as np6 events --profile"),
        ("--port 80 fake-server", "options come after the command, such as np6 fake-server --port"),
    ],
)
def test_what_was_meant_is_said(line: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    assert f"error: {words}" in capfd.readouterr().err


def test_a_span_with_a_minus_is_explained(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("A", "--start", "-7d") == 2
    # For argparse it is an option up to Python 3.13, and a value from 3.14 on.
    words = "write 7d" if sys.version_info >= (3, 14) else "such as 7d: a span back from now has no minus"
    assert words in capfd.readouterr().err


def test_a_kind_in_other_words_is_answered_with_its_name(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("A", "--kind", "click") == 2
    expected = "np6 events: error: argument --kind: 'click' is not a kind of event; did you mean 'hits/redirection'?"
    assert capfd.readouterr().err.startswith(expected)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "--output: the name of the file is empty"),
        ("/dev/null/x", "--output '/dev/null/x' cannot be written: Not a directory"),
    ],
)
def test_an_output_that_cannot_be_is_explained(
    output: str, words: str, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("A", "-o", output) == 2
    assert words in capfd.readouterr().err


# The key, and errors of the client


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "no API key: set NP6_API_KEY to it, or NP6_API_KEY_FILE to a file that holds it"),
        ({"NP6_API_KEY": ""}, "NP6_API_KEY is empty"),
        ({"NP6_API_KEY": "k\n"}, "NP6_API_KEY begins or ends with a space or a line end"),
        ({"NP6_API_KEY": "my key"}, "NP6_API_KEY is not a valid API key"),
        ({"NP6_API_KEY_FILE": ""}, "NP6_API_KEY_FILE is empty"),
        ({"NP6_API_KEY_FILE": "/no/key"}, "'/no/key', cannot be read: No such file or directory"),
        ({"NP6_API_KEY_FILE": "/dev/null"}, "'/dev/null', is empty"),
    ],
)
def test_what_is_wrong_with_the_key_is_said_exactly(environment: dict[str, str], problem: str) -> None:
    assert problem in (key_problem(environment) or "")


def test_a_usable_key_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" k3y\n")
    assert key_problem({"NP6_API_KEY_FILE": str(tmp_path / "key")}) is None
    assert key_problem({"NP6_API_KEY": "k3y", "NP6_API_KEY_FILE": "/no/key"}) is None


def local(message: str) -> ConnectError:
    error = ConnectError(message)
    error.local = True
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ConnectError(
                "contact A: no connection to https://np6 (refused): check base_url and the network, after 5 attempts"
            ),
            "contact A: no connection to https://np6 (refused), after 5 attempts; check --base-url and the network",
        ),
        (
            ProxyError(
                "contact A: 407: the proxy wants other credentials to connect to https://np6: check the proxy of the "
                "session",
                status=407,
            ),
            (
                "contact A: 407: the proxy wants other credentials to connect to https://np6; check the proxy between "
                "this machine and NP6"
            ),
        ),
        (
            local("no connection to https://np6: this process may open 64 files and sockets (ulimit -n), and has"),
            "no connection to https://np6: this process may open 64 files and sockets (ulimit -n), and has",
        ),
        (
            TimeoutExceeded(
                "contact A: no connection to https://np6 within 10 s (Timeout.connect), after 5 attempts",
                limit="connect",
            ),
            "contact A: no connection to https://np6 within 10 s, after 5 attempts; check --base-url and the network",
        ),
        (
            TimeoutExceeded("no answer began within 40 s (Timeout.connect + Timeout.read)"),
            "no answer began within 40 s; a larger --timeout allows more time",
        ),
        (
            TLSError(
                "no TLS connection: it failed; check base_url and the certificates, or pass ssl_context= with those"
            ),
            (
                "no TLS connection: it failed; check --base-url and the certificates of this machine, to which "
                "SSL_CERT_FILE may add"
            ),
        ),
        (
            UnexpectedRedirect("302: a redirect, which is never followed; check base_url", status=302),
            "302: a redirect, which is never followed; check --base-url",
        ),
        (
            EndpointNotFound(
                "each answered 404: the address is wrong; check base_url, kind and the contacts", status=404
            ),
            "each answered 404: the address is wrong; check --base-url, --by, --kind and the contacts",
        ),
        (ServerError("503: the server failed", status=503, request_id="r1"), "503: the server failed [request id r1]"),
        (
            ServerError("503: it failed, and the client's retry budget (RetryPolicy.budget) is used up", status=503),
            "503: it failed, and the client's retry budget is used up",
        ),
    ],
)
def test_errors_of_the_client_advise_options(error: NP6Error, said: str) -> None:
    """What the client says is kept, but for the advice to change a program."""
    assert words(error) == said


def test_a_refused_key_is_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    error = AuthError("401: the API key is not accepted; check api_key, NP6_API_KEY or NP6_API_KEY_FILE", status=401)
    monkeypatch.setenv("NP6_API_KEY", "k")
    assert words(error) == "401: the API key is not accepted; check NP6_API_KEY"
    monkeypatch.delenv("NP6_API_KEY")
    assert words(error) == "401: the API key is not accepted; check the file in NP6_API_KEY_FILE"


def test_a_run_against_nothing_speaks_of_options(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """And says after the first attempt that there will be others."""
    assert run("A", "--base-url", "http://127.0.0.1:9") == 4
    err = capfd.readouterr().err
    assert err.startswith("np6 events: no connection yet, trying again\n")
    assert "check --base-url and the network" in err
    assert not PYTHON.search(err)
