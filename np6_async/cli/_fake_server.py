"""`np6 fake-server`: the fake NP6 server of the tests, standing, for work on a program that has no account yet."""

from __future__ import annotations

import argparse
import asyncio
import errno
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from ..testing import FakeNP6, RateLimit
from ._exit import Interrupts, run_until_signal
from ._messages import count, printable

_NAMED: Final = 3  # contacts


class FakeServerCommand:
    """One run of `np6 fake-server`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.server = FakeNP6(
            options.contacts,
            options.events,
            seed=options.seed,
            now=datetime.now(UTC),  # so that the last days have events
            latency=options.latency,
            rate_limit=RateLimit(limit=options.rate_limit) if options.rate_limit else None,
            port=options.port,
        )
        if options.verbose:
            self.server.on_request = lambda request: self._say(printable(request))
        if options.faults:
            self.server.fault_rate(options.faults)

    def run(self) -> int:
        """Serve until a signal comes; returns the exit code."""
        return run_until_signal(self._run)

    async def _run(self, interrupts: Interrupts) -> int:
        server = self.server
        for_ever: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            async with server:
                self._introduce(server)
                return await for_ever
        except asyncio.CancelledError:
            if interrupts.code is None:
                raise
            self._say(f"{interrupts.cause} after {count(server.request_count, 'request')}")
            return interrupts.code
        except BrokenPipeError:
            raise
        except OSError as error:
            self._options.usage_error(_not_listening(self._options.port, error))
            raise

    def _introduce(self, server: FakeNP6) -> None:
        """The variables alone go to standard output, so that they can be pasted, or sourced from a file."""
        print(f"export NP6_BASE_URL={server.url}")
        print(f"export NP6_API_KEY={server.api_key}", flush=True)
        ids = server.contact_ids
        named = ", ".join(ids[: min(_NAMED, len(ids))])
        self._say(f"{count(len(ids), 'contact')} ({named}{', ...' if len(ids) > _NAMED else ''}) at {server.url}")
        self._say(f"paste the two lines above into another shell, and try: np6 events {ids[0]}")
        self._say("Ctrl-C ends it")

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # nobody reads standard error
            print(f"np6 fake-server: {text}", file=sys.stderr, flush=True)


def _not_listening(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port} is in use: choose another, or 0 for any that is free"
    return f"--port {port}: {error.strerror}"
