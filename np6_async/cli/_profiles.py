"""Profiles: the server, the zone and where the key is, by name, in a small file of settings.

What an option says comes first, then the profile that `--profile` or NP6_PROFILE names, then the environment, and at
last the profile ``default``.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from .. import ConfigError
from .._client import BASE_URL
from .._http.base_url import parse_base_url
from .._http.proxies import ENVIRONMENT
from . import _values as values
from ._messages import BadInput, key_problem
from ._time_options import parse_zone

_DEFAULT: Final = "default"
_KEYS: Final = {"api_key", "apikey", "key", "x_key", "token", "secret"}
_OTHER_NAMES: Final = {
    "url": "base_url",
    "host": "base_url",
    "server": "base_url",
    "timezone": "tz",
    "zone": "tz",
    "key_file": "api_key_file",
}


def _url(text: str) -> str:
    try:
        parse_base_url(text, "it")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


_SETTINGS: Final[dict[str, Callable[[str], Any]]] = {
    "api_key_file": str,
    "base_url": _url,
    "tz": parse_zone,
    "proxy": partial(values.proxy, reason="such a file is no place for a password"),
}
# Where one of these is set, the profile `default` says nothing.
_VARIABLES: Final[dict[str, tuple[str, ...]]] = {
    "api_key_file": ("NP6_API_KEY", "NP6_API_KEY_FILE"),
    "base_url": ("NP6_BASE_URL",),
    "tz": (),
    "proxy": ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
}


@frozen
class Profile:
    """The settings of a profile; `place` is where they are, in words."""

    place: str
    settings: Mapping[str, Any]


@contextmanager
def applied(options: argparse.Namespace) -> Iterator[None]:
    """Fill in what the command line leaves open, and let the variables name the key meanwhile. Raises `BadInput`."""
    before = dict(os.environ)
    try:
        if (profile := find_profile(options.profile, before)) is not None:
            _apply(profile, options)
        yield
    finally:
        for name in ("NP6_API_KEY", "NP6_API_KEY_FILE"):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def _apply(profile: Profile, options: argparse.Namespace) -> None:
    settings = profile.settings
    for name, unset in (("base_url", None), ("tz", None), ("proxy", ENVIRONMENT)):
        if name in settings and getattr(options, name, ...) == unset:
            setattr(options, name, settings[name])
    if "api_key_file" not in settings:
        return
    # By variables, because other processes that fetch have their key from there.
    os.environ.pop("NP6_API_KEY", None)
    os.environ["NP6_API_KEY_FILE"] = settings["api_key_file"]
    name = f"{profile.place}: the file of api_key_file, {settings['api_key_file']!r},"
    if (problem := key_problem(os.environ, name)) is not None:
        raise BadInput(problem)


def find_profile(wanted: str | None, environ: Mapping[str, str]) -> Profile | None:
    """The profile of this name or, if that is None, the one that the environment names or ``default``, without what
    the environment says itself; None where there is none. Raises `BadInput`."""
    source = "--profile"
    if wanted is None and (wanted := environ.get("NP6_PROFILE")) is not None:
        source = "NP6_PROFILE"
    if wanted == "":
        raise BadInput(f"{source} is empty: it names a profile")
    path = _path(environ)
    profiles = _read(path, required=wanted is not None or "NP6_CONFIG" in environ)
    if wanted is None:
        if _DEFAULT not in profiles:
            return None
        profile = _profile(path, _DEFAULT, profiles[_DEFAULT])
        left = {
            name: value
            for name, value in profile.settings.items()
            if not any(variable in environ for variable in _VARIABLES[name])
        }
        return Profile(profile.place, left)
    if wanted not in profiles:
        raise BadInput(f"{source} {wanted!r}: {str(path)!r} has no profile of this name{_hint(wanted, list(profiles))}")
    profile = _profile(path, wanted, profiles[wanted])
    if "api_key_file" in profile.settings:
        # A key that is named with its account does not go to whichever server the environment happens to name.
        return Profile(profile.place, {"base_url": BASE_URL, **profile.settings})
    return profile


def _path(environ: Mapping[str, str]) -> Path:
    if (path := environ.get("NP6_CONFIG")) is not None:
        if not path:
            raise BadInput("NP6_CONFIG is empty: it names the file of profiles")
        return Path(os.path.expanduser(path))
    folder = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "np6" / "config.toml"


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if not required and isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
            return {}  # the last one: of another user, whose HOME this is
        example = ""
        if isinstance(error, FileNotFoundError):
            example = '; write one, such as: [production], and in the next line: api_key_file = "production.key"'
        raise BadInput(f"the file of profiles, {str(path)!r}, cannot be read: {error.strerror}{example}") from None
    except UnicodeDecodeError:
        raise BadInput(f"the file of profiles, {str(path)!r}, is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"the file of profiles, {str(path)!r}, is not TOML: {error}") from None


def _profile(path: Path, profile: str, table: Any) -> Profile:
    place = f"profile {profile!r} in {str(path)!r}"
    if not isinstance(table, dict):
        raise BadInput(f"{str(path)!r}: {profile!r} is not a profile; settings follow a line such as [{_DEFAULT}]")
    settings: dict[str, Any] = {}
    for name, value in table.items():
        if name.lower().replace("-", "_") in _KEYS:
            raise BadInput(
                f"{place} holds an API key, and such files are copied and shared: put the key into a file of its own "
                f'that only you can read, and name that here: api_key_file = "{profile}.key"'
            )
        if name not in _SETTINGS:
            raise BadInput(f"{place}: there is no setting {name[:40]!r}{_hint(name, list(_SETTINGS))}")
        if not isinstance(value, str):
            raise BadInput(f"{place}: {name} must be a text in quotation marks")
        try:
            settings[name] = _SETTINGS[name](value)
        except argparse.ArgumentTypeError as error:
            raise BadInput(f"{place}: {name}: {error}") from None
    if "api_key_file" in settings:
        # As seen from the file that names it.
        settings["api_key_file"] = str(path.parent / os.path.expanduser(settings["api_key_file"]))
    return Profile(place, settings)


def _hint(name: str, names: list[str]) -> str:
    close = [_OTHER_NAMES[name]] if name in _OTHER_NAMES else get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; use one of: {', '.join(map(repr, names))}" if names else "; it is empty"
