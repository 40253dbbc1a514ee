"""What the tests of an example need: without it they are skipped, except in CI."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest


def needs(*modules: str, command: str | None = None) -> None:
    """Skip the calling module unless everything is installed; raise RuntimeError if the variable CI is "true"."""
    missing = [module for module in modules if find_spec(module) is None]
    if command is not None and shutil.which(command) is None:
        missing.append(command)
    if not missing:
        return
    reason = f"needs {', '.join(missing)}: pip install -e '.[examples]'"
    if command in missing:
        reason += f", and the system's package of {command}"
    if os.environ.get("CI") == "true":
        raise RuntimeError(reason)
    pytest.skip(reason, allow_module_level=True)
