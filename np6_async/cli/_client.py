"""The client that a command line asks for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

from .. import ConfigError, Hook, NP6Client, Timeout
from ._messages import key_problem
from ._verbose import Verbose


def make_client(
    options: argparse.Namespace,
    *,
    concurrency: int = 1,
    hooks: Iterable[Hook] = (),
    say: Callable[[str], None] | None = None,
) -> NP6Client:
    """A client with the key of the environment, and --base-url and --timeout of the command line.

    With `say`, -v of the command line is heeded.

    Raises `ConfigError` that says what is wrong with the key; a bad --base-url ends as the parser's own errors do.
    """
    if say is not None and options.verbose:
        hooks = [*hooks, Verbose(say, requests=options.verbose > 1)]
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
