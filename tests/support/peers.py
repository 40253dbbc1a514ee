"""What stands between a client and a server: real proxies, and a TCP proxy that treats connections badly."""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import pytest

from np6_async import Event
from np6_async.testing import FakeNP6

LOOPBACK = "127.0.0.1"
_NO_LINGER = struct.pack("ii", 1, 0)


# -- what was delivered ------------------------------------------------------------------------


class Delivery(NamedTuple):
    """How events differ from what the server holds: all 0 is exactly once, in order."""

    lost: int = 0
    duplicated: int = 0
    foreign: int = 0
    disordered: int = 0

    def __str__(self) -> str:
        return "/".join(map(str, self))


def compare(server: FakeNP6, received: Mapping[str, Sequence[Event]]) -> Delivery:
    """Compare what came for each contact with the server's own account of it."""
    lost = duplicated = foreign = disordered = 0
    for contact, events in received.items():
        truth = {event["id"] for event in server.events(contact)}
        times = Counter(event.id for event in events)
        lost += len(truth - times.keys())
        foreign += len(times.keys() - truth)
        duplicated += sum(count - 1 for count in times.values())
        stamps = [event.timestamp for event in events]
        disordered += sum(later < earlier for earlier, later in pairwise(stamps))
    return Delivery(lost, duplicated, foreign, disordered)


async def until(condition: Callable[[], bool], seconds: float = 2.0) -> bool:
    """Whether `condition` comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


# -- nginx -------------------------------------------------------------------------------------


def find_nginx() -> str | None:
    """The nginx binary, also where it is not in an ordinary user's path."""
    return _which("nginx")


def free_port() -> int:
    """A free port on loopback which nobody is given who asks for any port: it stays free while it is not used."""
    candidates = random.Random()
    for _ in range(100):
        port = candidates.randrange(20_000, 30_000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port on loopback")


class Nginx:
    """An nginx that runs."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self._process = process
        self._directory = directory

    def statuses(self) -> Counter[int]:
        """How many requests were answered with each status."""
        return Counter(int(line[0]) for line in self._log())

    def connections(self) -> int:
        """How many connections had a request."""
        return sum(line[1] == "1" for line in self._log())

    def compressed(self) -> int:
        """How many responses were compressed."""
        return sum(line[2] != "-" for line in self._log())

    async def seen(self, requests: int) -> bool:
        """Whether the log holds exactly so many requests. A line comes a moment after the end of its response."""
        await until(lambda: len(self._log()) >= requests)
        return len(self._log()) == requests

    def _log(self) -> list[list[str]]:
        return [line.split() for line in (self._directory / "access.log").read_text().splitlines()]

    def errors(self, text: str) -> int:
        """How many lines of the error log, which begins at "info", hold `text`."""
        return sum(text in line for line in (self._directory / "error.log").read_text().splitlines())

    def reload(self) -> None:
        """Read the configuration again: new workers begin, the old ones finish what they are at."""
        self._process.send_signal(signal.SIGHUP)


@contextmanager
def run_nginx(
    directory: Path, *upstreams: str, http: str = "", location: str = "", listen: str = ""
) -> Iterator[Nginx]:
    """An nginx in front of `upstreams` (URLs), in the foreground, with all its files in `directory`.

    `http` and `location` are directives for these blocks, `listen` further parameters of that directive. It is
    gone at the end, with its workers. Skips the test where there is no nginx.
    """
    binary = find_nginx()
    if binary is None:
        pytest.skip("no nginx here: install it (apt-get install nginx-light) to run this test")
    port = free_port()
    temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("fastcgi", "proxy", "scgi", "uwsgi"))
    servers = " ".join(f"server {urlsplit(upstream).netloc};" for upstream in upstreams)
    config = directory / "nginx.conf"
    config.write_text(f"""
        daemon off;
        {"user root;" if os.geteuid() == 0 else ""}
        worker_processes 1;
        pid {directory}/nginx.pid;
        error_log {directory}/error.log info;
        events {{ worker_connections 512; }}
        http {{
            log_format short '$status $connection_requests $gzip_ratio $request_uri';
            access_log {directory}/access.log short;
            client_body_temp_path {directory}/body;
            {temporary}
            upstream fake {{ {servers} keepalive 32; }}
            {http}
            server {{
                listen {LOOPBACK}:{port} {listen};
                location / {{
                    proxy_pass http://fake;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_next_upstream off;
                    {location}
                }}
            }}
        }}
        """)
    command = [binary, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]
    with _running(command, directory, port) as process:
        yield Nginx(process, directory, port)


@contextmanager
def run_haproxy(directory: Path, upstream: str, *, frontend: str = "") -> Iterator[str]:
    """A haproxy in front of `upstream` (a URL); its own URL. `frontend` is further lines of that section.

    Skips the test where there is no haproxy.
    """
    binary = _find("haproxy")
    port = free_port()
    config = directory / "haproxy.cfg"
    config.write_text(f"""
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind {LOOPBACK}:{port}
    {frontend}
    default_backend back
backend back
    server one {urlsplit(upstream).netloc}
""")
    with _running([binary, "-db", "-f", str(config)], directory, port):
        yield f"http://{LOOPBACK}:{port}"


@contextmanager
def run_squid(directory: Path, hosts: Mapping[str, str], *, user: str, password: str) -> Iterator[str]:
    """A squid that wants this password, and knows these hosts; its own URL without it. Skips the test without squid."""
    binary = _find("squid")
    port = free_port()
    directory.chmod(0o755)  # squid and its helper run as somebody else
    passwords, known, config = directory / "passwords", directory / "hosts", directory / "squid.conf"
    hashed = subprocess.run([_find("openssl"), "passwd", "-apr1", password], capture_output=True, text=True, check=True)
    passwords.write_text(f"{user}:{hashed.stdout}")
    known.write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
    config.write_text(f"""
http_port {LOOPBACK}:{port}
hosts_file {known}
auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
cache_log stdio:/dev/null
access_log none
pid_filename none
coredump_dir {directory}
shutdown_lifetime 0 seconds
""")
    with _running([binary, "-N", "-f", str(config)], directory, port):
        yield f"http://{LOOPBACK}:{port}"


@contextmanager
def run_tinyproxy(directory: Path) -> Iterator[str]:
    """A tinyproxy that lets everybody through; its own URL. Skips the test where there is no tinyproxy."""
    binary = _find("tinyproxy")
    port = free_port()
    config = directory / "tinyproxy.conf"
    config.write_text(f"Port {port}\nListen {LOOPBACK}\nTimeout 60\nAllow {LOOPBACK}\nLogLevel Warning\n")
    with _running([binary, "-d", "-c", str(config)], directory, port):
        yield f"http://{LOOPBACK}:{port}"


def _which(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


def _find(program: str) -> str:
    binary = _which(program)
    if binary is None:
        pytest.skip(f"no {program} here: install it (apt-get install {program}) to run this test")
    return binary


@contextmanager
def _running(command: Sequence[str], directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    if setpriv := shutil.which("setpriv"):  # it ends also where this process is killed
        command = [setpriv, "--pdeathsig", "TERM", *command]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        _await_listening(process, directory, port)
        yield process
    finally:
        _end(process)


def _await_listening(process: subprocess.Popen[bytes], directory: Path, port: int) -> None:
    end = time.monotonic() + 10
    while True:
        with socket.socket() as sock:
            if sock.connect_ex((LOOPBACK, port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"it did not start: {(directory / 'output').read_text()}")
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the master, which ends its workers; or all of them, if it takes too long."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# -- the TCP proxy -----------------------------------------------------------------------------


class TCPProxy:
    """Between clients and a server on loopback; forwards bytes and, if asked to, badly.

    - `latency`: every piece arrives so many seconds late, in each direction;
    - `slices`: pieces are written in slices of so many bytes (least, most);
    - `lifetime`: draws after how many bytes of responses a connection comes to its `ending`: "reset" (RST), or
      "dark", where it stays open, swallows whatever comes and never says a word again.

    What happens to the n-th connection follows from `seed` and n.
    """

    def __init__(
        self,
        target: str,
        *,
        seed: int = 0,
        latency: float = 0.0,
        slices: tuple[int, int] | None = None,
        lifetime: Callable[[random.Random], float] | None = None,
        ending: Literal["reset", "dark"] = "reset",
    ) -> None:
        self._target = urlsplit(target)
        self._seed = seed
        self._latency = latency
        self._slices = slices
        self._lifetime = lifetime
        self._ending = ending
        self._connections: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.ended = 0
        """Connections that came to their ending."""
        self.pieces = 0
        """Writes, in both directions."""

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, backlog=512)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{self._target.scheme}://{LOOPBACK}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        await asyncio.sleep(0)  # a connection accepted in this very moment shows one turn later
        await _cancel(self._connections)
        await self._server.wait_closed()
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rng = random.Random(f"{self._seed}/{self.accepted}")
        self.accepted += 1
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer, rng))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random) -> None:
        life = math.inf if self._lifetime is None else math.floor(self._lifetime(rng))
        relays: list[asyncio.Task[None]] = []
        upstream: asyncio.StreamWriter | None = None
        try:
            responses, upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
            for sock in (writer.get_extra_info("socket"), upstream.get_extra_info("socket")):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            relays = [
                asyncio.create_task(self._relay(reader, upstream, rng, math.inf)),
                asyncio.create_task(self._relay(responses, writer, rng, life)),
            ]
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        except OSError:  # the server is gone: so are we
            pass
        finally:
            await _cancel(relays)
            writer.close()  # what was written goes out first
            if upstream is not None:
                upstream.close()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random, life: float
    ) -> None:
        """Forward until either side is closed, or `life` bytes were."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        receiving = asyncio.create_task(self._receive(reader, pieces))
        try:
            while life > 0:
                due, data = await pieces.get()
                if not data:
                    return
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                for piece in self._cut(data[: int(min(life, len(data)))], rng):
                    writer.write(piece)
                    await writer.drain()
                    if self._slices:
                        await asyncio.sleep(0)  # the other side gets to see this piece alone
                    self.pieces += 1
                    life -= len(piece)
            self.ended += 1
            if self._ending == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()
                return
            while (await pieces.get())[1]:
                pass
            await asyncio.get_running_loop().create_future()  # for ever: until the client closes
        except OSError:
            pass
        finally:
            await _cancel([receiving])

    async def _receive(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"more"
        while data:
            try:
                data = await reader.read(65_536)
            except OSError:
                data = b""
            await pieces.put((time.monotonic() + self._latency, data))

    def _cut(self, data: bytes, rng: random.Random) -> Iterator[bytes]:
        if self._slices is None:
            yield data
            return
        position = 0
        while position < len(data):
            size = rng.randint(*self._slices)
            yield data[position : position + size]
            position += size


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait for them."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
