"""What becomes of personal data in files: kept, replaced by a keyed hash, or left out."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from .._errors import InvalidInput, LimitExceeded
from .._models.contacts import Contact
from .._models.convert import dumps, loads
from .addresses import replace_addresses
from .schema import Cell, Column

Personal: TypeAlias = Literal["keep", "hash", "drop"]
PersonalKey: TypeAlias = "bytes | str | os.PathLike[str] | None"

_LEAST_KEY: Final = 16  # bytes
_MOST_KEPT: Final = 8_192  # hashes, of texts that are no longer than this
_LONGEST_KEPT: Final = 256
_REMOVED: Final = "[e-mail]"
# Members that name a contact: a text as such, an object in one of the notations of a receiver.
_REFERENCES: Final = frozenset({"receiver", "recipient", "contact"})
_NOTATIONS: Final = frozenset({"footprint", "unicity", "hash", "contact"})
_NAMING: Final = frozenset({"unicity", "hash"})


class Mask:
    """Takes persons out of cells and JSON; made by `make_mask`.

    With a `key`, a unicity, hash or address becomes the HMAC-SHA-256 of its lower case, as 64 hexadecimal digits, so
    that equal ones stay equal; without one it is left out. So do the e-mail addresses in any other text, which without
    a key become ``[e-mail]``. Ids of contacts stay: they are how rows are joined. A name or telephone number in free
    text is not recognised.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._kept_hash = lru_cache(_MOST_KEPT)(self._hash)

    @property
    def fingerprint(self) -> str:
        """Tells one key from another, and nothing else; empty without one."""
        return "" if self._key is None else self._hash("np6_async")[:16]

    def whole(self, text: str) -> str | None:
        """What stands for a text that names a person."""
        if self._key is None:
            return None
        return self._kept_hash(text) if len(text) <= _LONGEST_KEPT else self._hash(text)

    def contact(self, contact: str | Contact) -> str | None:
        """What stands for a contact, given as one or as its id. An address is no id, wherever it is given as one."""
        if isinstance(contact, str):
            return contact if self.inside(contact) == contact else self.whole(contact)
        return self.contact(contact.value) if contact.kind == "id" else self.whole(contact.value)

    def inside(self, text: str) -> str:
        """`text` without the e-mail addresses in it."""
        return replace_addresses(text, self._address)

    def data(self, node: Any) -> Any:
        """JSON as plain types. Raises `LimitExceeded` where it is nested too deeply."""
        try:
            return self._data(node, "")
        except RecursionError:
            pass
        raise LimitExceeded("an event is nested too deeply for its personal data to be found")

    def cells(self, column: Column, cells: Sequence[Cell]) -> Sequence[Cell]:
        """The cells of a column; those of `contact` are left to `contact`."""
        if column.name == "contact":
            return cells
        if column.personal == "whole":
            return [self.whole(cell) if isinstance(cell, str) and cell else cell for cell in cells]
        if column.type == "json":
            return [
                dumps(self.data(loads(cell.encode()))).decode() if isinstance(cell, str) else cell for cell in cells
            ]
        return [self.inside(cell) if isinstance(cell, str) else cell for cell in cells]

    def _data(self, node: Any, name: str) -> Any:
        """`name` is the member that it is the value of."""
        if isinstance(node, list):
            return [self._data(each, name) for each in node]
        if isinstance(node, dict):
            kind = node.get("type")
            if name in _REFERENCES or name in _NAMING or (isinstance(kind, str) and kind in _NOTATIONS):
                return self._reference(node)
            return self._members((member, self._data(value, member)) for member, value in node.items())
        if name in _REFERENCES or name in _NAMING:
            return self._everything(node)
        return self.inside(node) if isinstance(node, str) else node

    def _reference(self, node: dict[str, Any]) -> dict[str, Any]:
        """An object that names a contact: nothing of it stays but its notation and its id."""
        found: list[tuple[str, Any]] = []
        for member, value in node.items():
            if isinstance(value, dict):
                found.append((member, self._reference(value)))
            elif member in ("type", "id") or (member == "value" and node.get("type") == "id"):
                found.append((member, self._data(value, "")))
            else:
                found.append((member, self._everything(value)))
        return self._members(found)

    def _everything(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._everything(each) for each in value]
        if isinstance(value, dict):
            return self._reference(value)
        if value is None or value == "" or isinstance(value, bool):
            return value
        return self.whole(str(value))

    def _members(self, members: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """An object with them, of which none takes the place of another that has the same name once masked."""
        made: dict[str, Any] = {}
        for member, value in members:
            name = plain = self.inside(member)
            number = 1
            while name in made:
                number += 1
                name = f"{plain} {number}"
            made[name] = value
        return made

    def _address(self, address: str) -> str:
        return self.whole(address) or _REMOVED

    def _hash(self, text: str) -> str:
        assert self._key is not None
        return hmac.new(self._key, text.strip().lower().encode(), sha256).hexdigest()

    def __repr__(self) -> str:
        return "Mask(drop)" if self._key is None else "Mask(hash)"


def make_mask(personal: str, key: PersonalKey) -> Mask | None:
    """The mask of ``"hash"`` or ``"drop"``; None for ``"keep"``. A `key` that is not bytes is a file that holds it.

    Raises `InvalidInput`.
    """
    if personal not in get_args(Personal):
        raise InvalidInput(f"personal={personal!r} is not known; use 'keep', 'hash' or 'drop'")
    if (key is not None) != (personal == "hash"):
        raise InvalidInput(
            "personal='hash' needs personal_key=, a file that holds the key"
            if key is None
            else f"personal_key= is for personal='hash', not for {personal!r}"
        )
    if key is None:
        return None if personal == "keep" else Mask(None)
    if not isinstance(key, bytes):
        key = read_key(key)
    if len(key) < _LEAST_KEY:
        raise InvalidInput(
            f"the key of personal_key= has {len(key)} bytes; use at least {_LEAST_KEY}, such as: openssl rand -hex 32"
        )
    return Mask(key)


def read_key(file: str | os.PathLike[str]) -> bytes:
    """The key in a file; raises `InvalidInput`."""
    try:
        return Path(file).read_bytes().strip()
    except OSError as error:
        raise InvalidInput(f"personal_key= cannot be read: {error.strerror or type(error).__name__}") from None
    except (TypeError, ValueError):
        raise InvalidInput("personal_key= is neither bytes nor the path of a file") from None
