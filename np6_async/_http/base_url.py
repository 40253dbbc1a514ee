"""The URL of the server: what is accepted as one."""

from __future__ import annotations

import ipaddress

from yarl import URL

from .._errors import ConfigError


def is_loopback(host: str | None) -> bool:
    """Whether it is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def parse_base_url(base_url: str, name: str) -> tuple[URL, str]:
    """The origin and the path that every path is appended to; raises `ConfigError`, which calls it `name`."""
    problem = None
    try:
        url = URL(base_url)
        origin = url.origin()
        host = (url.raw_host or "").encode("idna").decode()
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be an absolute URL such as https://api-cm.np6.com") from None
    if url.scheme not in ("http", "https"):
        problem = "must begin with https://"
    elif url.user is not None or url.password is not None:
        problem = "must hold no user name or password"
    elif url.query_string or url.fragment:
        problem = "must hold no query and no fragment"
    elif not host or not host.isprintable() or " " in host or "%" in host or url.port == 0:
        problem = "must name a host, and a port from 1 to 65535 if any"
    elif url.scheme == "http" and not is_loopback(url.host):
        problem = "must begin with https:// (plain http:// is for loopback addresses only)"
    if problem:
        raise ConfigError(f"{name} {problem}")
    return origin, url.raw_path.rstrip("/")
