"""What this machine runs out of: file descriptors, ports, memory for sockets.

None of it is the server's fault, and no reason to fail a contact. A request that meets such a limit waits and connects
again, which spends neither an attempt nor the retry budget nor one of the timeouts for the server, and the client keeps
fewer requests in flight from then on.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections import deque
from typing import Final

import aiohttp

from .lifetime import Lifetime
from .observations import logger
from .response import Response

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# With their numbers on Windows, where sockets have their own.
_NUMBERS: Final = {
    number: name
    for name in ("EMFILE", "ENFILE", "EADDRNOTAVAIL", "ENOBUFS")
    for prefix in ("", "WSA")
    if (number := getattr(errno, prefix + name, None)) is not None
}
# Seconds before the first of several tries to connect, doubled with each up to the longest.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
# So many fewer than there were are in flight afterwards: the rest of the program needs some descriptors.
_RESERVE: Final = 8
# Seconds without a shortage after which twice as many may be in flight.
_RECOVERY: Final = 60.0
# With fewer descriptors than this, neither names nor certificates are found.
_FEW: Final = 4


def shortage_of(error: BaseException) -> str | None:
    """What ran out, as `errno` names it, where that is why there is no connection."""
    if not isinstance(error, OSError):
        return None
    if name := _NUMBERS.get(error.errno or 0):
        return name
    # What could not open a file or a socket by itself does not say so: it found no name, or no certificate.
    vague = isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.ClientConnectorCertificateError)
    vague = vague or (isinstance(error, aiohttp.ClientConnectorError) and (error.errno or -1) < 0)
    return "EMFILE" if vague and _few_left() else None


def _few_left() -> bool:
    opened: list[int] = []
    try:
        for _ in range(_FEW):
            opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - those before the one that fails
    except OSError as error:
        return error.errno in _NUMBERS
    finally:
        for each in opened:
            os.close(each)
    return False


def describe(name: str) -> str:
    """The limit that was met, in words."""
    match name:
        case "EMFILE" if resource is not None:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"this process may open {most} files and sockets (ulimit -n), and has"
        case "EMFILE":
            return "this process may open no more files and sockets"
        case "ENFILE":
            return "this machine may open no more files and sockets (fs.file-max)"
        case "EADDRNOTAVAIL":
            return "this machine has no free port or address for a connection (net.ipv4.ip_local_port_range)"
        case _:
            return "this machine has no memory for another socket"


class Shortage:
    """How many requests of a client may be in flight, once a limit of this machine was met; before, as many as wanted.

    A request is counted in `starting` until its response begins, and is then in `live`: by itself, or by `enter` where
    there is a limit. `served` counts what begins and what ends of these responses: where that stands still for
    `patience` seconds, waiting longer is no use.
    """

    def __init__(self, patience: float, lifetime: Lifetime, live: set[Response]) -> None:
        self._patience = patience
        self._lifetime = lifetime
        self._live = live
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._raise_at = 0.0
        self.most: int | None = None
        self.starting = 0
        self.served = 0

    def met(self, name: str) -> int:
        """A request met the limit `name`; returns how many fewer may be in flight than there are."""
        if self.most is None:
            logger.warning(
                "%s: fewer requests are in flight from now on; raise the limit, or lower concurrency", describe(name)
            )
            for response in self._live:
                response.on_close = self.closed
        now = self.starting + len(self._live)
        most = max(1, now - min(_RESERVE, now // 2))
        self.most = min(self.most or most, most)
        self._raise_at = asyncio.get_running_loop().time() + _RECOVERY
        return now - self.most

    async def enter(self) -> None:
        """Wait until another request may be in flight, first come, first served. It then counts as `starting`."""
        assert self.most is not None
        now = asyncio.get_running_loop().time()
        if now >= self._raise_at:
            self.most *= 2
            self._raise_at = now + _RECOVERY
            self.wake()
        if not self._waiting and self.starting + len(self._live) < self.most:
            self.starting += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        served = -1
        try:
            with self._lifetime.suspended():
                while not turn.done() and served != self.served:
                    served = self.served
                    await asyncio.wait([turn], timeout=self._patience)
        except BaseException:
            if turn.done():
                self.starting -= 1
                self.wake()
            else:
                self._waiting.remove(turn)
            raise
        if not turn.done():  # nothing comes free, perhaps because of streams that nobody reads: try it
            self._waiting.remove(turn)
            self.starting += 1

    def closed(self) -> None:
        """A response was closed."""
        self.served += 1
        self.wake()

    def wake(self) -> None:
        """Let those that wait start, as far as there is room."""
        while self._waiting and self.most is not None and self.starting + len(self._live) < self.most:
            self.starting += 1
            self._waiting.popleft().set_result(None)

    def patience(self) -> Patience:
        """For a request that met a limit."""
        return Patience(self, self._patience, self._lifetime)


class Patience:
    """Of one request, with a machine that lacks something."""

    def __init__(self, shortage: Shortage, seconds: float, lifetime: Lifetime) -> None:
        self._shortage = shortage
        self._seconds = seconds
        self._lifetime = lifetime
        self._served = -1
        self._since = 0.0
        self._pause = _FIRST_PAUSE

    async def wait(self) -> bool:
        """Wait before the next try; False where there is no hope."""
        now = asyncio.get_running_loop().time()
        if self._served != self._shortage.served:
            self._served, self._since = self._shortage.served, now
        elif now - self._since >= self._seconds:
            return False
        with self._lifetime.suspended():
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True
