"""The client that a command line asks for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from .. import ConfigError, Hook, NP6Client, Timeout
from ._words import key_problem


def make_client(options: argparse.Namespace, *, concurrency: int = 1, hooks: Iterable[Hook] = ()) -> NP6Client:
    """A client with the key of the environment, and --base-url and --timeout of the command line.

    Raises `ConfigError` that says what is wrong with the key; a bad --base-url ends as the parser's own errors do.
    """
    timeout = Timeout()
    if options.timeout is not None:
        timeout = Timeout(read=options.timeout, connect=min(options.timeout, timeout.connect))
    try:
        return NP6Client(base_url=options.base_url, concurrency=concurrency, timeout=timeout, hooks=hooks)
    except ConfigError as error:
        problem = str(error)
    if problem.startswith("base_url"):
        options.usage_error(f"--base-url {problem.removeprefix('base_url ')}")
    raise ConfigError(key_problem(os.environ) or problem)
