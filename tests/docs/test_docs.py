"""The READMEs and the pages of docs/ are executed: what they show is what happens, and what they name exists."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp.test_utils import TestClient, TestServer

import np6_async
import np6_async.blocking
import np6_async.export
import np6_async.report
import np6_async.sync
import np6_async.testing
from np6_async import APIError, BulkError, NP6Error, RetryPolicy
from np6_async.cli import main
from np6_async.cli._parser import build_parser
from np6_async.testing import FakeNP6, Fault

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
    *sorted((ROOT / "examples").rglob("README.md")),
]
# Where no more is installed than the tests need, a block that imports one of these is left out; in CI it is not.
OPTIONAL = {"celery", "dlt", "duckdb", "fastapi", "flask", "pandas", "polars", "pyarrow"}
# Its blocks are the cells of a notebook, which tests/examples/test_notebook_page.py runs.
NOTEBOOK = "docs/how-to/notebooks.md"
# The files of this page are a project, which tests/examples/test_web_pages.py serves.
PROJECT = "docs/how-to/django.md"


FENCE = re.compile(
    r"^(?:<!-- (?P<shows>\S+) -->\n+)?(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page, also within a list.

    One of Python is a program by itself, unless its first line is the name of a file, such as ``# test_it.py``: then
    it and the other files of its page are a test suite. One below ``<!-- a/path.py -->`` shows that file of the
    repository, which has tests of its own.
    """

    page: str
    line: int
    shows: str | None
    language: str
    code: str

    @property
    def name(self) -> str:
        """Where it is, for the ids of tests and for tracebacks."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file it is."""
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found and found[1]

    @property
    def tests(self) -> int:
        """How many tests it has."""
        return len(re.findall(r"^ *(?:async )?def test_", self.code, re.MULTILINE))


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text[: found.start("code")].count("\n") + 1
        yield Block(
            str(page.relative_to(ROOT)), line, found["shows"], found["language"], textwrap.dedent(found["code"])
        )


BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language == "sh"]
PYTHON = [
    block
    for block in BLOCKS
    if block.language == "python" and not block.shows and block.page not in (NOTEBOOK, PROJECT)
]
PROGRAMS = [block for block in PYTHON if not block.file and not block.tests]
SUITES = [
    *([block] for block in PYTHON if not block.file and block.tests),
    *(list(suite) for _, suite in groupby([block for block in PYTHON if block.file], lambda block: block.page)),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeNP6]:
    """What takes the place of NP6. It knows the contacts of the pages; clients find it by themselves."""
    with FakeNP6(contacts=0) as server:
        other = FakeNP6(contacts=1, events_per_contact=60)
        for contact in ("000MLGPR", "0013KDC0"):
            server.add_contact(contact, other.events(other.contact_ids[0]))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setenv("NP6_BASE_URL", server.url)
        monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
        monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        log = logging.getLogger("np6_async")
        level = log.level
        yield server
        log.setLevel(level)  # a page sets it


def run(block: Block) -> dict[str, Any]:
    """Run a block as a module is imported; gives back its names."""
    names: dict[str, Any] = {"__name__": "block"}
    code = compile("\n" * (block.line - 1) + block.code, block.page, "exec", dont_inherit=True)
    try:
        exec(code, names)  # noqa: S102 - our own code
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL or os.environ.get("CI"):
            raise
        pytest.skip(f"{error.name} is not installed")
    return names


@pytest.mark.slow
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_every_program_runs_as_it_stands(block: Block) -> None:
    run(block)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite[0].name)
def test_every_test_passes_as_it_stands(suite: list[Block], pytester: pytest.Pytester) -> None:
    """With pytest-asyncio in auto mode and warnings as errors."""
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    for block in suite:
        (pytester.path / (block.file or "test_it.py")).write_text(block.code, encoding="utf-8")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")
    result.assert_outcomes(passed=sum(block.tests for block in suite))
    assert result.ret == 0


def test_a_block_that_shows_a_file_is_that_file() -> None:
    for block in BLOCKS:
        if block.shows:
            assert block.code == (ROOT / block.shows).read_text(encoding="utf-8"), block.name


# -- the web applications --------------------------------------------------------------------------


def block_with(text: str) -> Block:
    (block,) = [block for block in PYTHON if block.page == "docs/how-to/web-app.md" and text in block.code]
    return block


STATUSES = [
    ("/contacts/000MLGPR/history", None, 200),
    ("/contacts/000MLGPR/events?start=2025-01-01", None, 200),
    ("/contacts/a%20b/history", None, 400),
    ("/contacts/000MLGPR/events?start=yesterday", None, 400),
    ("/contacts/UNKNOWN1/history", None, 404),
    ("/contacts/UNKNOWN1/events", None, 404),
    ("/contacts/000MLGPR/history", Fault.status(401), 502),
    ("/contacts/000MLGPR/events", Fault.status(400), 502),
    ("/contacts/000MLGPR/history", Fault.rate_limited(retry_after=1_000), 503),
]


@pytest.mark.parametrize(("path", "fault", "status"), STATUSES)
async def test_the_aiohttp_application_answers_with_these_statuses(
    path: str, fault: Fault | None, status: int, server: FakeNP6
) -> None:
    server.script(*[fault] if fault else [])
    async with TestClient(TestServer(run(block_with("web.Application"))["app"])) as browser:
        answer = await browser.get(path)
        assert answer.status == status
        if status == 200 and "/events" in path:
            *events, end = (await answer.text()).splitlines()
            assert (len(events), end) == (60, '{"complete": true}')


async def test_the_application_of_the_readme_answers_with_the_latest_events(server: FakeNP6) -> None:
    (block,) = [block for block in PYTHON if block.page == "README.md" and "web.Application" in block.code]
    async with TestClient(TestServer(run(block)["app"])) as browser:
        events = await (await browser.get("/contacts/000MLGPR")).json()
    assert len(events) == 20
    assert events[0]["at"] >= events[-1]["at"]


async def test_the_aiohttp_application_says_that_a_stream_was_cut_short(server: FakeNP6) -> None:
    server.script(Fault.cut(after=20_000), Fault.status(400))
    async with TestClient(TestServer(run(block_with("web.Application"))["app"])) as browser:
        *events, end = (await (await browser.get("/contacts/000MLGPR/events")).text()).splitlines()
    assert 0 < len(events) < 60
    assert end == '{"complete": false, "error": "The events cannot be fetched."}'


async def test_a_browser_that_leaves_the_aiohttp_application_ends_the_request_to_np6(server: FakeNP6) -> None:
    server.script(Fault.stall(after=20_000))
    async with TestClient(TestServer(run(block_with("web.Application"))["app"], handler_cancellation=True)) as browser:
        answer = await browser.get("/contacts/000MLGPR/events")
        assert await answer.content.readline()
        assert server.in_flight == 1
        answer.close()
        async with asyncio.timeout(10):
            while server.in_flight:
                await asyncio.sleep(0.005)


@pytest.mark.parametrize(("path", "fault", "status"), STATUSES)
async def test_the_fastapi_application_answers_with_these_statuses(
    path: str, fault: Fault | None, status: int, server: FakeNP6
) -> None:
    app = run(block_with("FastAPI"))["app"]
    httpx = pytest.importorskip("httpx")
    server.script(*[fault] if fault else [])
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://application") as browser,
    ):
        answer = await browser.get(path)
    assert answer.status_code == status
    if status == 200 and "/events" in path:
        *events, end = answer.text.splitlines()
        assert (len(events), end) == (60, '{"complete": true}')


# -- what pages name -------------------------------------------------------------------------------


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, in words, without what they read from and write to."""
    for line in block.code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        redirected = {at + 1 for at, word in enumerate(words) if set(word) <= set("<>")}
        for ends, command in groupby(enumerate(words), lambda item: set(item[1]) <= set("|&;()")):
            if not ends:
                yield [word for at, word in command if at not in redirected and at + 1 not in redirected]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_every_np6_command_line_is_one(block: Block) -> None:
    for program, *arguments in commands(block):
        if Path(program).name == "np6":
            try:
                build_parser().parse_args(arguments)
            except SystemExit as end:
                if end.code:  # that of --help and --version is 0
                    pytest.fail(f"np6 {shlex.join(arguments)}")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(words[1:], id=words[1])
        for block in SHELL
        if block.page == "README.md"
        for words in commands(block)
        if words[0] == "np6"
    ],
)
def test_the_commands_of_the_readme_need_no_more_than_its_install(
    arguments: list[str], server: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one, of the extra `cli`: each of them then does what it says."""
    for module in ("distributed", "fsspec", "numpy", "pyarrow", "redis"):
        monkeypatch.setitem(sys.modules, module, None)
    server.add_segment(41, server.contact_ids)
    Path("ids.txt").write_text("\n".join(server.contact_ids))
    assert main(arguments) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(words[1:], id=words[1])
        for block in SHELL
        if block.page == "docs/first-hour.md"
        for words in commands(block)
        if Path(words[0]).name == "np6" and words[1] not in ("demo", "fake-server")
    ],
)
def test_the_commands_of_the_first_hour_find_what_they_name_on_the_fake_server(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if "parquet" in arguments:
        pytest.importorskip("pyarrow")
    with FakeNP6(contacts=20, now=datetime.now(UTC)) as server:  # as `np6 fake-server` has it, but for their number
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setenv("NP6_BASE_URL", server.url)
        assert main(arguments) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_command_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w./-])(?:benchmarks|docs|examples|np6_async|tests|\.ci)/[\w./-]+", text)
    for name in named:
        assert (ROOT / name.rstrip(".")).exists() or name.startswith("docs/_build"), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


# -- what pages list -------------------------------------------------------------------------------


def test_the_api_page_has_every_public_name_once() -> None:
    api = (DOCS / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. (?:auto|py:)\w+:: ([\w.]+)$", api, re.MULTILINE)
    public = [
        f"{module.__name__}.{name}"
        for module in (
            np6_async,
            np6_async.blocking,
            np6_async.export,
            np6_async.report,
            np6_async.sync,
            np6_async.testing,
        )
        for name in module.__all__
    ]
    integrations = [name for name in shown if name.startswith("np6_async.integrations.")]
    assert sorted(shown) == sorted([*public, *integrations])
    modules = {path.stem for path in (ROOT / "np6_async" / "integrations").glob("[!_]*.py")}
    assert {name.split(".")[2] for name in integrations} == modules


def folders() -> list[Path]:
    package = ROOT / "np6_async"
    return [package, *sorted(path.parent for path in package.glob("*/__init__.py"))]


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_the_layout_of_the_code_names_every_module(folder: Path) -> None:
    layout = (DOCS / "contributing.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{folder.name}/` \|[^|]+\|([^|]+)\|$", layout, re.MULTILINE)
    assert row, f"docs/contributing.md has no row for {folder.name}/"
    files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert row[1].strip() == ", ".join(f"`{name}`" for name in files)


def test_the_layout_of_the_code_has_no_other_folder() -> None:
    layout = (DOCS / "contributing.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)/` \|", layout, re.MULTILINE)) == sorted(path.name for path in folders())


def tree(root: type[NP6Error] = NP6Error) -> Iterator[type[NP6Error]]:
    """The tree as it is drawn: each error before what is below it."""
    yield root
    for cls in root.__subclasses__():
        if cls.__module__ == NP6Error.__module__:
            yield from tree(cls)


def rows() -> list[list[str]]:
    lines = (DOCS / "guide" / "errors.md").read_text(encoding="utf-8").splitlines()
    lines = [re.sub(r'^\| <a id="\w+"></a>', "| ", line) for line in lines]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def test_the_table_of_errors_is_the_tree() -> None:
    table = [(name, bases) for name, bases, *_ in rows()]
    assert table == [(f"`{cls.__name__}`", ", ".join(f"`{base.__name__}`" for base in cls.__bases__)) for cls in tree()]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0].strip("`"))
def test_the_table_of_errors_says_what_is_retried(row: list[str]) -> None:
    cls = getattr(np6_async, row[0].strip("`"))
    arguments: dict[str, Any] = {"status": 503} if issubclass(cls, APIError) else {}
    error = BulkError("", [NP6Error()]) if cls is BulkError else cls("", **arguments)
    attempts = RetryPolicy().attempts(error)
    word, _, rest = row[3].partition(",")
    assert re.split(r"\W", word)[0] == ("yes" if attempts > 1 else "no")
    assert (rest.strip() == "twice") == (attempts == 3)
