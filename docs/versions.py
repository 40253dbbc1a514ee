"""The documentation of every release and of main as one site, in docs/_build/site.

    python -m sphinx_polyversion docs/versions.py

Each version is built from its own commit, with the packages of this environment. Its
pages lead to all versions that there are today, which is why all are built each time.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.version import Version
from sphinx_polyversion.driver import DefaultDriver
from sphinx_polyversion.environment import Environment
from sphinx_polyversion.git import Git, GitRef, file_predicate
from sphinx_polyversion.sphinx import CommandBuilder, Placeholder

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "_build" / "site"
# Sphinx may warn here: what a newer Sphinx finds in an old release cannot be changed.
SPHINX = [sys.executable, "-m", "sphinx", "-q", "-d", ".doctrees"]
START = """\
<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={0}/index.html">
<title>np6_async</title>
<a href="{0}/index.html">The documentation of np6_async {0}</a>
"""


class Checkout(Environment):
    """The folder of a version: Sphinx runs there, and so imports the package there."""

    async def run(self, *command: str, **options: Any) -> Any:
        return await super().run(*command, cwd=self.path, **options)


def folder(version: GitRef) -> str:
    return version.name.removeprefix("v")


def in_order(versions: Iterable[GitRef]) -> list[str]:
    """The folders of main and of the releases, the newest first."""
    names = {folder(version) for version in versions}
    return [*names & {"main"}, *sorted(names - {"main"}, key=Version, reverse=True)]


def latest(names: list[str]) -> str:
    """The newest release, candidates left out; before there is one, the first name."""
    finals = (n for n in names if n != "main" and not Version(n).is_prerelease)
    return next(finals, names[0])


def context(driver: Any, version: GitRef, _environment: Environment) -> dict[str, Any]:
    """What the templates of a version are told; conf.py takes it in."""
    names = in_order(driver.targets)
    return {"shown": folder(version), "latest": latest(names), "versions": names}


shutil.rmtree(SITE, ignore_errors=True)
driver = DefaultDriver(
    ROOT,
    SITE,
    vcs=Git("main", r"v\d+\.\d.*", predicate=file_predicate(["docs/conf.py"])),
    builder=CommandBuilder(
        "docs", [*SPHINX, Placeholder.SOURCE_DIR, Placeholder.OUTPUT_DIR]
    ),
    env=Checkout,
    namer=folder,
    data_factory=context,
)
driver.run(sequential=True)
if not driver.targets:
    sys.exit("Nothing to build: there is no branch main, and no tag such as v1.0.0.")
if failed := [folder(each) for each in driver.targets if each not in driver.builds]:
    sys.exit(f"Not built: {', '.join(failed)}. What Sphinx says of it is above.")
start = START.format(latest(in_order(driver.builds)))
(SITE / "index.html").write_text(start, encoding="utf-8")
