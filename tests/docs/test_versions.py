"""docs/versions.py makes one site of all versions, here of a small repository with the templates of this one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx_polyversion", reason="needs np6_async[docs]")
pytest.importorskip("furo", reason="needs np6_async[docs]")
pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
CONF = (DOCS / "conf.py").read_text(encoding="utf-8")
SETTINGS = re.findall(r"^(?:html_context|html_theme|html_title|templates_path) = .*\n", CONF, re.MULTILINE)
GIT = shutil.which("git") or "git"


class Repository:
    """One whose documentation is a page, and one more in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "docs" / "_build" / "site"
        shutil.copytree(DOCS / "_templates", root / "docs" / "_templates")
        shutil.copy(DOCS / "versions.py", root / "docs")
        conf = ["import json, os\n", "from np6_async import __version__ as version\n", *SETTINGS]
        self.write("docs/conf.py", "".join(conf) + "rst_epilog = f'The package says {version}.'\n")
        self.write("docs/index.rst", "Start\n=====\n\n.. toctree::\n\n   guide/page\n")
        self.write("docs/guide/page.rst", "Page\n====\n\nText.\n\n")
        self.write(".gitignore", "__pycache__\n_build\n")
        self.git("init", "-q", "-b", "main")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def git(self, *words: str) -> str:
        options = ("user.name=A", "user.email=a@example.org", "commit.gpgSign=false", "tag.gpgSign=false")
        command = [GIT, *(word for option in options for word in ("-c", option)), *words]
        return subprocess.run(command, cwd=self.root, check=True, stdout=subprocess.PIPE, text=True).stdout

    def commit(self, version: str, *, tag: str | None = None) -> None:
        self.write("np6_async/__init__.py", f"__version__ = {version!r}\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", version)
        if tag:
            self.git("tag", "-a", tag, "-m", tag)

    def build(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sphinx_polyversion", "docs/versions.py"]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=110, check=False)

    def page(self, name: str) -> str:
        return (self.site / name).read_text(encoding="utf-8")

    def links(self, page: str, inside: str) -> list[str]:
        """Where the links of a part of a page lead, as paths in the site; each is there."""
        found = re.search(rf"<{inside}.*?</{inside.split()[0]}>", self.page(page), re.DOTALL)
        targets = re.findall(r'href="([^"]*)"', found[0]) if found else []
        files = [(self.site / page).parent.joinpath(target).resolve() for target in targets]
        assert all(file.is_file() for file in files)
        return [str(file.relative_to(self.site.resolve())) for file in files]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """0.10.0 is newer than 0.9.0; 0.9.1 came after both, and a candidate is no release yet."""
    repository = Repository(tmp_path_factory.mktemp("repository"))
    for version in ("0.9.0", "0.10.0", "0.9.1", "1.0.0rc1"):
        repository.commit(version, tag=f"v{version}")
    repository.commit("1.0.0.dev0")
    result = repository.build()
    assert result.returncode == 0, result.stderr
    return repository


ALL = ["main", "1.0.0rc1", "0.10.0", "0.9.1", "0.9.0"]
PAGES = ["index.html", "guide/page.html", "genindex.html", "search.html"]


def test_each_version_is_built_from_its_own_commit(built: Repository) -> None:
    for version in ALL[1:]:
        assert f"The package says {version}." in built.page(f"{version}/guide/page.html")
        assert f"<title>np6_async {version}" in built.page(f"{version}/index.html")
    assert "The package says 1.0.0.dev0." in built.page("main/guide/page.html")
    assert "<title>np6_async main" in built.page("main/index.html")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_leads_to_all_versions_the_newest_first(built: Repository, page: str) -> None:
    for version in ALL:
        links = built.links(f"{version}/{page}", 'details class="sidebar-tree versions"')
        assert links == [f"{each}/index.html" for each in ALL]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_another_version_than_the_latest_says_so(built: Repository, page: str) -> None:
    for version in ALL:
        expected = [] if version == "0.10.0" else ["0.10.0/index.html"]
        assert built.links(f"{version}/{page}", 'aside class="announcement-content"') == expected
        assert (f"These pages are of {version};" in built.page(f"{version}/{page}")) == bool(expected)


def test_the_site_begins_with_the_latest_release(built: Repository) -> None:
    assert 'content="0; url=0.10.0/index.html"' in built.page("index.html")
    assert built.links("index.html", "a") == ["0.10.0/index.html"]


def test_the_repository_is_left_as_it_was(built: Repository) -> None:
    assert built.git("status", "--porcelain") == ""
    assert len(built.git("worktree", "list").splitlines()) == 1


def test_without_a_release_the_site_begins_with_main_which_has_no_banner(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.commit("0.1.0")
    assert repository.build().returncode == 0
    assert 'url=main/index.html"' in repository.page("index.html")
    assert 'class="announcement"' not in repository.page("main/index.html")


def test_a_version_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.write("docs/conf.py", "raise RuntimeError('too old')\n")
    repository.commit("0.1.0", tag="v0.1.0")
    result = repository.build()
    assert result.returncode == 1
    assert "too old" in result.stderr
    assert result.stderr.endswith("Not built: main, 0.1.0. What Sphinx says of it is above.\n")
