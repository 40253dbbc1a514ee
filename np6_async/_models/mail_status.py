"""What an enhanced status code of mail means, in words: a table that is read when it is first asked for."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final

from attrs import frozen

_CODE: Final = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})", re.ASCII)
_MOST: Final = 4_096  # codes whose words are kept; an account has some dozens


@frozen
class _Table:
    """The words for classes, for subjects and for registered details, and those of mail providers."""

    classes: dict[str, str]
    subjects: dict[str, str]
    codes: dict[str, str]
    also: dict[str, str]  # by code: a second sense that a provider gives it
    ranges: dict[str, list[tuple[int, int, str]]]  # by class and subject: first detail, last, words


@cache
def _table() -> _Table:
    # Here, so that nobody waits for them who has no bounces to read.
    import tomllib
    from importlib.resources import files

    read = tomllib.loads(files("np6_async._models").joinpath("mail_status.toml").read_text(encoding="utf-8"))
    also: dict[str, str] = {}
    ranges: dict[str, list[tuple[int, int, str]]] = {}
    for provider in read["providers"]:
        also |= {code: f"; from {provider['name']}: {words}" for code, words in provider.get("also", {}).items()}
        for code, words in provider.get("codes", {}).items():
            place, _, details = code.rpartition(".")
            first, _, last = details.partition("-")
            ranges.setdefault(place, []).append((int(first), int(last or first), words))
    return _Table(read["classes"], read["subjects"], read["codes"], also, ranges)


@lru_cache(_MOST)
def meaning(code: str) -> str | None:
    """What ``5.1.1`` means: ``"The mailbox does not exist (permanent)"``. None for what is not such a code.

    A code that is neither registered nor a known provider's is described by its subject, and one of an unknown subject
    by its class.
    """
    parts = _CODE.fullmatch(code.strip())
    if parts is None:
        return None
    kind, subject, detail = parts[1], int(parts[2]), int(parts[3])
    table = _table()
    registered = table.codes.get(f"{subject}.{detail}")
    if registered is not None:
        words = registered + table.also.get(f"{kind}.{subject}.{detail}", "")
    else:
        ranges = table.ranges.get(f"{kind}.{subject}", ())
        theirs = (words for first, last, words in ranges if first <= detail <= last)
        words = next(theirs, table.subjects.get(str(subject), table.subjects["0"]))
    return f"{words} ({table.classes[kind]})"
