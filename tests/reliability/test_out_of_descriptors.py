"""Descriptors run out: that costs time, and no contact."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from support.few_descriptors import run_with_few

from np6_async.testing import FakeNP6

if TYPE_CHECKING:
    from conftest import Figure

pytest.importorskip("resource")

CONTACTS = 2_000
FEW = 64


@pytest.mark.parametrize("way", ["wire", "session", "borrowed"])
async def test_G7_descriptors_run_out(way: str, figure: Figure) -> None:
    """`ulimit -n 64` with 200 requests in flight: nothing fails, nothing is retried, and one warning says why."""
    with FakeNP6(CONTACTS, 5, latency=0.05) as server:
        ended = await run_with_few(
            FEW,
            url=server.url.replace("127.0.0.1", "localhost"),
            key=server.api_key,
            contacts=list(server.contact_ids),
            concurrency=200,
            way=way,
        )
        asked = server.request_count
    figure("G7", f"ulimit -n {FEW}, concurrency 200: failed contacts ({way})", "0", ended.failed)
    figure("G7", f"ulimit -n {FEW}, concurrency 200: descriptors left to others ({way})", ">= 4", f">= {ended.free}")
    assert (ended.done, ended.failed, ended.error, ended.events) == (CONTACTS, 0, "", 5 * CONTACTS)
    assert (ended.requests, ended.retries, asked) == (CONTACTS, 0, CONTACTS)
    (warning,) = ended.warnings
    assert f"this process may open {FEW} files and sockets (ulimit -n)" in warning
    assert "fewer requests are in flight" in warning
    if way != "borrowed":  # whose connections are its owner's
        assert ended.free >= 4


async def test_G7_certificates_that_cannot_be_opened_are_not_missing(tmp_path: Path, figure: Figure) -> None:
    """A folder of authorities is read at each handshake: without a descriptor, none of them is known."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(theirs)
    pem = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    hashed = await asyncio.create_subprocess_exec(
        openssl, "x509", "-hash", "-noout", "-in", pem, stdout=asyncio.subprocess.PIPE
    )
    name, _ = await hashed.communicate()
    pem.rename(tmp_path / f"{name.decode().strip()}.0")
    with FakeNP6(3, 5, ssl_context=theirs, host="localhost") as server:
        ended = await run_with_few(
            FEW,
            url=server.url,
            key=server.api_key,
            contacts=list(server.contact_ids),
            concurrency=3,
            capath=str(tmp_path),
            left=1,
            seconds=0.5,
        )
    figure("G7", "one descriptor left, over TLS: failed contacts", "0", ended.failed)
    assert (ended.done, ended.failed, ended.error) == (3, 0, "")
    assert len(ended.warnings) == 1


async def test_G7_no_descriptor_at_all(figure: Figure) -> None:
    """Where nothing else is given back, the error names the limit."""
    with FakeNP6(3, 5) as server:
        ended = await run_with_few(
            FEW,
            url=server.url,
            key=server.api_key,
            contacts=list(server.contact_ids),
            concurrency=3,
            left=0,
            connect=0.3,
            read=0.3,
        )
    named = f"this process may open {FEW} files and sockets (ulimit -n)"
    figure("G7", "no descriptor at all: an error that names the limit", "yes", "yes" if named in ended.error else "no")
    assert named in ended.error
    assert (ended.done, ended.failed, len(ended.warnings)) == (0, 3, 1)
