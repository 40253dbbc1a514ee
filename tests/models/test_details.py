"""What users may rely on about the records inside an event."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from support import strategies

from np6_async._models.convert import converter
from np6_async._models.details import ContactRef, Detail, Identity, Source, Stamp

RECORDS = strategies.RECORDS
SECRET = "someone@example.com"


def filled(cls: Any, depth: int = 3) -> Any:
    """A `cls` with an e-mail address in every member that is text or free-form."""
    values: dict[str, Any] = {}
    for attribute in attrs.fields(attrs.resolve_types(cls)):
        names = str(attribute.type)
        nested = [record for record in RECORDS if f".{record.__name__}" in names]
        if nested and depth:
            values[attribute.name] = filled(nested[0], depth - 1)
        elif "dict" in names:
            values[attribute.name] = {"to": SECRET}
        elif "list" in names:
            values[attribute.name] = [SECRET]
        elif attribute.name in {"recipient", "unicity", "value", "diagnostic", "message", "id", "hash"}:
            values[attribute.name] = SECRET if cls is ContactRef or attribute.name not in {"id", "hash"} else "1"
    return cls(**values)


@pytest.mark.parametrize("cls", RECORDS)
def test_every_member_is_optional(cls: Any) -> None:
    record = cls()
    assert all(value is None for value in attrs.asdict(record).values())


@pytest.mark.parametrize("cls", RECORDS)
def test_records_are_frozen_and_take_no_other_members(cls: Any) -> None:
    record = cls()
    with pytest.raises(AttributeError):
        setattr(record, attrs.fields(cls)[0].name, "x")
    with pytest.raises(AttributeError):
        record.unheard_of = 1
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(record, "unheard_of", 1)


@pytest.mark.parametrize("cls", RECORDS)
@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_personal_data_stays_out_of_every_repr(cls: Any, show: Any) -> None:
    record = filled(cls)
    assert SECRET not in show(record)
    assert SECRET not in show([record])


def test_a_contact_shows_its_notation_alone() -> None:
    assert repr(ContactRef(type="id", value="0013KDC0")) == "ContactRef(type='id')"


def test_records_with_the_same_members_are_equal_and_hash_alike() -> None:
    assert Identity("customer", "DEMO", "028") == Identity("customer", "DEMO", "028") != Identity("customer")
    assert len({Stamp(time=1), Stamp(time=1), Stamp(time=2)}) == 2
    different: list[object] = [Detail(), Source(), Stamp()]
    assert len(set(different)) == 3


@pytest.mark.slow
@given(strategies.sources)
def test_records_survive_pickle_and_copy(source: Any) -> None:
    record = converter.structure(source, Source)
    assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301
    assert copy.deepcopy(record) == record
