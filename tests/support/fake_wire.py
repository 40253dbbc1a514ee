"""What a fake server sends, byte for byte."""

from __future__ import annotations

import asyncio
import socket
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from np6_async.testing import FakeNP6


class Wire:
    """What one connection received, byte for byte, and how it ended: "eof", "rst" or "open"."""

    def __init__(self, data: bytes, end: str) -> None:
        self.end = end
        self.head, _, rest = data.partition(b"\r\n\r\n")
        self.chunked = b"Transfer-Encoding: chunked" in self.head
        self.finished = not self.chunked
        self.body = rest
        if self.chunked:
            pieces, begin = [], 0
            while begin < len(rest):
                first = rest.index(b"\r\n", begin) + 2
                size = int(rest[begin : first - 2], 16)
                self.finished = size == 0
                pieces.append(rest[first : first + size])
                begin = first + size + 2
            self.body = b"".join(pieces)
        if b"Content-Encoding: gzip" in self.head:
            self.inflate = zlib.decompressobj(31)
            self.body = self.inflate.decompress(self.body)

    @property
    def length(self) -> int:
        _, found, rest = self.head.partition(b"Content-Length: ")
        return int(rest.split(b"\r\n")[0]) if found else -1


async def fetch(
    server: FakeNP6, contact: str = "X", *, target: str | None = None, gzip: bool = False, wait: float = 5
) -> Wire:
    """What comes back for the events of a contact, or for `target`, until it is whole or nothing comes for `wait`."""
    target = target or f"/targets/{contact}/events?sort=asc"
    loop = asyncio.get_running_loop()
    accept = "gzip" if gzip else "identity"
    data, end = bytearray(), "open"
    # A plain socket: the streams of asyncio and aiohttp drop what was not read yet when RST comes.
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", int(server.url.rpartition(":")[2])))
        head = f"GET {target} HTTP/1.1\r\nX-Key: {server.api_key}"
        before = server.request_count
        await loop.sock_sendall(sock, f"{head}\r\nAccept-Encoding: {accept}\r\n\r\n".encode())
        await until(lambda: server.request_count > before)
        try:
            # Once everything announced is here, a short wait shows whether the connection stays open.
            while block := await asyncio.wait_for(loop.sock_recv(sock, 65536), 0.001 if _whole(data) else wait):
                data += block
            end = "eof"
        except TimeoutError:
            pass
        except ConnectionResetError:
            end = "rst"
    return Wire(bytes(data), end)


async def until(condition: Callable[[], bool]) -> None:
    """Let the server run until `condition` holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def _whole(data: bytes | bytearray) -> bool:
    end = data.find(b"\r\n\r\n")
    head = data[: max(end, 0)]
    if b"Transfer-Encoding: chunked" in head:
        return data.endswith(b"\r\n0\r\n\r\n")
    _, found, length = head.partition(b"Content-Length: ")
    return bool(found) and len(data) - end - 4 == int(length.split(b"\r\n")[0])
