"""`np6 completion`: each shell can read its script, and bash and fish complete with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from np6_async.cli import main
from np6_async.cli._synopsis import COMMANDS

SHELLS = ["bash", "zsh", "fish"]
BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_np6
printf '%s\\n' "${COMPREPLY[@]}"
"""


def needs(shell: str) -> str:
    """The shell, without which the test is skipped; .ci/tests installs all three."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"needs {shell}")
    return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where shells leave their files."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    file = folder / f"np6.{shell}"
    file.write_text(out)
    return file


def ask(*command: str | Path) -> list[str]:
    environment = {**os.environ, "TERM": "dumb"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return sorted(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(needs(shell), "-n", script(shell, tmp_path, capsys)) == []


CASES: list[tuple[list[str], Sequence[str]]] = [
    (["np6", "ex"], ["export"]),
    (["np6", "f"], ["fake-server"]),
    (["np6", "events", "--ki"], ["--kind"]),
    (["np6", "events", "000MLGPR", "--kind", "hits/"], [f"hits/{each}" for each in ("form", "mirror", "open")]),
    (["np6", "export", "--format", ""], ["csv", "ndjson", "parquet"]),
    (["np6", "completion", ""], SHELLS),
]


@pytest.mark.parametrize(("words", "expected"), CASES, ids=" ".join)
def test_bash_completes(
    words: list[str], expected: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(needs("bash"), "-c", BASH, "bash", script("bash", tmp_path, capsys), *words)
    assert set(expected) <= set(found)
    assert all(each.startswith(words[-1]) for each in found)


def test_bash_completes_after_an_equals_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which it makes a word of."""
    file = script("bash", tmp_path, capsys)
    for words in (["--kind", "=", "bou"], ["--kind", "="]):
        assert "bounces" in ask(needs("bash"), "-c", BASH, "bash", file, "np6", "events", *words)


@pytest.mark.parametrize("option", ["--ids-from", "--only-ids", "-o", "--output"])
def test_files_are_left_to_bash_itself(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = script("bash", tmp_path, capsys)
    assert ask(needs("bash"), "-c", BASH, "bash", file, "np6", "events", option, "") == []
    assert ask(needs("bash"), "-c", 'source "$1"; complete -p np6', "bash", file) == ["complete -o default -F _np6 np6"]


@pytest.mark.parametrize(("words", "expected"), CASES, ids=" ".join)
def test_fish_completes(
    words: list[str], expected: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = script("fish", tmp_path, capsys)
    line = " ".join(words)
    found = ask(needs("fish"), "--no-config", "-c", f"source {file}; complete -C {line!r}")
    assert set(expected) <= {each.partition("\t")[0] for each in found}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_of_every_command_is_in_the_script(
    shell: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, tmp_path, capsys).read_text()
    for options in COMMANDS[command].groups.values():
        for names, _ in options:
            for name in names:
                if name.startswith("--"):
                    assert (f"-l {name[2:]} " if shell == "fish" else name) in text


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])
    assert "'tcsh' (choose from" in capsys.readouterr().err.replace("'bash', 'zsh', 'fish'", "bash")
