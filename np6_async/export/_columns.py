"""The columns of a table of events, the same for CSV and Parquet, whatever the events.

Nothing is lost: what has no column, or is not of the type its column has, is in the last column, `rest`, as JSON.
Every cell is text that UTF-8 can hold, as all that `unstructure` returns.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from attrs import frozen

from .._models.convert import MAX_TIMESTAMP, dumps, text, whole_number
from .._models.events import Event, unstructure

Cell = str | int | None
Row = list[Cell]


@frozen
class Column:
    """A column. `path` leads to its value in the JSON of an event; the columns without one are filled in by `row`.

    A `time` is epoch milliseconds of the years 1970 to 9999. Every cell but `timestamp` may be None; `contact` is None
    only in events that were not fetched by contact, where they do not name theirs by its id.
    """

    name: str
    type: Literal["text", "time", "json"]
    path: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether no cell is None."""
        return self.name == "timestamp"


def _of_event(name: str, path: str, type: Literal["text", "time"] = "text") -> Column:
    return Column(name, type, tuple(path.split(".")))


def _of_detail(name: str, path: str, type: Literal["text", "time"] = "text") -> Column:
    return _of_event(name, f"source.detail.{path}", type)


COLUMNS: Final = (
    Column("contact", "text"),
    _of_event("id", "id"),
    _of_event("timestamp", "timestamp", "time"),
    _of_event("type", "type"),
    _of_event("identity_type", "identity.type"),
    _of_event("identity_agency", "identity.agency"),
    _of_event("identity_customer", "identity.customer"),
    _of_event("channel", "source.type"),
    _of_detail("activation_id", "activation.id"),
    _of_detail("activation_kind", "activation.kind"),
    _of_detail("activation_time", "activation.stamp.time", "time"),
    _of_detail("activation_stamp", "activation.stamp.id"),
    _of_detail("activation_thread", "activation.stamp.thread"),
    _of_detail("activation_recipient", "activation.recipient"),
    _of_detail("execution_id", "execution.id"),
    _of_detail("execution_kind", "execution.kind"),
    _of_detail("execution_time", "execution.stamp.time", "time"),
    _of_detail("execution_stamp", "execution.stamp.id"),
    _of_detail("execution_thread", "execution.stamp.thread"),
    _of_detail("bounce_type", "bounce.status.type"),
    _of_detail("bounce_code", "bounce.status.code.enhanced"),
    _of_detail("bounce_diagnostic", "bounce.status.diagnostic"),
    _of_detail("bounce_mta", "bounce.status.mta"),
    _of_detail("bounce_verdict", "bounce.analysis.verdict"),
    _of_detail("bounce_subject", "bounce.analysis.subject.type"),
    _of_detail("link_type", "link.type"),
    _of_detail("cancellation_type", "cancellation.type"),
    _of_detail("cancellation_reason", "cancellation.value.type"),
    _of_detail("cancellation_message", "cancellation.value.message"),
    Column("rest", "json"),
)


@frozen
class _Branch:
    """Where the JSON of an event is looked into: the columns found here, and the objects further down."""

    leaves: tuple[tuple[str, int, bool], ...]  # member, index of the column, whether it is a time
    branches: tuple[tuple[str, _Branch], ...]


def _grow(depth: int, columns: list[tuple[int, Column]]) -> _Branch:
    leaves = tuple((c.path[depth], i, c.type == "time") for i, c in columns if len(c.path) == depth + 1)
    deeper: dict[str, list[tuple[int, Column]]] = {}
    for i, column in columns:
        if len(column.path) > depth + 1:
            deeper.setdefault(column.path[depth], []).append((i, column))
    return _Branch(leaves, tuple((name, _grow(depth + 1, below)) for name, below in deeper.items()))


_TREE: Final = _grow(0, [(i, column) for i, column in enumerate(COLUMNS) if column.path])


def row(contact: str | None, event: Event) -> Row:
    """The cells of one event, in the order of `COLUMNS`. Raises `LimitExceeded` where it is nested too deeply."""
    cells: Row = [None] * len(COLUMNS)
    cells[0] = contact
    data = unstructure(event)
    _take(data, _TREE, cells)
    if data:
        cells[-1] = dumps(data).decode()
    return cells


def _take(node: dict[str, Any], branch: _Branch, cells: Row) -> None:
    """Fill in the cells, and take out of `node` what is in a cell exactly."""
    for name, index, is_time in branch.leaves:
        value = node.get(name)
        if value is None:
            continue
        cell = _time(value) if is_time else text(value)
        cells[index] = cell
        if type(cell) is type(value) and cell == value:
            del node[name]
    for name, below in branch.branches:
        inner = node.get(name)
        if isinstance(inner, dict) and inner:
            _take(inner, below, cells)
            if not inner:
                del node[name]


def _time(value: Any) -> int | None:
    number = whole_number(value)
    return number if number is not None and 0 <= number <= MAX_TIMESTAMP else None
