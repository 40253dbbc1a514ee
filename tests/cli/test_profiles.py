"""Profiles: the server, the zone and the file of the key by name, and in which order they count."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from np6_async.cli import main
from np6_async.cli._messages import BadInput
from np6_async.cli._parser import build_parser
from np6_async.cli._profiles import applied, find_profile
from np6_async.testing import FakeNP6

KEY = "s3cr3t-key"


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Write the file of profiles."""
    for name in ("NP6_CONFIG", "NP6_API_KEY", "NP6_API_KEY_FILE", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "np6" / "config.toml"
    path.parent.mkdir()

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    return write


Np6 = Callable[..., int]


@pytest.fixture
def np6() -> Np6:
    """`np6 events` of a contact with these arguments; gives back the exit code."""

    def run(*arguments: str, contact: str = "ANNE") -> int:
        before = dict(os.environ)
        try:
            return main(["events", contact, "--kind", "bounces", *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            assert dict(os.environ) == before

    return run


def refused(wanted: str | None = None, **environ: str) -> str:
    with pytest.raises(BadInput) as caught:
        find_profile(wanted, {**os.environ, **environ})
    return str(caught.value)


def settings(wanted: str | None = None, **environ: str) -> dict[str, Any] | None:
    profile = find_profile(wanted, {**os.environ, **environ})
    return None if profile is None else dict(profile.settings)


# What a profile does


def test_a_profile_names_the_server_and_the_file_of_the_key(
    config: Callable[[str], Path], np6: Np6, capfd: pytest.CaptureFixture[str]
) -> None:
    """By an option, or by a variable; the file is found from the one that names it."""
    with FakeNP6(0, api_key=KEY) as server:
        server.add_contact("ANNE")
        path = config(f'[test]\nbase_url = "{server.url}"\napi_key_file = "test.key"\n')
        (path.parent / "test.key").write_text(f"{KEY}\n")
        assert np6("--profile", "test") == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NP6_PROFILE", "test")
            assert np6() == 0
        assert np6() == 3
        assert server.request_count == 2
    assert KEY not in capfd.readouterr().err


def test_the_zone_of_a_profile_is_that_of_dates(config: Callable[[str], Path], np6: Np6) -> None:
    """Unless an option says another."""
    with FakeNP6(0, api_key=KEY) as server:
        server.add_contact("ANNE")
        path = config(f'[default]\nbase_url = "{server.url}"\napi_key_file = "key"\ntz = "Europe/Paris"\n')
        (path.parent / "key").write_text(KEY)
        assert np6("--start", "2026-07-01") == 0
        assert np6("--start", "2026-07-01", "--tz", "UTC") == 0
        assert [request.query["start"] for request in server.requests] == [
            "2026-06-30T22:00:00.000Z",
            "2026-07-01T00:00:00.000Z",
        ]


def test_other_processes_that_fetch_have_the_key_of_the_profile(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that names its file, for as long as the command runs."""
    path = config('[test]\napi_key_file = "key"\n')
    (path.parent / "key").write_text(KEY)
    monkeypatch.setenv("NP6_API_KEY", "of another account")
    options = build_parser().parse_args(["events", "ANNE", "--profile", "test"])
    with applied(options):
        assert os.environ["NP6_API_KEY_FILE"] == str(path.parent / "key")
        assert "NP6_API_KEY" not in os.environ
    assert os.environ["NP6_API_KEY"] == "of another account"
    assert "NP6_API_KEY_FILE" not in os.environ


def test_a_rejected_key_is_that_of_the_file(
    config: Callable[[str], Path], np6: Np6, capfd: pytest.CaptureFixture[str]
) -> None:
    with FakeNP6(1) as server:
        path = config(f'[test]\nbase_url = "{server.url}"\napi_key_file = "key"\n')
        (path.parent / "key").write_text(KEY)
        assert np6("--profile", "test") == 3
    assert f"check the key in {str(path.parent / 'key')!r}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read: No such file or directory"), ("", "is empty"), ("my key", "is not a valid API key")],
)
def test_a_file_of_the_key_that_cannot_be_used_is_named_with_its_profile(
    content: str | None, problem: str, config: Callable[[str], Path], np6: Np6, capfd: pytest.CaptureFixture[str]
) -> None:
    path = config('[test]\napi_key_file = "key"\n')
    if content is not None:
        (path.parent / "key").write_text(content)
    assert np6("--profile", "test") == 2
    expected = f"profile 'test' in {str(path)!r}: the file of api_key_file, {str(path.parent / 'key')!r}, {problem}"
    assert expected in capfd.readouterr().err


# The order


def test_a_profile_that_is_named_comes_before_the_environment(config: Callable[[str], Path]) -> None:
    config('[test]\nbase_url = "https://test.example"\nproxy = "http://proxy.example:3128"\n')
    found = settings("test", NP6_BASE_URL="https://other.example", HTTPS_PROXY="http://another.example:1")
    assert found == {"base_url": "https://test.example", "proxy": "http://proxy.example:3128"}


def test_a_key_of_a_named_profile_goes_to_no_server_of_the_environment(config: Callable[[str], Path]) -> None:
    """To that of the profile or, without one, to NP6."""
    path = config('[production]\napi_key_file = "key"\n[zone]\ntz = "UTC"\n')
    found = settings("production", NP6_BASE_URL="https://test.example")
    assert found == {"base_url": "https://api-cm.np6.com", "api_key_file": str(path.parent / "key")}
    assert "base_url" not in (settings("zone", NP6_BASE_URL="https://test.example") or {})


def test_the_environment_comes_before_the_profile_default(config: Callable[[str], Path]) -> None:
    path = config('[default]\nbase_url = "https://a.example"\napi_key_file = "~/key"\nproxy = "none"\n')
    home = os.path.expanduser("~/key")
    assert settings() == {"base_url": "https://a.example", "api_key_file": home, "proxy": None}
    assert settings(NP6_API_KEY="k", NP6_BASE_URL="https://b.example", ALL_PROXY="http://c.example") == {}
    assert settings(NP6_API_KEY_FILE="k") == {"base_url": "https://a.example", "proxy": None}
    assert settings("default", NP6_API_KEY="k") == settings()
    path.unlink()
    assert settings() is None


def test_the_file_of_profiles_may_be_another(config: Callable[[str], Path], tmp_path: Path) -> None:
    config('[a]\ntz = "UTC"\n')
    (tmp_path / "mine.toml").write_text('[b]\ntz = "UTC"\n')
    assert "has no profile of this name; use one of: 'b'" in refused("a", NP6_CONFIG=str(tmp_path / "mine.toml"))


# What is refused


@pytest.mark.parametrize("name", ["api_key", "api-key", "KEY", "x_key", "token"])
def test_a_key_in_the_file_is_refused_with_what_to_do(name: str, config: Callable[[str], Path]) -> None:
    config(f'[test]\n{name} = "{KEY}"\n')
    said = refused("test")
    assert "put the key into a file of its own that only you can read" in said
    assert said.endswith('name that here: api_key_file = "test.key"')
    assert KEY not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[test]\nbase_ur = "x"', "there is no setting 'base_ur'; did you mean 'base_url'?"),
        ('[test]\ntimezone = "x"', "there is no setting 'timezone'; did you mean 'tz'?"),
        ('[test]\ncolour = "x"', "there is no setting 'colour'; use one of: 'api_key_file', 'base_url', 'tz', 'proxy'"),
        ("[test]\ntz = 1", "tz must be a text in quotation marks"),
        ('[test]\ntz = "Mars"', "tz: 'Mars' is not a time zone that this machine knows"),
        ('[test]\nbase_url = "http://np6.example"', "base_url: it must begin with https://"),
        ('[test]\nproxy = "http://u:p@proxy"', "proxy: such a file is no place for a password; set HTTPS_PROXY"),
        ("[tests]\n[prod]\n", "has no profile of this name; did you mean 'tests'?"),
        ("", "has no profile of this name; it is empty"),
        ('test = "x"', "'test' is not a profile; settings follow a line such as [default]"),
        ("[test", "is not TOML: "),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(text: str, words: str, config: Callable[[str], Path]) -> None:
    path = config(text)
    said = refused("test")
    assert words in said
    assert str(path) in said


def test_a_profile_without_a_file_is_an_error_and_no_profile_is_none(config: Callable[[str], Path]) -> None:
    assert "cannot be read: No such file or directory" in refused("test")
    assert "cannot be read: No such file or directory" in refused(NP6_CONFIG="/no/such/file")
    assert refused(NP6_CONFIG="") == "NP6_CONFIG is empty: it names the file of profiles"
    assert refused(NP6_PROFILE="") == "NP6_PROFILE is empty: it names a profile"
    assert settings() is None


def test_the_command_refuses_in_one_line(
    config: Callable[[str], Path], np6: Np6, capfd: pytest.CaptureFixture[str]
) -> None:
    config("[production]\n")
    assert np6("--profile", "prodction") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("np6 events: error: --profile 'prodction': ")
    assert "did you mean 'production'? (see 'np6 events --help')" in line
