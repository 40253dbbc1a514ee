"""What can be reached from an object, for tests of what must not be."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import suppress


def members(value: object, depth: int = 6, seen: set[int] | None = None) -> Iterator[object]:
    """Everything that hangs on an object: `vars`, slots and containers."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    yield value
    if depth == 0 or isinstance(value, str | bytes | int | float | type | types.ModuleType | types.FunctionType):
        return
    inside: list[object] = []
    if isinstance(value, dict):
        inside += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inside += list(value)
    inside += list(getattr(value, "__dict__", {}).values())
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            with suppress(AttributeError):
                inside.append(getattr(value, slot))
    for each in inside:
        yield from members(each, depth - 1, seen)
