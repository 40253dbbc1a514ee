"""The README is executed: what it shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import np6_async._client
from np6_async.testing import FakeNP6

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_python_block_runs_as_it_stands(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server it talks to is the fake one, which knows the contacts of the README."""
    with FakeNP6(contacts=0) as server:
        other = FakeNP6(contacts=1, events_per_contact=60)
        for contact in ("000MLGPR", "0013KDC0"):
            server.add_contact(contact, other.events(other.contact_ids[0]))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setattr(np6_async._client, "BASE_URL", server.url)
        code = compile(BLOCKS[number], f"README.md, Python block {number}", "exec")
        exec(code, {"__name__": "readme"})  # noqa: S102 - the README's own code


def test_the_readme_begins_with_the_two_commands() -> None:
    commands = re.findall(r"^python3 -m venv .*$", TEXT, re.MULTILINE)
    assert [command.split()[-1] for command in commands] == ["demo", "pytest"]
    assert TEXT.index(commands[0]) < TEXT.index("## Quick start")


def test_every_file_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target
