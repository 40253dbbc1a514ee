"""The shape of the package: layers that import down only, and one or two homes for each dependency."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import np6_async

PACKAGE = Path(np6_async.__file__).parent
# From the ground up: each imports its own modules and those of the layers below it, never one beside or above.
LAYERS = ["_errors", "_config", "_models", "_columns", "_protocol", "_http", "_streams", "_api", "_client"]
# What stands on all of them. `cli` may import every one of these.
ON_TOP = {
    "blocking": set(),
    "sync": set(),
    "export": {"sync"},
    "report": set(),
    "testing": set(),
    "integrations": {"sync", "export"},
    "cli": {"sync", "export", "report", "integrations", "testing"},
}


def imports(path: Path) -> Iterator[str]:
    """The absolute name of every module that a file imports at run time, wherever in the file."""
    package = ["np6_async", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names) if not node.module else [module]


def _without_type_checking(tree: ast.Module) -> ast.Module:
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return tree


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules(*layers: str) -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if layer(path) in layers)


def users_of(dependency: str) -> set[str]:
    """The files of the layers that import it."""
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in modules(*LAYERS)
        if any(name.split(".")[0] == dependency for name in imports(path))
    }


def test_the_package_is_its_layers_and_what_stands_on_them() -> None:
    found = {layer(path) for path in PACKAGE.rglob("*.py")}
    assert found == {*LAYERS, *ON_TOP, "__init__", "_version"}


@pytest.mark.parametrize("path", modules(*LAYERS), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = layer(path)
    allowed = {*LAYERS[: LAYERS.index(own) + 1], "_version"}
    for name in imports(path):
        if name.startswith("np6_async"):
            assert name.split(".")[1] in allowed, f"{path.name} must not import {name}"


@pytest.mark.parametrize("name", ON_TOP)
def test_what_stands_on_the_layers_imports_nothing_beside_it(name: str) -> None:
    for path in modules(name):
        beside = {imported.split(".")[1] for imported in imports(path) if imported.startswith("np6_async.")}
        assert beside & ON_TOP.keys() <= {name} | ON_TOP[name], f"{path.name} imports {beside}"


def test_no_module_is_imported_in_a_circle() -> None:
    files = {_dotted(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: {found for found in imports(path) if found in files} for name, path in files.items()}
    while ends := {name for name, below in graph.items() if not below & graph.keys()}:
        graph = {name: below for name, below in graph.items() if name not in ends}
    assert not graph


def _dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(["np6_async", *(part for part in parts if part != "__init__")])


def test_the_protocol_needs_no_event_loop_and_no_http_library() -> None:
    assert not {name.split(".")[0] for path in modules("_protocol") for name in imports(path)} & {"asyncio", "aiohttp"}


@pytest.mark.parametrize(
    ("dependency", "homes"),
    [
        ("aiohttp", {"_http/response", "_http/shortage", "_http/transport", "_http/wire"}),
        ("yarl", {"_http/base_url", "_http/proxies", "_http/transport", "_http/wire"}),
        ("cattrs", {"_models/convert"}),
        ("numpy", {"_columns/arrow", "_columns/buffers", "_columns/csv_lines", "_columns/many_events"}),
        ("pyarrow", {"_columns/arrow", "_columns/buffers", "_columns/csv_lines", "_columns/many_events"}),
        (
            "msgspec",
            {
                "_columns/recipients",
                "_models/convert",
                "_models/events",
                "_models/record",
                "_protocol/array_decoder",
                "_protocol/event_decoder",
            },
        ),
    ],
)
def test_each_dependency_has_its_home(dependency: str, homes: set[str]) -> None:
    assert users_of(dependency) == homes


def test_a_sync_needs_no_dependency_but_attrs() -> None:
    names = {name.split(".")[0] for path in modules("sync") for name in imports(path)}
    assert names <= sys.stdlib_module_names | {"attrs", "np6_async"}


_WHO_FETCHES = ("_export", "_shard", "_sync_shard", "_sync_writer", "_worker")


def test_files_of_events_know_no_command_line_and_only_who_fetches_a_client() -> None:
    """Programs write what `np6 export` writes; pyarrow is imported by the one writer that needs it."""
    for path in modules("export"):
        names = set(imports(path))
        assert not names & {"argparse", "rich", "aiohttp"}
        assert ("np6_async._client" in names) is (path.stem in _WHO_FETCHES)
        assert ("pyarrow" in {name.split(".")[0] for name in names}) is (path.stem == "_writers")


def test_importing_the_package_imports_neither_extras_nor_test_tools() -> None:
    code = "import sys, np6_async; print(*sorted(m for m in sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {
        "rich",
        "pytest",
        "argparse",
        "aioresponses",
        "hypothesis",
        "opentelemetry",
        "dlt",
        "dask",
        "distributed",
        "pyarrow",
        "redis",
        "sqlite3",
    }
    parts = (
        "np6_async.blocking",
        "np6_async.testing",
        "np6_async.cli",
        "np6_async.export",
        "np6_async.integrations",
        "np6_async.sync",
    )
    assert not any(name.startswith(parts) for name in loaded)
