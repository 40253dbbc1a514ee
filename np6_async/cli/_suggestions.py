"""What whoever mistypes a command or an option may have meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from ._synopsis import COMMANDS

_CUTOFF: Final = 0.8


def for_command(text: str) -> str:
    """What to say instead of a command that there is not."""
    close = get_close_matches(text.lower().replace("_", "-"), COMMANDS, n=1, cutoff=_CUTOFF)
    if close:
        return f"; did you mean {close[0]!r}?"
    *others, last = COMMANDS
    return f": say {', '.join(others)} or {last}"


def for_option(name: str, command: str) -> str:
    """What to say instead of an option that `command` does not have; empty where there is no telling."""
    own = _options(command)
    if close := get_close_matches(name.lower().replace("_", "-"), own, n=1, cutoff=_CUTOFF):
        return f"; did you mean {close[0]}?"
    if homes := [f"np6 {other}" for other in COMMANDS if name in _options(other)]:
        *others, last = homes
        return f"; {', '.join(others)} and {last} have it" if others else f"; {last} has it"
    return ""


def example_of(name: str) -> str | None:
    """A command with this option; None where no command has it."""
    return next((f"np6 {command} {name}" for command in ("events", *COMMANDS) if name in _options(command)), None)


def _options(command: str) -> list[str]:
    groups = COMMANDS[command].groups.values()
    return [name for options in groups for names, _ in options for name in names if name.startswith("-")]
