"""One attempt over aiohttp: a request is sent, and a stream of bytes or a typed error comes back.

No other module of the layers imports aiohttp. None of its exceptions is let out, and none of their texts: they quote
URLs and bodies.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from .._config import Timeout
from .._errors import (
    ClientClosed,
    ConfigError,
    ConnectError,
    NP6Error,
    ProtocolError,
    ProxyError,
    StreamInterrupted,
    TimeoutExceeded,
    TLSError,
)
from .credentials import ApiKey
from .lifetime import CancelScope, Lifetime
from .observations import logger
from .proxies import Proxy
from .response import PIECE, SESSION_CLOSED, Response
from .shortage import Patience, Shortage, describe, shortage_of
from .wire import Disconnected, Wire, is_replaced, supported

_HeadersSent: TypeAlias = Callable[
    [aiohttp.ClientSession, SimpleNamespace, aiohttp.TraceRequestHeadersSentParams], Awaitable[object]
]
_SIGNALS: Final = tuple(name for name in dir(aiohttp.TraceConfig) if name.startswith("on_"))
# What aiohttp raises where no response begins.
_FAILURES: Final = (
    Disconnected,
    aiohttp.ClientError,
    aiohttp.EofStream,
    aiohttp.http.HttpProcessingError,
    OSError,
    RuntimeError,
    ValueError,
)
# As requested, and what most responses have.
_GZIP: Final = ["gzip"]
# What aiohttp decodes, the last two if it has a library for them.
_DECODED: Final = {"gzip", "deflate", "br", "zstd"}
# Those with a name, and some that are used without one.
_NAMED: Final = _DECODED | {
    *("aes128gcm", "bzip2", "compress", "dcb", "dcz", "exi", "identity", "lz4", "lzma", "pack200-gzip", "snappy"),
    *("x-bzip2", "x-compress", "x-gzip", "xz"),
}
# How it says that it has none.
_NOT_DECODED: Final = re.compile(r"content-encoding: \S+ \((\w+)\)")


# Seconds for a connection of the request that the current task sends: aiohttp tells the connector of its own timeouts.
_connect: Final[ContextVar[float]] = ContextVar("np6_async_connect")


class _Protocol(ResponseHandler):
    """Aborts a connection on which something arrived that is not HTTP.

    aiohttp closes it, which over TLS waits for the other side to agree, and a reader of the body would wait, too.
    """

    def set_exception(self, exc: Any, *cause: Any, **more: Any) -> None:
        super().set_exception(exc, *cause, **more)
        if isinstance(exc, aiohttp.http.HttpProcessingError) and self.transport is not None:
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """Remembers for which requests it opened a connection. A trace would tell too, at a tenth of a request's cost."""

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        # The slots bound the connections.
        super().__init__(limit=0, ssl=True if ssl_context is None else ssl_context)
        factory: Any = partial(_Protocol, *self._factory.args, **self._factory.keywords)
        self._factory = factory
        self.made_for: set[aiohttp.ClientRequest] = set()

    async def _create_connection(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109
        self.made_for.add(req)
        # Not by aiohttp's timers: they count the time in which the event loop is blocked.
        with CancelScope(set()) as scope:
            scope.cancel_after(_connect.get(), lambda: TimeoutExceeded("no connection in time", limit="connect"))
            protocol = await super()._create_connection(req, traces, timeout)
        # asyncio allocates 256 KiB for each receive, and C libraries ask the system for that much every time.
        protocol.__dict__["fresh"] = True
        transport: Any = protocol.transport
        if hasattr(transport, "max_size"):
            transport.max_size = PIECE
        return protocol

    async def _get(self, key: Any, traces: Any) -> Any:
        """A connection to reuse, but not one on which unrequested bytes arrived: they would be taken for the next
        response, and the events of one contact for those of another."""
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is None or not connection.protocol.should_close:
                break
            connection.close()
        return connection

    def let_go(self, count: int) -> None:
        """Close this many connections, those in use when their responses have ended."""
        idle = [protocol for protocols in self._conns.values() for protocol, _ in protocols]
        in_use = [protocol for protocol in self._acquired if protocol.transport is not None]  # others are not open yet
        for protocol in idle[:count]:
            protocol.close()
        for protocol in in_use[: max(0, count - len(idle))]:
            protocol.force_close()


class Transport:
    """Sends requests to one origin, with a session of its own or one that it borrows.

    `base_url` comes from `parse_base_url`. A borrowed session is never closed and never reconfigured; settings of it
    that would be unsafe here (redirects, raising for status codes) are overridden in each request.
    """

    def __init__(
        self,
        *,
        key: ApiKey,
        base_url: tuple[URL, str],
        timeout: Timeout,
        user_agent: str,
        session: aiohttp.ClientSession | None,
        ssl_context: ssl.SSLContext | None,
        lifetime: Lifetime,
        proxy: Proxy | None = None,
        trace_configs: Iterable[aiohttp.TraceConfig] = (),
    ) -> None:
        self.origin: URL
        self.origin, self._prefix = base_url
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigError(f"session must be an aiohttp.ClientSession, not {type(session).__name__}")
        self._key = key
        self._session = session
        self._ssl_context = ssl_context
        self._trace_configs = _check_traces(trace_configs, borrowed=session is not None)
        self._timeout = timeout
        self._cache_seen = False
        # A session of our own connects in the time of `_Connector`.
        connect = None if session is None else timeout.connect
        self._options: dict[str, Any] = {
            # Not br or zstd: an old Brotli installed beside aiohttp breaks every such response.
            "headers": {
                hdrs.ACCEPT: "application/json",
                hdrs.ACCEPT_ENCODING: "gzip",
                hdrs.USER_AGENT: user_agent,
            },
            # Nothing of `read` here: aiohttp's timer costs a tenth of a small request, see `SharedTimeout`.
            "timeout": _session_timeout(connect),
            "read_bufsize": PIECE // 2,
            "auto_decompress": True,
            "raise_for_status": False,
            "middlewares": (self._send,),
        }
        # `ssl` in each, and not of the connector alone: it tells which connections can be used again.
        self._per_request: dict[str, Any] = {
            "allow_redirects": False,
            "ssl": True if ssl_context is None else ssl_context,
        }
        self.proxy = proxy
        self._proxy_options = {} if proxy is None else proxy.options(self.origin)
        if proxy is not None:  # without what it is sent, see `_send`
            self._per_request["proxy"] = proxy.url
        self._owned = session is None
        if session is not None:
            _check_verified(session)
            # Set in each request, whatever the session's own settings are.
            self._per_request |= self._options
        self._connector: _Connector | None = None
        self._closed = False
        self._live: set[Response] = set()
        self._shortage = Shortage(timeout.connect + timeout.read, lifetime, self._live)
        self._wire: Wire | None = None

    @property
    def base_url(self) -> str:
        """The URL that every path is appended to."""
        return f"{self.origin}{self._prefix}"

    @property
    def borrows(self) -> bool:
        """Whether the session is somebody else's."""
        return not self._owned

    def account(self, salt: bytes = b"") -> str:
        """See `ApiKey.account`."""
        return self._key.account(str(self.origin), salt)

    async def request(self, path: str, query: str, body: bytes | None = None, *, connect: float) -> Response:
        """GET `path` with `query`, both percent-encoded, or POST it the JSON of `body`; the response may have any
        status code. `connect` is the time for a connection, in seconds: that of the client, or of a view on it.

        Raises a `TransportError` where no response begins, and a `ProtocolError` where one cannot be decoded.
        """
        if self._closed:
            raise ClientClosed("this NP6Client is closed; create a new one")
        session = self._session or self._open_session()
        options = self._per_request
        _connect.set(connect)
        if not self._owned and connect != self._timeout.connect:
            options = {**options, "timeout": _session_timeout(connect)}
        shortage = self._shortage
        patience: Patience | None = None
        failure: NP6Error | None
        while True:
            lacks = response = None
            if shortage.most is None:
                shortage.starting += 1
            else:
                await shortage.enter()
            try:
                if body is not None:
                    response = self._response(
                        await session.post(self._url(path, query), **self._post(body, options)), session
                    )
                elif self._wire is not None and not is_replaced():
                    response = await self._wire.get(
                        f"{self._prefix}{path}?{query}" if query else f"{self._prefix}{path}"
                    )
                else:
                    response = self._response(await session.get(self._url(path, query), **options), session)
            except asyncio.CancelledError:
                if not self._taken_away() or _is_cancelled():
                    raise
                failure = ClientClosed(SESSION_CLOSED)  # which cancels what waits for a connection
            except Exception as error:
                if not isinstance(error, _FAILURES) and not self._taken_away():
                    raise
                failure = self._connection_error(error)
                lacks = shortage_of(error)
            else:
                shortage.served += 1
                headers = response.headers
                if self._closed:
                    failure = ClientClosed("this NP6Client was closed while a call was waiting")
                elif (
                    response.status == 407
                    or (hdrs.CONTENT_ENCODING in headers and headers.getall(hdrs.CONTENT_ENCODING) != _GZIP)
                    or (hdrs.AGE in headers and headers[hdrs.AGE] != "0" and not self._cache_seen)
                ):
                    failure = self._look_at(response)
                else:
                    failure = None
                if failure is not None:
                    response.close()
            finally:
                shortage.starting -= 1
                if shortage.most is not None:
                    shortage.wake()
            if failure is None and response is not None:
                if shortage.most is not None:
                    response.on_close = shortage.closed
                return response
            if lacks is not None:
                excess = shortage.met(lacks)
                if self._connector is not None:
                    self._connector.let_go(excess)
                patience = patience or shortage.patience()
                if await patience.wait():
                    continue
                failure = ConnectError(f"no connection to {self.origin}: {describe(lacks)}")
                failure.local = True
            assert failure is not None
            # Not raised above: `from None` hides aiohttp's error, but keeps it and its frames in `__context__`.
            raise failure

    def _post(self, body: bytes, options: dict[str, Any]) -> dict[str, Any]:
        headers = {**self._options["headers"], hdrs.CONTENT_TYPE: "application/json"}
        # As a file: aiohttp warns of bytes that are more than 1 MiB.
        return {**options, "headers": headers, "data": BytesIO(body)}

    def _response(self, theirs: aiohttp.ClientResponse, session: aiohttp.ClientSession) -> Response:
        protocol = None if theirs.connection is None else theirs.connection.protocol
        return Response(
            theirs.status,
            theirs.headers,
            theirs.content,
            theirs.close,
            self._live,
            protocol if hasattr(protocol, "closed") else None,
            None if self._owned else session,
        )

    def _look_at(self, response: Response) -> NP6Error | None:
        """What is wrong with a response that is not what NP6 sends; None where it can be used."""
        headers = response.headers
        if not self._cache_seen and re.fullmatch(r"0*[1-9]\d*", headers.get(hdrs.AGE, "0"), re.ASCII):
            self._cache_seen = True
            logger.warning(
                "a response came from a cache (its Age is above 0): one that ignores the X-Key header may return the "
                "events of another account, or old ones; exempt this API from it"
            )
        if response.status == 407:  # of a proxy that passes requests on; others refuse to connect
            return self._refusal(407)
        codings = headers.getall(hdrs.CONTENT_ENCODING, [])
        if response.status == 200 and not _is_decoded(codings):
            return _undecodable(codings)
        return None

    def _url(self, path: str, query: str) -> URL:
        return URL.build(
            scheme=self.origin.scheme,
            authority=self.origin.raw_authority,
            path=f"{self._prefix}{path}",
            query_string=query,
            encoded=True,
        )

    @property
    def most_connections(self) -> int:
        """How many connections the session opens at once."""
        connector = None if self._session is None else self._session.connector
        limits = [] if connector is None else [connector.limit, connector.limit_per_host]
        return min([limit for limit in limits if limit], default=sys.maxsize)

    async def close(self) -> None:
        """End every open response, and the session if it is our own."""
        self._closed = True
        # Closing a session leaves the reader of a body waiting for ever: end the responses first.
        for response in tuple(self._live):
            response.close()
        self._live.clear()
        if self._owned and self._session is not None:
            await self._session.close()

    async def _send(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """The innermost client middleware: adds the key and the password of the proxy, which so wait in no frame, and
        keeps aiohttp from retrying by itself."""
        if request.url.origin() == self.origin:
            request.headers["X-Key"] = self._key.reveal()
        if self.proxy is not None:
            request.proxy_headers = self._proxy_options["proxy_headers"]
        try:
            return await handler(request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientSSLError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ClientConnectionResetError, aiohttp.ServerDisconnectedError):
            # With a borrowed session it is not known whether the connection had been used before.
            stale = self._connector is not None and request not in self._connector.made_for
            raise Disconnected(stale) from None
        finally:
            # The response keeps the request's headers: the key must not outlive the sending.
            request.headers.popall("X-Key", None)
            if self._connector is not None:
                self._connector.made_for.discard(request)

    def _open_session(self) -> aiohttp.ClientSession:
        self._connector = _Connector(self._ssl_context)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            trace_configs=[_without_key(each) for each in self._trace_configs],
            **self._options,
        )
        if supported() and not self._session.trace_configs:
            self._wire = Wire(
                self._connector,
                self.origin,
                self._options["headers"],
                self._key,
                self._options["timeout"],
                self._options["read_bufsize"],
                self._session,
                True if self._ssl_context is None else self._ssl_context,
                self._live,
                self._proxy_options,
            )
        return self._session

    def _connection_error(self, error: Exception) -> NP6Error:
        if self._taken_away():
            return ClientClosed(SESSION_CLOSED)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return self._refusal(error.status)
        there = "the proxy" if self._is_of_proxy(error) else str(self.origin)
        # aiohttp makes certificate errors connection errors too: look for them first.
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | aiohttp.ServerFingerprintMismatch):
            return TLSError(
                f"no TLS connection to {there}: its certificate was not accepted, or it does not speak TLS; "
                "check base_url and the system's certificates; let SSL_CERT_FILE name those of a private authority, or "
                "pass them as ssl_context="
            )
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return TimeoutExceeded(
                f"no connection to {self.origin} within {_connect.get():g} s (Timeout.connect)", limit="connect"
            )
        if isinstance(error, TimeoutError):  # a borrowed session's own
            return TimeoutExceeded("no response began in time")
        if isinstance(error, aiohttp.ClientConnectorError):
            if there == "the proxy":
                return ProxyError(f"no connection to the proxy ({_reason(error)}): check {self._proxy_setting}")
            return ConnectError(f"no connection to {there} ({_reason(error)}): check base_url and the network")
        if isinstance(error, aiohttp.ClientResponseError | aiohttp.http.HttpProcessingError):  # its status is made up
            coding = _NOT_DECODED.search(error.message)
            return _undecodable([coding[1]]) if coding else StreamInterrupted("the server's response is not valid HTTP")
        failure = ConnectError("the server closed the connection before responding")
        failure.stale = isinstance(error, Disconnected) and error.stale
        return failure

    def _taken_away(self) -> bool:
        """Whether the session is borrowed, and its owner has closed it."""
        return not self._owned and self._session is not None and self._session.closed

    def _refusal(self, status: int) -> ProxyError:
        why = "407: the proxy wants other credentials" if status == 407 else f"{status}: the proxy refused"
        return ProxyError(f"{why} to connect to {self.origin}: check {self._proxy_setting}", status=status)

    @property
    def _proxy_setting(self) -> str:
        """Where the proxy was named, in the words of an error."""
        if self.proxy is None:
            return "the proxy of the session" if self.borrows else "what stands between this machine and the server"
        return "proxy=" if self.proxy.source == "proxy" else self.proxy.source

    def _is_of_proxy(self, error: Exception) -> bool:
        """Whether it is about the connection to a proxy, and not the server."""
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return True
        return isinstance(error, aiohttp.ClientConnectorError) and (error.host, error.port) != (
            self.origin.raw_host,
            self.origin.port,
        )


def _session_timeout(connect: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect)


def _is_cancelled() -> bool:
    """Whether it was the current task that was cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _is_decoded(codings: list[str]) -> bool:
    """Whether aiohttp has decoded a body with these headers `Content-Encoding`. It looks at the last, as a whole."""
    applied = [coding for line in codings for name in line.split(",") if (coding := name.strip().lower()) != "identity"]
    return not any(applied) or (len(applied) == 1 and applied[0] in _DECODED and codings[-1].lower() == applied[0])


def _undecodable(codings: list[str]) -> ProtocolError:
    applied = [name.strip().lower() for line in codings for name in line.split(",")]
    # Whatever else a server writes there may be a secret.
    named = ", ".join(name if name in _NAMED else "an unknown one" for name in applied[:4])
    error = ProtocolError(
        f"the response is in a coding that was not asked for and cannot be decoded ({named}): check the proxy or cache "
        "that does it"
    )
    error.permanent = True
    return error


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Why there is no connection, in the words of the operating system; aiohttp's own text quotes the address."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if error.errno and error.errno < 0:  # the resolver's own numbers
        return "its name does not resolve"
    return os.strerror(error.errno) if error.errno else type(error.os_error).__name__


def _check_verified(session: aiohttp.ClientSession) -> None:
    """Refuse a session that would send the key to any server."""
    # There is no public way to ask; where there is no such attribute, aiohttp's default is assumed.
    tls = getattr(session.connector, "_ssl", True)
    if tls is False or (isinstance(tls, ssl.SSLContext) and not verifies(tls)):
        raise ConfigError(
            "the session's connector does not verify certificates and host names (ssl=False, or a context that does "
            "not): pass one that does"
        )


def verifies(context: ssl.SSLContext) -> bool:
    """Whether it verifies certificates and host names."""
    return context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


# -- traces of aiohttp that the user passes, kept from seeing the API key ----------------------


def _check_traces(trace_configs: Iterable[aiohttp.TraceConfig], *, borrowed: bool) -> list[aiohttp.TraceConfig]:
    """The traces as a list; raises `ConfigError` for anything else, and for any if the session is `borrowed`."""
    configs = list(trace_configs) if isinstance(trace_configs, Iterable) else None
    if configs is None or not all(isinstance(config, aiohttp.TraceConfig) for config in configs):
        raise ConfigError("trace_configs must be an iterable of aiohttp.TraceConfig")
    if configs and borrowed:
        raise ConfigError("trace_configs are of a session of the client's own: give them to the session you pass")
    return configs


def _without_key(theirs: aiohttp.TraceConfig) -> aiohttp.TraceConfig:
    """A trace that calls what `theirs` calls, but without the key in the headers that were sent.

    Only that one signal would show it: the others get the headers from before the key was added.
    """
    theirs.freeze()  # as a session does
    ours = aiohttp.TraceConfig(theirs.trace_config_ctx)  # type: ignore[arg-type]
    for name in _SIGNALS:
        receivers: Iterable[Any] = getattr(theirs, name)
        if name == "on_request_headers_sent":
            receivers = [_hide_key(receiver) for receiver in receivers]
        getattr(ours, name).extend(receivers)
    return ours


def _hide_key(receiver: _HeadersSent) -> _HeadersSent:
    async def call(
        session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestHeadersSentParams
    ) -> None:
        headers = params.headers.copy()
        headers.popall("X-Key", None)
        await receiver(session, context, aiohttp.TraceRequestHeadersSentParams(params.method, params.url, headers))

    return call
