"""Converts the raw JSON of one event to records, and back to plain JSON types.

Two ways lead to the same records. msgspec decodes JSON of the documented shape straight into them, ten times faster
than anything that goes through dicts. What does not fit (a string where an object is documented, a number as text) goes
through cattrs, with hooks that keep every part that can be read and leave None for the rest. The JSON itself stays with
the event either way.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import cattrs
import msgspec

from .._errors import LimitExceeded
from . import details
from .details import Identity, Source

# The last millisecond of the year 9999, the last a datetime can hold.
MAX_TIMESTAMP: Final = 253_402_300_799_999
# Epoch milliseconds, checked by msgspec as it decodes.
Timestamp = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP)]

# On arrival an event's identity stays raw, see `Identities`. Type checkers see what it becomes.
if TYPE_CHECKING:
    EnvelopeIdentity = Identity | None
else:
    EnvelopeIdentity = msgspec.Raw

# What a decoder raises for JSON that it cannot read; the last comes from hostile nesting.
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _SourceOnly(msgspec.Struct, gc=False):
    """The part of an event that `structure_source` needs; msgspec skips the other members."""

    source: Source | None = None


class Identities(dict[bytes, Identity | None]):
    """Identities by their JSON. An account has one or a few; sharing them halves the memory of its events."""

    _MOST: Final = 1_000
    _LONGEST: Final = 256  # bytes

    def __missing__(self, raw: bytes) -> Identity | None:
        identity: Identity | None = _decode_identity(raw)
        if len(self) < self._MOST and len(raw) <= self._LONGEST:
            self[raw] = identity
        return identity


_decode_identity: Final = msgspec.json.Decoder(Identity | None).decode
_decode_any: Final = msgspec.json.Decoder().decode
_decode_source: Final = msgspec.json.Decoder(_SourceOnly).decode


def loads(raw: bytes) -> Any:
    """`raw` as plain JSON types; ValueError when it is not JSON, `LimitExceeded` when it is nested too deeply.

    More is accepted than by the fast path, because an event with an odd character is still an event. Control characters
    inside strings are kept. Lone surrogates (``\\ud83d``, half an emoji) and bytes that are not valid UTF-8 become
    U+FFFD, so every text that is returned can be written as UTF-8. Numbers that JSON does not have (NaN, Infinity) and
    those that Python cannot hold (1e999, integers of more than 4,300 digits) are read as null.
    """
    try:
        return _decode_any(raw)
    except UNREADABLE:
        text = raw.decode(errors="replace")
    try:
        data = _decode_leniently(text)
        if "\\ud" in text or "\\uD" in text:
            # Once more as text, in which pairs are whole. The fastest that finds the others is encoding, which makes
            # each a question mark; meanwhile NUL stands for those that were there, because JSON has none.
            text = _encode_unescaped(data).replace("?", "\0").encode(errors="replace").decode()
            data = _decode_leniently(text.replace("?", "\ufffd").replace("\0", "?"))
        return data
    except RecursionError:
        pass
    raise _too_deep()


def dumps(data: Any) -> bytes:
    """`data` as compact JSON that every reader takes: a lone surrogate becomes U+FFFD."""
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:
        return msgspec.json.encode(loads(json.dumps(data).encode()))


def structure_source(raw: bytes) -> Source | None:
    """The typed `source` of an event given as JSON; None when it has none."""
    try:
        return _decode_source(raw).source
    except UNREADABLE:
        source = loads(raw).get("source")
    try:
        return converter.structure(source, Source | None)  # type: ignore[arg-type]
    except RecursionError:
        pass
    raise _too_deep()


def structure_identity(value: Any) -> Identity | None:
    """The typed `identity` of an event given as plain JSON types."""
    return converter.structure(value, Identity | None)  # type: ignore[arg-type]


def _too_deep() -> LimitExceeded:
    return LimitExceeded("an event is nested too deeply to be read")


def _integer(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:
        return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


_decode_leniently: Final = json.JSONDecoder(
    parse_int=_integer, parse_float=_finite, parse_constant=lambda _: None, strict=False
).decode


_encode_unescaped: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def text(value: Any, _: Any = str) -> str | None:
    """`value` as text when it is text or a number; else None."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole_number(value: Any, _: Any = int) -> int | None:
    """`value` as an int when it is a whole number as int, float or numeric text; else None."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, str):
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == value else None


def _unicity(value: Any, _: Any) -> str | list[str] | None:
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    return text(value)


def _contact_value(value: Any, _: Any) -> Any:
    if isinstance(value, dict):
        return converter.structure(value, details.ContactRef)
    return _unicity(value, None)


def _version(value: Any, _: Any) -> Any:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _free_form(value: Any, _: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _build_converter() -> cattrs.Converter:
    """A converter that never fails on JSON input: what has the wrong type becomes None."""
    made = cattrs.Converter(detailed_validation=False)
    made.register_structure_hook(str, text)
    made.register_structure_hook(int, whole_number)
    special = {
        ("ContactRef", "unicity"): _unicity,
        ("ContactRef", "value"): _contact_value,
        ("ActivationDetail", "version"): _version,
        ("ExecutionDetail", "data"): _free_form,
    }

    def record_hook(cls: Any) -> Any:
        overrides = {
            a.name: cattrs.override(struct_hook=special[cls.__name__, a.name])
            for a in attrs.fields(cls)
            if (cls.__name__, a.name) in special
        }
        from_members = cattrs.gen.make_dict_structure_fn(cls, made, **overrides)  # type: ignore[arg-type]

        def structure(value: Any, _: Any) -> Any:
            return from_members(value, cls) if isinstance(value, dict) else None

        return structure

    made.register_structure_hook_factory(lambda cls: getattr(cls, "__module__", "") == details.__name__, record_hook)
    return made


converter: Final = _build_converter()
