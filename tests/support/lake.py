"""An S3 server on loopback, what is in it, and a proxy in front of it that misbehaves."""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from support import exported

KEY, SECRET = "AKIANP6CANARY000", "np6canarysecretofthestore"
BUCKET: Final = "lake"


class Lake:
    """moto's server with an empty bucket, and the variables by which libraries find it."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port: int = self._server.get_host_and_port()[1]
        self.files = self.connect()
        self.files.call_s3("create_bucket", Bucket=BUCKET)

    def environment(self, port: int | None = None) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def connect(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(
            key=KEY,
            secret=SECRET,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            client_kwargs={"region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def names(self, folder: str) -> list[str]:
        """Of all objects in it."""
        root = f"{BUCKET}/{folder}/"
        return sorted(name.removeprefix(root) for name in self.files.find(root))

    def events(self, folder: str, scratch: Path) -> Counter[exported.Key]:
        """Every event of all parts that are in the folder; raises where one is torn."""
        found: Counter[exported.Key] = Counter()
        for number, name in enumerate(self.names(folder)):
            file = scratch / f"{number}-{name.rpartition('/')[2]}"
            file.write_bytes(self.files.cat_file(f"{BUCKET}/{folder}/{name}"))
            found.update(map(exported.key, exported.rows(file)))
            file.unlink()
        return found

    def close(self) -> None:
        self._server.stop()


class Proxy:
    """Forwards connections to `port`, and fails a share of them in all ways in turn: reset before, in the middle or
    after, or answered with 500 or 503.

    It sees one request on a connection, because it asks both sides to close it.
    """

    KINDS: Final = ("reset", "cut", "lost reply", "500", "503")

    def __init__(self, port: int, share: float, seed: int) -> None:
        self.share = share
        self.failed: Counter[str] = Counter()
        self.requests = 0
        self._to = port
        self._draw = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        with client, suppress(OSError, ValueError):
            client.settimeout(20)
            head, body = self._read(client)
            if not head:
                return
            self.requests += 1
            kind = self.KINDS[self.failed.total() % len(self.KINDS)] if self._draw.random() < self.share else None
            self.failed.update([kind] if kind else [])
            if kind in ("500", "503"):
                code = "InternalError" if kind == "500" else "ServiceUnavailable"
                said = f"<Error><Code>{code}</Code><Message>x</Message></Error>".encode()
                client.sendall(
                    b"HTTP/1.1 %s x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                    % (kind.encode(), len(said), said)
                )
                return
            if kind == "reset":
                self._reset(client)
                return
            with socket.create_connection(("127.0.0.1", self._to), timeout=20) as server:
                server.sendall(head + (body[: len(body) // 2] if kind == "cut" else body))
                data = b"" if kind == "cut" else server.recv(65536)
                if kind is not None:
                    self._reset(client)
                    return
                while data:
                    client.sendall(data)
                    data = server.recv(65536)

    @staticmethod
    def _read(client: socket.socket) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                return b"", b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
        length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        if b"expect: 100-continue" in head.lower() and len(body) < length:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(body) < length:
            body += client.recv(65536)
        return b"\r\n".join([*lines, b"Connection: close", b"", b""]), body

    @staticmethod
    def _reset(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@contextmanager
def failing(lake: Lake, share: float, seed: int) -> Iterator[Proxy]:
    proxy = Proxy(lake.port, share, seed)
    try:
        yield proxy
    finally:
        proxy.close()
