"""E8 through real proxies: squid, which wants a password, and tinyproxy."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from support.peers import run_squid, run_tinyproxy

from np6_async import NP6Client
from np6_async.testing import FakeNP6

if TYPE_CHECKING:
    from conftest import Figure

KEY = "canary-key-8c1f"
USER, PASSWORD = "somebody", "canary:pass@word"
QUOTED = "canary%3Apass%40word"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where another user may read, which a temporary folder of pytest is not."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def company(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """The TLS of a server that is called np6.test, and the file with the certificates of the company."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("np6.test", "localhost").configure_cert(context)
    certificates = directory / "company.pem"
    authority.cert_pem.write_to_path(certificates)
    return context, certificates


def events(server_port: int, certificates: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One run of the command, in an environment of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    kept |= {"NP6_API_KEY": KEY, "NP6_BASE_URL": f"https://np6.test:{server_port}", "SSL_CERT_FILE": str(certificates)}
    return subprocess.run(
        [sys.executable, "-m", "np6_async.cli", "events", "-vv", "--outage", "0", *options],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_E8_the_command_goes_through_squid_with_the_password_and_the_authority_of_the_company(
    directory: Path, company: tuple[ssl.SSLContext, Path], figure: Figure
) -> None:
    """The name of the server is one that squid alone knows. Nobody is told the password or the key."""
    tls, certificates = company
    with (
        FakeNP6(contacts=20, api_key=KEY, ssl_context=tls) as server,
        run_squid(directory, {"np6.test": "127.0.0.1"}, user=USER, password=PASSWORD) as proxy,
    ):
        port = int(server.url.rsplit(":", 1)[1])
        with_password = proxy.replace("http://", f"http://{USER}:{QUOTED}@")
        done = events(port, certificates, *server.contact_ids, HTTPS_PROXY=with_password)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 200
        assert "canary" not in done.stderr
        assert server.connections <= 16

        refused = events(port, certificates, "A", HTTPS_PROXY=proxy)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "407: the proxy wants other credentials" in refused.stderr
        wrong = events(port, certificates, "A", ALL_PROXY=proxy.replace("http://", f"http://{USER}:canary@"))
        assert wrong.returncode == 3
        assert "check ALL_PROXY" in wrong.stderr

        untrusted = events(port, Path(os.devnull), server.contact_ids[0], HTTPS_PROXY=with_password)
        assert "certificate was not accepted" in untrusted.stderr
        direct = events(port, certificates, server.contact_ids[0], HTTPS_PROXY=with_password, NO_PROXY=".test")
        assert "its name does not resolve" in direct.stderr
        for run in (refused, wrong, untrusted, direct):
            assert "canary" not in run.stdout + run.stderr
        figure("E8", "through squid: events that did not arrive, of 200", "0", 200 - done.stdout.count("\n"))


async def test_E8_a_bulk_run_goes_through_tinyproxy(
    directory: Path, company: tuple[ssl.SSLContext, Path], figure: Figure
) -> None:
    tls, certificates = company
    with FakeNP6(contacts=300, api_key=KEY, ssl_context=tls) as server, run_tinyproxy(directory) as proxy:
        async with (
            NP6Client(
                KEY,
                base_url=server.url.replace("127.0.0.1", "localhost"),
                proxy=proxy,
                ssl_context=ssl.create_default_context(cafile=certificates),
            ) as np6,
            np6.events.stream_many(server.contact_ids) as events,
        ):
            count = len([pair async for pair in events])
        figure("E8", "through tinyproxy: events that did not arrive, of 3,000", "0", 3_000 - count)
        assert count == 3_000
        assert server.connections <= 17
