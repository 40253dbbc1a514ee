"""Checks of settings and arguments; what they refuse is an error that names the field."""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

from ._errors import ConfigError, InvalidInput

_MAX_CONCURRENCY: Final = 1_000


def not_negative(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A finite number from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{type(instance).__name__}.{attribute.name} must be a number from 0, not {value!r}")


def count(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{type(instance).__name__}.{attribute.name} must be a whole number from 1, not {value!r}")


def check_concurrency(value: int, error: type[ConfigError] | type[InvalidInput]) -> int:
    """A number of requests that may be in flight; else `error`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_CONCURRENCY:
        raise error(f"concurrency must be a whole number from 1 to {_MAX_CONCURRENCY}, not {value!r}")
    return value
