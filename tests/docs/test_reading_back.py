"""Every call of `docs/guide/reading-back.md` does with the files of an export what the page says.

The calls are taken from the page: those of its tables, each with a test below, and its programs, which keep everything.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from np6_async.export import Export, Format, make_writer
from np6_async.testing import FakeNP6

pytestmark = pytest.mark.slow

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.csv")
pytest.importorskip("pyarrow.json")
pq = pytest.importorskip("pyarrow.parquet")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
duckdb = pytest.importorskip("duckdb")
arrow = pytest.importorskip("np6_async.integrations.arrow")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guide/reading-back.md").read_text(encoding="utf-8")
FORMATS: tuple[Format, ...] = ("parquet", "ndjson", "csv")
NAMES = {"pd": pd, "pl": pl, "pyarrow": pa, "duckdb": duckdb, "csv": csv, "json": json}
THREAD = "550E8400-E29B-41D4-A716-446655440000"
DAY = "2026-01-01"

Events = dict[str, list[dict[str, Any]]]


def event(number: int, customer: str | None = "12", diagnostic: str | None = None, **more: Any) -> dict[str, Any]:
    detail: dict[str, Any] = {"activation": {"id": "000042", "stamp": {"thread": THREAD}}, **more}
    if diagnostic is not None:
        detail["bounce"] = {"status": {"diagnostic": diagnostic, "mta": DAY}}
    return {
        "id": f"{20_000_000 + number}",
        "timestamp": 1_770_000_000_000 + number,
        "type": "bounce",
        "identity": {"agency": "null"} | ({} if customer is None else {"customer": customer}),
        "source": {"type": "email", "detail": detail},
    }


ODD = [
    event(1, "028", ""),
    event(2, "NA", "NA"),
    event(3, "null", "first\r\nsecond"),
    event(4, "", 'a "quoted", text'),
    event(5, None, "line\u2028separator\x85s"),
    event(6, "007", "plain"),
    event(7, "1E5", "late", link={"type": "redirection", "id": "0012", "odd": {"member": 1}}),
]
PLAIN = {f"{10_000_000 + number}": [event(1000 * number + each) for each in range(1000)] for number in range(21)}
SETS: dict[str, Events] = {
    "odd": dict.fromkeys(("00000042", "0013E001", "12345678"), ODD),
    "parts": dict.fromkeys(("00000042", "0013E001", "12345678"), ODD),
    "late": PLAIN | {"0013E001": [event(0), *ODD]},
    "plain": {"10000042": [event(number) for number in range(10)]},
    "long": {"0013E001": [event(number, "028", "a line\r\n" * 60_000) for number in range(6)]},
}


class Folders(NamedTuple):
    """Folders of parts, by set; in each, ``parquet``, ``ndjson`` and ``csv``."""

    root: Path

    def write(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)

    def part(self, name: str, format: Format) -> Path:
        (part,) = (self.root / name / format).iterdir()
        return part


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("exports")
    asyncio.run(write(root))
    return Folders(root)


async def write(root: Path) -> None:
    for name, contacts in SETS.items():
        with FakeNP6(0) as server:
            for contact, events in contacts.items():
                server.set_raw(contact, json.dumps(events, ensure_ascii=False).encode())
            os.makedirs(root / name)
            async with server.client() as np6:
                for kind in FORMATS:
                    size = 1 if name == "parts" else 64 * 1024 * 1024
                    folder = root / name / kind
                    export = Export(np6, folder, list(contacts), format=kind, concurrency=1, part_bytes=size)
                    await export.run()


# What the tables say


class Call(NamedTuple):
    """A call of a table."""

    format: Format
    code: str


def calls() -> Iterator[Call]:
    tables = PAGE.partition("## What changes what")[2].partition("## The right call")[0]
    for section in tables.split("\n### ")[1:]:
        kind: Any = section.partition("\n")[0].lower()
        for found in re.finditer(r"^\| `(.+?)` \|", section, re.MULTILINE):
            yield Call(kind, found[1])


CALLS = list(calls())
Run = Callable[[str], Any]  # the call with the files of this set
CHECKS: dict[str, Callable[[Run], None]] = {}


def says(code: str) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    def register(check: Callable[[Run], None]) -> Callable[[Run], None]:
        CHECKS[code] = check
        return check

    return register


@says("pd.read_csv(part)")
def _(run: Run) -> None:
    frame = run("odd")
    assert set(frame["contact"]) == {42, 130, 12345678}
    assert frame["identity_customer"][0] == 28
    assert frame["identity_customer"][1:4].isna().all()
    assert frame["bounce_diagnostic"][1:2].isna().all()


@says("pd.read_csv(part, dtype=str)")
def _(run: Run) -> None:
    frame = run("odd")
    assert set(frame["contact"]) == set(SETS["odd"])
    assert frame["identity_customer"][0] == "028"
    assert frame["identity_customer"][1:3].isna().all()


@says("pl.read_csv(part)")
def _(run: Run) -> None:
    assert set(run("odd")["contact"]) == {42, 130, 12345678}
    with pytest.raises(pl.exceptions.ComputeError, match="0013E001"):
        run("late")


@says("pl.read_csv(part, infer_schema_length=None)")
def _(run: Run) -> None:
    for name in ("odd", "late"):
        assert 130.0 in set(run(name)["contact"])


@says("pyarrow.csv.read_csv(part)")
def _(run: Run) -> None:
    table = run("odd")
    assert set(table["contact"].to_pylist()) == {42, 130, 12345678}
    assert table["identity_customer"].to_pylist()[:3] == [28, None, None]
    with pytest.raises(pa.ArrowInvalid, match="CSV parse"):
        run("long")


@says("duckdb.sql(f\"from read_csv('{part}')\")")
def _(run: Run) -> None:
    assert set(column(run("odd"), "contact")) == set(SETS["odd"])
    assert set(column(run("plain"), "contact")) == {10_000_042}
    with pytest.raises(duckdb.Error, match="0013E001"):
        run("late").fetchall()


@says("duckdb.sql(f\"from read_csv('{part}', all_varchar=true)\")")
def _(run: Run) -> None:
    assert set(column(run("odd"), "contact")) == set(SETS["odd"])
    with pytest.raises(duckdb.Error, match="quote = \\(empty\\)"):
        run("late").fetchall()


@says('csv.DictReader(open(part, encoding="utf-8"))')
def _(run: Run) -> None:
    found = [row["bounce_diagnostic"] for row in run("odd")]
    assert "first\nsecond" in found
    assert "first\r\nsecond" not in found
    with pytest.raises(csv.Error, match="131072"):
        list(run("long"))


@says("pd.read_json(part, lines=True)")
def _(run: Run) -> None:
    assert set(run("odd")["contact"]) == {42, 130, 12345678}


@says("pl.read_ndjson(part)")
def _(run: Run) -> None:
    late = [row["event"]["source"]["detail"] for row in run("late").to_dicts()]
    assert len(late) == sum(map(len, SETS["late"].values()))
    assert all(detail.keys() == {"activation"} for detail in late)


@says("duckdb.sql(f\"from read_ndjson('{part}')\")")
def _(run: Run) -> None:
    details = [event["source"]["detail"] for event in column(run("odd"), "event")]
    assert {str(detail["activation"]["stamp"]["thread"]) for detail in details} == {THREAD.lower()}
    assert {str(type(detail["bounce"]["status"]["mta"])) for detail in details} == {"<class 'datetime.date'>"}
    with pytest.raises(duckdb.Error, match="unknown key"):
        run("late").fetchall()


@says("pyarrow.json.read_json(part)")
def _(run: Run) -> None:
    details = [row["event"]["source"]["detail"] for row in run("odd").to_pylist()]
    assert {type(detail["bounce"]["status"]["mta"]) for detail in details} == {datetime}


@says('open(part, encoding="utf-8").read().splitlines()')
def _(run: Run) -> None:
    assert len(run("odd")) > sum(map(len, SETS["odd"].values()))


@says('pd.read_parquet("parquet")')
@says('pl.read_parquet("parquet")')
@says('pyarrow.parquet.read_table("parquet")')
@says("duckdb.sql(\"from read_parquet('parquet/*.parquet')\")")
def _(run: Run) -> None:
    compare("parts", "parquet", rows_of(run("parts")))


def test_each_call_of_a_table_has_a_test() -> None:
    assert {call.code for call in CALLS} == CHECKS.keys()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.code)
def test_a_call_does_what_its_table_says(call: Call, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as files:

        def run(name: str) -> Any:
            monkeypatch.chdir(folders.root / name)
            names = NAMES | {"open": lambda *args, **more: files.enter_context(open(*args, **more))}
            if name != "parts":
                names["part"] = folders.part(name, call.format)
            return eval(call.code, names)  # noqa: S307 - of a page of ours

        CHECKS[call.code](run)


# The right calls

PROGRAM = re.compile(r"^(Parquet|NDJSON|CSV)[:;][^`]*(?:`[^`]+`[^`]*)*```py\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Program(NamedTuple):
    """A program of the page, which reads the files of this format."""

    reader: str
    format: Format
    code: str


def programs() -> Iterator[Program]:
    right = PAGE.partition("## The right call")[2]
    for section in right.split("\n### ")[1:]:
        for found in PROGRAM.finditer(section):
            kind: Any = found[1].lower()
            yield Program(section.partition("\n")[0], kind, found[2])


PROGRAMS = list(programs())


def test_every_program_of_the_page_is_run() -> None:
    assert len(PROGRAMS) == PAGE.count("```py\n")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"{program.reader}, {program.format}")
def test_a_program_keeps_everything(
    program: Program, name: str, folders: Folders, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(csv.field_size_limit, csv.field_size_limit()))
    monkeypatch.chdir(folders.root / name)
    names: dict[str, Any] = {}
    exec(program.code, names)  # noqa: S102 - of a page of ours
    (result,) = (names[each] for each in ("frame", "table", "relation", "rows") if each in names)
    compare(name, program.format, rows_of(result), whole=program.reader != "pyarrow")


def compare(name: str, format: Format, found: list[dict[str, Any]], *, whole: bool = True) -> None:
    """Raise unless these rows are the events of the set, in any order."""
    sent = [(contact, event) for contact, events in SETS[name].items() for event in events]
    assert len(found) == len(sent)
    read = _read_event if format == "ndjson" else _read_columns
    as_sent = _event if format == "ndjson" else _columns
    expected = sorted(repr(as_sent(contact, event, format, whole)) for contact, event in sent)
    assert sorted(repr(read(row, format)) for row in found) == expected


def _event(contact: str, event: dict[str, Any], format: Format, whole: bool) -> Any:
    return contact, _sorted(event if whole else {name: event[name] for name in ("id", "timestamp", "identity")})


def _read_event(row: dict[str, Any], format: Format) -> Any:
    event = json.loads(row["event"]) if isinstance(row["event"], str) else row["event"]
    event["timestamp"] = _milliseconds(event["timestamp"])
    if "customer" in row:
        assert row["customer"] == event["identity"].get("customer")
        assert row["diagnostic"] == event["source"]["detail"].get("bounce", {}).get("status", {}).get("diagnostic")
    return row["contact"], _sorted(event)


def _sorted(node: Any) -> Any:
    """Objects in an order of their own, without the members that are null for lack of one."""
    if not isinstance(node, dict):
        return node
    return {name: _sorted(node[name]) for name in sorted(node) if node[name] is not None}


def _columns(contact: str, event: dict[str, Any], format: Format, whole: bool) -> Any:
    detail = event["source"]["detail"]
    status = detail.get("bounce", {}).get("status", {})
    rest = {name: value for name, value in detail.get("link", {}).items() if name != "type"}
    cells = [contact, event["id"], event["timestamp"], event["identity"]["agency"], event["identity"].get("customer")]
    cells += [detail["activation"]["id"], detail["activation"]["stamp"]["thread"], status.get("diagnostic")]
    cells.append({"source": {"detail": {"link": rest}}} if rest else None)
    return [None if format == "csv" and cell == "" else cell for cell in cells]


def _read_columns(row: dict[str, Any], format: Format) -> Any:
    cells = [row[name] for name in ("contact", "id", "timestamp", "identity_agency", "identity_customer")]
    cells += [row[name] for name in ("activation_id", "activation_thread", "bounce_diagnostic", "rest")]
    cells = [None if pd.isna(cell) or (format == "csv" and cell == "") else cell for cell in cells]
    cells[2] = _milliseconds(cells[2])
    cells[-1] = cells[-1] and json.loads(cells[-1])
    return cells


def _milliseconds(at: Any) -> int:
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return at if isinstance(at, int) else round(at.timestamp() * 1000)


def rows_of(result: Any) -> list[dict[str, Any]]:
    if isinstance(result, pd.DataFrame):
        return list(result.to_dict("records"))
    if isinstance(result, pl.DataFrame):
        return list(result.to_dicts())
    if isinstance(result, pa.Table):
        return list(result.to_pylist())
    if isinstance(result, list):
        return result
    return [dict(zip(result.columns, row, strict=True)) for row in result.fetchall()]


def column(relation: Any, name: str) -> list[Any]:
    return [row[name] for row in rows_of(relation)]


EXCEL = {
    "pandas": ("dtype=str,", 'dtype=str, sep=";",'),
    "polars": ("infer_schema=False", 'infer_schema=False, separator=";"'),
    "pyarrow": ("newlines_in_values=True", 'newlines_in_values=True, delimiter=";"'),
    "duckdb": ("delim = ','", "delim = ';'"),
    "Python alone": (
        'encoding="utf-8", newline="") as lines:\n        rows += csv.DictReader(lines',
        'encoding="utf-8-sig", newline="") as lines:\n        rows += csv.DictReader(lines, delimiter=";"',
    ),
}


@pytest.mark.parametrize("program", [each for each in PROGRAMS if each.format == "csv"], ids=lambda each: each.reader)
async def test_a_program_for_csv_reads_the_dialect_of_excel_with_what_the_page_adds(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(csv.field_size_limit, csv.field_size_limit()))
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    writer = make_writer("csv", file, csv_dialect="excel-fr")
    with FakeNP6(0) as server:
        for contact, events in SETS["odd"].items():
            server.set_raw(contact, json.dumps(events).encode())
            async with server.client() as np6:
                writer.add(contact, await np6.events.list(contact))
    writer.close()
    os.mkdir("csv")
    Folders(tmp_path).write("csv/part.csv", file.getvalue())
    assert program.code.count(EXCEL[program.reader][0]) == 1
    names: dict[str, Any] = {}
    exec(program.code.replace(*EXCEL[program.reader]), names)  # noqa: S102 - of a page of ours
    (result,) = (names[each] for each in ("frame", "table", "relation", "rows") if each in names)
    compare("odd", "csv", rows_of(result))


# Straight from a stream

STREAM = PAGE.partition("## Straight from a stream")[2].partition("\n## ")[0]
INTO = re.findall(r"^\| (\w+) \| `(.+?)` \|", STREAM, re.MULTILINE)


@pytest.mark.parametrize(("library", "call"), INTO)
async def test_what_takes_an_arrow_table_keeps_everything(library: str, call: str) -> None:
    with FakeNP6(0) as server:
        for contact, events in SETS["odd"].items():
            server.set_raw(contact, json.dumps(events).encode())
        async with server.client() as np6, np6.events.stream_many(list(SETS["odd"])) as stream:
            table = await arrow.table(stream)
    result = eval(call, NAMES | {"table": table})  # noqa: S307 - of a page of ours
    assert type(result).__module__.split(".")[0].lstrip("_") == library
    compare("odd", "parquet", rows_of(result))


# What else the page says


def test_nested_members_are_found_as_the_page_says(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders.root / "odd")
    rows = dict(re.findall(r"^\| (polars|duckdb|pandas) \| `(.+?)`", PAGE.partition("## Nested members")[2], re.M))
    assert rows.keys() == {"polars", "duckdb", "pandas"}
    found = pl.read_parquet("parquet").select(eval(rows["polars"], dict(NAMES)))  # noqa: S307
    assert "0012" in set(found.to_series())
    relation = duckdb.sql("from read_parquet('parquet/*.parquet')").project(rows["duckdb"])
    assert ("0012",) in relation.fetchall()
    dicts = eval(rows["pandas"], NAMES | {"frame": pd.read_parquet("parquet")})  # noqa: S307
    assert [each["source"]["detail"]["link"]["id"] for each in dicts.dropna()] == ["0012"] * 3


def test_folders_of_partitions_are_read_as_the_page_says(folders: Folders, tmp_path: Path) -> None:
    partition = tmp_path / "kind=bounce" / f"day={DAY}"
    partition.mkdir(parents=True)
    (partition / "part.parquet").write_bytes(folders.part("plain", "parquet").read_bytes())
    assert pl.read_parquet(tmp_path).schema["day"] == pl.Date
    assert {str(day) for day in column(duckdb.sql(f"from read_parquet('{tmp_path}/**/*.parquet')"), "day")} == {DAY}
    assert isinstance(pd.read_parquet(tmp_path)["day"].dtype, pd.CategoricalDtype)
    assert pa.types.is_dictionary(pq.read_table(tmp_path).schema.field("day").type)


def test_the_page_names_the_versions_that_are_tested() -> None:
    named = dict(re.findall(r"\b(pandas|polars|pyarrow|duckdb) (\d+\.\d+\.\d+)", PAGE))
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert named == {name: pinned[name] for name in ("pandas", "polars", "pyarrow", "duckdb")}
