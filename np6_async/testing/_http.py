"""HTTP/1.1 as a fake server speaks it: whole responses, and responses that break at an exact byte.

A plain `asyncio.Protocol` without tasks or an HTTP library: what is on the wire is what the `Response` says, and
to close the server is to close its transports.
"""

from __future__ import annotations

import asyncio
import http
import math
import socket
import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

if sys.platform != "win32":
    import fcntl
    import termios

MAX_HEAD = 64 * 1024
MAX_BODY = 16 * 2**20
_BURST = 2**20
_FLUSHED = 100  # bytes that a compressed piece has more, at most, than it was made of
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_FLUSH_POLL = 0.001
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class Body(Protocol):
    """Bytes that may be made when they are read."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class Events(Protocol):
    """Where the events are in a body."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def span(self, index: int) -> tuple[int, int]:
        """Where the event at `index` begins and ends."""
        ...


class Spans:
    """Where the elements of an array are in its JSON, in which nothing but commas is between them."""

    def __init__(self, elements: Sequence[bytes]) -> None:
        self._elements = elements

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._elements)

    def span(self, index: int) -> tuple[int, int]:
        """Where the element at `index` begins and ends."""
        begin = 1 + index + sum(map(len, self._elements[:index]))
        return begin, begin + len(self._elements[index])


@attrs.frozen
class Spliced:
    """A body with `by` in place of what is between `at` and `until`."""

    body: Body
    at: int
    until: int
    by: bytes

    def __len__(self) -> int:
        return len(self.body) - (self.until - self.at) + len(self.by)

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(len(self))
        rest = self.at + len(self.by)
        return (
            self.body[min(begin, self.at) : min(end, self.at)]
            + self.by[max(begin - self.at, 0) : max(end - self.at, 0)]
            + self.body[max(begin - rest, 0) + self.until : max(end - rest, 0) + self.until]
        )


class Request(NamedTuple):
    """One request.

    `headers` has names in lower case and lacks the key; requests that send the same headers share it.
    `late` is true if the connection counts as closed already.
    """

    method: str
    target: str
    version: str
    key: str | None
    headers: Mapping[str, str]
    late: bool = False
    body: bytes = b""

    @property
    def accepts_gzip(self) -> bool:
        """Whether the client accepts gzip."""
        return "gzip" in self.headers.get("accept-encoding", "")

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants to keep the connection."""
        wish = self.headers.get("connection", "").lower()
        return wish == "keep-alive" or (self.version == "HTTP/1.1" and wish != "close")


@attrs.frozen(kw_only=True)
class Response:
    """A response, with everything that may be wrong with it."""

    status: int = 200
    body: Body = b""
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    events: Events | None = None
    """Where the events are in `body`, if it is an array of them."""
    gzip: bool = False
    gzip_accepted: bool = False
    framing: Literal["auto", "chunked", "length", "eof"] = "auto"
    cut_at: int | None = None
    """The body ends after this many bytes."""
    pause_at: int | None = None
    """After this many bytes of the body nothing comes for `pause` seconds."""
    pause: float = math.inf
    chunk_size: int = 16 * 1024
    """The size of a chunk, in bytes; a larger body is chunked."""
    latency: float = 0.0
    """Seconds before it begins."""
    silent: bool = False
    """Nothing is written, not even a status line."""
    ending: Literal["keep", "close", "reset", "doomed"] = "keep"
    """What happens to the connection after it; "doomed" keeps it until the next request, and then closes it."""

    def evolve(self, **changes: Any) -> Response:
        """The same response but for these fields."""
        return attrs.evolve(self, **changes)

    def spliced(self, at: int, until: int, by: bytes) -> Response:
        """The same response with `by` in place of what is between `at` and `until` in its body."""
        if isinstance(self.body, bytes):
            return self.evolve(body=self.body[:at] + by + self.body[until:], events=None)
        return self.evolve(body=Spliced(self.body, at, until, by), events=None)


@attrs.define(eq=False, repr=False)
class Connection(asyncio.Protocol):
    """One connection, with one request at a time.

    `respond` makes the response to a request, `done` is called once for each when that has ended in any way, and
    `connected` is the set of open connections.
    """

    respond: Callable[[Request], Response]
    done: Callable[[], None]
    connected: set[Connection]
    _transport: asyncio.Transport = attrs.field(init=False)
    _loop: asyncio.AbstractEventLoop = attrs.Factory(asyncio.get_running_loop)
    _buffer: bytearray = attrs.Factory(bytearray)
    _block: bytes = b""
    _key: str | None = None
    _headers: Mapping[str, str] = attrs.Factory(dict)
    _request: Request | None = None
    _response: Response = attrs.Factory(Response)
    _wire: Iterator[bytes | float] = attrs.Factory(lambda: iter(()))
    _timer: asyncio.Handle | None = None
    _pausing: bool = False
    _full: bool = False
    _doomed: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.connected.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connected.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._request is not None:
            self._request = None
            self.done()

    def abort(self) -> None:
        """Close at once, even if there is more to write."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._request is None:
            self._read()

    def _read(self) -> None:
        """Respond to the next request in the buffer, if all of it has arrived."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                self._transport.close()
            return
        try:
            request = self._parse(bytes(self._buffer[:end]))
            size = int(request.headers.get("content-length", 0))
            if not 0 <= size <= MAX_BODY or "transfer-encoding" in request.headers:
                raise ValueError
        except ValueError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self._transport.close()
            return
        if len(self._buffer) < end + 4 + size:
            return
        request = request._replace(body=bytes(self._buffer[end + 4 : end + 4 + size])) if size else request
        del self._buffer[: end + 4 + size]
        self._request = request
        self._response = self.respond(request)
        # Not written at once, even without latency: requests that arrived together are in flight together.
        if self._response.latency:
            self._timer = self._loop.call_later(self._response.latency, self._begin)
        else:
            self._timer = self._loop.call_soon(self._begin)

    def _parse(self, head: bytes) -> Request:
        line, _, block = head.partition(b"\r\n")
        method, target, version = line.decode("latin-1").split(" ")
        if block != self._block:
            pairs = (field.partition(":") for field in block.decode("utf-8", "surrogateescape").split("\r\n"))
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            self._key = headers.pop("x-key", None)
            self._headers = headers
            self._block = block
        return Request(method, target, version, self._key, self._headers, self._doomed)

    def _begin(self) -> None:
        if self._request is not None:
            self._wire = wire(self._response, self._request)
            self._pump()

    def _pump(self) -> None:
        self._timer = None
        self._pausing = False
        written = 0
        while not self._full and not self._transport.is_closing():
            block = next(self._wire, None)
            if block is None:
                self._finish()
                return
            if not isinstance(block, bytes):
                self._pausing = True
                if block < math.inf:
                    self._timer = self._loop.call_later(block, self._pump)
                return
            self._transport.write(block)
            written += len(block)
            if written > _BURST:
                self._timer = self._loop.call_soon(self._pump)
                return

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._request is not None and self._timer is None and not self._pausing:
            self._pump()

    def _finish(self) -> None:
        request, self._request = self._request, None
        self.done()
        match self._response.ending:
            case "reset":
                self._reset()
            case "close":
                self._transport.close()
            case ending:
                self._doomed = ending == "doomed"
                if request is not None and request.keep_alive and self._response.framing != "eof":
                    self._read()
                else:
                    self._transport.close()

    def _reset(self) -> None:
        """Send RST once everything written has reached the other side, because RST would discard it."""
        self._doomed = True
        if self._transport.is_closing():
            return
        sock: socket.socket = self._transport.get_extra_info("socket")
        if self._transport.get_write_buffer_size() or _unacknowledged(sock):
            self._timer = self._loop.call_later(_FLUSH_POLL, self._reset)
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes that are not acknowledged yet, 0 where the kernel does not say."""
    if sys.platform == "win32":
        return 0
    try:
        count = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)


def wire(response: Response, request: Request) -> Iterator[bytes | float]:
    """What is sent: blocks of bytes, and seconds of silence between them."""
    if response.silent:
        if response.pause_at is not None:
            yield response.pause
        return
    framing = response.framing
    if framing == "auto" or (framing == "chunked" and request.version == "HTTP/1.0"):
        small = len(response.body) <= response.chunk_size or request.version == "HTTP/1.0"
        framing = "length" if small else "chunked"
    pieces = _pieces(response)
    head = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}"]
    if response.content_type is not None:
        head.append(f"Content-Type: {response.content_type}")
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.gzip:
        head.append("Content-Encoding: gzip")
    if framing == "chunked":
        head.append("Transfer-Encoding: chunked")
    elif framing == "length":
        length = len(response.body)
        breaks = response.cut_at is not None and response.ending != "keep"
        if response.gzip and breaks and not isinstance(response.body, bytes):
            length += _FLUSHED * (length // response.chunk_size + 1)
        elif response.gzip:
            known = list(pieces)
            length = sum(len(piece) for piece in known if isinstance(piece, bytes))
            pieces = iter(known)
        if response.cut_at is not None and breaks:
            # More is announced than is sent, even if all of the body is.
            length = length + 1 if response.gzip else max(length, response.cut_at + 1)
        head.append(f"Content-Length: {length}")
    if framing == "eof" or not request.keep_alive:
        head.append("Connection: close")
    elif request.version == "HTTP/1.0":
        head.append("Connection: keep-alive")
    start = ("\r\n".join(head) + "\r\n\r\n").encode("utf-8", "surrogateescape")
    # A small response takes one write, and one packet.
    first = next(pieces, b"") if framing == "length" else b""
    yield start + first if isinstance(first, bytes) else start
    if isinstance(first, float):
        yield first
    for piece in pieces:
        if isinstance(piece, bytes) and framing == "chunked":
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
        else:
            yield piece
    if framing == "chunked" and (response.cut_at is None or response.ending == "keep"):
        yield b"0\r\n\r\n"


def _pieces(response: Response) -> Iterator[bytes | float]:
    """The body in blocks, compressed or not and never empty, and the pause in it."""
    deflate = zlib.compressobj(1, wbits=31) if response.gzip else None
    body, size = response.body, response.chunk_size
    whole = len(body) if response.cut_at is None else min(response.cut_at, len(body))
    stop = whole if response.pause_at is None else min(response.pause_at, whole)
    for begin, end in ((0, stop), (stop, whole)):
        for position in range(begin, end, size):
            piece = body[position : min(position + size, end)]
            yield deflate.compress(piece) + deflate.flush(zlib.Z_SYNC_FLUSH) if deflate else piece
        if begin == 0 and response.pause_at is not None:
            yield response.pause
    if deflate and response.cut_at is None:
        yield deflate.flush()
