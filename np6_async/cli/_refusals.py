"""What is wrong with a contact, in words that never quote it."""

from __future__ import annotations

import re
from typing import Final, Literal

By = Literal["id", "unicity", "hash"]

_NO_ID: Final = re.compile(r"[^0-9A-Za-z._~:+=-]")
_NO_HASH: Final = re.compile(r"[^0-9A-Fa-f]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ADDRESSES: Final = "e-mail addresses need --by unicity"


def refusal(by: By, value: str) -> tuple[str, str]:
    """What is wrong with a `value` that is no contact by `by`, and what to do about it."""
    if not value:
        return "is empty", "give a contact, such as 000MLGPR"
    if by != "unicity" and "@" in value:
        return "contains '@'", _ADDRESSES
    if by != "unicity" and "," in value:
        return "contains a comma", "separate contacts with blanks on the command line, with line ends in a file"
    if by == "id":
        hint = "an id is made of 0-9 A-Z a-z . _ ~ : + = -; other values need --by unicity or --by hash"
        if value in {".", ".."}:
            return "is made of dots only", hint
        if len(value) > 256:
            return f"has {len(value)} characters, more than 256", hint
        return _character(_NO_ID, value), hint
    if by == "hash":
        hint = f"a hash is 32 hex digits (0-9 a-f); ids need --by id, {_ADDRESSES}"
        if len(value) != 32:
            return f"has {len(value)} characters, not 32", hint
        return _character(_NO_HASH, value), hint
    if len(value) > 1024:
        return f"has {len(value)} characters, more than 1024", "this is no value of a unicity field"
    return _character(_CONTROL, value), "control characters cannot be sent"


def _character(pattern: re.Pattern[str], value: str) -> str:
    found = pattern.search(value)
    return f"contains U+{ord(found[0]):04X} as character {found.start() + 1}" if found else "is no contact"
