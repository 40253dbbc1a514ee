"""The shape of the package: imports point down only, and each dependency has one or two homes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import np6_async

PACKAGE = Path(np6_async.__file__).parent
# From the ground up. A module may import modules of the layers below its own, and none beside or above.
LAYERS = [
    {"_errors", "_version"},
    {"_bounds", "_checks", "_contacts", "_records", "_lifetime"},
    {"_retry"},
    {"_hooks", "_convert"},
    {"_accounts", "_events", "_gate", "_observers", "_slots", "_traces"},
    {"_transport"},
    {"_decode", "_resume"},
    {"_document", "_ids", "_query", "_question"},
    {"_fetch"},
    {"_stream", "_buffer"},
    {"_workers"},
    {"_bulk"},
    {"_merge", "_pages"},
    {"_account_calls", "_calls"},
    {"_client"},
]
# The same for `np6_async.sync`, which stands on all of those.
SYNC_LAYERS = [{"_state", "_store"}, {"_checkpoints", "_sqlite"}, {"_run"}, {"_sync"}]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SYNC_LEVEL = {name: level for level, names in enumerate(SYNC_LAYERS) for name in names}
MODULES = sorted(path.stem for path in PACKAGE.glob("_*.py") if path.stem != "__init__")
SYNC_MODULES = sorted(path.stem for path in PACKAGE.glob("sync/_*.py") if path.stem != "__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports at run time, wherever in the file."""
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "np6_async" if node.level else ""
            name = ".".join(part for part in (prefix, node.module) if part)
            yield name
            if node.level and not node.module:
                yield from (f"{name}.{alias.name}" for alias in node.names)


def _without_type_checking(tree: ast.Module) -> ast.Module:
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return tree


def test_every_module_has_a_layer() -> None:
    assert set(MODULES) == set(LEVEL)
    assert set(SYNC_MODULES) == set(SYNC_LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for name in imports(PACKAGE / f"{module}.py"):
        if name.startswith("np6_async."):
            imported = name.split(".")[1]
            assert LEVEL[imported] < LEVEL[module], f"{module} must not import {imported}"


@pytest.mark.parametrize("module", SYNC_MODULES)
def test_imports_point_down_in_sync(module: str) -> None:
    """Beside its own modules it imports those of the package alone, and no dependency but attrs."""
    tree = ast.parse((PACKAGE / "sync" / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            assert node.module is not None
            assert SYNC_LEVEL[node.module] < SYNC_LEVEL[module], f"{module} must not import {node.module}"
        elif isinstance(node, ast.ImportFrom) and node.level == 2:
            assert node.module in LEVEL
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names | {"attrs"}


@pytest.mark.parametrize(
    ("dependency", "homes"),
    [
        ("aiohttp", {"_traces", "_transport"}),
        ("yarl", {"_transport"}),
        ("cattrs", {"_convert"}),
        ("msgspec", {"_convert", "_decode"}),
    ],
)
def test_each_dependency_has_its_home(dependency: str, homes: set[str]) -> None:
    users = {
        module for module in MODULES if any(i.split(".")[0] == dependency for i in imports(PACKAGE / f"{module}.py"))
    }
    assert users == homes


def test_files_of_events_know_neither_command_line_nor_event_loop() -> None:
    """What `np6 export` writes may be written by others; pyarrow is wanted by the one writer that needs it."""
    found = {path.stem: set(imports(path)) for path in (PACKAGE / "export").glob("*.py")}
    for module, names in found.items():
        # Relative imports are seen without their level here: `..cli` would be `np6_async.cli`.
        assert not names & {"argparse", "rich", "aiohttp", "np6_async.cli", "np6_async.testing", "np6_async._client"}
        assert ("asyncio" in names) is (module == "_ledger")
        assert ("pyarrow" in names) is (module == "_parquet")


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
        "pyarrow",
        "sqlite3",
    }
    parts = ("np6_async.testing", "np6_async.cli", "np6_async.export", "np6_async.integrations", "np6_async.sync")
    assert not any(name.startswith(parts) for name in loaded)
