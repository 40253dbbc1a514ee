"""Validators of settings; what they refuse is a `ConfigError` that names the field."""

from __future__ import annotations

import math
from typing import Any

import attrs

from ._errors import ConfigError


def not_negative(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A finite number from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{type(instance).__name__}.{attribute.name} must be a number from 0, not {value!r}")


def count(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{type(instance).__name__}.{attribute.name} must be a whole number from 1, not {value!r}")
