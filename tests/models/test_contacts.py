"""What users may rely on when they name a contact."""

from __future__ import annotations

import contextlib
import copy
import enum
import pickle
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from np6_async._errors import InvalidContact
from np6_async._models.contacts import Contact, parse, path_template, target_path

if TYPE_CHECKING:
    from collections.abc import Callable

HASH = "0123abcd0123ABCD0123abcd0123ABCD"
SUFFIXES = ["", "/activations", "/bounces", "/responses/stop", "/hits", "/hits/open"]

ids = st.text(string.ascii_letters + string.digits + "._~:+=-", min_size=1, max_size=256).filter(
    lambda value: value not in {".", ".."}
)
unicities = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=1024)
hashes = st.text(string.hexdigits, min_size=32, max_size=32)
contacts = st.one_of(ids.map(Contact.by_id), unicities.map(Contact.by_unicity), hashes.map(Contact.by_hash))


@given(ids)
def test_a_string_is_an_id(value: str) -> None:
    assert parse(value) == Contact.by_id(value) == Contact("id", value)


@given(contacts)
def test_a_contact_is_taken_as_it_is(contact: Contact) -> None:
    assert parse(contact) is contact


@given(contacts)
def test_contacts_are_values(contact: Contact) -> None:
    """Equal and hashable by kind and value, frozen, copied and pickled without change."""
    twin = Contact(contact.kind, contact.value)
    assert twin == contact
    assert hash(twin) == hash(contact)
    assert pickle.loads(pickle.dumps(contact)) == copy.deepcopy(contact) == contact  # noqa: S301
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        contact.value = "other"  # type: ignore[misc]


def test_contacts_of_different_kinds_differ() -> None:
    assert len({Contact.by_id(HASH), Contact.by_unicity(HASH), Contact.by_hash(HASH)}) == 3


@given(contacts, st.sampled_from(SUFFIXES))
def test_the_server_reads_back_exactly_the_value_given(contact: Contact, suffix: str) -> None:
    """As one path segment for an id, as the one query parameter for the other kinds; nothing else."""
    path, query = target_path(contact, f"/events{suffix}")
    assert (path + query).isascii()
    assert (path + query).isprintable()
    assert " " not in path + query
    assert "?" not in path
    parts = urlsplit(f"{path}?{query}")
    assert (parts.scheme, parts.netloc, parts.fragment) == ("", "", "")
    if contact.kind == "id":
        _, targets, segment, *rest = parts.path.split("/")
        assert (targets, unquote(segment), "/".join(rest)) == ("targets", contact.value, f"events{suffix}")
        assert parts.query == ""
    else:
        assert parts.path == f"/targets/events{suffix}"
        assert parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True) == [(contact.kind, contact.value)]


def test_paths() -> None:
    assert target_path(Contact.by_id("000MLGPR"), "/events/bounces") == ("/targets/000MLGPR/events/bounces", "")
    assert target_path(Contact.by_id("a:b.c"), "/events") == ("/targets/a:b.c/events", "")
    assert target_path(Contact.by_unicity("zoé+x@b.c"), "/events") == ("/targets/events", "unicity=zo%C3%A9%2Bx%40b.c")
    assert target_path(Contact.by_hash(HASH), "/events/hits") == ("/targets/events/hits", f"hash={HASH}")


@given(contacts, st.sampled_from(SUFFIXES))
def test_the_logged_path_never_holds_the_value(contact: Contact, suffix: str) -> None:
    expected = "/targets/{id}/events" if contact.kind == "id" else "/targets/events"
    assert path_template(contact, f"/events{suffix}") == expected + suffix


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "is empty"),
        (".", "dot segment"),
        ("..", "dot segment"),
        ("../x", "U+002F at index 2"),
        ("a/b", "U+002F at index 1"),
        ("a\\b", "U+005C at index 1"),
        ("a?b", "U+003F at index 1"),
        ("a#b", "U+0023 at index 1"),
        ("a%2Fb", "U+0025 at index 1"),
        ("%2e%2e", "U+0025 at index 0"),
        ("a;b", "U+003B at index 1"),
        ("a b", "U+0020 at index 1"),
        ("000MLGPR\n", "U+000A at index 8"),
        ("a\r\nX-Key: b", "U+000D at index 1"),
        ("a\x00", "U+0000 at index 1"),
        ("é", "U+00E9 at index 0"),
        ("\u0661\u0662", "U+0661 at index 0"),
        ("ab\ud800", "U+D800 at index 2"),
        ("\U0001f600", "U+1F600 at index 0"),
        ("x" * 257, "257 characters"),
    ],
)
def test_an_unsafe_id_is_refused_naming_the_character_and_its_place(value: str, says: str) -> None:
    with pytest.raises(InvalidContact) as caught:
        parse(value)
    assert says in str(caught.value)
    assert "Contact.by_unicity()" in str(caught.value)


@pytest.mark.parametrize("value", ["...", ".a", "a.", "..a", "0", "x" * 256, "000MLGPR", "0013KDC0", "a:b=c"])
def test_the_form_of_todays_ids_is_not_enforced(value: str) -> None:
    assert target_path(parse(value), "/events") == (f"/targets/{value}/events", "")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "0 characters"),
        ("x" * 1025, "1025 characters"),
        ("a:b.c\n", "U+000A at index 5"),
        ("a\x7fb", "U+007F at index 1"),
        ("a\x85b", "U+0085 at index 1"),
        ("ab\udcff", "U+DCFF at index 2"),
    ],
)
def test_a_unicity_value_that_cannot_be_sent_is_refused(value: str, says: str) -> None:
    with pytest.raises(InvalidContact, match=says.replace("+", r"\+")):
        Contact.by_unicity(value)


@pytest.mark.parametrize("value", ["a b@c.d", " padded ", "\xa0", "a\u2028b", "\u200e", "é" * 1024, "&id=1", "#"])
def test_a_unicity_value_may_be_any_other_text(value: str) -> None:
    assert Contact.by_unicity(value).value == value


@pytest.mark.parametrize("value", ["", "0" * 31, "0" * 33, "g" * 32, HASH[:-1] + "\n", "\u0660" * 32])
def test_a_hash_is_32_hex_digits(value: str) -> None:
    with pytest.raises(InvalidContact, match="32 hex digits"):
        Contact.by_hash(value)


@given(st.text(min_size=4).map(lambda text: f"jeanne.{text}@example.com"))
def test_no_message_or_repr_shows_a_unicity_value(address: str) -> None:
    try:
        contact = Contact.by_unicity(address)
        shown = f"{contact!r} {contact}"
    except InvalidContact as error:
        shown = f"{error!r} {error}"
    assert "jeanne" not in shown
    wrongs: list[Callable[[], Contact]] = [
        lambda: Contact.by_hash(address),
        lambda: Contact.by_id(f"/{address}"),
        lambda: Contact(address, "unicity"),  # type: ignore[arg-type]
        lambda: Contact("unicity", address + "\n"),
        lambda: Contact("unicity", address * 60),
    ]
    for wrong in wrongs:
        with pytest.raises(InvalidContact) as caught:
            wrong()
        assert "jeanne" not in f"{caught.value!r}"
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_labels_are_fit_for_messages_and_logs() -> None:
    shown = [
        (c.label, repr(c)) for c in (Contact.by_id("000MLGPR"), Contact.by_unicity("a@b.c"), Contact.by_hash(HASH))
    ]
    assert shown == [
        ("contact 000MLGPR", "Contact.by_id('000MLGPR')"),
        ("contact by unicity (hidden)", "Contact.by_unicity(<hidden>)"),
        ("contact by hash 0123abcd…", "Contact.by_hash('0123abcd…')"),
    ]
    assert str(Contact.by_hash(HASH)) == Contact.by_hash(HASH).label


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "NoneType"),
        (13, "leading zeros"),
        (True, "bool"),
        (b"000MLGPR", "Decode"),
        (bytearray(b"x"), "Decode"),
        (["000MLGPR"], "list"),
        (object(), "Contact.by_unicity()"),
    ],
)
def test_anything_but_a_contact_is_refused_with_advice(given: Any, says: str) -> None:
    with pytest.raises(InvalidContact) as caught:
        parse(given)
    assert says in str(caught.value)


@pytest.mark.parametrize("make", [Contact.by_id, Contact.by_unicity, Contact.by_hash])
@pytest.mark.parametrize("value", [None, 1, b"0" * 32, ["x"]])
def test_a_value_that_is_not_a_string_is_refused(make: Any, value: Any) -> None:
    with pytest.raises(InvalidContact, match=f"not {type(value).__name__}"):
        make(value)


@pytest.mark.parametrize("kind", ["", "ID", "email", None, 1, ["id"]])
def test_an_unknown_kind_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidContact, match="kind"):
        Contact(kind, "000MLGPR")


def test_an_enum_member_stands_for_its_value_not_its_name() -> None:
    class Known(str, enum.Enum):  # noqa: UP042 - a StrEnum formats as its value
        VIP = "000MLGPR"
        KIND = "unicity"

    assert target_path(parse(Known.VIP), "/events") == ("/targets/000MLGPR/events", "")
    assert type(parse(Known.VIP).value) is str
    assert target_path(Contact(Known.KIND, "a"), "/events") == ("/targets/events", "unicity=a")  # type: ignore[arg-type]


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none(), st.lists(st.text())))
def test_nothing_but_invalid_contact_is_raised(given: Any) -> None:
    for make in (parse, Contact.by_id, Contact.by_unicity, Contact.by_hash):
        with contextlib.suppress(InvalidContact):
            assert isinstance(make(given), Contact)


def test_an_address_given_as_an_id_is_refused_before_it_goes_into_a_url() -> None:
    with pytest.raises(InvalidContact, match=r"by_unicity\(\)") as caught:
        Contact.by_id("jane@example.com")
    assert "jane" not in str(caught.value)
