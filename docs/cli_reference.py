"""The reference of the command, made of its parser.

python docs/cli_reference.py > docs/cli.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from textwrap import dedent

from np6_async.cli._parser import build_parser

HEAD = """\
# The command `np6`

`np6 COMMAND --help` shows the same in a terminal.
[Exporting](how-to/export.md) shows the commands that write files at work.
"""

NOT_SHOWN = ("help", "version")


class Markdown(argparse.HelpFormatter):
    """Lays a help page out as Markdown: a table for each group of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self.parts = [f"## {prog}"]
        self.commands: dict[str, argparse.ArgumentParser] = {}
        self._heading = ""

    def add_usage(self, *_: object, **__: object) -> None:
        """There is none: the tables show the options."""

    def start_section(self, heading: str | None) -> None:
        self._heading = heading or ""

    def end_section(self) -> None:
        self._heading = ""

    def add_text(self, text: str | None) -> None:
        for block in (text or "").strip().split("\n\n"):
            title, _, rest = block.partition(":\n")
            if rest.startswith("  "):
                self.parts.append(f"**{title[0].upper()}{title[1:]}**")
                self.parts.append(f"```text\n{dedent(rest).rstrip()}\n```")
            elif block:
                self.parts.append(block)

    def add_arguments(self, actions: Iterable[argparse.Action]) -> None:
        rows = []
        for action in actions:
            if isinstance(action.choices, dict):
                self.commands |= action.choices
            elif action.help != argparse.SUPPRESS and action.dest not in NOT_SHOWN:
                rows.append(f"| {names(action)} | {action.help} |")
        if rows:
            self.parts.append("\n".join([f"| {self._heading} | |", "|---|---|", *rows]))

    def format_help(self) -> str:
        sections = ["\n\n".join(self.parts) + "\n"]
        for command in self.commands.values():
            command.formatter_class = Markdown
            sections.append(command.format_help())
        return "\n".join(sections)


def names(action: argparse.Action) -> str:
    """The names of an option and its value, such as `-o`, `--output FILE`."""
    value = action.metavar or ""
    if action.choices and not action.metavar:
        value = f"{{{','.join(action.choices)}}}"
    *others, last = action.option_strings or [""]
    return ", ".join(f"`{name}`" for name in [*others, f"{last} {value}".strip()])


def page() -> str:
    """The whole page."""
    parser = build_parser()
    parser.formatter_class = Markdown
    return f"{HEAD}\n{parser.format_help()}"


if __name__ == "__main__":
    sys.stdout.write(page())
