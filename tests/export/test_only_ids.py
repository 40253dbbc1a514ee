"""`OnlyIds` is a set of ids, exact whatever they are, in a tenth of the memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from np6_async import Contact, InvalidInput, NP6Client
from np6_async.export import Export, OnlyIds, SyncWriter
from np6_async.testing import FakeNP6

IDS = st.text(st.sampled_from("0A\0é"), max_size=10)


@given(st.lists(IDS), st.lists(IDS))
def test_it_holds_what_was_added_and_nothing_else(added: list[str], others: list[str]) -> None:
    """Ids of any length and characters, also those that differ in what they end with only."""
    ids = OnlyIds(added)
    assert [each in ids for each in added + others] == [each in set(added) for each in added + others]
    assert len(ids) == len(set(added))


@given(st.lists(st.tuples(st.sampled_from([OnlyIds.add, OnlyIds.__contains__]), IDS)))
def test_ids_may_be_added_after_it_was_asked(steps: list[tuple[object, str]]) -> None:
    ids, same = OnlyIds(), set[str]()
    for step, each in steps:
        if step is OnlyIds.add:
            ids.add(each)
            same.add(each)
        else:
            assert (each in ids) == (each in same)
    assert len(ids) == len(same)


def test_other_things_than_texts_are_not_in_it() -> None:
    ids = OnlyIds(["00000000"])
    others: list[object] = [0x3030303030303030, b"00000000", None]
    assert not any(map(ids.__contains__, others))


@pytest.mark.parametrize(
    "only",
    ["ABC", b"ABC", 3, iter(["A"]), (each for each in "A"), {Contact.by_id("A")}, [1], pyarrow.array(["A"])],
    ids=lambda only: type(only).__name__,
)
async def test_what_would_silently_hold_other_ids_or_none_is_refused(only: Any, tmp_path: Path) -> None:
    """A text holds its parts, an iterator is read up, and a number is never the text of an id."""
    async with NP6Client("key") as np6:
        with pytest.raises(InvalidInput, match=r"^only must "):
            Export(np6, tmp_path / "out", account=True, only=only)
    with pytest.raises(InvalidInput, match=r"^only must "):
        SyncWriter(tmp_path / "out", only=only)


@pytest.mark.parametrize("ids", ["ABC", [b"A"], [1], [None], [Contact.by_id("A")]], ids=repr)
def test_only_texts_can_be_added(ids: Any) -> None:
    with pytest.raises(InvalidInput):
        OnlyIds(ids)


def test_a_repr_names_no_contact() -> None:
    assert repr(OnlyIds(["000MLGPR", "000MLGPR"])) == "<OnlyIds of 1 ids>"


def test_an_id_takes_about_eight_bytes() -> None:
    """For a million, the 0.4 MB that it takes when it is empty do not count."""
    with FakeNP6(contacts=50_000) as server:
        given = server.contact_ids
        tracemalloc.start()
        try:
            empty = OnlyIds()
            before = tracemalloc.get_traced_memory()[0]
            ids = OnlyIds(given)
            first = tracemalloc.get_traced_memory()[0] - before
            for each in given:  # doubles need no more than a moment's slack
                ids.add(each)
            again = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert len(empty) == 0
    assert len(ids) == 50_000
    assert first < 50_000 * 9 + 500_000
    assert again < 2 * first
