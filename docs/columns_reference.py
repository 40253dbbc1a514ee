"""The page of the columns, made of the table in the code.

python docs/columns_reference.py > docs/columns.md
"""

# ruff: noqa: E501 - a sentence of the page is a line

from __future__ import annotations

import sys

from np6_async.export import COLUMNS, COLUMNS_VERSION, Column
from np6_async.integrations.arrow import SCHEMA

HEAD = f"""\
# Columns

CSV files, Parquet files and Arrow tables have the same {len(COLUMNS)} columns in the same order, whatever the events: those of one contact or of the account, of one kind or of all.
NDJSON has no columns: its lines hold each event as NP6 sent it.

In Python the table is `np6_async.export.COLUMNS`, and as a schema `np6_async.integrations.arrow.SCHEMA`.

This is version {COLUMNS_VERSION} of the columns.
"""

TAIL = """\
## Types

A `string` is text in UTF-8.
Where NP6 sends a number in place of a text, the cell has its digits; an id stays text, with the zeros in front.
A `timestamp[ms, tz=UTC]` is a time in UTC with milliseconds; in CSV it is ISO 8601, such as `2026-01-31T08:15:00.000Z`.
A cell of `execution_data` or `rest` is the text of a JSON object.
In CSV a null is an empty cell, and so is an empty text.

## The contact and the receiver

`contact` is what the events were asked for by: an id, or the unicity or hash of a contact that was given as such.
Where they were asked for by account, action or campaign, it is the id of the receiver.
A row that belongs to a contact can so be found by `contact` in every file of one export.

The receiver is the contact as the event itself names it: `source.detail.activation.receiver`, or `source.detail.execution.recipient` where the first is missing.
NP6 writes it in several ways, and `receiver_type` says which one it was:

| the receiver in JSON | type | id | unicity | hash |
|---|---|---|---|---|
| `{"type":"id","value":"000MLGPR"}` | `id` | `000MLGPR` | | |
| `{"type":"footprint","id":"000MLGPR","unicity":"a@b.c","hash":"0f…"}` | `footprint` | `000MLGPR` | `a@b.c` | `0f…` |
| `{"type":"unicity","value":["a@b.c"]}` | `unicity` | | `a@b.c` | |
| `{"type":"hash","value":"0f…"}` | `hash` | | | `0f…` |
| `{"type":"contact","value":{"type":"id","value":"000MLGPR"}}` | `contact` | `000MLGPR` | | |

A unicity may be a text or a list of one text, and gives the same cell.
One that is a list of several has no cell, and stays in `rest`.

## `rest`

Nothing is lost: `rest` has the members that have no column, and those that are not of the type of their column.
So an `id` that came as the number `7` is `7` as text in its column, and the number in `rest` as `{"id":7}`.
The members of a link but its type are there, and so is whatever NP6 adds tomorrow.
They are nested as in the event, without white space; JSON readers and `json_extract` of SQL get at them.

## What may change

The columns are [API](policy.md): their names, their order, their types and what they mean.
A new column comes before `rest`, with a minor release; what was in `rest` before is then in the column.
So select columns by their names, and take `rest` for what is left.
Any other change gives the columns another version.

A folder that is filled over years, by a sync or an export that is resumed, has files of several releases, and the earlier ones lack what was added later.
Read by name, a missing column is null: `read_parquet('events/**', union_by_name = true)` in DuckDB, `pl.concat(map(pl.scan_parquet, files), how="diagonal")` in polars, `pyarrow.dataset.dataset(folder, schema=SCHEMA)` in pyarrow, `mergeSchema` in Spark.
`bounce_meaning` can be computed from `bounce_code`, so nothing has to be fetched again for it.
The words of `bounce_meaning` are for people and may get better with any release: compare `bounce_code`.

The version is `np6_async.export.COLUMNS_VERSION`, and the text `np6_async.columns` in the metadata of an Arrow schema and of a Parquet file:

```python
import io

import pyarrow.parquet as pq

from np6_async.export import COLUMNS_VERSION, make_writer

file = io.BytesIO()
make_writer("parquet", file).close()
version = pq.read_schema(file).metadata[b"np6_async.columns"]
assert int(version) == COLUMNS_VERSION
```

## Personal data

The last column of the table says what a cell tells of a person.
*whole*: the cell names a person, by an address, a number or a hash.
*inside*: it is text or JSON in which an address may stand.
*no*: it is an id, a time or a word of NP6.
[How to keep personal data out of files](how-to/personal-data.md) says how each is replaced or left out.
"""


def page() -> str:
    """The whole page."""
    head = [
        "| column | Arrow type | from | null when | personal |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([HEAD, *head, *map(row, COLUMNS), "", TAIL])


def row(column: Column) -> str:
    member = f"`{column.member}`" if column.path else column.member
    cells = [
        f"`{column.name}`",
        f"`{SCHEMA.field(column.name).type}`",
        member,
        column.empty or "never",
        column.personal or "no",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
