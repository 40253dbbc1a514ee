"""What the command says: errors of the client in terms of options and variables, and contacts that are not valid."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from .. import (
    AuthError,
    BadRequest,
    ConnectError,
    EndpointNotFound,
    NP6Error,
    OutageWait,
    ProxyError,
    ServiceUnavailable,
    TimeoutExceeded,
    TLSError,
    UnexpectedRedirect,
)

By = Literal["id", "unicity", "hash"]

_SETTINGS: Final = re.compile(r" \((?:Timeout|RetryPolicy)\.[^)]*\)")
# The advice in a message, up to what it says about attempts.
_ADVICE: Final = re.compile(r"[;:] check (?:(?!, after \d|, and (?:asks|the)\b).)*", re.DOTALL)
_PROXY: Final = re.compile(r"\b(?:(?:HTTPS|ALL)_PROXY\b|proxy=)")
_PARAMETER: Final = re.compile(r"\b(format|csv_dialect|personal|personal_key)=(?:'([^']*)')?")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")
_NOT_IN_ID: Final = re.compile(r"[^0-9A-Za-z._~:+=-]")
_NOT_IN_HASH: Final = re.compile(r"[^0-9A-Fa-f]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ADDRESSES: Final = "e-mail addresses need --by unicity"


class BadInput(Exception):
    """Contacts, a bound or the output cannot be used; the message says which and why, and quotes no contact."""


def count(number: int, noun: str) -> str:
    """Such as `1 contact` or `2,000 contacts`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def printable(value: object) -> str:
    """Text of the server without the control characters that a terminal would act on."""
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def words(error: NP6Error) -> str:
    """The error's message, its advice for programs replaced by one for the command line."""
    message = unavailable(error) if isinstance(error, ServiceUnavailable) else reason(error)
    advice = _advice(error)
    if advice:
        message += f"; {advice}"
    if error.request_id:
        message += f" [request id {error.request_id}]"
    return message


def reason(error: NP6Error) -> str:
    """The error's message without advice."""
    message = str(error.args[0]) if error.args else type(error).__name__
    return _ADVICE.sub("", _SETTINGS.sub("", message))


def in_options(message: str) -> str:
    """What is wrong with the parameters of files, in terms of options."""
    named = _PARAMETER.sub(lambda match: f"--{match[1].replace('_', '-')} {match[2] or ''}".rstrip(), message)
    return f"--{named}" if named.startswith("gzip") else named


def proxy_problem(message: str) -> str:
    """What is wrong with a proxy, in terms of options."""
    text = message.partition(", or pass session=")[0]
    return text.replace("pass another one or proxy=None", "give another one, or none").replace(
        "pass proxy=None", "give --proxy none"
    )


def outage(wait: OutageWait) -> str:
    """What is said while NP6 answers nobody, in local time."""
    text = str(wait)
    return text.replace(f"{wait.since:%H:%M:%S} UTC", f"{wait.since.astimezone():%H:%M:%S}")


def unavailable(error: ServiceUnavailable) -> str:
    """What is said when an outage ends the run."""
    return str(error).partition("; contacts ")[0].replace("RetryPolicy.outage", "--outage")


def _advice(error: NP6Error) -> str | None:
    match error:
        case AuthError(status=401):
            return f"check {key_source(os.environ)}"
        case ServiceUnavailable(error=NP6Error() as last):
            return _advice(last)
        case TLSError():
            return "check --base-url and the certificates of this machine, to which SSL_CERT_FILE may add"
        case ProxyError():
            named = _PROXY.search(str(error.args[0]) if error.args else "")
            return (
                f"check {named[0].replace('proxy=', '--proxy') if named else 'the proxy between this machine and NP6'}"
            )
        case ConnectError(local=True):  # the message names the limit of this machine
            return None
        case ConnectError() | TimeoutExceeded(limit="connect"):
            return "check --base-url and the network"
        case TimeoutExceeded(limit="read"):
            return "a larger --timeout allows more time"
        case UnexpectedRedirect():
            return "check --base-url"
        case EndpointNotFound():
            return "check --base-url, --by, --kind and the contacts"
        case BadRequest():
            return "check the arguments of the command"
    return None


def key_source(environ: Mapping[str, str]) -> str:
    """Where the API key comes from."""
    if "NP6_API_KEY" in environ:
        return "NP6_API_KEY"
    path = environ.get("NP6_API_KEY_FILE")
    return f"the key in {path!r}" if path else "the file in NP6_API_KEY_FILE"


def key_problem(environ: Mapping[str, str], file: str | None = None) -> str | None:
    """Why there is no usable API key in the environment; None if there is one. Never quotes it.

    `file` is what to call the file of the key."""
    if (key := environ.get("NP6_API_KEY")) is not None:
        return _problem("NP6_API_KEY", key)
    path = environ.get("NP6_API_KEY_FILE")
    if path is None:
        return (
            "no API key: set NP6_API_KEY to it, or NP6_API_KEY_FILE to a file that holds it; 'np6 fake-server' is a "
            "server to try without one"
        )
    if not path:
        return "NP6_API_KEY_FILE is empty: set it to the name of a file that holds the key"
    name = file or f"the file in NP6_API_KEY_FILE, {path!r},"
    try:
        return _problem(name, Path(path).read_text(encoding="utf-8").strip())
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    except ValueError:
        return f"{name} is not UTF-8 text"


def _problem(source: str, key: str) -> str | None:
    if not key.strip():
        return f"{source} is empty"
    if key != key.strip():
        return f"{source} begins or ends with a space or a line end"
    if not _KEY.fullmatch(key):
        return f"{source} is not a valid API key: that is 1 to 512 printable ASCII characters, without spaces"
    return None


def refusal(by: By, value: str) -> tuple[str, str]:
    """What is wrong with a `value` that is not a contact by `by`, and what to do about it; neither quotes it."""
    if not value:
        return "is empty", "a contact is for instance 000MLGPR"
    if by != "unicity" and "@" in value:
        return "contains '@'", _ADDRESSES
    if by != "unicity" and "," in value:
        return "contains a comma", "separate contacts with spaces on the command line, with line ends in a file"
    if by == "id":
        hint = "an id consists of 0-9 A-Z a-z . _ ~ : + = -; other values need --by unicity or --by hash"
        if value in {".", ".."}:
            return "consists of dots only", hint
        if len(value) > 256:
            return f"has {len(value)} characters, more than 256", hint
        return _character(_NOT_IN_ID, value), hint
    if by == "hash":
        hint = f"a hash is 32 hex digits (0-9 a-f); ids need --by id, {_ADDRESSES}"
        if len(value) != 32:
            return f"has {len(value)} characters, not 32", hint
        return _character(_NOT_IN_HASH, value), hint
    if len(value) > 1024:
        return f"has {len(value)} characters, more than 1024", "that is too long for a unicity field"
    return _character(_CONTROL, value), "control characters cannot be sent"


def _character(pattern: re.Pattern[str], value: str) -> str:
    found = pattern.search(value)
    return f"contains U+{ord(found[0]):04X} as character {found.start() + 1}" if found else "is not a contact"
