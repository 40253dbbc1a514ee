"""A server that only sends prepared bytes, so that it is not what the benchmarks measure.

The first letter of the contact's id in the path selects the response::

    E  an empty array             S  5 events       M  100 events, all three with Content-Length
    L  10,000 events, chunked     H  one huge body, chunked (its size is an option)
    D  as S, 20 ms later          T  2 MB, trickled over one second in 40 chunks
    C  as S, chunked and with rate-limit headers that leave plenty
    G  as S, compressed with gzip and chunked

``python -m benchmarks.server`` prints its port and, with ``--tls``, the certificate of its authority, as one line of
JSON, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import ssl
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from itertools import cycle
from typing import Final

from .bodies import answer, answer_of_size

DELAY: Final = 0.020
TRICKLE_CHUNKS: Final = 40
TRICKLE_SECONDS: Final = 1.0
MEDIUM: Final = 50

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nx-request-id: 7f3c\r\n"
_STARTED: Final = int(time.time())
_RATE: Final = (
    f"Date: {formatdate(_STARTED, usegmt=True)}\r\nX-RateLimit-Limit: 1000000\r\nX-RateLimit-Remaining: 900000\r\n"
    f"X-RateLimit-Reset: {_STARTED + 3600}\r\n"
).encode()
_GZIP: Final = b"Content-Encoding: gzip\r\n"
_CHUNK: Final = 16 * 1024
_PIECE: Final = 64 * 1024


def _whole(body: bytes) -> bytes:
    return _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _chunked(body: bytes, chunk: int = _CHUNK, piece: int = _PIECE, *, headers: bytes = b"") -> list[bytes]:
    """The response in pieces that are written one by one; each holds several chunks, as from a busy server."""
    pieces = [_HEAD + headers + b"Transfer-Encoding: chunked\r\n\r\n"]
    for first in range(0, len(body), piece):
        chunks = [
            body[at : min(at + chunk, first + piece)] for at in range(first, min(first + piece, len(body)), chunk)
        ]
        pieces.append(b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in chunks))
    pieces[0] += pieces.pop(1)
    pieces[-1] += b"0\r\n\r\n"
    return pieces


class Answers:
    """Everything that is served, prepared before the first request."""

    def __init__(self, huge_mb: int = 0, medium: int = MEDIUM) -> None:
        # Several of each shape, in turn: the same bytes each time would favour caches.
        five = [answer(5, seed) for seed in range(500)]
        small = list(map(_whole, five))
        self.at_once: dict[bytes, Iterator[bytes]] = {
            b"E": cycle([_whole(b"[]")]),
            b"S": cycle(small),
            b"D": cycle(small),
            b"C": cycle([b"".join(_chunked(body, headers=_RATE)) for body in five]),
            b"G": cycle([b"".join(_chunked(gzip.compress(body), headers=_GZIP)) for body in five]),
            b"M": cycle([_whole(answer(100, 1_000 + seed)) for seed in range(medium)]),
        }
        self.in_pieces: dict[bytes, Iterator[list[bytes]]] = {
            b"L": cycle([_chunked(answer(10_000, 2_000 + seed)) for seed in range(3)]),
        }
        if huge_mb:
            self.in_pieces[b"H"] = cycle([_chunked(answer_of_size(huge_mb * 1_000_000, 3_000))])
        slow = answer_of_size(2_000_000, 4_000)
        size = -(-len(slow) // TRICKLE_CHUNKS)
        self.trickled = _chunked(slow, size, size)
        self.trickled_at = [0.0, 0.0]  # when the first and the last chunk were sent, on the clock of all processes


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._pieces: Iterator[bytes] = iter(())
        self._paused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=4 * _PIECE)

    def data_received(self, data: bytes) -> None:
        data = self._received + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            self._answer(data[:end])
            data = data[end + 4 :]
        self._received = data

    def connection_lost(self, error: Exception | None) -> None:
        self._pieces = iter(())

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def _answer(self, request: bytes) -> None:
        at = request.find(b"/targets/") + 9
        letter = request[at : at + 1]
        if letter == b"D":
            self._loop.call_later(DELAY, self._transport.write, next(self._answers.at_once[letter]))
        elif letter in self._answers.at_once:
            self._transport.write(next(self._answers.at_once[letter]))
        elif letter in self._answers.in_pieces:
            self._pieces = iter(next(self._answers.in_pieces[letter]))
            self._pump()
        elif letter == b"T":
            self._trickle(0)
        else:  # when the last trickled response was sent
            self._transport.write(_whole(b"[%f,%f]" % tuple(self._answers.trickled_at)))

    def _pump(self) -> None:
        while not (self._paused or self._transport.is_closing()) and (piece := next(self._pieces, None)) is not None:
            self._transport.write(piece)

    def _trickle(self, index: int) -> None:
        pieces = self._answers.trickled
        if self._transport.is_closing():  # the client has left
            return
        self._transport.write(pieces[index])
        self._answers.trickled_at[min(index, 1)] = time.monotonic()
        if index + 1 < len(pieces):
            self._loop.call_later(TRICKLE_SECONDS / (len(pieces) - 1), self._trickle, index + 1)


def _certified() -> tuple[ssl.SSLContext, str]:
    """The server's side of TLS, and the certificate by which clients verify it."""
    import trustme

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, authority.cert_pem.bytes().decode()


async def _serve(huge_mb: int, medium: int, tls: bool) -> None:
    answers = Answers(huge_mb, medium)
    context, authority = _certified() if tls else (None, None)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0, backlog=1024, ssl=context)
    print(json.dumps({"port": server.sockets[0].getsockname()[1], "authority": authority}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the process that started this one is gone
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="the processor to stay on")
    parser.add_argument("--huge", type=int, default=0, metavar="MB", help="prepare a body of that size")
    parser.add_argument("--medium", type=int, default=MEDIUM, metavar="N", help="prepare so many bodies of shape M")
    parser.add_argument("--tls", action="store_true", help="speak TLS, with a certificate made for this run")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    asyncio.run(_serve(options.huge, options.medium, options.tls))


if __name__ == "__main__":
    main()
