"""Records: msgspec structs with the face of attrs classes.

msgspec makes a struct of five members eight times as fast as an attrs object, which it asks for each member that is
missing. attrs' tools (`fields`, `asdict`, `evolve`, `has`) and cattrs look at ``__attrs_attrs__`` alone, so a struct
that has it is an attrs class to them, and so it is to type checkers. What differs: assigning to a member raises a plain
AttributeError, there are no weak references, and msgspec, with it `cattrs.preconf.msgspec`, sees the struct.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

__all__ = ["NOT_IN_JSON", "not_in_json", "record"]

_SECRET: Final = secrets.token_hex(8)
NOT_IN_JSON: Final = {"json": False}


def not_in_json(name: str) -> str:
    """What a member is called in JSON that no body can hold: nobody can guess it."""
    return f"{name} {_SECRET}"


def _default(field: Any) -> Any:
    factory = isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]
    return msgspec.field(default_factory=field.default.factory) if factory else field.default


if TYPE_CHECKING:
    from attrs import frozen as record
else:

    def record(cls: type | None = None, **options: Any) -> Any:
        """`attrs.frozen`, with the same options, for a class whose members all have defaults or are keywords.

        Members have neither validators nor converters.

        A member with `NOT_IN_JSON` for its metadata is filled by no member of a body, whatever that is called.
        """
        if cls is None:
            return lambda cls: record(cls, **options)
        written = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
        face = attrs.frozen(cls, slots=False, **options)
        fields = attrs.fields(face)
        members = {name: value for name, value in written.items() if name not in {field.name for field in fields}}
        members |= {field.name: _default(field) for field in fields if field.default is not attrs.NOTHING}
        rename = {field.name: not_in_json(field.name) for field in fields if field.metadata.get("json") is False}
        if options.get("repr", True):
            members["__repr__"] = face.__repr__  # which leaves out what is to be left out
        kept = {name: options[name] for name in ("kw_only", "eq") if name in options}
        struct = type(msgspec.Struct)
        made = struct(cls.__name__, (msgspec.Struct,), members, frozen=True, gc=False, rename=rename, **kept)
        made.__attrs_attrs__ = face.__attrs_attrs__
        return made
