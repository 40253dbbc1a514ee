"""The README begins as .ci/run and a newcomer expect. That what it shows is what happens: tests/docs/test_docs.py."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_readme_begins_with_the_two_commands() -> None:
    commands = re.findall(r"^python3 -m venv .*$", TEXT, re.MULTILINE)
    assert [command.split()[-1] for command in commands] == ["demo", "pytest"]
    assert TEXT.index(commands[0]) < TEXT.index("## Quick start")
