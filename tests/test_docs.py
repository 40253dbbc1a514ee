"""The README and the pages of docs/ are executed: what they show is what happens, and what they name exists."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp.test_utils import TestClient, TestServer

import np6_async
import np6_async._client
import np6_async.testing
from np6_async import APIError, BulkError, NP6Error, RetryPolicy
from np6_async.cli._parser import build_parser
from np6_async.testing import FakeNP6, Fault

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
# Where no more is installed than the tests need, a block that imports one of these is left out; in CI it is not.
OPTIONAL = {"fastapi"}


class Block(NamedTuple):
    """A fenced block of a page: a program by itself, which continues no other."""

    page: str
    line: int
    code: str

    @property
    def name(self) -> str:
        """Where it is, for the ids of tests and for tracebacks."""
        return f"{self.page}:{self.line}"


def blocks(language: str) -> list[Block]:
    return [
        Block(str(page.relative_to(ROOT)), text[: found.start()].count("\n") + 2, found[1])
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


PYTHON = blocks("python")
SHELL = blocks("sh")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeNP6]:
    """What takes the place of NP6. It knows the contacts of the pages; clients find it by themselves."""
    with FakeNP6(contacts=0) as server:
        other = FakeNP6(contacts=1, events_per_contact=60)
        for contact in ("000MLGPR", "0013KDC0"):
            server.add_contact(contact, other.events(other.contact_ids[0]))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NP6_API_KEY", server.api_key)
        monkeypatch.setattr(np6_async._client, "BASE_URL", server.url)
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


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("block", [b for b in PYTHON if "def test_" not in b.code], ids=lambda block: block.name)
def test_every_python_block_runs_as_it_stands(block: Block) -> None:
    run(block)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("block", [b for b in PYTHON if "def test_" in b.code], ids=lambda block: block.name)
def test_every_test_that_is_shown_passes(block: Block, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(block.code)
    result = pytester.runpytest("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    result.assert_outcomes(passed=len(re.findall(r"^(?:async )?def test_", block.code, re.MULTILINE)))


# -- the web applications --------------------------------------------------------------------------


def block_with(text: str) -> Block:
    (block,) = [block for block in PYTHON if block.page == "docs/how-to/web-app.md" and text in block.code]
    return block


STATUSES = [
    ("/contacts/000MLGPR/latest", None, 200),
    ("/contacts/000MLGPR/events?start=2025-01-01", None, 200),
    ("/contacts/a%20b/latest", None, 400),
    ("/contacts/000MLGPR/events?start=yesterday", None, 400),
    ("/contacts/UNKNOWN1/latest", None, 404),
    ("/contacts/UNKNOWN1/events", None, 404),
    ("/contacts/000MLGPR/latest", Fault.status(403), 500),
    ("/contacts/000MLGPR/events", Fault.status(400), 502),
    ("/contacts/000MLGPR/latest", Fault.rate_limited(retry_after=1_000), 503),
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


async def test_the_aiohttp_application_says_that_a_stream_was_cut_short(server: FakeNP6) -> None:
    server.script(Fault.cut(after=20_000), Fault.status(400))
    async with TestClient(TestServer(run(block_with("web.Application"))["app"])) as browser:
        *events, end = (await (await browser.get("/contacts/000MLGPR/events")).text()).splitlines()
    assert 0 < len(events) < 60
    assert end.startswith('{"complete": false, "error": "contact 000MLGPR: ')


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
    shown = re.findall(
        r"^\.\. (?:auto|py:)\w+:: ([\w.]+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    public = [f"{module.__name__}.{name}" for module in (np6_async, np6_async.testing) for name in module.__all__]
    assert sorted(shown) == sorted(public)


def tree(root: type[NP6Error] = NP6Error) -> Iterator[type[NP6Error]]:
    """The tree as it is drawn: each error before what is below it."""
    yield root
    for cls in root.__subclasses__():
        if cls.__module__ == NP6Error.__module__:
            yield from tree(cls)


def rows() -> list[list[str]]:
    lines = (DOCS / "guide" / "errors.md").read_text(encoding="utf-8").splitlines()
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
