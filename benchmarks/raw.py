"""A client of bare sockets: what the server can do when nothing parses what it sends."""

from __future__ import annotations

import socket
import time
from statistics import median


def raw_answers(port: int, shape: str, seconds: float) -> int:
    """How many responses 32 connections receive in `seconds`."""
    sockets = [_connect(port) for _ in range(32)]
    ends = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < ends:
        for each in sockets:
            _ask(each, shape)
        for each in sockets:
            _read_answer(each)
        count += len(sockets)
    for each in sockets:
        each.close()
    return count


def raw_latency(port: int, shape: str, times: int) -> float:
    """The median seconds from a request to the end of its response, one request after the other."""
    seconds = []
    with _connect(port) as connection:
        for _ in range(times):
            began = time.perf_counter()
            _ask(connection, shape)
            _read_answer(connection)
            seconds.append(time.perf_counter() - began)
    return median(seconds)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def _ask(connection: socket.socket, shape: str) -> None:
    connection.sendall(f"GET /targets/{shape}0/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def _read_answer(connection: socket.socket) -> None:
    head, _, body = connection.recv(262_144).partition(b"\r\n\r\n")
    missing = int(head.rpartition(b"Content-Length: ")[2]) - len(body)
    while missing > 0:
        missing -= len(connection.recv(262_144))
