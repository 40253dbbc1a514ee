"""The cells of one event, of whatever shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from attrs import frozen

from .._models.convert import MAX_TIMESTAMP, dumps, text, whole_number
from .._models.events import Event, unstructure
from .._models.mail_status import meaning
from .schema import COLUMNS, INDEX, Cell, Column, Row

# The first of these that an event has fills the columns of the receiver.
_RECEIVERS: Final[dict[tuple[str, ...], str]] = {
    ("source", "detail", "activation"): "receiver",
    ("source", "detail", "execution"): "recipient",
}
_FIRST: Final = INDEX["receiver_type"]
_AFTER: Final = INDEX["receiver_hash"] + 1
_CODE: Final = INDEX["bounce_code"]
_MEANING: Final = INDEX["bounce_meaning"]


@frozen
class _Branch:
    """Where the JSON of an event is looked into: the columns found here, and the objects further down."""

    leaves: tuple[tuple[str, int, str], ...]  # member, index of the column, type of the column
    branches: tuple[tuple[str, _Branch], ...]
    receiver: str | None  # a member that names a contact


def _grow(path: tuple[str, ...], columns: Iterable[tuple[int, Column]]) -> _Branch:
    depth = len(path)
    leaves: list[tuple[str, int, str]] = []
    deeper: dict[str, list[tuple[int, Column]]] = {}
    for i, column in columns:
        if len(column.path) == depth + 1:
            leaves.append((column.path[depth], i, column.type))
        else:
            deeper.setdefault(column.path[depth], []).append((i, column))
    branches = tuple((name, _grow((*path, name), below)) for name, below in deeper.items())
    return _Branch(tuple(leaves), branches, _RECEIVERS.get(path))


_TREE: Final = _grow((), [(i, column) for i, column in enumerate(COLUMNS) if column.path])


def row(contact: str | None, event: Event) -> Row:
    """The cells of one event, in the order of `COLUMNS`. Raises `LimitExceeded` where it is nested too deeply."""
    cells: Row = [None] * len(COLUMNS)
    cells[0] = contact
    data = unstructure(event)
    _take(data, _TREE, cells)
    code = cells[_CODE]
    if isinstance(code, str):
        cells[_MEANING] = meaning(code)
    if data:
        cells[-1] = dumps(data).decode()
    return cells


def _take(node: dict[str, Any], branch: _Branch, cells: Row) -> None:
    """Fill in the cells, and take out of `node` what is in a cell exactly."""
    for name, index, type_ in branch.leaves:
        value = node.get(name)
        if value is None:
            continue
        if type_ == "json":
            if isinstance(value, dict):
                cells[index] = dumps(value).decode()
                del node[name]
            continue
        cell = _time(value) if type_ == "time" else text(value)
        cells[index] = cell
        if type(cell) is type(value) and cell == value:
            del node[name]
    if branch.receiver is not None:
        ref = node.get(branch.receiver)
        if isinstance(ref, dict) and all(cell is None for cell in cells[_FIRST:_AFTER]):
            cells[_FIRST:_AFTER] = found = _receiver(ref)
            if _plain(ref) == _documented(*found):
                del node[branch.receiver]
    for name, below in branch.branches:
        inner = node.get(name)
        if isinstance(inner, dict) and inner:
            _take(inner, below, cells)
            if not inner:
                del node[name]


def _time(value: Any) -> int | None:
    number = whole_number(value)
    return number if number is not None and 0 <= number <= MAX_TIMESTAMP else None


def _receiver(ref: dict[str, Any]) -> list[Cell]:
    """What the columns of the receiver hold: its notation, id, unicity and hash."""
    value = ref.get("value")
    inner = value if isinstance(value, dict) else ref
    kind = inner.get("type")
    names = ("id", "unicity", "hash")
    cells = [_one_text(inner.get("value")) if name == kind else _one_text(inner.get(name)) for name in names]
    return [text(ref.get("type")), *cells]


def _plain(ref: dict[str, Any]) -> dict[str, Any]:
    """`ref` with the one unicity of a list in place of the list: NP6 sends either."""
    plain = dict(ref)
    for name, value in ref.items():
        if isinstance(value, dict):
            plain[name] = _plain(value)
        elif (
            isinstance(value, list)
            and len(value) == 1
            and name == ("value" if ref.get("type") == "unicity" else "unicity")
        ):
            plain[name] = value[0]
    return plain


def _one_text(value: Any) -> str | None:
    """`value` as text; of a list, its only element. A compound unicity is no text."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return text(value)


def _documented(kind: Cell, id: Cell, unicity: Cell, hash: Cell) -> dict[str, Any] | None:
    """The receiver that has these cells in a documented notation: nothing of it is lost."""
    named = {name: cell for name, cell in (("id", id), ("unicity", unicity), ("hash", hash)) if cell is not None}
    if kind == "footprint":
        return {"type": kind, **named}
    if len(named) != 1:
        return None
    ((name, cell),) = named.items()
    inner = {"type": name, "value": cell}
    return {"type": kind, "value": inner} if kind == "contact" else inner if kind == name else None
