"""The response to one request: its status code, its headers, and its body as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from multidict import CIMultiDictProxy

from .._config import RETRIED_STATUSES
from .._errors import (
    APIError,
    AuthError,
    BadRequest,
    ClientClosed,
    LimitExceeded,
    NotFound,
    NP6Error,
    RateLimited,
    ServerError,
    StreamInterrupted,
    UnexpectedRedirect,
)

# Bytes of a response to take at a time. It bounds memory: with a slow consumer this much, and what the socket gave in
# one go, waits for each request in flight.
PIECE: Final = 64 * 1024
# Turns of the event loop between two pieces: a task that sleeps is woken in the third after its timer is due.
_TURNS: Final = 3
# How far a compressed body may expand, unless it is small. Events, each with its own id, come nowhere near; a bomb
# expands a thousandfold.
_INFLATION: Final = 200
_SMALL: Final = 32 * 1024 * 1024
# An error's body is read, so that its connection can be used again, up to this many bytes.
_DRAIN: Final = 16 * 1024
_DRAIN_SECONDS: Final = 0.5
SESSION_CLOSED: Final = "the aiohttp session was closed; create a new client"


class Response:
    """Always close it. `close` lets go of the connection; while the response is open it is one of `live`.

    `protocol` is aiohttp's of the connection, where that is known: a wait for more of the body ends with it, also where
    aiohttp's own reader is not told. `session` is a borrowed one, which its owner may close at any time. `on_close` is
    called when the response is closed.
    """

    def __init__(
        self,
        status: int,
        headers: CIMultiDictProxy[str],
        content: aiohttp.StreamReader,
        close: Callable[[], None],
        live: set[Any],
        protocol: Any = None,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self._content = content
        self._close = close
        self._live = live
        self.on_close: Callable[[], None] | None = None
        self._protocol = protocol
        self._session = session
        live.add(self)
        self._size = 0  # of what was read
        self._unread = b""

    def whole_nowait(self, most: int) -> bytes | None:
        """The whole body, if it has arrived and is `most` bytes at most, and the response is closed; otherwise None.

        Raises `StreamInterrupted` where the connection broke.
        """
        content = self._content
        if not content.is_eof() or content.total_bytes > most:
            return None
        try:
            body = content.read_nowait(-1)
        except Exception:
            failure = self._interrupted()
        else:
            self._live.discard(self)
            self._close()
            if self.on_close is not None:
                self.on_close()
            return body
        raise failure

    @property
    def ended(self) -> bool:
        """Whether all of the body was read."""
        return not self._unread and self._content.at_eof()

    def unread(self, data: bytes) -> None:
        """Let `read_nowait` return `data`, which was read before."""
        self._unread = data

    def read_nowait(self) -> bytes:
        """The first bytes of the body, decompressed, where they have arrived; empty: call `read`.

        Raises `StreamInterrupted` where the connection broke.
        """
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        if self._size:
            return b""
        try:
            # A short response at once; a long one in smaller pieces, so that other tasks need not wait long.
            data = self._content.read_nowait(PIECE if self._content.is_eof() else PIECE // 2)
        except Exception:
            failure = self._interrupted()
        else:
            self._size = len(data)
            return data
        raise failure

    async def read(self) -> bytes:
        """Wait for the next bytes of the body; empty at its end.

        Raises `StreamInterrupted` where the connection broke, `ClientClosed` where the owner of a borrowed session
        closed it, and `LimitExceeded` where the body is a decompression bomb.
        """
        self._check_inflation()
        content = self._content
        try:
            if 0 < self._size < content.total_bytes:  # more is there: perhaps so much that nothing ever waits
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            if self._size < content.total_bytes or content.is_eof() or self._protocol is None:
                data = await content.read(PIECE // 2)
            else:
                data = await self._arrival(self._protocol.closed)
        except Exception:
            failure = self._interrupted()
        else:
            self._size += len(data)
            return data
        raise failure

    async def _arrival(self, closed: asyncio.Future[None] | None) -> bytes:
        """Wait for bytes, or for the end of the connection: `closed` is then done, and None if that was before."""
        if closed is None or closed.done():
            raise aiohttp.ClientConnectionError
        closed.remove_done_callback(_look)
        closed.add_done_callback(_look)
        closed.add_done_callback(self._wake_reader)
        try:
            return await self._content.read(PIECE // 2)
        finally:
            closed.remove_done_callback(self._wake_reader)

    def _wake_reader(self, _: object = None) -> None:
        """End a wait for more than what has arrived."""
        content = self._content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientConnectionError("Connection closed"))

    def _interrupted(self) -> NP6Error:
        if self._session is not None and self._session.closed:
            return ClientClosed(SESSION_CLOSED)
        return StreamInterrupted("the connection broke before the end of the response")

    def _check_inflation(self) -> None:
        content = self._content
        if content.total_bytes > _SMALL and content.total_bytes > _INFLATION * content.total_raw_bytes:
            raise LimitExceeded(
                f"the compressed response expands more than {_INFLATION}-fold, which events do not; if these are "
                "events all the same, request a shorter time"
            )

    async def error(self) -> APIError:
        """The typed error of a status code other than 200; closes the response.

        The body is read and discarded, so that the connection can be reused: nothing relies on it. One that is slow is
        not waited for.
        """
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                size = 0
                while size < _DRAIN and (data := await self.read()):
                    size += len(data)
        except (NP6Error, TimeoutError):
            pass
        finally:
            self.close()
        cls, message = _describe(self.status)
        return cls(message, status=self.status, request_id=request_id(self.headers))

    def close(self) -> None:
        """Give the connection back if the body has arrived; otherwise close it, and wake whoever reads."""
        self._live.discard(self)
        self._wake_reader()
        self._close()
        if self.on_close is not None:
            self.on_close()


def _look(closed: asyncio.Future[None]) -> None:
    """Look at the error with which a connection ended: otherwise asyncio logs that nobody did."""
    if not closed.cancelled():
        closed.exception()


def request_id(headers: Mapping[str, str]) -> str | None:
    """By which NP6 knows the request; None where it is not printable and short, as NP6 sends it."""
    text = headers.get("x-request-id", "")
    return text if 0 < len(text) <= 100 and text.isascii() and text.isprintable() else None


def _describe(status: int) -> tuple[type[APIError], str]:
    if status == 401:
        return AuthError, "401: the API key is not accepted; check api_key, NP6_API_KEY or NP6_API_KEY_FILE"
    if status == 403:
        return AuthError, "403: the API key has no right to read this; ask for it in the NP6 account"
    if status in (404, 410):
        return NotFound, f"{status}: not found in this account"
    if status == 429:
        return RateLimited, "429: the account's rate limit is used up"
    if status in RETRIED_STATUSES or status >= 500:
        return ServerError, f"{status}: the server failed"
    if 300 <= status < 400:
        return UnexpectedRedirect, f"{status}: a redirect, which is never followed; check base_url"
    if status < 300:
        return ServerError, f"{status}: success without a response body; 200 was expected"
    return (
        BadRequest,
        f"{status}: the server does not accept the request; check the contact or action, and `classification`",
    )
