"""What becomes of personal data in files: kept, replaced by a keyed hash, or left out."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import unquote

from .._errors import InvalidInput
from .._models.contacts import Contact
from .._models.convert import dumps, loads
from .schema import Cell, Column

Personal: TypeAlias = Literal["keep", "hash", "drop"]
PersonalKey: TypeAlias = "bytes | str | os.PathLike[str] | None"

_LEAST_KEY: Final = 16  # bytes
_MOST_KEPT: Final = 8_192  # hashes
_REMOVED: Final = "[e-mail]"
# An address in any text, also in a URL: what stands around its @ up to white space or a delimiter.
_IN_ADDRESS: Final = r"[^\s<>()\[\]{}\"'`,;:=&/?#|\\@%]"
_ADDRESS: Final = re.compile(rf"{_IN_ADDRESS}+(?:@|%40){_IN_ADDRESS}*[^\W_]", re.IGNORECASE)
# Members that name a contact: a text as such, an object in one of the notations of a receiver.
_REFERENCES: Final = frozenset({"receiver", "recipient", "contact"})


class Mask:
    """Takes persons out of cells and JSON; made by `make_mask`.

    With a `key`, a unicity, hash or address becomes the HMAC-SHA-256 of its lower case, as 64 hexadecimal digits, so
    that equal ones stay equal; without one it is left out. So do the e-mail addresses in any other text, which without
    a key become ``[e-mail]``. Ids of contacts stay: they are how rows are joined. A name or telephone number in free
    text is not recognised.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._hash = lru_cache(_MOST_KEPT)(self._make_hash)

    @property
    def fingerprint(self) -> str:
        """Tells one key from another, and nothing else; empty without one."""
        return "" if self._key is None else self._make_hash("np6_async")[:16]

    def whole(self, text: str) -> str | None:
        """What stands for a text that names a person."""
        return None if self._key is None else self._hash(text)

    def contact(self, contact: Contact) -> str | None:
        """What stands for a contact."""
        return contact.value if contact.kind == "id" else self.whole(contact.value)

    def inside(self, text: str) -> str:
        """`text` without the e-mail addresses in it."""
        return _ADDRESS.sub(self._address, text) if "@" in text or "%40" in text else text

    def data(self, node: Any, name: str = "") -> Any:
        """JSON as plain types; `name` is the member that it is the value of."""
        if isinstance(node, str):
            return self.whole(node) if name in _REFERENCES else self.inside(node)
        if isinstance(node, list):
            return [self.data(each, name) for each in node]
        if isinstance(node, dict):
            if name in _REFERENCES:
                return self._reference(node)
            return {self.inside(member): self.data(value, member) for member, value in node.items()}
        return node

    def cells(self, column: Column, cells: Sequence[Cell]) -> Sequence[Cell]:
        """The cells of a column; those of `contact` are left to `contact`."""
        if column.personal is None or column.name == "contact":
            return cells
        if column.personal == "whole":
            return [cell and self.whole(str(cell)) for cell in cells]
        if column.type == "json":
            return [cell and dumps(self.data(loads(str(cell).encode()))).decode() for cell in cells]
        return [cell and self.inside(str(cell)) for cell in cells]

    def _reference(self, node: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for member, value in node.items():
            if member == "value" and isinstance(value, dict):
                found[member] = self._reference(value)
            elif member in ("unicity", "hash") or (member == "value" and node.get("type") != "id"):
                found[member] = self._everything(value)
            else:
                found[self.inside(member)] = self.data(value, "" if member in ("id", "value") else member)
        return found

    def _everything(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._everything(each) for each in value]
        if isinstance(value, dict):
            return {self.inside(member): self._everything(each) for member, each in value.items()}
        return value if value is None or isinstance(value, bool) else self.whole(str(value))

    def _address(self, match: re.Match[str]) -> str:
        return self.whole(unquote(match[0])) or _REMOVED

    def _make_hash(self, text: str) -> str:
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
        try:
            key = Path(key).read_bytes().strip()
        except OSError as error:
            raise InvalidInput(f"personal_key= cannot be read: {error.strerror or error}") from None
    if len(key) < _LEAST_KEY:
        raise InvalidInput(
            f"the key of personal_key= has {len(key)} bytes; use at least {_LEAST_KEY}, such as: openssl rand -hex 32"
        )
    return Mask(key)
