"""What the command says of workers and of a shared limit that cannot be used, before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from np6_async.cli import main
from np6_async.integrations import redis


@pytest.fixture(autouse=True)
def contacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NP6_API_KEY", "key")
    monkeypatch.setenv("NP6_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("NP6_SHARED_LIMIT", raising=False)
    Path("ids.txt").write_text("000MLGPR\n")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["export", "--output", "out", *words])
    assert ended.value.code == 2
    assert not Path("out").exists()
    return capsys.readouterr().err


FILE = ["--ids-from", "ids.txt"]


def test_workers_are_those_of_this_machine_or_of_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give one of them" in refused(capsys, *FILE, "--workers", "2", "--scheduler", "tcp://127.0.0.1:1")


@pytest.mark.parametrize("workers", [["--workers", "2"], ["--scheduler", "tcp://127.0.0.1:1"]])
@pytest.mark.parametrize("subject", [["--account"], ["--action", "000PE4"]])
def test_the_response_for_all_contacts_is_for_one_process(
    workers: list[str], subject: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "are for contacts" in refused(capsys, *subject, *workers)


@pytest.mark.parametrize("count", ["0", "257", "two"])
def test_a_number_of_workers_is_checked(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a whole number from 1 to 256" in refused(capsys, *FILE, "--workers", count)


def test_the_address_of_a_scheduler_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    said = refused(capsys, *FILE, "--scheduler", "http://user:canary@127.0.0.1")
    assert "--scheduler: the address of Dask's scheduler is tcp://host:port or tls://host:port" in said
    assert "canary" not in said


def test_dask_is_named_where_it_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("distributed", "np6_async.integrations."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'np6_async[dask]'" in refused(capsys, *FILE, "--workers", "2")


def test_redis_is_named_where_it_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "find_spec", lambda _: None)
    assert "pip install np6_async[redis]" in refused(capsys, *FILE, "--shared-limit", "redis://127.0.0.1")


def test_a_password_does_not_belong_on_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *FILE, "--shared-limit", "redis://user:canary@127.0.0.1")
    assert "set NP6_SHARED_LIMIT to the URL instead" in said
    assert "canary" not in said


def test_a_shared_limit_is_a_url_of_redis(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("redis")
    assert "--shared-limit: SharedLimit(url) must be a URL such as" in refused(
        capsys, *FILE, "--shared-limit", "http://127.0.0.1"
    )
    monkeypatch.setenv("NP6_SHARED_LIMIT", "canary")
    said = refused(capsys, *FILE)
    assert "NP6_SHARED_LIMIT: SharedLimit(url) must be a URL such as" in said
    assert "canary" not in said


@pytest.mark.parametrize("share", ["0", "1.5", "half"])
def test_a_share_of_the_limit_is_checked(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*FILE, "--shared-limit", "redis://127.0.0.1", "--limit-share", share]
    assert "is not a number above 0 and up to 1" in refused(capsys, *words)


def test_a_share_goes_with_a_shared_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert "it goes with --shared-limit" in refused(capsys, *FILE, "--limit-share", "0.5")
