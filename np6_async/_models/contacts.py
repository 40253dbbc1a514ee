"""Checked references to contacts, segments and campaigns, and their paths in the API.

A contact is named by its NP6 id, by the value of the account's unicity field (often an e-mail address), or by its
hash. Values are checked when the reference is created, so a path built from one can neither leave its path segment nor
carry a second parameter. Personal data stays out of every repr and message.
"""

from __future__ import annotations

import re
import unicodedata
from numbers import Number
from typing import Final, Literal, NoReturn
from urllib.parse import quote

from attrs import field, frozen

from .._errors import InvalidContact, InvalidInput

# Neither "." nor "..", which would change the path.
_ID: Final = re.compile(r"(?!\.\.?\Z)[0-9A-Za-z._~:+=-]{1,256}")
_ID_CHARACTER: Final = re.compile(r"[0-9A-Za-z._~:+=-]")
_HASH: Final = re.compile(r"[0-9A-Fa-f]{32}")
_UNICITY_LIMIT: Final = 1024


@frozen(repr=False)
class Contact:
    """A checked reference to one contact; hashable, equal when kind and value are equal.

    - `"id"`: 1 to 256 of `0-9 A-Z a-z . _ ~ : + = -`, but not ``.`` or ``..``. NP6's ids have eight characters
      today (`000MLGPR`); that is not enforced.
    - `"unicity"`: 1 to 1024 characters of any script, no control characters, no lone surrogates. Sent as given:
      neither case nor surrounding blanks are changed.
    - `"hash"`: 32 hex digits of either case, sent as given.

    Anything else raises `InvalidContact`, which names the character at fault and never quotes the value.
    `repr()`, `str()` and `label` show an id, hide a unicity value, and cut a hash to its first 8 digits.
    """

    kind: Literal["id", "unicity", "hash"] = field()
    value: str = field()

    @classmethod
    def by_id(cls, value: str) -> Contact:
        """The contact with this NP6 id, such as `000MLGPR`."""
        return cls("id", value)

    @classmethod
    def by_unicity(cls, value: str) -> Contact:
        """The contact whose unicity field, for instance the e-mail address, has this value."""
        return cls("unicity", value)

    @classmethod
    def by_hash(cls, value: str) -> Contact:
        """The contact with this hash of 32 hex digits."""
        return cls("hash", value)

    def __attrs_post_init__(self) -> None:
        # Messages never quote `kind` either: with the two arguments swapped it holds the address.
        if type(self.kind) is not str:
            _set_plain(self, "kind", self.kind)
        if type(self.value) is not str:
            _set_plain(self, "value", self.value)
        if self.kind == "id":
            if not _ID.fullmatch(self.value):
                raise InvalidContact(
                    f"The contact id {id_problem(self.value)}. Pass the id as NP6 gave it, such as '000MLGPR', or use "
                    "Contact.by_unicity() for an address and Contact.by_hash() for a hash."
                )
        elif self.kind == "unicity":
            _check_unicity(self.value)
        elif self.kind == "hash":
            if not _HASH.fullmatch(self.value):
                _refuse_hash(self.value)
        else:
            raise InvalidContact(
                "A contact's kind is 'id', 'unicity' or 'hash' and comes before the value. "
                "Use Contact.by_id(), Contact.by_unicity() or Contact.by_hash()."
            )

    @property
    def label(self) -> str:
        """The contact as messages and logs may name it, such as `contact 000MLGPR`."""
        if self.kind == "id":
            return f"contact {self.value}"
        if self.kind == "hash":
            return f"contact by hash {self.value[:8]}…"
        return "contact by unicity (hidden)"

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        if self.kind == "id":
            return f"Contact.by_id({self.value!r})"
        if self.kind == "hash":
            return f"Contact.by_hash('{self.value[:8]}…')"
        return "Contact.by_unicity(<hidden>)"


def parse(contact: str | Contact) -> Contact:
    """The contact that is meant: a `Contact` is returned as it is, a `str` is an id.

    Anything else, and a string that is not a valid id, raises `InvalidContact`.
    """
    if isinstance(contact, Contact):
        return contact
    if isinstance(contact, str):
        return Contact("id", contact)
    if isinstance(contact, (bytes, bytearray)):
        hint = "Decode it to str first"
    elif isinstance(contact, Number):  # those of NumPy, too
        hint = "Keep ids as str all the way from their source: as a number, an id loses its leading zeros and letters"
    else:
        hint = "Pass its id as str, or Contact.by_unicity() or Contact.by_hash()"
    raise InvalidContact(f"A contact is a str or a Contact, not {_type_name(contact)}. {hint}.")


def target_path(contact: Contact, below: str = "") -> tuple[str, str]:
    """Path and query of the contact, percent-encoded: to be sent as they are, never quoted again.

    `below` is the rest of the path, such as `/events/bounces`; empty for the contact itself. A contact by unicity or
    hash is addressed by a query parameter; by id, the query is empty.
    """
    if contact.kind == "id":  # every character an id may have stands for itself in a path segment
        return f"/targets/{contact.value}{below}", ""
    return f"/targets{below}", f"{contact.kind}={quote(contact.value, safe='')}"


def path_template(contact: Contact, below: str = "") -> str:
    """The path as logs may show it: `/targets/{id}/events/bounces`, never the value, never a query."""
    return f"/targets/{{id}}{below}" if contact.kind == "id" else f"/targets{below}"


def parse_segment(segment: int | str) -> str:
    """The id of a segment as a path segment; raises `InvalidInput`. The characters allowed are those of contact ids."""
    return _parse_number(segment, "segment", "Pass the id that np6.segments.list() shows.")


def parse_campaign(campaign: int | str) -> str:
    """The id of a campaign as a path segment; raises `InvalidInput`. The characters are those of contact ids."""
    return _parse_number(campaign, "campaign", "Pass the id as NP6 shows it.")


def check_item(item: object) -> int | str:
    """The id of an item of a campaign, an int or a str as it was given; raises `InvalidInput`."""
    value = _parse_number(item, "item", "Pass the ids of the campaign's items as NP6 gives them.")
    return value if isinstance(item, str) else int(value)


def _parse_number(given: object, name: str, hint: str) -> str:
    if isinstance(given, str):
        value = str.__str__(given)
    elif isinstance(given, int) and not isinstance(given, bool):
        if not 0 <= given < 10**256:
            raise InvalidInput(f"The {name} id is {'negative' if given < 0 else 'too large'}. {hint}")
        value = str(int(given))
    else:
        raise InvalidInput(f"The {name} id is an int or a str, not {_type_name(given)}. {hint}")
    if problem := id_problem(value):
        raise InvalidInput(f"The {name} id {problem}. {hint}")
    return value


def _set_plain(contact: Contact, name: str, given: object) -> None:
    """Replace a str subclass by its text (an enum member formats as its name); refuse anything else."""
    if not isinstance(given, str):
        raise InvalidContact(f"A contact's {name} is a str, not {_type_name(given)}.")
    object.__setattr__(contact, name, str.__str__(given))


def id_problem(value: str) -> str | None:
    """Why it cannot be an id, as the end of a sentence; None where it can."""
    if _ID.fullmatch(value):
        return None
    if not value:
        return "is empty"
    if value in {".", ".."}:
        return "is a dot segment, which would change the path of the request"
    if len(value) > 256:
        return f"has {len(value)} characters, more than 256"
    at = next(i for i, character in enumerate(value) if not _ID_CHARACTER.match(character))
    return f"has {_code_point(value[at])} at index {at}; allowed are 0-9 A-Z a-z . _ ~ : + = -"


def _check_unicity(value: str) -> None:
    if not 1 <= len(value) <= _UNICITY_LIMIT:
        raise InvalidContact(
            f"The contact's unicity value has {len(value)} characters; 1 to {_UNICITY_LIMIT} are allowed."
        )
    if value.isprintable():  # the usual case; otherwise look more closely
        return
    for at, character in enumerate(value):
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise InvalidContact(
                f"The contact's unicity value has {_code_point(character)} at index {at}: control characters "
                "and lone surrogates cannot be sent. Strip line ends, and decode the source as UTF-8."
            )


def _refuse_hash(value: str) -> NoReturn:
    if len(value) != 32:
        problem = f"has {len(value)} characters"
    else:
        at = next(i for i, character in enumerate(value) if character not in "0123456789abcdefABCDEF")
        problem = f"has {_code_point(value[at])} at index {at}"
    raise InvalidContact(f"The contact's hash {problem}; it is 32 hex digits (0-9 a-f).")


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def _type_name(given: object) -> str:
    return type(given).__name__
