"""Other processes that fetch, and the rate limit that processes share, as the options ask for them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit

from .. import ConfigError
from ..export import Executor

if TYPE_CHECKING:
    from ..integrations.redis import SharedLimit

SHARED_LIMIT: Final = "NP6_SHARED_LIMIT"
_CONNECT: Final = 10.0  # seconds


def executor_of(options: argparse.Namespace, refuse: Callable[[str], NoReturn]) -> Executor | None:
    """The workers of ``--workers`` or ``--scheduler``; None: this process fetches."""
    workers: int | None = options.workers
    scheduler: str | None = options.scheduler
    if workers is None and scheduler is None:
        return None
    if workers is not None and scheduler is not None:
        refuse("--workers starts processes on this machine, and --scheduler uses those of a cluster: give one of them")
    if options.account or options.action:
        refuse("--workers and --scheduler are for contacts: the events of actions are one response, for one process")
    name = "scheduler" if workers is None else "workers"
    try:
        from ..integrations.dask import LocalWorkers, RemoteWorkers

        return RemoteWorkers(scheduler or "", timeout=_CONNECT) if workers is None else LocalWorkers(workers)
    except ConfigError as error:
        refuse(f"--{name}: {error}")


def limit_of(options: argparse.Namespace, refuse: Callable[[str], NoReturn]) -> SharedLimit | None:
    """That of ``--shared-limit``; None: this process finds the rate limit by itself."""
    given: str | None = options.shared_limit
    url = given or os.environ.get(SHARED_LIMIT)
    if not url:
        if options.limit_share is not None:
            refuse("--limit-share says what happens while Redis is away: it goes with --shared-limit")
        return None
    if given is not None and _password_in(given):
        refuse(
            "--shared-limit: other users of the machine can read a password on a command line, and shells keep it; set "
            f"{SHARED_LIMIT} to the URL instead"
        )
    try:
        from ..integrations.redis import SharedLimit

        return SharedLimit(url, share=options.limit_share)
    except ConfigError as error:
        refuse(f"{'--shared-limit' if given else SHARED_LIMIT}: {error}")


def _password_in(url: str) -> bool:
    try:
        return urlsplit(url).password is not None
    except ValueError:
        return "@" in url
