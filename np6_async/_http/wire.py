"""The fast path of a request: aiohttp's connections and parser, without its request and response objects.

aiohttp's connector opens, pools and keeps the connections, and its protocol parses what arrives. In between, a request
is a few bytes that are built and written at once, so the key waits in no frame, and a response is the parser's own
message and body.

That relies on names of aiohttp that are not documented. `supported` checks them, and `Transport` uses the session's
own `get` where they differ, and wherever something else must see each request: a borrowed session, traces, those that
an instrumentation adds to every session included, and tools that replace methods of all sessions or connectors, as
aioresponses, vcrpy and aiointercept do.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from .credentials import ApiKey
from .response import Response

_PARAMETERS: Final = {"timer", "skip_payload", "read_until_eof", "auto_decompress", "read_timeout", "read_bufsize"}
_TEMPLATE: Final = {"method", "url", "session", "ssl", "loop", "proxy", "proxy_headers"}
# What a connection raises that ends before a response begins.
_ENDED: Final = (aiohttp.ClientOSError, aiohttp.ClientConnectionResetError, aiohttp.ServerDisconnectedError)
# A request target has no blanks, no line ends and nothing beyond ASCII: nothing can be smuggled into the request.
_TARGET: Final = re.compile(r"/[!-~]*+")


def _own(method: Any, sibling: Any) -> Any:
    """`method` where it is aiohttp's own, as `sibling` is; None where it was replaced before this was imported."""
    source = getattr(getattr(method, "__code__", None), "co_filename", None)
    return method if source == sibling.__code__.co_filename else None


# What mocks, recorders and tracers replace.
_REQUEST: Final = _own(aiohttp.ClientSession._request, aiohttp.ClientSession.detach)  # noqa: SLF001
_GET: Final = _own(aiohttp.ClientSession.get, aiohttp.ClientSession.detach)
_TLS: Final = _own(aiohttp.TCPConnector._get_ssl_context, aiohttp.TCPConnector.clear_dns_cache)  # noqa: SLF001


def supported() -> bool:
    """Whether this version of aiohttp has what is used here."""
    try:
        parameters = inspect.signature(ResponseHandler.set_response_params).parameters.keys()
        connect = list(inspect.signature(aiohttp.BaseConnector.connect).parameters)
        template = inspect.signature(aiohttp.ClientRequest).parameters.keys()
    except (AttributeError, TypeError, ValueError):
        return False
    members = all(hasattr(ResponseHandler, name) for name in ("read", "should_close", "is_connected", "closed"))
    known = parameters >= _PARAMETERS and template >= _TEMPLATE
    return members and known and connect == ["self", "req", "traces", "timeout"]


def is_replaced() -> bool:
    """Whether somebody has replaced how all sessions send requests, and so wants to see each of them."""
    return (
        aiohttp.ClientSession._request is not _REQUEST  # noqa: SLF001
        or aiohttp.ClientSession.get is not _GET
        or aiohttp.TCPConnector._get_ssl_context is not _TLS  # noqa: SLF001
    )


class Wire:
    """GETs from one origin over the connections of `connector`."""

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        origin: URL,
        headers: dict[str, str],
        key: ApiKey,
        timeout: aiohttp.ClientTimeout,
        read_bufsize: int,
        session: aiohttp.ClientSession,
        ssl: Any,
        live: set[Response],
        proxy: Mapping[str, Any],
    ) -> None:
        self._connector = connector
        self._live = live
        self._timeout = timeout
        self._read_bufsize = read_bufsize
        # For the connector, which takes from it the host, the port, the proxy and how to speak TLS.
        self._template = aiohttp.ClientRequest(
            "GET", origin, session=session, ssl=ssl, loop=asyncio.get_running_loop(), **proxy
        )
        host = self._template.headers["Host"]
        lines = [f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join(["", *lines, "X-Key: "])
        rest = f" HTTP/1.1{head}{key.reveal()}\r\n\r\n"
        # A closure, as the key itself is: what prints an object's members finds a function.
        self._request: Callable[[str], bytes] = lambda target: f"GET {target}{rest}".encode("ascii")

    async def get(self, target: str) -> Response:
        """The response to a GET of `target`, path and query. Raises what aiohttp raises, and `Disconnected`."""
        if not _TARGET.fullmatch(target):
            raise ValueError("a request target is printable ASCII without blanks")
        try:
            connection = await self._connector.connect(self._template, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error  # as a session does
        protocol: Any = connection.protocol
        reused = protocol.__dict__.pop("fresh", None) is None
        try:
            if not protocol.is_connected():
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            protocol.set_response_params(
                timer=None,
                skip_payload=False,
                read_until_eof=True,
                auto_decompress=True,
                read_timeout=None,
                read_bufsize=self._read_bufsize,
            )
            protocol.transport.write(self._request(target))
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code <= 199 or message.code == 101:
                    break
            content.on_eof(connection.release)  # at once, where the body has arrived
            return Response(message.code, message.headers, content, connection.close, self._live, protocol)
        except BaseException as error:
            connection.close()
            if isinstance(error, _ENDED):
                raise Disconnected(reused) from None
            raise


class Disconnected(Exception):
    """The connection ended before a response began. Not an aiohttp error, for which aiohttp would repeat the request by
    itself, unseen and uncounted. `stale`: it was open before, and the server closed it as it was used."""

    def __init__(self, stale: bool) -> None:
        super().__init__()
        self.stale = stale
