"""Errors of the client in words for the visitors of the page.

The messages of the errors themselves are for programmers. None of these texts contains an address or a key.
"""

from __future__ import annotations

import math

from np6_async import (
    APIError,
    AuthError,
    BadRequest,
    ClientClosed,
    ConnectError,
    InvalidBound,
    NotFound,
    NP6Error,
    ProtocolError,
    RateLimited,
    ServerError,
    ServiceUnavailable,
    StreamInterrupted,
    TimeoutExceeded,
    TLSError,
)

from .search import Field, Search

_NAMES = {"id": "id", "unicity": "e-mail address", "hash": "hash"}


def words(error: NP6Error, search: Search | None = None) -> tuple[str, Field | None]:
    """What went wrong and what to do, and the field of the form that caused it; without `search` there was no form."""
    match error:
        case NotFound() if search is None:
            text = "NP6 does not offer the events of all contacts at its address."
        case NotFound() if search:
            return f"NP6 has no contact with this {_NAMES[search.contact.kind]}.", "contact"
        case InvalidBound():
            return "NP6 only has dates from 1970 to 9999.", "from"
        case RateLimited(retry_after=seconds):
            return f"NP6 allows no more requests for now. Try again {_in(seconds)}.", None
        case AuthError(status=401):
            text = "NP6 does not accept the API key of this page. Its operator must correct it."
        case AuthError():
            text = "The API key of this page is not allowed to read events. Its operator must ask for this right."
        case TLSError():
            text = "The server at NP6's address could not prove that it is NP6. No request was sent."
        case TimeoutExceeded(limit="pool"):
            text = "Too many timelines are being read at once. Try again in a minute."
        case ServerError() | ConnectError() | TimeoutExceeded() | StreamInterrupted() | ServiceUnavailable():
            text = f"{failure(error)} Try again in a few minutes."
        case ClientClosed():
            text = "This page's server is being stopped."
        case BadRequest():
            text = "NP6 refused this request."
        case ProtocolError():
            text = "NP6 sent something that is not a list of events."
        case _:
            text = "Something went wrong that this page cannot explain."
    if isinstance(error, APIError) and error.request_id:
        text += f" (For NP6's support: request {error.request_id}.)"
    return text, None


def failure(error: NP6Error) -> str:
    """What went wrong, without advice."""
    match error:
        case ServerError(status=status):
            return f"NP6 is not working right now (status {status})."
        case ConnectError():
            return "NP6 cannot be reached."
        case ServiceUnavailable(error=cause) if cause:
            return failure(cause)
        case TimeoutExceeded() | ServiceUnavailable():
            return "NP6 does not respond."
        case StreamInterrupted():
            return "NP6's response broke off."
        case RateLimited():
            return "NP6 allows no more requests for now."
        case _:
            return "NP6's response could not be used."


def _in(seconds: float | None) -> str:
    if seconds is None:
        return "later"
    if seconds <= 90:
        return f"in {math.ceil(seconds)} seconds"
    minutes = math.ceil(seconds / 60)
    return f"in {minutes} minutes" if minutes <= 90 else f"in {math.ceil(minutes / 60)} hours"
