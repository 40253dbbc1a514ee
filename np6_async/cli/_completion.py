"""`np6 completion`: what a shell is to complete, as a script for it, made of the options of the commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import frozen

from ._exit import DONE
from ._synopsis import COMMANDS, Synopsis

_DETAILS: Final = re.compile(r"[;:] | \(")  # in a help text: what the option is comes before them
_HELP: Final = ["-h", "--help"]


@frozen
class _Argument:
    """An option or, without names, an argument: what its value can be. No `value`: it takes none."""

    names: Sequence[str]
    summary: str
    value: str | None
    choices: Sequence[str]
    repeated: bool

    @classmethod
    def of(cls, names: Sequence[str], settings: dict[str, Any]) -> _Argument:
        choices: Sequence[str] = settings.get("choices") or ()
        action = settings.get("action", "store")
        value = settings.get("metavar") or "VALUE" if action in ("store", "append") else None
        return cls(
            [name for name in names if name.startswith("-")],
            _DETAILS.split(settings["help"])[0],
            value,
            choices,
            action in ("append", "count"),
        )

    @property
    def is_file(self) -> bool:
        """Whether the value is a file or a folder."""
        return self.value in ("FILE", "FOLDER")


def _arguments(synopsis: Synopsis) -> list[_Argument]:
    made = [_Argument.of(*each) for options in synopsis.groups.values() for each in options]
    return [*made, _Argument(_HELP, "show the help", None, (), repeated=False)]


# bash


def _bash() -> Iterator[str]:
    yield "# np6 in bash: source <(np6 completion bash)"
    yield "_np6() {"
    yield "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= word words="
    yield "  # --kind=hits is three words here."
    yield "  if [[ $current == = ]]; then"
    yield "    current="
    yield "  elif [[ $before == = ]]; then"
    yield "    before=${COMP_WORDS[COMP_CWORD-2]}"
    yield "  fi"
    yield '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield "    case $word in"
    yield f"      {'|'.join(COMMANDS)}) command=$word; break ;;"
    yield "    esac"
    yield "  done"
    yield "  COMPREPLY=()"
    yield "  case $command:$before in"
    for command, synopsis in COMMANDS.items():
        files, others = [], []
        for argument in _arguments(synopsis):
            named = [f"{command}:{name}" for name in argument.names]
            if argument.choices and named:
                yield f'    {"|".join(named)}) words="{" ".join(argument.choices)}" ;;'
            elif argument.is_file:
                files += named
            elif argument.value is not None:
                others += named
        if files:
            yield f"    {'|'.join(files)}) return ;;  # the shell does, by -o default"
        if others:
            yield f"    {'|'.join(others)}) ;;"
    yield f'    :*) words="{" ".join([*COMMANDS, *_HELP, "--version"])}" ;;'
    for command, synopsis in COMMANDS.items():
        arguments = _arguments(synopsis)
        words = [name for argument in arguments for name in argument.names]
        words += [choice for argument in arguments if not argument.names for choice in argument.choices]
        yield f'    {command}:*) words="{" ".join(words)}" ;;'
    yield "  esac"
    yield "  compopt +o default 2> /dev/null  # no files"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield "complete -o default -F _np6 np6"


# zsh


def _zsh() -> Iterator[str]:
    yield "#compdef np6"
    yield "# np6 in zsh: source <(np6 completion zsh), after compinit"
    yield "_np6() {"
    yield "  local curcontext=$curcontext state line"
    yield "  local -A opt_args"
    yield "  local -a commands"
    yield "  _arguments -C '(- *)'{-h,--help}'[show the help]' '(- *)--version[show the version]' \\"
    yield "    '1:command:->command' '*::argument:->argument'"
    yield "  case $state in"
    yield "    command)"
    yield "      commands=("
    for command, synopsis in COMMANDS.items():
        yield f"        {_quoted(f'{command}:{synopsis.summary}')}"
    yield "      )"
    yield "      _describe -t commands 'np6 command' commands ;;"
    yield "    argument)"
    yield "      case $words[1] in"
    for command, synopsis in COMMANDS.items():
        yield f"        {command})"
        yield f"          _arguments -S {_continued(_zsh_arguments(synopsis), 12)} ;;"
    yield "      esac ;;"
    yield "  esac"
    yield "}"
    yield "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then"
    yield '  _np6 "$@"'
    yield "else"
    yield "  compdef _np6 np6"
    yield "fi"


def _zsh_arguments(synopsis: Synopsis) -> Iterator[str]:
    for argument in _arguments(synopsis):
        action = "_files" if argument.is_file else f"({' '.join(argument.choices)})" if argument.choices else " "
        value = "" if argument.value is None else f":{argument.value}:{action}"
        if not argument.names:
            yield _quoted(f"*{value}")
            continue
        summary = re.sub(r"([\[\]:\\])", r"\\\1", argument.summary)
        others = "*" if argument.repeated else f"({' '.join(argument.names)})"
        for name in argument.names:
            yield _quoted(f"{others}{name}[{summary}]{value}")


def _continued(arguments: Iterator[str], indent: int) -> str:
    return (" \\\n" + " " * indent).join(["", *arguments]).lstrip(" ")


# fish


def _fish() -> Iterator[str]:
    yield "# np6 in fish: np6 completion fish > ~/.config/fish/completions/np6.fish"
    yield "complete -c np6 -f"
    yield "complete -c np6 -s h -l help -d 'show the help'"
    yield "complete -c np6 -n __fish_use_subcommand -l version -d 'show the version'"
    for command, synopsis in COMMANDS.items():
        yield f"complete -c np6 -n __fish_use_subcommand -a {command} -d {_quoted_in_fish(synopsis.summary)}"
    for command, synopsis in COMMANDS.items():
        for argument in _arguments(synopsis):
            if argument.names == _HELP or not (argument.names or argument.choices):
                continue
            words = [f"complete -c np6 -n '__fish_seen_subcommand_from {command}'"]
            words += [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in argument.names]
            if argument.names and argument.value is not None:
                words.append("-r -F" if argument.is_file else "-x")
            if argument.choices:
                words.append(f"-a {_quoted_in_fish(' '.join(argument.choices))}")
            yield " ".join([*words, f"-d {_quoted_in_fish(argument.summary)}"])


def _quoted(text: str) -> str:
    quoted = text.replace("'", "'\\''")
    return f"'{quoted}'"


def _quoted_in_fish(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"


_SHELLS: Final = {"bash": _bash, "zsh": _zsh, "fish": _fish}


class CompletionCommand:
    """One run of `np6 completion`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._shell: str = options.shell

    def run(self) -> int:
        """Print the script; returns the exit code."""
        for line in _SHELLS[self._shell]():
            print(line)
        return DONE
