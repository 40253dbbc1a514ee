"""Errors of the client in the words of the command line: options and variables in place of Python."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .. import (
    APIError,
    AuthError,
    BadRequest,
    ConnectError,
    EndpointNotFound,
    NP6Error,
    TimeoutExceeded,
    TLSError,
    UnexpectedRedirect,
)

_SETTINGS: Final = re.compile(r" \((?:Timeout|RetryPolicy)\.[^)]*\)")
# What a message advises, up to what it says of attempts.
_ADVICE: Final = re.compile(r"[;:] check (?:(?!, after \d|, and (?:asks|the)\b).)*", re.DOTALL)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")


def words(error: NP6Error) -> str:
    """The error's message, its advice for programs replaced by one for the command line."""
    message = reason(error)
    advice = _advice(error)
    if advice:
        message += f"; {advice}"
    if isinstance(error, APIError) and error.request_id:
        message += f" [request id {error.request_id}]"
    return message


def reason(error: NP6Error) -> str:
    """The error's message without advice."""
    message = str(error.args[0]) if error.args else type(error).__name__
    return _ADVICE.sub("", _SETTINGS.sub("", message))


def _advice(error: NP6Error) -> str | None:
    match error:
        case AuthError(status=401):
            return f"check {'NP6_API_KEY' if 'NP6_API_KEY' in os.environ else 'the file in NP6_API_KEY_FILE'}"
        case TLSError():
            return "check --base-url and the certificates of this machine, to which SSL_CERT_FILE may add"
        case ConnectError() | TimeoutExceeded(limit="connect"):
            return "check --base-url and the network"
        case TimeoutExceeded(limit="read"):
            return "--timeout allows more"
        case UnexpectedRedirect():
            return "check --base-url"
        case EndpointNotFound():
            return "check --base-url, --by, --kind and the contacts"
        case BadRequest():
            return "check the contact and --classification"
    return None


def key_problem(environ: Mapping[str, str]) -> str | None:
    """Why there is no usable API key in the environment; None if there is one. Never quotes it."""
    if (key := environ.get("NP6_API_KEY")) is not None:
        return _problem("NP6_API_KEY", key)
    path = environ.get("NP6_API_KEY_FILE")
    if path is None:
        return "no API key: set NP6_API_KEY to it, or NP6_API_KEY_FILE to a file that holds it"
    if not path:
        return "NP6_API_KEY_FILE is empty: it is the name of a file that holds the key"
    name = f"the file in NP6_API_KEY_FILE, {path!r},"
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
        return f"{source} begins or ends with a blank or a line end"
    if not _KEY.fullmatch(key):
        return f"{source} holds no API key: it is 1 to 512 printable characters of ASCII, without blanks"
    return None
