"""The commands of docs/how-to/report.md make the pages that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from np6_async.cli import main
from np6_async.testing import FakeNP6

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "report.md"
COMMANDS = re.findall(r"^np6 (report .*)$", GUIDE.read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeNP6]:
    with FakeNP6(20, 20) as server:
        other = FakeNP6(contacts=2, events_per_contact=60)
        for contact, like in zip(("000MLGPR", "0013KDC0"), other.contact_ids, strict=True):
            server.add_contact(contact, other.events(like))
        server.add_segment("41", server.contact_ids)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ids.txt").write_text("\n".join(server.contact_ids))
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setenv("NP6_BASE_URL", server.url)
        yield server


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_guide_makes_its_page(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = shlex.split(command)
    assert main(arguments) == 0
    page = Path(arguments[arguments.index("--output") + 1]).read_text("utf-8")
    title = arguments[arguments.index("--title") + 1] if "--title" in arguments else "Messages"
    assert f"<title>{title}</title>" in page
    assert "sent, " in capfd.readouterr().err


def test_the_guide_has_commands() -> None:
    assert len(COMMANDS) == 5
