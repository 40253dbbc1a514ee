"""A server of bytes that behaves as a script says, per connection; and a client in its own process.

`raw_server` is for what no HTTP library would send. `measure` runs a client beside it, so that its memory
and the stalls of its event loop are those of the client alone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from attrs import define, field, frozen

WARM_UP: Final = "WARMUP01"


@frozen
class Request:
    """A request as it came over the wire."""

    raw: bytes
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.raw.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        """What stands between the method and the version, to the letter."""
        method, target, version = self.raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        assert (method, version) == ("POST" if self.body else "GET", "HTTP/1.1")
        return target

    @property
    def contact(self) -> str:
        """The path segment of the contact."""
        return urlsplit(self.target).path.split("/")[2]

    @property
    def newest_first(self) -> bool:
        return parse_qs(urlsplit(self.target).query)["sort"] == ["desc"]

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}


@define(eq=False)
class Connection:
    """One connection: read requests from it, write whatever."""

    server: RawServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def request(self) -> Request:
        """The next request; raises `asyncio.IncompleteReadError` where there is none."""
        request = Request(await self.reader.readuntil(b"\r\n\r\n"))
        if length := int(request.headers.get("content-length", "0")):
            request = Request(request.raw, await self.reader.readexactly(length))
        self.server.requests.append(request)
        return request

    async def send(self, *pieces: bytes | Iterable[bytes]) -> None:
        """Write each piece, or each of an iterable, as fast as the client takes them."""
        for given in pieces:
            for piece in [given] if isinstance(given, bytes) else given:
                self.writer.write(piece)
                await self.writer.drain()

    async def closed(self) -> None:
        """Wait until the client has closed its side."""
        await self.reader.read()


Behaviour = Callable[[Connection], Awaitable[None]]


@define(eq=False)
class RawServer:
    """Where it listens, and what it saw."""

    tls: ssl.SSLContext | None = None
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" if self.tls is None else f"https://localhost:{self.port}"


@asynccontextmanager
async def raw_server(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A server that gives each of its connections to `behaviour`, and closes it afterwards."""
    made = RawServer(tls)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        made.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await behaviour(Connection(made, reader, writer, made.connections))
        finally:
            tasks.discard(task)
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def response(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = None, version: str = "1.1"
) -> bytes:
    """An ordinary response; `length` replaces the true one."""
    lines = [
        f"HTTP/{version} {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# --- a client in its own process -----------------------------------------------------------------


@frozen
class Measured:
    """How a fetch ended: the name of the error, None for success; its seconds, and the bytes that memory grew by.

    `stall` is the longest time in which no other task ran, and `busy` how much of such a time the client
    computed: the rest belonged to other processes.
    """

    error: str | None
    events: int
    seconds: float
    stall: float
    busy: float
    growth: int


async def measure(url: str, contact: str, **options: Any) -> Measured:
    """Stream the events of `contact` in its own process, and forget them.

    Before that, it fetches `WARM_UP`, so that what any first response costs is not counted. Options: `newest_first`;
    `pause`, in seconds, after each batch; `seconds`, after which to leave.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        json.dumps({"url": url, "contact": contact} | options),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await child.communicate()
    finally:
        with suppress(ProcessLookupError):
            child.kill()
    assert child.returncode == 0
    return Measured(**json.loads(out))


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def _memory_from_now_on() -> int:
    """What is held now; the peak starts again."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


async def _client(
    url: str, contact: str, newest_first: bool = False, pause: float = 0.0, seconds: float = 1e9
) -> Measured:
    from np6_async import NP6Client, NP6Error, RetryPolicy, Timeout

    count, error, stalls, busy = 0, None, [0.0], [0.0]

    async def beat() -> None:
        while True:
            before, computed = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            stalls.append(time.perf_counter() - before - 0.001)
            busy.append(time.thread_time() - computed)

    async with NP6Client("k", base_url=url, retry=RetryPolicy(max_attempts=1), timeout=Timeout(read=20)) as np6:
        assert await np6.events.list(WARM_UP)
        gc.collect()
        before = _memory_from_now_on()
        heart = asyncio.create_task(beat())
        await asyncio.sleep(0.01)
        stalls[:] = busy[:] = [0.0]
        began = time.perf_counter()
        try:
            async with np6.events.stream(contact, newest_first=newest_first) as stream:
                async for batch in stream.batches():
                    count += len(batch)
                    if time.perf_counter() - began > seconds:
                        break
                    if pause:
                        await asyncio.sleep(pause)
        except NP6Error as caught:
            error = type(caught).__name__
        elapsed = time.perf_counter() - began
        await asyncio.sleep(0.01)
        heart.cancel()
        growth = _memory("VmHWM") - before
    return Measured(error, count, elapsed, max(stalls), max(busy), growth)


if __name__ == "__main__":
    from attrs import asdict

    print(json.dumps(asdict(asyncio.run(_client(**json.loads(sys.argv[1]))))))
