"""`python -m examples.timeline`: the pages, with NP6 if NP6_API_KEY is set and with a fake server otherwise."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from np6_async import ConfigError, Hook, NP6Client

from . import demo
from .app import create_app

_CONCURRENCY = 64  # timelines that may be read at the same time


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.timeline", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    parser.add_argument("--port", default=8080, type=int, help="default: 8080")
    options = parser.parse_args()
    if os.environ.keys() & {"NP6_API_KEY", "NP6_API_KEY_FILE"}:

        def connect(hooks: Sequence[Hook]) -> AbstractAsyncContextManager[NP6Client]:
            return NP6Client(hooks=hooks, concurrency=_CONCURRENCY)

        app = create_app(connect, {"demo": False})
    elif "NP6_BASE_URL" in os.environ:
        sys.exit("NP6_BASE_URL is set and NP6_API_KEY is not: set both to use NP6, or neither to see the demo")
    else:
        app = create_app(demo.connect, demo.ABOUT)
    try:
        web.run_app(
            app,
            host=options.host,
            port=options.port,
            handler_cancellation=True,
            access_log=None,  # it would contain the addresses of contacts
        )
    except ConfigError as error:
        sys.exit(f"{error}")
    except OSError as error:
        sys.exit(f"cannot listen on {options.host}, port {options.port}: {error.strerror}")


if __name__ == "__main__":
    main()
