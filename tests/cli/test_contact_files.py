"""What `np6 events --ids-from` promises about files of contacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from np6_async.testing import FakeNP6

Run = Callable[..., int]


def fetched(text: str) -> list[str]:
    """The contacts in an output, each once, in order."""
    return list(dict.fromkeys(json.loads(line)["contact"] for line in text.split("\n")[:-1]))


def test_files_are_read_one_after_the_other(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each --ids-from adds a file, after the arguments."""
    ids = server.contact_ids
    (tmp_path / "a").write_text(f"{ids[1]}\n{ids[2]}")  # without a last line end
    (tmp_path / "b").write_text(f"\ufeff{ids[3]}\n", "utf-8")
    files = ["--ids-from", str(tmp_path / "a"), "--ids-from", str(tmp_path / "b")]
    assert run(*files, ids[0], "--concurrency", "1") == 0
    assert fetched(capfd.readouterr().out) == list(ids[:4])


def test_each_missing_file_is_an_error_before_any_request(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text(server.contact_ids[0])
    assert run("--ids-from", str(tmp_path / "a"), "--ids-from", str(tmp_path / "b")) == 2
    assert "b' cannot be read: No such file or directory" in capfd.readouterr().err
    assert run("--ids-from", "-", "--ids-from", "-") == 2
    assert server.request_count == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_any_way(
    end: str, run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And are numbered alike, also where a block of the file ends within a line end."""
    file = tmp_path / "ids"
    filler = "#" * (63 - len(end))
    lines = [filler] * 1024 + [f"#{filler}"] + [filler] * 1024 + [server.contact_ids[0], "Jane Doe", ""]
    file.write_bytes(end.join(lines).encode())
    assert run("--ids-from", str(file)) == 1
    out, err = capfd.readouterr()
    assert fetched(out) == [server.contact_ids[0]]
    assert f"{file}, line 2051: contains U+0020 as character 5\n" in err


def test_a_bad_line_of_a_file_fails_alone(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is reported by its number and not quoted; the other contacts are fetched."""
    file = tmp_path / "ids.txt"
    file.write_text(f"{server.contact_ids[0]}\n\nJane Doe\n{server.contact_ids[1]}\n")
    assert run("--ids-from", str(file)) == 1
    out, err = capfd.readouterr()
    assert fetched(out) == list(server.contact_ids[:2])
    assert f"{file}, line 3: contains U+0020 as character 5\n" in err
    assert "Jane" not in err


def test_a_bad_line_stops_the_run_where_any_failure_does(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a contact that the server does not know: exit code 1, and the same words."""
    file = tmp_path / "ids.txt"
    file.write_text("Jane Doe\nNOBODY\n")
    assert run("--ids-from", str(file), "--on-error", "raise") == 1
    err = capfd.readouterr().err
    assert "np6 events: stopped at the first failure\n" in err
    assert f"{file}, line 1: contains" in err


def test_a_file_of_addresses_is_one_hint(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A short line each for the first of them, and once what to do."""
    file = tmp_path / "ids"
    file.write_text("".join(f"jane.{n}@example.com\n" for n in range(100)))
    assert run("--ids-from", str(file)) == 1
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 8
    assert f"{file}, line 5: contains '@'\n" in err
    assert err.count("--by unicity") == 1
    assert "jane" not in err
    assert server.request_count == 0


@pytest.mark.parametrize("content", ["", "\n\n", "# none today\n", "\ufeff# none\n  \n"])
def test_a_file_without_contacts_is_no_success(
    content: str, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a command line without: exit code 2; the output of yesterday stays, and that is said."""
    file, target = tmp_path / "ids", tmp_path / "out"
    file.write_text(content, "utf-8")
    target.write_text("of yesterday")
    assert run("--ids-from", str(file), "-o", str(target)) == 2
    assert target.read_text() == "of yesterday"
    assert set(tmp_path.iterdir()) == {file, target}
    assert capfd.readouterr().err == (
        f"np6 events: {file} holds no contacts\nnp6 events: nothing was written; {target} is as it was before\n"
    )


def test_an_empty_file_beside_others_is_a_warning(
    run: Run, server: FakeNP6, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ids"
    file.write_text("")
    assert run(server.contact_ids[0], "--ids-from", str(file)) == 0
    assert f"{file} holds no contacts\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("000MLGPR\n".encode("utf-16"), " is UTF-16 text; convert it to UTF-8: iconv -f UTF-16"),
        (b"# 1\n# 2\nM\xfcller\n", ": line 3 is not UTF-8 text"),
        (b"x" * 200_000, ": line 1 is too long"),
        (b"# 1\n" + b"x" * 20_000 + b"\n", ": line 2 is too long"),
    ],
)
def test_a_file_that_is_no_list_of_contacts_is_refused(
    content: bytes, words: str, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the number of the line, and for UTF-16 the way out."""
    file = tmp_path / "ids"
    file.write_bytes(content)
    assert run("--ids-from", str(file)) == 2
    assert f"{file}{words}" in capfd.readouterr().err
