"""The parser of the command line: what is refused before anything runs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any, Final, NoReturn

from .. import __version__
from . import _help_texts as texts
from ._exit import USAGE
from ._messages import BadInput
from ._profiles import applied
from ._suggestions import example_of, for_command, for_option
from ._synopsis import COMMANDS

_KEY_OPTIONS: Final = ("--api-key", "--api_key", "--apikey", "--key", "--x-key", "--token")
_NO_COMMAND: Final = re.compile(r"argument COMMAND: invalid choice: '([^']{1,40})'")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        if message in ("argument --start: expected one argument", "argument --end: expected one argument"):
            message += ", such as 7d: a span back from now has no minus"
        if (found := _NO_COMMAND.match(message)) is not None:
            message = f"there is no command {found[1]!r}{for_command(found[1])}"
        self.exit(USAGE, f"{self.prog}: error: {message} (see '{self.prog} --help')\n")


class _Main(_Parser):
    """Says where options belong: after the command."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        name = next(iter(args or ()), "").partition("=")[0]
        if (example := example_of(name)) is not None:
            self.error(f"options come after the command, such as {example}")
        return super().parse_known_args(args, namespace)


class _Command(_Parser):
    """Says itself which option it does not know, and takes contacts after options as well as before them."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        given = list(args or ())
        parsed, extras = super().parse_known_args(args, namespace)
        ends = extras.index("--") if "--" in extras else len(extras)
        unknown = next((extra for extra in extras[:ends] if extra.startswith("-")), None)
        if unknown is not None:
            name, command = unknown.partition("=")[0], self.prog.rpartition(" ")[2]
            self.error(f"there is no option {_shown(unknown, given)}{for_option(name, command)}")
        extras = extras[:ends] + extras[ends + 1 :]
        if extras:
            if not isinstance(getattr(parsed, "contacts", None), list):
                self.error("there is an argument too many")
            parsed.contacts = [*parsed.contacts, *extras]
        return parsed, []


def _shown(option: str, given: Sequence[str]) -> str:
    """An unknown option with its value, if that is a small number; others may be a secret or an address."""
    name = option.partition("=")[0][:40]
    after = given[given.index(option) + 1 :] if option in given else []
    value = next(iter(after), "")
    return f"{name} {value}" if value.isdecimal() and len(value) < 8 else name


class _RefuseKey(argparse.Action):
    """An API key given as an option, out of habit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        parser.error(
            "the API key is not an option, because other users of the machine can read command lines and shells "
            "keep them; set NP6_API_KEY to the key, or NP6_API_KEY_FILE to a file that holds it"
        )


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `run` of its result is the function to call with that result."""
    layout: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = _Main(
        prog="np6",
        description="Contact events of NP6 (ChapsVision CM), fetched concurrently.",
        epilog=texts.MAIN,
        **layout,
    )
    _refuse_keys(parser)
    parser.add_argument("--version", action="version", version=f"np6_async {__version__}")
    *others, last = COMMANDS
    parser.set_defaults(run=lambda _: parser.error(f"say what to do: np6 {', '.join(others)} or {last}"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Command)
    for name, spec in COMMANDS.items():
        command = commands.add_parser(
            name, help=spec.summary, description=spec.description, epilog=spec.epilog, **layout
        )
        _refuse_keys(command)
        for title, options in spec.groups.items():
            group = command.add_argument_group(title) if title else command
            for names, settings in options:
                group.add_argument(*names, **settings)
        command.set_defaults(command=name, run=partial(_run, name), usage_error=command.error)
    return parser


def _refuse_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(*_KEY_OPTIONS, action=_RefuseKey, nargs="?", dest="_key", help=argparse.SUPPRESS)


def _run(name: str, options: argparse.Namespace) -> int:
    if name == "events" and (options.account or options.action):
        name = "action_events"
    name = name.replace("-", "_")
    try:
        with applied(options) if hasattr(options, "profile") else nullcontext():
            return _command(name, options)
    except BadInput as error:
        options.usage_error(str(error))
        raise


def _command(name: str, options: argparse.Namespace) -> int:
    module = import_module(f"._{name}", __package__)  # the others are not needed
    code: int = getattr(module, f"{name.title().replace('_', '')}Command")(options).run()
    return code
