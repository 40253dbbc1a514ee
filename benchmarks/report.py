"""The results of a run: tables for the terminal, and RESULTS.md."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .processes import cores

_PACKAGES = (
    "np6_async aiohttp attrs cattrs msgspec yarl multidict orjson httpx httpcore h11 anyio sniffio "
    "pydantic pydantic_core"
)


@dataclass(frozen=True)
class Figure:
    """A measured figure and its target; `met` is None if there is no target."""

    what: str
    target: str
    measured: str
    met: bool | None

    def row(self) -> list[str]:
        """For a table."""
        return [self.what, self.target, self.measured, {True: "met", False: "NOT met", None: ""}[self.met]]


@dataclass
class Section:
    """A scenario's tables."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    # For the chart: by title, then by contender, the median ratio against code by hand.
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown that is also readable in a terminal."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def show(section: Section) -> str:
    """A section as Markdown."""
    parts = [f"## {section.title}", section.note, table(section.head, section.rows)]
    return "\n\n".join(parts)


def targets(sections: list[Section]) -> str:
    """All targets of a run in one table."""
    rows = [figure.row() for section in sections for figure in section.figures]
    return table(["what", "target", "measured", ""], rows)


def machine() -> str:
    """The kind of machine, without its name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {len(cores()) or 'some'} cores, {platform.system()}, {platform.python_implementation()} " + (
        platform.python_version()
    )


def versions() -> str:
    """The packages involved, with their versions."""
    found = []
    for package in _PACKAGES.split():
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def write(path: Path, sections: list[Section], command: str, rounds: int, load: str) -> None:
    """Write RESULTS.md."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = f"""# Benchmark results

Written by `{command}` on {today}. Do not edit.

- Machine: {machine()}; {load}.
- Versions: {versions()}.
- {rounds} interleaved rounds; figures are medians with (least-most); a ratio is taken within each round.
  A difference below 15 % is no claim.

![Throughput against untyped code by hand](chart.svg)

## Targets

{targets(sections)}

"""
    path.write_text(text + "\n\n".join(map(show, sections)) + "\n")
