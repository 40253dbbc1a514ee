"""The table of operations, made of the description of NP6's API.

python docs/operations_reference.py > docs/operations.md
"""

from __future__ import annotations

import sys
from typing import Any

from np6_async.testing import openapi

HEAD = """\
# The operations of NP6's API

The paths of NP6's API that this SDK calls, and how far each is known.
The page is made of [the description](testing.md#a-description-of-the-api)
that ships with `np6_async.testing`.

- **documented**: NP6's reference (8.1.0) has it.
- **inferred**: it follows from a documented sister operation.
  Where NP6 does not have it, it answers 404.
- *experimental* and *deprecated* are NP6's own marks.

Each call stands for its sisters: `stream` also for `list`, `pages`, `stream_many`
and what is built on them, such as `Sync` and `Export`.
"""
DESCRIBED = openapi()
PARAMETERS = DESCRIBED["components"]["parameters"]


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(section, DESCRIBED["tags"])])


def section(tag: dict[str, str]) -> str:
    """The operations of one tag, as a table."""
    name, text = tag["name"], tag["description"].replace(". ", ".\n")
    rows = [
        row(f"{method.upper()} {path}", operation)
        for path, methods in DESCRIBED["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] == [name]
    ]
    head = ["| operation | parameters | status | call |", "|---|---|---|---|"]
    title = f"## {name[0].upper()}{name[1:]}"
    return "\n".join([title, "", text, "", *head, *rows, ""])


def row(title: str, operation: dict[str, Any]) -> str:
    call = operation["x-np6-call"]
    cells = f"`{title}` | {parameters(operation)} | {status(operation)} | `{call}`"
    return f"| {cells} |"


def parameters(operation: dict[str, Any]) -> str:
    """Those of the query; of some exactly one is needed."""
    one_of = operation.get("x-np6-exactly-one-of", [])
    names = [each["$ref"].rpartition("/")[2] for each in operation["parameters"]]
    query = [name for name in names if PARAMETERS[name]["in"] == "query"]
    others = [name for name in query if name not in one_of]
    parts = [f"one of {listed(one_of)}"] if one_of else []
    return "; ".join(filter(None, [*parts, listed(others)]))


def listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def status(operation: dict[str, Any]) -> str:
    """How far it is known; by which parameter, where that matters; and NP6's marks."""
    ways = operation.get("x-np6-addressing", {})
    known = [way for way, how in ways.items() if how == "documented"]
    parts = [operation["x-np6-status"]]
    if known and len(known) < len(ways):
        parts = [f"documented with {listed(known)}, else inferred"]
    parts += ["*experimental*"] * operation.get("x-np6-experimental", False)
    parts += ["*deprecated*"] * operation.get("deprecated", False)
    return ", ".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
