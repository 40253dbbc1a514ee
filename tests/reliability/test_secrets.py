"""A key and an address that must not show: every way to fail, and every place where a secret could turn up.

The key is a global of this module and never a local variable: tracebacks are looked at with their locals.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import os
import pickle
import pprint
import socket
import ssl
import tempfile
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
import trustme
from support.object_members import members

import np6_async
from np6_async import (
    Contact,
    DecodeLimits,
    Failure,
    NP6Client,
    NP6Error,
    Observation,
    RetryPolicy,
    ServiceUnavailable,
    Timeout,
)
from np6_async.testing import FakeNP6, Fault, make_bounce, make_event

Figure = Callable[[str, str, str, object], None]

SEED = 20260103
KEY = "canary-7f3a9e-KEY-do-not-show"
PERSON = "canary.person.7c1e"
ADDRESS = f"{PERSON}@example.com"


async def immediately(_: float) -> None:
    await asyncio.sleep(0)


OURS = {"<lambda>", "construct"}  # functions here that hold a key on purpose

QUICK = RetryPolicy(sleep=immediately, max_attempts=2, max_protocol_attempts=2)

# -- the sweep ----------------------------------------------------------------------------------------


class Logs(logging.Handler):
    """Every record of every logger, as it was made."""

    def __init__(self) -> None:
        super().__init__(0)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self) -> Iterator[str]:
        formatter = logging.Formatter("%(name)s %(levelname)s %(pathname)s %(funcName)s %(message)s")
        for record in self.records:
            yield formatter.format(record)
            yield repr(vars(record))

    def texts_without_arguments(self) -> Iterator[str]:
        """What is written; the arguments of an observation's record name the contact, for hooks."""
        for record in self.records:
            yield logging.Formatter("%(name)s %(message)s").format(record)


@contextmanager
def lowest_level() -> Iterator[Logs]:
    """All logs, asyncio's and aiohttp's too."""
    logs = Logs()
    names = ("", "np6_async", "asyncio", "aiohttp", "aiohttp.client", "aiohttp.internal", "aiohttp.access")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    logging.getLogger().addHandler(logs)
    try:
        yield logs
    finally:
        logging.getLogger().removeHandler(logs)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def errors_of(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts, and those that it groups."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


def texts_of(value: object) -> Iterator[str]:
    """What a careless log line may make of an object."""
    for text in (repr, str, format, ascii, pprint.pformat):
        with suppress(TypeError):
            yield text(value)
    with suppress(TypeError):
        yield repr(vars(value))
    if attrs.has(type(value)):
        with suppress(Exception):
            yield repr(attrs.asdict(value))  # type: ignore[arg-type]


def messages(error: BaseException) -> Iterator[str]:
    for each in errors_of(error):
        yield from texts_of(each)
        yield repr(each.args)
        yield repr(getattr(each, "__notes__", ""))


def tracebacks(error: BaseException) -> Iterator[str]:
    """As tools print them that show local variables, and those that `repr` trips over left out."""
    for each in errors_of(error):
        yield from traceback.TracebackException.from_exception(each).format()
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if frame.f_code.co_name in OURS and frame.f_code.co_filename == __file__:
                continue
            for name, value in frame.f_locals.items():
                with suppress(Exception):
                    yield f"{name} in {frame.f_code.co_qualname}: {value!r}"


def pickles(value: object) -> Iterator[str]:
    """What pickling and copying give away; it may fail, and its error is looked at."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            yield pickle.dumps(value, protocol).decode("latin-1")
        except Exception as error:
            yield from messages(error)
            yield from tracebacks(error)
    if isinstance(value, BaseException):  # a copy of what holds an event loop is a second, broken one
        try:
            yield from messages(copy.deepcopy(value))
        except Exception as error:
            yield from messages(error)
            yield from tracebacks(error)


def leaks(secret: str, texts: Iterator[str]) -> list[str]:
    """The texts that show it, shortened to what is around it."""
    found = []
    for text in texts:
        at = text.lower().find(secret.lower())
        if at >= 0:
            found.append(text[max(0, at - 120) : at + 60])
    return found


# -- E1: ways to fail ---------------------------------------------------------------------------------


class Trouble:
    """What a way to fail works with, and its result."""

    def __init__(self, server: FakeNP6) -> None:
        self.server = server
        self.contacts = list(server.contact_ids)
        self.errors: list[BaseException] = []
        self.objects: list[object] = []

    def client(self, **options: Any) -> NP6Client:
        options = {"retry": QUICK, "timeout": Timeout(read=1.0, connect=0.2, pool=0.1), **options}
        if "base_url" not in options:
            options["base_url"] = self.server.url
        return NP6Client(KEY, **options)

    async def fails(self, call: Callable[[], Awaitable[object]]) -> None:
        """`call` must raise."""
        try:
            self.objects.append(await call())
        except (Exception, asyncio.CancelledError) as error:
            self.errors.append(error)
        else:
            raise AssertionError("it did not fail")

    def refuses(self, call: Callable[[], object]) -> None:
        """`call` must raise at once."""
        try:
            self.objects.append(call())
        except Exception as error:
            self.errors.append(error)
        else:
            raise AssertionError("it did not fail")

    async def reads(self, contact: Any = None, **options: Any) -> None:
        """Each way to read one contact fails, and the contact of a bulk run."""
        contact = self.contacts[0] if contact is None else contact
        async with self.client(**options) as np6:
            self.objects += [np6, np6.events]
            await self.fails(lambda: np6.events.list(contact))
            stream = np6.events.stream(contact)
            self.objects.append(stream)
            await self.fails(lambda: drain(stream))
            bulk = np6.events.stream_many([contact], on_error="raise")
            self.objects.append(bulk)
            await self.fails(lambda: drain_many(bulk))
            collected = np6.events.stream_many([contact], on_error="collect")
            try:
                await drain_many(collected)
            except Exception as error:
                self.errors.append(error)
            self.objects += [collected, collected.failures, collected.stats, *collected.failures]
            self.errors += [failure.error for failure in collected.failures]


async def drain(stream: Any) -> list[Any]:
    async with stream:
        return [each async for each in stream]


async def drain_many(stream: Any) -> list[Any]:
    async with stream as events:
        return [each async for each in events]


Way = Callable[[Trouble], Awaitable[None]]
WAYS: dict[str, Way] = {}


def faulty(name: str, fault: Fault) -> None:
    async def way(path: Trouble) -> None:
        path.server.script(fault, times=None)
        # The server is on the same event loop: what is not waited for on purpose may take long.
        await path.reads(timeout=Timeout(read=0.05 if fault.name in ("hang", "stall") else 1.0))

    WAYS[name] = way


for _name, _fault in {
    "400": Fault.status(400, body=KEY.encode()),
    "404": Fault.status(404, body=KEY.encode()),
    "409": Fault.status(409),
    "410": Fault.status(410),
    "429, an hour": Fault.rate_limited(3_600),
    "500": Fault.status(500, body=KEY.encode()),
    "501": Fault.status(501),
    "502 with a page": Fault.status(502),
    "503, an hour": Fault.status(503, retry_after=3_600),
    "301": Fault.status(301, headers={"Location": f"/x?key={KEY}"}),
    "204": Fault.status(204),
    "a request id that holds the key": Fault.status(500, headers={"X-Key": KEY}),
    "dropped": Fault.drop(),
    "reset": Fault.reset(),
    "no response": Fault.hang(),
    "no more of the response": Fault.stall(after=200),
    "cut, chunked": Fault.cut(after=200),
    "cut, reset": Fault.cut(after=200, how="rst"),
    "cut, Content-Length": Fault.cut(after=200, how="length"),
    "cut, no mark": Fault.cut(after=200, how="eof"),
    "cut, gzip": Fault.cut(after=200, how="gzip"),
    "HTML": Fault.html(),
    "an object": Fault.object(b'{"error":"' + KEY.encode() + b'"}'),
    "garbage": Fault.garbage(KEY.encode()),
    "a flipped bit": Fault.bit_flip(),
}.items():
    faulty(_name, _fault)


def way(name: str) -> Callable[[Way], Way]:
    def register(function: Way) -> Way:
        WAYS[name] = function
        return function

    return register


@way("401")
async def _revoked(path: Trouble) -> None:
    path.server.api_key = "another"
    await path.reads()


@way("403")
async def _forbidden(path: Trouble) -> None:
    path.server.forbidden = True
    await path.reads()


@way("the server says the key")
async def _echo(path: Trouble) -> None:
    """In each place of a response; the request id is shown on purpose, and not a place for a key."""
    headers = {"X-Key": KEY, "Set-Cookie": f"key={KEY}", "X-Error": KEY}
    path.server.set_raw("A", KEY.encode(), 500, "text/plain", headers)
    path.server.set_raw("B", b'["' + KEY.encode() + b'"]', 200, f"text/{KEY}", headers)
    await path.reads("A")
    await path.reads("B")


@way("a coding that is none")
async def _coding(path: Trouble) -> None:
    path.server.set_raw("A", KEY.encode(), headers={"Content-Encoding": KEY})
    await path.reads("A")


@way("a proxy that refuses")
async def _proxy(path: Trouble) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 407 {KEY}\r\nX: {KEY}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for base_url in ("https://np6.invalid", path.server.url):
            async with aiohttp.ClientSession(proxy=f"http://{address}") as session:
                await path.reads(session=session, base_url=base_url)


@way("an event that is none")
async def _undecodable(path: Trouble) -> None:
    for body in (b"[1]", b'[{"id":1}]', b'[{"timestamp":"x"}]', b"[nul]", b"\xff\xfe[]", b"[" * 200, b'[{"a":' * 2_000):
        path.server.set_raw("A", body)
        await path.reads("A")


@way("events out of order")
async def _order(path: Trouble) -> None:
    early, late = make_bounce(at="2026-01-01T00:00Z"), make_bounce(at="2026-01-02T00:00Z")
    path.server.set_raw("A", json.dumps([late, early]).encode())
    await path.reads("A")


@way("larger than the limits")
async def _limits(path: Trouble) -> None:
    path.server.add_contact("A", [make_event(filler="x" * 300_000)])
    await path.reads("A", limits=DecodeLimits(event_bytes=1_000, answer_bytes=100_000, slice_bytes=4_096))


@way("a refused port")
async def _refused(path: Trouble) -> None:
    await path.reads(base_url="http://127.0.0.1:9")


@way("a name that does not resolve")
async def _dns(path: Trouble) -> None:
    await path.reads(base_url="https://np6.invalid")


@way("a full backlog")
async def _backlog(path: Trouble) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        await path.reads(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}")


@way("TLS to a plain port")
async def _plain(path: Trouble) -> None:
    await path.reads(base_url=path.server.url.replace("http:", "https:"))


@way("plain to a TLS port")
async def _tls_port(path: Trouble) -> None:
    async with tls_server() as (server, _):
        await path.reads(base_url=server.url.replace("https:", "http:"))


@way("an authority that is not trusted")
async def _untrusted(path: Trouble) -> None:
    async with tls_server() as (server, _):
        await path.reads(base_url=server.url)


@way("another host's certificate")
async def _wrong_host(path: Trouble) -> None:
    async with tls_server("other.example.com") as (server, context):
        await path.reads(base_url=server.url, ssl_context=context)


@way("no HTTP at all")
async def _no_http(path: Trouble) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # It repeats what it got, as debugging servers do: the parser's error quotes that.
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as echo:
        await path.reads(base_url=f"http://127.0.0.1:{echo.sockets[0].getsockname()[1]}")


@way("headers beyond every limit")
async def _headers(path: Trouble) -> None:
    path.server.set_raw("A", b"[]", headers={"X-Long": KEY * 1_000})
    await path.reads("A")


@way("bad arguments of a call")
async def _arguments(path: Trouble) -> None:
    async with path.client() as np6:
        events = np6.events
        path.objects += [np6, events]
        for contact in ("", "a/b", "..", b"A", 1, None, object(), "\ud800"):
            path.refuses(lambda contact=contact: events.stream(contact))
        for start in (True, float("nan"), "yesterday", datetime(2026, 1, 1), -1, object(), 10**30):  # noqa: DTZ001
            path.refuses(lambda start=start: events.stream("A", start=start))
        path.refuses(lambda: events.stream("A", start=2_000_000_000, end=1_000_000_000))
        path.refuses(lambda: events.stream("A", kind="everything"))
        path.refuses(lambda: events.stream("A", missing="maybe"))
        path.refuses(lambda: events.stream("A", "hits", classification=[1]))
        path.refuses(lambda: events.stream_many("A"))
        path.refuses(lambda: events.stream_many(["A"], concurrency=0))
        path.refuses(lambda: events.stream_many(["A"], on_error="ignore"))
        path.refuses(lambda: events.stream_many(["A"], order="random"))
        path.refuses(lambda: events.stream_many(["A"], order="time"))
        await path.fails(lambda: events.list("A", limit=-1))
        await path.fails(lambda: drain_many(events.stream_many(["a/b", 1])))
        await path.fails(lambda: anext(events.stream_many(["A"])))


@way("bad arguments of a client")
async def _construction(path: Trouble) -> None:
    for key in (f"{KEY} ", f"{KEY}\n", f"{KEY}\r\nX: y", f"é{KEY}", KEY.encode(), [KEY], KEY * 50):
        path.refuses(lambda key=key: construct(key))
        del key
    for options in (
        {"base_url": "https://user:password@np6.invalid"},
        {"base_url": "https://np6.invalid/?key=1"},
        {"base_url": "http://np6.invalid"},
        {"base_url": 1},
        {"concurrency": 0},
        {"timeout": 0},
        {"timeout": "1"},
        {"proxy": 1},
        {"proxy": "socks5://np6.invalid"},
        {"max_retries": 1},
        {"retry": 1},
        {"tz": "Paris"},
        {"hooks": [1]},
        {"session": object()},
        {"ssl_context": False},
        {"rate_limiter": 1},
        {"user_agent": "a\nb"},
        {"limits": {}},
    ):
        path.refuses(lambda options=options: path.client(**options))
        del options
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        path.refuses(lambda: path.client(session=session))


def construct(key: Any) -> None:
    """A client with a key that is none; no frame but the client's own is left on the way."""
    error = None
    try:
        NP6Client(key)
    except NP6Error as raised:
        raised.__traceback__ = raised.__traceback__ and raised.__traceback__.tb_next
        error = raised
    del key
    if error is not None:
        raise error


@way("keys in the environment")
async def _environment(path: Trouble) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        file = Path(directory, "key")
        file.write_bytes(f"{KEY} {KEY}".encode())  # noqa: ASYNC240
        patch.delenv("NP6_API_KEY", raising=False)
        patch.delenv("NP6_API_KEY_FILE", raising=False)
        path.refuses(NP6Client)
        patch.setenv("NP6_API_KEY_FILE", str(file))
        path.refuses(NP6Client)
        file.write_bytes(b"\xff" + KEY.encode())  # noqa: ASYNC240
        path.refuses(NP6Client)
        patch.setenv("NP6_API_KEY", f"{KEY} ")
        path.refuses(NP6Client)
        assert os.environ["NP6_API_KEY"]


@way("a closed client")
async def _closed(path: Trouble) -> None:
    np6 = path.client()
    stream, bulk = np6.events.stream("A"), np6.events.stream_many(["A"])
    await np6.close()
    path.objects += [np6, stream, bulk]
    await path.fails(lambda: np6.events.list("A"))
    await path.fails(lambda: drain(stream))
    await path.fails(lambda: drain_many(bulk))
    await path.fails(np6.__aenter__)


@way("closed while it reads")
async def _closing(path: Trouble) -> None:
    path.server.script(Fault.stall(after=100), times=None)
    np6 = path.client(timeout=Timeout(read=5))
    tasks = [asyncio.ensure_future(np6.events.list(contact)) for contact in path.contacts[:3]]
    tasks.append(asyncio.ensure_future(drain_many(np6.events.stream_many(path.contacts))))
    await asyncio.sleep(0.05)
    path.objects += [np6, *tasks]
    await np6.close()
    for task in tasks:
        await path.fails(lambda task=task: task)


@way("another event loop")
async def _loop(path: Trouble) -> None:
    np6 = path.client()
    await np6.events.list(path.contacts[0])

    def other() -> None:
        asyncio.run(path.fails(lambda: np6.events.list(path.contacts[0])))
        asyncio.run(path.fails(np6.close))

    await asyncio.to_thread(other)
    await np6.close()


@way("no slot")
async def _pool(path: Trouble) -> None:
    path.server.add_contact("A", [make_event(filler="x" * 3_000) for _ in range(300)])
    async with path.client(concurrency=1) as np6:
        stream = np6.events.stream("A")
        await anext(stream)
        await path.fails(lambda: np6.events.list(path.contacts[0]))
        path.objects.append(stream)


@way("a deadline")
async def _deadline(path: Trouble) -> None:
    path.server.script(Fault.hang(), times=None)
    await path.reads(timeout=Timeout(read=5, deadline=0.05))


@way("a bulk run that fails in every way")
async def _bulk(path: Trouble) -> None:
    first, second, third, *_ = path.contacts
    path.server.script(Fault.status(404), contact=first, times=None)
    path.server.script(Fault.html(), contact=second, times=None)
    path.server.script(Fault.drop(), contact=third, times=None)

    def complain(failure: Failure) -> None:
        raise KeyError(str(failure))

    async def broken() -> AsyncIterator[str]:
        yield first
        raise LookupError("the source is broken")

    async with path.client() as np6:
        for on_error in ("raise", complain, lambda _: "nonsense", lambda _: "raise"):
            await path.fails(
                lambda on_error=on_error: drain_many(np6.events.stream_many(path.contacts, on_error=on_error))
            )
        await path.fails(lambda: drain_many(np6.events.stream_many(broken())))
        await path.fails(lambda: drain_many(np6.events.stream_many(iter([object()]))))
        bulk = np6.events.stream_many(path.contacts, on_error="collect")
        await drain_many(bulk)
        path.objects += [bulk, *bulk.failures]
        path.errors += [failure.error for failure in bulk.failures]
        await path.fails(lambda: drain_many(bulk))
    missing = [f"M{n}" for n in range(30)]
    async with path.client() as np6:
        await path.fails(lambda: drain_many(np6.events.stream_many(missing, on_error="skip")))


@way("two readers of one stream")
async def _usage(path: Trouble) -> None:
    path.server.script(Fault.hang(), times=None)
    async with path.client(timeout=Timeout(read=5)) as np6:
        stream = np6.events.stream(path.contacts[0])
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.02)
        await path.fails(lambda: anext(stream))
        task.cancel()
        await path.fails(lambda: task)
        await path.fails(lambda: anext(stream))


@way("cancelled and timed out")
async def _cancelled(path: Trouble) -> None:
    path.server.script(Fault.hang(), times=None)

    async def timed() -> None:
        async with asyncio.timeout(0.03):
            await np6.events.list(path.contacts[1])

    async with path.client(timeout=Timeout(read=5)) as np6:
        task = asyncio.ensure_future(np6.events.list(path.contacts[0]))
        await asyncio.sleep(0.02)
        path.objects.append(task)
        task.cancel()
        await path.fails(lambda: task)
        await path.fails(timed)


@way("hooks that raise")
async def _hooks(path: Trouble) -> None:
    seen: list[Observation] = []

    def hook(observation: Observation) -> None:
        seen.append(observation)
        raise RuntimeError(repr(observation))

    path.server.script(Fault.status(500), Fault.cut(after=300), Fault.rate_limited(0), Fault.drop())
    async with path.client(hooks=[hook], retry=RetryPolicy(sleep=immediately)) as np6:
        await drain_many(np6.events.stream_many(path.contacts))
        await path.fails(lambda: np6.events.list("M"))
    path.objects += seen


@way("a rate limiter that raises")
async def _limiter(path: Trouble) -> None:
    class Broken:
        async def __aenter__(self) -> None:
            raise LookupError("no turn")

        async def __aexit__(self, *_: object) -> None: ...

    await path.reads(rate_limiter=Broken())


@way("a borrowed session")
async def _session(path: Trouble) -> None:
    path.server.script(Fault.status(500), Fault.drop(), times=3)
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        await path.reads("M", session=session)
        np6 = path.client(session=session)
        path.objects += [np6, session]
    await path.fails(lambda: np6.events.list(path.contacts[0]))
    await np6.close()


@way("a borrowed session whose traces raise")
async def _traces(path: Trouble) -> None:
    async def broken(*_: Any) -> None:
        raise LookupError("the trace is broken")

    for name in ("on_request_start", "on_connection_create_start", "on_request_headers_sent", "on_request_end"):
        trace = aiohttp.TraceConfig()
        getattr(trace, name).append(broken)
        async with aiohttp.ClientSession(trace_configs=[trace]) as session, path.client(session=session) as np6:
            await path.fails(lambda np6=np6: np6.events.list(path.contacts[0]))


@way("pickled and copied")
async def _pickled(path: Trouble) -> None:
    async with path.client() as np6:
        stream = np6.events.stream(path.contacts[0])
        async with np6.events.stream_many(path.contacts) as bulk:
            pairs = [pair async for pair in bulk]
        runtime = np6._runtime
        parts: list[object] = [np6, np6.events, stream, bulk, pairs, runtime, runtime.transport, runtime.transport._key]
        for part in parts:
            with suppress(Exception):
                path.objects.append(pickle.dumps(part))
            await path.fails(lambda: asyncio.to_thread(pickle.dumps, np6))
        path.objects += parts
    unused = path.client()
    for part in (unused, unused.events, unused._runtime.transport, unused._runtime.transport._key):
        path.refuses(lambda part=part: copy.deepcopy(part))
        path.refuses(lambda part=part: pickle.dumps(part))
    path.refuses(lambda: copy.copy(unused._runtime.transport._key))
    path.objects.append(copy.copy(unused))


@asynccontextmanager
async def tls_server(host: str = "127.0.0.1") -> AsyncIterator[tuple[FakeNP6, ssl.SSLContext]]:
    """A server with a certificate for `host`, and a context that trusts its authority."""
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with FakeNP6(contacts=3, api_key=KEY, ssl_context=server_context) as server:
        yield server, context


@pytest.fixture(autouse=True)
def _no_key_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NP6_API_KEY", raising=False)
    monkeypatch.delenv("NP6_API_KEY_FILE", raising=False)


swept: dict[str, int] = {}


@pytest.mark.parametrize("name", WAYS)
async def test_E1_the_key_shows_in_no_failure(name: str, figure: Figure, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever fails: the key is in no log at the lowest level, no message, cause or context, no traceback with
    locals, no warning, no pickle and no text of an object."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    with lowest_level() as logs, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with FakeNP6(contacts=30, events_per_contact=5, api_key=KEY, seed=SEED) as server:
            path = Trouble(server)
            await WAYS[name](path)
        gc.collect()
        await asyncio.sleep(0)

        def texts() -> Iterator[str]:
            for error in path.errors:
                yield from messages(error)
                yield from tracebacks(error)
                yield from pickles(error)
            for each in path.objects:
                yield from texts_of(each)
                yield from pickles(each)

        found = leaks(KEY, texts())
        found += leaks(KEY, logs.texts())
        found += leaks(KEY, (f"{each.message!r} {vars(each)!r}" for each in warned))
        found += leaks(KEY, iter(capfd.readouterr()))
        found += leaks(
            KEY, (repr(each) for value in path.objects if isinstance(value, NP6Client) for each in members(value))
        )
    swept[name] = len(found)
    if len(swept) == len(WAYS):
        figure("E1", f"the key in {len(swept)} ways to fail: places where it shows", "0", sum(swept.values()))
    assert path.errors
    assert found == []
    assert {record.name for record in logs.records} & {"np6_async", "asyncio"}


async def test_E1_the_key_shows_in_no_public_object(figure: Figure) -> None:
    """repr, str, format, vars, asdict, pprint, pickle and copy of a client, its streams, stats, settings, events,
    observations and failures, however deep."""
    seen: list[Observation] = []
    async with FakeNP6(contacts=12, events_per_contact=5, api_key=KEY, seed=SEED) as server:
        first, second, *_ = server.contact_ids
        server.script(Fault.status(500), contact=first, times=None)
        server.script(Fault.cut(after=500), Fault.rate_limited(0), contact=second)
        async with NP6Client(KEY, base_url=server.url, retry=QUICK, hooks=[seen.append]) as np6:
            stream = np6.events.stream(second)
            event = await anext(stream)
            async with np6.events.stream_many(server.contact_ids, on_error="collect") as bulk:
                pairs = [pair async for pair in bulk]
            objects: list[object] = [
                np6,
                np6.events,
                stream,
                stream.batches(),
                stream.stats,
                stream.contact,
                event,
                bulk,
                bulk.batches(),
                bulk.stats,
                bulk.failures,
                pairs,
                *seen,
                *bulk.failures,
                Contact.by_id(first),
                QUICK,
                Timeout(),
                DecodeLimits(),
                np6_async,
            ]
            types_seen = {type(each).__name__ for each in seen}
            texts = [text for each in objects for text in texts_of(each)]
            texts += [text for value in objects for each in members(value) for text in (repr(each), str(each))]
            texts += [text for each in objects for text in pickles(each)]
            texts += [repr(server), str(server)]
            await stream.aclose()
    found = leaks(KEY, iter(texts))
    figure("E1", f"the key in {len(texts)} texts of public objects", "0", len(found))
    assert types_seen >= {"RequestStarted", "RequestFinished", "RetryScheduled", "RateLimitWait", "ContactDone"}
    assert found == []


@pytest.mark.parametrize(
    "url", ["https://user:{}@np6.invalid", "https://np6.invalid/?key={}", "ftp://{}", "https://[{}"]
)
def test_E1_a_key_in_the_base_url_is_refused_and_not_quoted(url: str) -> None:
    """Where it does not belong: the error says so, without it."""
    with pytest.raises(NP6Error) as caught:
        NP6Client("k", base_url=url.format(KEY))
    assert leaks(KEY, messages(caught.value)) == []


def test_E1_the_sweep_itself_finds_what_is_planted() -> None:
    """A key in a local variable, a context, a log record or a member is found: the tests above can fail."""

    def fail() -> None:
        planted = KEY
        try:
            raise KeyError(planted)
        except KeyError:
            raise ValueError("nothing to see") from None

    class Holder:
        def __init__(self) -> None:
            self.key = KEY

    with pytest.raises(ValueError, match="nothing to see") as caught:
        fail()
    assert leaks(KEY, messages(caught.value))
    assert leaks(KEY, tracebacks(caught.value))
    assert leaks(KEY, (repr(each) for each in members(Holder())))
    assert leaks(KEY, pickles({"a": KEY}))
    with lowest_level() as logs:
        logging.getLogger("aiohttp.client").debug("%s", KEY)
        logging.getLogger("asyncio").debug("nothing", extra={"more": KEY})
    assert len(leaks(KEY, logs.texts())) == 3


# -- E3: addresses ------------------------------------------------------------------------------------


def page(status: int) -> bytes:
    return f"<html><body><h1>{status}</h1><p>No account for {ADDRESS}</p></body></html>".encode()


def personal(**members: Any) -> bytes:
    return json.dumps(make_bounce(unicity=ADDRESS, diagnostic=f"550 <{ADDRESS}> unknown") | members).encode()


BODIES: dict[str, tuple[int, bytes]] = {
    "good": (200, b"[" + personal() + b"," + personal() + b"]"),
    "400": (400, page(400)),
    "401": (401, page(401)),
    "403": (403, page(403)),
    "404": (404, page(404)),
    "422": (422, page(422)),
    "500": (500, page(500)),
    "503": (503, page(503)),
    "302": (302, page(302)),
    "HTML with 200": (200, page(200)),
    "an object": (200, b'{"error":"no account for ' + ADDRESS.encode() + b'"}'),
    "a text": (200, b'"' + ADDRESS.encode() + b'"'),
    "cut": (200, b"[" + personal()[:-100]),
    "cut after an event": (200, b"[" + personal() + b","),
    "garbage after the array": (200, b"[" + personal() + b"]" + ADDRESS.encode()),
    "garbage between": (200, b"[" + personal() + ADDRESS.encode() + personal() + b"]"),
    "no time": (200, b"[" + personal(timestamp=ADDRESS) + b"]"),
    "a time that is none": (200, b"[" + personal(timestamp=10**40) + b"]"),
    "an id that is none": (200, b"[" + personal(id=[ADDRESS]) + b"]"),
    "a type that is none": (200, b"[" + personal(type={"a": ADDRESS}) + b"]"),
    "bad UTF-8": (200, b"[" + personal().replace(b"unknown", b"\xff\xfe") + b"]"),
    "an address for an event": (200, b'["' + ADDRESS.encode() + b'"]'),
    "out of order": (200, b"[" + personal(timestamp=1_767_225_700_000) + b"," + personal(timestamp=1) + b"]"),
    "too large": (200, b"[" + personal(filler="x" * 200_000) + b"]"),
    "too deep": (200, b"[" + personal()[:-1] + b',"deep":' + b"[" * 3_000 + b"]" * 3_000 + b"}]"),
}


swept_bodies: dict[str, int] = {}


@pytest.mark.parametrize("name", BODIES)
async def test_E3_an_address_in_a_body_shows_in_no_log_and_no_message(
    name: str, figure: Figure, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the response holds and however it fails, and also where the contact is named by that address: no log,
    no message, no repr of an error, a stream, a failure or an observation quotes it."""
    status, body = BODIES[name]
    asyncio.get_running_loop().set_debug(True)
    seen: list[Observation] = []
    errors: list[BaseException] = []
    objects: list[object] = []
    delivered = 0
    headers = {"X-Error": ADDRESS, "Location": f"/{ADDRESS}", "Set-Cookie": f"who={ADDRESS}"}
    with lowest_level() as logs, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with FakeNP6(contacts=0, seed=SEED) as server:
            server.add_contact("A", unicity=ADDRESS)
            server.set_raw("A", body, status, "text/html" if body[:1] == b"<" else "application/json", headers)
            limits = DecodeLimits(event_bytes=50_000)
            async with server.client(retry=QUICK, limits=limits, hooks=[seen.append]) as np6:
                for contact in ("A", Contact.by_unicity(ADDRESS), Contact.by_hash(server.hash("A"))):
                    stream = np6.events.stream(contact, "bounces")
                    bulk = np6.events.stream_many([contact], on_error="collect")
                    for call in (lambda s=stream: drain(s), lambda b=bulk: drain_many(b)):
                        try:
                            pairs = await call()
                        except NP6Error as error:
                            errors.append(error)
                            continue
                        for pair in pairs:
                            delivered += 1
                            try:
                                assert (pair[1] if isinstance(pair, tuple) else pair).source
                            except NP6Error as error:
                                errors.append(error)
                    errors += [failure.error for failure in bulk.failures]
                    objects += [np6, stream, stream.stats, stream.contact, bulk, bulk.stats, *bulk.failures]
                    with suppress(NP6Error):
                        await drain_many(np6.events.stream_many([contact], on_error="raise"))

        def texts() -> Iterator[str]:
            for error in errors:
                for each in errors_of(error):
                    yield from (repr(each), str(each), f"{each}", repr(each.args), ascii(each))
                    yield from traceback.TracebackException.from_exception(each).format()
            for each in (*objects, *seen):
                yield from (repr(each), str(each), f"{each}")

        found = leaks(PERSON, texts())
        found += leaks(PERSON, logs.texts_without_arguments())
        found += leaks(PERSON, (str(each.message) for each in warned))
        found += leaks(PERSON, iter(capfd.readouterr()))
    swept_bodies[name] = len(found)
    if len(swept_bodies) == len(BODIES):
        shown = sum(swept_bodies.values())
        figure("E3", f"an address in {len(BODIES)} kinds of bodies: places where it shows", "0", shown)
    assert found == []
    assert seen
    assert errors or delivered
    assert "np6_async" in {record.name for record in logs.records}


async def test_E3_an_address_that_is_not_a_contact_is_not_quoted(figure: Figure) -> None:
    """Bad references, and addresses in the wrong place: the message says what is wrong without them."""
    wrong: list[Callable[[], object]] = [
        lambda: Contact.by_id(ADDRESS),
        lambda: Contact.by_hash(ADDRESS),
        lambda: Contact.by_unicity(f"{ADDRESS}\n"),
        lambda: Contact.by_unicity(f"{ADDRESS}\ud800"),
        lambda: Contact.by_unicity(ADDRESS * 100),
        lambda: Contact(ADDRESS, "unicity"),  # type: ignore[arg-type]
        lambda: Contact.by_unicity([ADDRESS]),  # type: ignore[arg-type]
        lambda: NP6Client("k").events.stream(ADDRESS),
        lambda: NP6Client("k").events.stream(ADDRESS.encode()),  # type: ignore[arg-type]
        lambda: NP6Client("k").events.stream_many(ADDRESS),
        lambda: NP6Client("k").events.stream({ADDRESS: 1}),  # type: ignore[arg-type]
    ]
    errors: list[NP6Error] = []
    for call in wrong:
        with pytest.raises(NP6Error) as caught:
            call()
        errors.append(caught.value)
    async with NP6Client("k", base_url="http://127.0.0.1:9") as np6:
        bulk = np6.events.stream_many([ADDRESS, Contact.by_unicity(ADDRESS)], on_error="collect")
        with lowest_level() as logs, pytest.raises(ServiceUnavailable) as unavailable:
            await drain_many(bulk)
    errors += [*(failure.error for failure in bulk.failures), unavailable.value]
    assert len(bulk.failures) == 1
    found = leaks(PERSON, (text for error in errors for each in errors_of(error) for text in (repr(each), str(each))))
    found += leaks(PERSON, logs.texts_without_arguments())
    found += leaks(PERSON, (text for each in bulk.failures for text in (str(each),)))
    figure("E3", f"an address in {len(errors)} bad arguments: places where it shows", "0", len(found))
    assert found == []


# -- E8: the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("borrowed", [False, True], ids=["own session", "borrowed session"])
async def test_E8_proxies_and_netrc_in_the_environment_change_nothing_for_loopback_addresses(
    borrowed: bool, tls: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, figure: Figure
) -> None:
    """With HTTP_PROXY, HTTPS_PROXY and ALL_PROXY of both cases and a netrc for the host, requests go straight to the
    server and carry no other credentials. What proxies are for is in test_forward_proxies."""
    diverted = 0

    async def divert(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal diverted
        diverted += 1
        writer.close()

    async with (
        await asyncio.start_server(divert, "127.0.0.1", 0) as proxy,
        tls_server() as (secure, context),
        FakeNP6(contacts=3, api_key=KEY) as plain,
    ):
        server = secure if tls else plain
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)
        for name in ("NO_PROXY", "no_proxy", "REQUEST_METHOD"):
            monkeypatch.delenv(name, raising=False)
        netrc = "machine 127.0.0.1 login someone password secret\ndefault login someone password secret\n"
        (tmp_path / ".netrc").write_text(netrc)
        (tmp_path / ".netrc").chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

        options: dict[str, Any] = {"ssl_context": context} if tls else {}
        session = aiohttp.ClientSession() if borrowed else None
        async with NP6Client(KEY, base_url=server.url, session=session, **options) as np6:
            async with np6.events.stream_many(server.contact_ids) as events:
                count = len([event async for event in events])
            assert len(await np6.events.list(server.contact_ids[0])) == 10
        if session is not None:
            await session.close()
        headers = {name for request in server.requests for name in request.headers}
        figure("E8", f"requests diverted, {'https' if tls else 'http'}", "0", diverted)
        assert diverted == 0
        assert count == 30
        assert server.request_count == 4
        assert headers.isdisjoint({"authorization", "proxy-authorization", "cookie"})

        # The environment is one that diverts: a session that trusts it does not get through.
        if not tls:
            async with aiohttp.ClientSession(trust_env=True) as trusting:
                with pytest.raises(aiohttp.ClientError):
                    await trusting.get(server.url)
            assert diverted >= 1
            assert server.request_count == 4


def test_E8_nothing_else_of_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client reads NP6_API_KEY, NP6_API_KEY_FILE, NP6_BASE_URL and what names proxies, and only where it is not given
    such."""
    read: list[str] = []

    class Environment(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            read.append(key)
            return default

        def __getitem__(self, key: str) -> str:
            read.append(key)
            raise KeyError(key)

    monkeypatch.setattr("os.environ", Environment())
    NP6Client(KEY, base_url="https://np6.example", proxy=None)
    given = list(read)
    NP6Client(KEY)
    with pytest.raises(NP6Error):
        NP6Client()
    monkeypatch.undo()
    assert given == []
    assert set(read) == {"NP6_API_KEY", "NP6_API_KEY_FILE", "NP6_BASE_URL"}
