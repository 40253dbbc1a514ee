"""Contacts are taken from whatever holds a column of them, and never from what only looks like it."""

from __future__ import annotations

import os
import types
from collections import ChainMap, Counter, UserDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from np6_async import InvalidContact, InvalidInput, NP6Client
from np6_async._streams.contact_queue import given
from np6_async.export import Export
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6

Take = Callable[[NP6Client, Any, Path], Any]

# Every place that takes contacts. `start` and `end` only because some of them need these.
SPAN: dict[str, Any] = {"start": "2025-10-01", "end": "2026-01-01"}
DOORS: dict[str, Take] = {
    "stream_many": lambda np6, contacts, _: np6.events.stream_many(contacts),
    "stream_many in the order of time": lambda np6, contacts, _: np6.events.stream_many(contacts, order="time", **SPAN),
    "pages": lambda np6, contacts, _: np6.events.pages(contacts, every=timedelta(days=100), **SPAN),
    "Sync": lambda np6, contacts, path: Sync(np6, SQLiteStore(path / "state.db"), contacts),
    "Export": lambda np6, contacts, path: Export(np6, path / "out", contacts),
    "Export in windows": lambda np6, contacts, path: Export(
        np6, path / "out", contacts, every=timedelta(days=100), **SPAN
    ),
}


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(3, 4) as running:
        yield running


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client() as client:
        yield client


async def used(taken: Any) -> None:
    """Read whatever a door gave, to its end."""
    match taken:
        case Sync():
            async with taken.run() as run:
                async for _ in run.batches():
                    pass
        case Export():
            await taken.run()
        case _ if hasattr(taken, "batches"):
            async with taken:
                async for _ in taken:
                    pass
        case _:
            async for _ in taken:
                pass


# Stand-ins, for where the real ones are not installed


class Frame:
    """As of pandas and polars: to iterate over it is to iterate over names that may well be ids."""

    columns = ("id", "name")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class Dataset(Frame):
    columns = property()  # type: ignore[assignment]
    column_names = ("id",)


class Series:
    """A column of pandas: like a mapping from its labels, which are attributes, too."""

    ndim = 1
    dtype = type("DType", (), {"names": None})()

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def keys(self) -> range:
        return range(len(self._values))

    def __getitem__(self, label: Any) -> Any:
        return self._values[label]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return "the value with this label"


class Array(Series):
    def __init__(self, values: Sequence[Any], ndim: int = 1, names: tuple[str, ...] | None = None) -> None:
        super().__init__(values)
        self.ndim = ndim
        self.dtype = type("DType", (), {"names": names})()


class Group:
    """As of h5py: a mapping that does not say so."""

    def keys(self) -> list[str]:
        return ["A"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


class Text(str):
    """As numpy.str_."""


class Arrow(list[Any]):
    """A column of pyarrow."""

    class Scalar:
        def __init__(self, value: Any) -> None:
            self._value = value

        def as_py(self) -> Any:
            return self._value

    def __iter__(self) -> Iterator[Any]:
        return map(self.Scalar, super().__iter__())

    def to_pylist(self) -> list[Any]:
        raise AssertionError("a column may be long")


def real(module: str, make: Callable[[Any, list[str]], Any]) -> Any:
    """Made with a package that may not be installed."""

    def of(ids: list[str]) -> Any:
        return make(pytest.importorskip(module), ids)

    return of


COLUMNS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "keys of a dict": lambda ids: dict.fromkeys(ids).keys(),
    "values of a dict": lambda ids: dict(enumerate(ids)).values(),
    "Series": Series,
    "array": Array,
    "array of texts of its own": lambda ids: Array([Text(each) for each in ids]),
    "Arrow": Arrow,
    "pyarrow.Array": pa.array,
    "pyarrow.ChunkedArray": lambda ids: pa.chunked_array([ids[:1], ids[1:]]),
    "pyarrow.DictionaryArray": lambda ids: pa.array(ids).dictionary_encode(),
    "column of a pyarrow.Table": lambda ids: pa.table({"id": ids})["id"],
    "numpy.ndarray": real("numpy", lambda np, ids: np.array(ids)),
    "numpy.ndarray of objects": real("numpy", lambda np, ids: np.array(ids, dtype=object)),
    "list of numpy.str_": real("numpy", lambda np, ids: list(np.array(ids))),
    "field of a numpy.recarray": real("numpy", lambda np, ids: np.rec.fromarrays([ids, ids], names="id,name")["id"]),
    "column of a pandas.DataFrame": real("pandas", lambda pd, ids: pd.DataFrame({"id": ids})["id"]),
    "pandas.Series with labels": real("pandas", lambda pd, ids: pd.Series(ids, index=["columns", "ndim", "dtype"])),
    "pandas.Series of categories": real("pandas", lambda pd, ids: pd.Series(ids, dtype="category")),
    "pandas.Series of pyarrow": real("pandas", lambda pd, ids: pd.Series(ids, dtype="string[pyarrow]")),
    "pandas.Index": real("pandas", lambda pd, ids: pd.DataFrame(index=ids).index),
    "values of a pandas.Series": real("pandas", lambda pd, ids: pd.Series(ids).array),
    "polars.Series": real("polars", lambda pl, ids: pl.DataFrame({"id": ids})["id"]),
    "polars.Series of categories": real("polars", lambda pl, ids: pl.Series(ids, dtype=pl.Categorical)),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", COLUMNS)
async def test_a_column_of_ids_is_taken_for_the_ids(
    name: str, door: str, np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    """Wherever contacts are taken, as often as they are read."""
    column = COLUMNS[name](list(server.contact_ids))
    await used(DOORS[door](np6, column, tmp_path))
    assert {seen.contact for seen in server.requests} == set(server.contact_ids)
    assert all(seen.status == 200 for seen in server.requests)


TABLE = "which is a table: pass its column of ids"
MAPPING = r"which is a mapping: pass list\(ids\) for its keys, list\(ids.values\(\)\) for its values"
DIMENSIONS = "of 2 dimensions: pass one column of it"

NOT_COLUMNS: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "dict": (lambda ids: dict.fromkeys(ids), f"dict, {MAPPING}"),
    "Counter": (Counter, f"Counter, {MAPPING}"),
    "ChainMap": (lambda ids: ChainMap(dict.fromkeys(ids)), f"ChainMap, {MAPPING}"),
    "UserDict": (lambda ids: UserDict(dict.fromkeys(ids)), f"UserDict, {MAPPING}"),
    "mappingproxy": (lambda ids: types.MappingProxyType(dict.fromkeys(ids)), f"mappingproxy, {MAPPING}"),
    "environment": (lambda ids: os.environ, f"_Environ, {MAPPING}"),
    "Group": (lambda ids: Group(), f"Group, {MAPPING}"),
    "Frame": (lambda ids: Frame(), f"Frame, {TABLE}"),
    "Dataset": (lambda ids: Dataset(), f"Dataset, {TABLE}"),
    "array of arrays": (lambda ids: Array([ids], 2), f"Array {DIMENSIONS}"),
    "array without a dimension": (lambda ids: Array(ids, 0), "Array of 0 dimensions"),
    "array of records": (lambda ids: Array(ids, 1, ("id", "name")), "Array of records: pass one field of it"),
    "bytes": (lambda ids: b"".join(each.encode() for each in ids), "bytes: decode them first"),
    "bytearray": (lambda ids: bytearray(b"000MLGPR"), "bytearray: decode them first"),
    "memoryview": (lambda ids: memoryview(b"000MLGPR"), "memoryview: decode them first"),
    "number": (lambda ids: 7, "(?m)not int$"),
    "None": (lambda ids: None, "(?m)not NoneType$|takes contacts, or action"),
    "pyarrow.Table": (lambda ids: pa.table({"id": ids}), f"Table, {TABLE}"),
    "pyarrow.RecordBatch": (lambda ids: pa.record_batch({"id": ids}), f"RecordBatch, {TABLE}"),
    "numpy.ndarray of rows": (real("numpy", lambda np, ids: np.array([ids])), f"ndarray {DIMENSIONS}"),
    "numpy.ndarray of one": (real("numpy", lambda np, ids: np.array(ids[0])), "ndarray of 0 dimensions"),
    "numpy.recarray": (
        real("numpy", lambda np, ids: np.rec.fromarrays([ids, ids], names="id,name")),
        "recarray of records: pass one field",
    ),
    "pandas.DataFrame": (real("pandas", lambda pd, ids: pd.DataFrame({"id": ids})), f"DataFrame, {TABLE}"),
    "polars.DataFrame": (real("polars", lambda pl, ids: pl.DataFrame({"id": ids})), f"DataFrame, {TABLE}"),
    "polars.LazyFrame": (real("polars", lambda pl, ids: pl.LazyFrame({"id": ids})), f"LazyFrame, {TABLE}"),
    "duckdb relation": (
        real("duckdb", lambda duckdb, ids: duckdb.connect().sql("select '000MLGPR' as id")),
        f"DuckDBPyRelation, {TABLE}",
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", NOT_COLUMNS)
async def test_what_would_give_its_keys_or_the_names_of_its_columns_is_refused_by_name(
    name: str, door: str, np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    """At once, and before any I/O."""
    make, words = NOT_COLUMNS[name]
    contacts = make(list(server.contact_ids))
    with pytest.raises(InvalidInput, match=words):
        DOORS[door](np6, contacts, tmp_path)
    assert server.connections == 0
    assert os.listdir(tmp_path) == []


def test_a_single_contact_is_one_where_one_may_be_given() -> None:
    assert given("000MLGPR") == ["000MLGPR"]
    assert given(Text("000MLGPR")) == ["000MLGPR"]


NUMBER = "Keep ids as str all the way from their source"


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([13], f"not int. {NUMBER}"),
        (Series([13]), f"not int. {NUMBER}"),
        (pa.array([13]), f"not int. {NUMBER}"),
        (Series([13.0, float("nan")]), f"not float. {NUMBER}"),
        (pa.array([None, "000MLGPR"]), "not NoneType"),
        (pa.array([b"13"]), "not bytes. Decode it"),
        ([("000MLGPR",)], "not tuple"),
        ([{"id": "000MLGPR"}], "not dict"),
        (pa.array([{"id": "000MLGPR"}]), "not dict"),
        (pa.table({"id": ["000MLGPR"]}).to_reader(), "not RecordBatch"),
        (real("numpy", lambda np, _: np.array([13])), f"not int64. {NUMBER}"),
        (real("numpy", lambda np, _: np.array(["13"], dtype="S")), "not bytes_. Decode it"),
        (real("pandas", lambda pd, _: pd.Series([13])), f"not int. {NUMBER}"),
        (real("pandas", lambda pd, _: pd.Series([13, None])), f"not float. {NUMBER}"),
        (real("polars", lambda pl, _: pl.Series([13])), f"not int. {NUMBER}"),
    ],
)
async def test_what_is_not_an_id_in_a_column_is_a_failure_that_says_so(
    column: Any, words: str, np6: NP6Client, server: FakeNP6
) -> None:
    """As in a list: that row alone, and nothing is requested for it."""
    column = column([]) if callable(column) else column
    async with np6.events.stream_many(column, on_error="collect", missing="empty") as events:
        assert [pair async for pair in events] == []
    assert isinstance(events.failures[0].error, InvalidContact)
    assert words in str(events.failures[0].error)
    assert len(server.requests) == events.stats.done
