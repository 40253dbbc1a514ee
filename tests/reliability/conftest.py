"""The reliability goals: each a test whose name begins with the goal's id, and a table of what they measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

HERE = Path(__file__).parent
_FIGURES: pytest.StashKey[list[tuple[str, str, str, str]]] = pytest.StashKey()


class Figure(Protocol):
    """Puts a line into the table: the goal's id, what was measured, the goal in words, and the measure."""

    def __call__(self, goal: str, what: str, wanted: str, measured: object) -> None: ...


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.reliability)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Call it with what was measured, before it is asserted: the table shows what failed, too."""

    def add(goal: str, what: str, wanted: str, measured: object) -> None:
        text = f"{measured:,.3f}".rstrip("0").rstrip(".") if isinstance(measured, float) else str(measured)
        request.config.stash[_FIGURES].append((goal, what, wanted, text))

    return add


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    figures = sorted(config.stash[_FIGURES], key=lambda line: (line[0][0], int(line[0][1:]), line[1]))
    if not figures:
        return
    terminalreporter.section("reliability figures")
    widths = [max(len(line[column]) for line in figures) for column in range(4)]
    for line in figures:
        terminalreporter.write_line("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
