"""The API key: where it is found, and an object that does not show it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from .._errors import ConfigError

_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")
# What `account` is for: other uses of a key that hash it get something else. Another law of the pace needs another one.
_PERSON: Final = b"np6_async.pace.1"


class ApiKey:
    """An API key that does not show itself: not in a repr, a format, a pickle or a traceback with locals."""

    __slots__ = ("_reveal",)

    def __init__(self, value: str) -> None:
        # A closure and not an attribute: what prints an object's members finds a function.
        self._reveal: Callable[[], str] = lambda: value

    def reveal(self) -> str:
        """The key itself."""
        return self._reveal()

    def account(self, origin: str, salt: bytes = b"") -> str:
        """A name for the key at the server `origin`, from which nobody learns the key.

        It is the same in every process that knows `salt`.
        """
        word = hashlib.blake2b(self._reveal().encode(), digest_size=16, key=salt, person=_PERSON)
        word.update(f"\n{origin}".encode())
        return word.hexdigest()

    def __repr__(self) -> str:
        return "ApiKey('***')"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an API key is not pickled: give the other process its own")


def find_key(api_key: str | ApiKey | None) -> ApiKey | ConfigError:
    """The key from the argument or the environment, or what is wrong with it, which never quotes it.

    The error is not raised here: the caller's frame still holds the key.
    """
    if isinstance(api_key, ApiKey):
        return api_key
    source = "api_key"
    if api_key is None and (api_key := os.environ.get("NP6_API_KEY")) is not None:
        source = "NP6_API_KEY"
    if api_key is None and (path := os.environ.get("NP6_API_KEY_FILE")) is not None:
        source = "the file that NP6_API_KEY_FILE names"
        try:
            api_key = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            return ConfigError(f"{source} cannot be read: {type(error).__name__}")
    if api_key is None:
        return ConfigError(
            "no API key: pass NP6Client(api_key), or set NP6_API_KEY to the key or NP6_API_KEY_FILE to a file with it"
        )
    if not isinstance(api_key, str) or not _KEY.fullmatch(api_key):
        return ConfigError(
            f"{source} is not a valid API key: 1 to 512 printable ASCII characters without spaces are expected"
        )
    return ApiKey(api_key)
