"""The error tree: what it is, that it survives pickling, and what its members promise."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from datetime import timedelta
from typing import Any

import pytest

from np6_async import Contact, _errors
from np6_async._errors import (
    APIError,
    AuthError,
    BulkError,
    ConfigError,
    DecodeError,
    EndpointNotFound,
    InvalidBound,
    InvalidContact,
    InvalidInput,
    NotFound,
    NP6Error,
    RateLimited,
    TimeoutExceeded,
)
from np6_async.export import OtherQuery
from np6_async.export import _errors as _export_errors

CLASSES = sorted(
    (each for each in vars(_errors).values() if isinstance(each, type) and issubclass(each, NP6Error)),
    key=lambda cls: cls.__name__,
)

EXPORT_CLASSES = sorted(
    (each for each in vars(_export_errors).values() if isinstance(each, type) and issubclass(each, NP6Error)),
    key=lambda cls: cls.__name__,
)


def make(cls: type[NP6Error]) -> NP6Error:
    if issubclass(cls, BulkError):
        return BulkError("2 of the contacts failed", [make(NotFound), make(TimeoutExceeded)])
    if issubclass(cls, APIError):
        return cls("503: the server failed", status=503, request_id="req-1")
    return cls("what happened")


def drawn_tree() -> dict[str, tuple[str | None, str]]:
    """Name -> (name of the parent, remark), as the module's docstring draws it."""
    assert _errors.__doc__ is not None
    path: list[str] = []
    tree: dict[str, tuple[str | None, str]] = {}
    for line in _errors.__doc__.splitlines():
        match = re.fullmatch(r"    ((?:[│ ]   )*(?:[├└]── )?)(\w+)(?:  +(.*))?", line)
        if match:
            depth = len(match[1]) // 4
            del path[depth:]
            tree[match[2]] = (path[-1] if path else None, match[3] or "")
            path.append(match[2])
    return tree


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    """Every class is drawn once, under its real parent."""
    real = {cls.__name__: None if cls is NP6Error else cls.__bases__[0].__name__ for cls in CLASSES}
    assert {name: parent for name, (parent, _) in drawn_tree().items()} == real


def test_the_tree_tells_which_builtin_each_error_is_too() -> None:
    """`(also ValueError)` in the drawing is exactly what `except ValueError` catches."""
    also = {ValueError: set[str](), TimeoutError: set[str](), ExceptionGroup: set[str]()}
    for cls in CLASSES:
        for builtin, names in also.items():
            if issubclass(cls, builtin):
                names.add(cls.__name__)
    assert also == {
        ValueError: {"ConfigError", "InvalidInput", "InvalidBound", "InvalidContact"},
        TimeoutError: {"TimeoutExceeded"},
        ExceptionGroup: {"BulkError"},
    }
    for builtin, names in also.items():
        drawn = {name for name, (_, remark) in drawn_tree().items() if f"also {builtin.__name__}" in remark}
        assert drawn | {"InvalidBound", "InvalidContact"} == names | {"InvalidBound", "InvalidContact"}


def test_one_except_clause_catches_everything() -> None:
    """`NP6Error` is the only class of this package right under Exception."""
    assert [cls for cls in CLASSES if NP6Error not in cls.__mro__[1:]] == [NP6Error]
    assert NP6Error.__bases__ == (Exception,)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling(cls: type[NP6Error]) -> None:
    """An error comes back from another process as it was: type, text, contact, attempts, status, everything."""
    error = make(cls)
    error.contact = Contact.by_id("000MLGPR")
    error.attempts = 5
    if isinstance(error, APIError):
        error.retry_after = 2.5
    if isinstance(error, DecodeError):
        error.position = 17
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(back) is cls
        assert str(back) == str(error)
        assert repr(back) == repr(error)
        assert (back.contact, back.attempts) == (error.contact, 5)
        assert {k: v for k, v in vars(back).items() if k != "stale"} == vars(error)


@pytest.mark.parametrize("cls", EXPORT_CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_of_an_export_survives_pickling(cls: type[NP6Error]) -> None:
    error = cls("what happened")
    error.contact = Contact.by_id("000MLGPR")
    if isinstance(error, OtherQuery):
        error.name, error.found, error.given = "every", None, timedelta(days=1)
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(back) is cls
    assert str(back) == "what happened"
    assert vars(back) == vars(error)


def test_pickling_twice_keeps_a_changed_message() -> None:
    """The message as it was completed with the contact and the attempts is what arrives."""
    error = RateLimited("429", status=429, request_id="r")
    error.args = ("contact 1: 429, after 2 attempts",)
    back = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error))))  # noqa: S301
    assert str(back) == "contact 1: 429, after 2 attempts [request id r]"


def test_a_message_ends_with_the_request_id() -> None:
    """NP6's support asks for the request id, so the message has it; without one nothing is added."""
    assert str(AuthError("401: no", status=401, request_id="abc")) == "401: no [request id abc]"
    assert str(AuthError("401: no", status=401)) == "401: no"


def test_defaults_say_unknown() -> None:
    """Outside a call for a contact there is no contact and no attempt; an unknown wait or place is None."""
    assert (NP6Error("x").contact, NP6Error("x").attempts) == (None, 0)
    assert APIError("x", status=500).retry_after is None
    assert DecodeError("x").position is None


def test_wrong_arguments_are_value_errors() -> None:
    """Code that catches ValueError for bad input catches these."""
    for cls in (ConfigError, InvalidInput, InvalidBound, InvalidContact):
        with pytest.raises(ValueError, match=r"(?m)^no$"):
            raise cls("no")


def contacts(group: BaseExceptionGroup[Any]) -> list[str]:
    return [str(error.contact) for error in list[Any](group.exceptions)]


class TestBulkError:
    def failures(self) -> BulkError:
        missing, slow = make(NotFound), make(TimeoutExceeded)
        missing.contact, slow.contact = Contact.by_id("A"), Contact.by_id("B")
        return BulkError("2 of the contacts failed", [missing, slow])

    def test_it_is_an_exception_group(self) -> None:
        """`except*` takes the failures apart by type."""
        caught: list[str] = []
        try:
            raise self.failures()
        except* NotFound as group:
            caught += contacts(group)
        except* TimeoutError as group:
            caught += contacts(group)
        assert caught == ["contact A", "contact B"]

    def test_parts_of_it_are_bulk_errors_too(self) -> None:
        """split and subgroup give BulkErrors, with the same message, and lose nothing."""
        whole = self.failures()
        missing, others = whole.split(NotFound)
        assert type(missing) is type(others) is BulkError
        assert missing is not None
        assert others is not None
        assert missing.message == others.message == whole.message
        assert missing.exceptions + others.exceptions == whole.exceptions
        nothing = whole.subgroup(AuthError)
        assert nothing is None

    def test_it_survives_pickling_with_its_parts(self) -> None:
        """The contacts of the failures arrive as well."""
        back = pickle.loads(pickle.dumps(self.failures()))  # noqa: S301
        assert type(back) is BulkError
        assert [type(each) for each in back.exceptions] == [NotFound, TimeoutExceeded]
        assert contacts(back) == ["contact A", "contact B"]

    def test_a_traceback_names_every_contact(self) -> None:
        """Printed, it shows each failure."""
        error = BulkError("2 failed", [NotFound("contact A: 404", status=404), TimeoutExceeded("contact B: slow")])
        text = "".join(traceback.format_exception(error))
        assert "contact A: 404" in text
        assert "contact B: slow" in text


def test_endpoint_not_found_is_a_not_found() -> None:
    """Who handles a 404 handles the 404 of everything."""
    assert issubclass(EndpointNotFound, NotFound)
