"""The proxy through which the server is reached: the one that the program names, or that of the environment.

Only ``https://`` goes through one, so that all it learns is the name of the server.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from typing import Any, Final, Literal
from urllib.request import getproxies_environment

from multidict import CIMultiDict
from yarl import URL

from .._errors import ConfigError
from .base_url import is_loopback

ENVIRONMENT: Final[Literal["environment"]] = "environment"
_EXAMPLE: Final = "http://proxy.example.com:3128"


class Proxy:
    """A proxy that does not show its user name and password.

    `source` is who names it, in the words of an error: ``proxy=`` or an environment variable.
    """

    def __init__(self, url: URL, source: str) -> None:
        self.url: URL = url.origin()
        self.source = source
        credentials = None
        if url.user is not None or url.password is not None:
            credentials = base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()
        # A closure, as the API key is: what prints an object's members finds a function.
        self._reveal: Callable[[], str | None] = lambda: credentials

    @property
    def has_credentials(self) -> bool:
        """Whether a user name or a password is sent to it."""
        return self._reveal() is not None

    def options(self, origin: URL) -> dict[str, Any]:
        """What aiohttp takes for a request to `origin`.

        The credentials are a header: aiohttp logs its keys of connections, which hold a hash of headers, but would show
        a `BasicAuth`. It writes Host into this very object; with another hash it would not find the first connection.
        """
        headers = CIMultiDict({"Host": origin.host_port_subcomponent or ""})
        if (credentials := self._reveal()) is not None:
            headers["Proxy-Authorization"] = f"Basic {credentials}"
        return {"proxy": self.url, "proxy_headers": headers}

    def __repr__(self) -> str:
        return f"Proxy({str(self.url)!r}, {self.source!r})"


def parse_proxy(proxy: object) -> Proxy | ConfigError | Literal["environment"] | None:
    """`proxy` as a client takes it, or what is wrong with it, which never quotes it.

    The error is not raised here: the caller's frame still holds a password.
    """
    if proxy is None:
        return None
    if not isinstance(proxy, str | URL):
        return ConfigError(f'proxy must be a URL, None or "environment", not {type(proxy).__name__}')
    return ENVIRONMENT if proxy == ENVIRONMENT else _parse(str(proxy), "proxy")


def find_proxy(
    parsed: Proxy | ConfigError | Literal["environment"] | None, origin: URL, *, borrowed: bool
) -> Proxy | None:
    """The proxy for `origin`; raises `ConfigError`. A session that is `borrowed` has its own."""
    if parsed == ENVIRONMENT:
        parsed = None if borrowed else _of_environment(origin)
    elif borrowed:
        raise ConfigError("proxy= is for a session of the client's own: give it to the aiohttp.ClientSession you pass")
    if isinstance(parsed, ConfigError):
        raise parsed
    if parsed is not None and origin.scheme != "https":
        raise ConfigError("proxy= is for https:// servers: a proxy would read what is sent to others, the key too")
    return parsed


def _of_environment(origin: URL) -> Proxy | ConfigError | None:
    proxies = getproxies_environment()
    if not proxies or origin.scheme != "https" or is_loopback(origin.host):
        return None
    if any(_names(each, origin) for each in proxies.get("no", "").lower().replace(",", " ").split()):
        return None
    for name in ("https", "all"):
        if name in proxies:
            return _parse(proxies[name], f"{name}_proxy".upper())
    return None


def _names(each: str, origin: URL) -> bool:
    """Whether an entry of NO_PROXY is about `origin`: its host, a domain or a network that holds it, or all of them."""
    if each.count(":") == 1 or "]:" in each:
        each, _, port = each.rpartition(":")
        if port != str(origin.port):
            return False
    name, host = each.strip("[]"), origin.raw_host or ""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*").strip(".")
    return each == "*" or (name != "" and f".{host.rstrip('.')}".endswith(f".{name}"))


def _parse(text: str, source: str) -> Proxy | ConfigError:
    """A proxy as curl accepts one, which may lack the ``http://``."""
    where = "pass another one or proxy=None" if source == "proxy" else f"change {source}, or pass proxy=None"
    try:
        url = URL(text if "://" in text else f"http://{text}")
        host, port = url.host, url.port
    except ValueError:
        host, port, url = None, None, URL()
    if url.scheme.startswith("socks"):
        return ConfigError(
            f"{source} names a SOCKS proxy, which aiohttp does not speak: {where}, or pass session= with a connector "
            "of the package aiohttp-socks"
        )
    if url.scheme not in ("", "http", "https"):
        return ConfigError(f"{source} must begin with http:// or https://, such as {_EXAMPLE}; {where}")
    if not host or " " in host or not port or url.raw_path not in ("", "/") or url.query_string or url.fragment:
        return ConfigError(f"{source} must be a URL with a host and nothing after it, such as {_EXAMPLE}; {where}")
    return Proxy(url, source)
