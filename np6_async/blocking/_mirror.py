"""What a method of a blocking client has of the method of the async client behind it: the signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def mirrors(original: Callable[..., Any]) -> Callable[[F], F]:
    """Show the parameters and the annotations of `original`: the classes here have the same names."""

    def mirror(method: F) -> F:
        method.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        return method

    return mirror


def mirrors_init(original: type, *, without: tuple[str, ...]) -> Callable[[F], F]:
    """`mirrors`, of a constructor, but for some of its parameters."""

    def mirror(method: F) -> F:
        signature = inspect.signature(original.__init__)  # type: ignore[misc]
        kept = [each for each in signature.parameters.values() if each.name not in without]
        method.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return method

    return mirror
