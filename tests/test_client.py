"""NP6Client: its configuration, its key, its arguments, the queries it sends, and its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aioresponses import aioresponses
from support.object_members import members

from np6_async import (
    ClientClosed,
    ConfigError,
    Contact,
    EventKind,
    InvalidContact,
    InvalidInput,
    LoggingHook,
    NotFound,
    NP6Client,
    NP6Error,
    RateLimitStatus,
    RetryPolicy,
    Timeout,
    TimeoutExceeded,
)
from np6_async.testing import FakeNP6, Fault

CANARY = "canary-7f3a9e-key"


async def no_sleep(_: float) -> None: ...


def key_of(client: NP6Client) -> str:
    return client._runtime.transport._key.reveal()


BAD_KEYS = ["", " ", f"{CANARY} ", f"{CANARY}\n", f"{CANARY}\r\nX-Evil: 1", f"{CANARY}é", CANARY * 40, f"{CANARY}\x00"]


class TestKey:
    def test_from_the_argument(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The argument comes first."""
        monkeypatch.setenv("NP6_API_KEY", "other")
        assert key_of(NP6Client(CANARY)) == CANARY

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """NP6_API_KEY comes before NP6_API_KEY_FILE."""
        monkeypatch.setenv("NP6_API_KEY_FILE", str(tmp_path / "nothing"))
        monkeypatch.setenv("NP6_API_KEY", CANARY)
        assert key_of(NP6Client()) == CANARY

    @pytest.mark.parametrize("end", ["", "\n", "\r\n", "  \n"])
    def test_from_a_file(self, end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As editors and secret mounts write it: a line end is not part of the key."""
        path = tmp_path / "key"
        path.write_bytes((CANARY + end).encode())
        monkeypatch.setenv("NP6_API_KEY_FILE", str(path))
        assert key_of(NP6Client()) == CANARY

    def test_none_at_all(self) -> None:
        """The error names the three ways to give one."""
        with pytest.raises(ConfigError, match=r"NP6Client\(api_key\).*NP6_API_KEY.*NP6_API_KEY_FILE"):
            NP6Client()

    @pytest.mark.parametrize("content", [None, "directory", b"", b"\xff\xfe" + CANARY.encode(), b"two words"])
    def test_a_file_without_a_key(
        self, content: bytes | str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Missing, a directory, empty, not text, no key: a ConfigError that names the variable, not the content."""
        path = tmp_path / "key"
        if content == "directory":
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        monkeypatch.setenv("NP6_API_KEY_FILE", str(path))
        with pytest.raises(ConfigError, match="NP6_API_KEY_FILE") as caught:
            NP6Client()
        assert_no_leak(caught.value, skip=__file__)

    @pytest.mark.parametrize("key", [*BAD_KEYS, CANARY.encode(), 42, [CANARY]], ids=lambda key: repr(key)[:30])
    def test_an_invalid_key_is_refused_and_not_quoted(self, key: Any) -> None:
        """Before any I/O, and the error shows nothing of it: not even its traceback with locals does."""
        with pytest.raises(ConfigError, match="api_key is not a valid API key") as caught:
            NP6Client(key)
        assert_no_leak(caught.value, skip=__file__)

    @pytest.mark.parametrize("key", BAD_KEYS[:-1], ids=lambda key: repr(key)[:30])
    def test_a_bad_key_in_the_environment(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the variable."""
        monkeypatch.setenv("NP6_API_KEY", key)
        with pytest.raises(ConfigError, match="NP6_API_KEY is not a valid API key") as caught:
            NP6Client()
        assert_no_leak(caught.value, skip=__file__)


class TestBaseURL:
    def test_the_argument_comes_before_the_environment_and_that_before_np6(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "'https://api-cm.np6.com'" in repr(NP6Client("k"))
        monkeypatch.setenv("NP6_BASE_URL", "https://other.example:8443/np6")
        assert "'https://other.example:8443'" in repr(NP6Client("k"))
        assert "'http://127.0.0.1:9'" in repr(NP6Client("k", base_url="http://127.0.0.1:9"))

    async def test_requests_go_to_the_one_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with FakeNP6(contacts=1) as server:
            monkeypatch.setenv("NP6_BASE_URL", server.url)
            async with NP6Client(server.api_key) as np6:
                assert len(await np6.events.list(server.contact_ids[0])) == 10

    @pytest.mark.parametrize("url", ["", "nowhere", "http://api-cm.np6.com", "https://user@example.com", "https://a?b"])
    @pytest.mark.parametrize("name", ["base_url", "NP6_BASE_URL"])
    def test_an_unsafe_address_is_refused_naming_where_it_was_given(
        self, monkeypatch: pytest.MonkeyPatch, name: str, url: str
    ) -> None:
        """Plain HTTP to anything but this machine, credentials, a query, and anything but a URL."""
        monkeypatch.setenv("NP6_BASE_URL", url)
        with pytest.raises(ConfigError, match=f"^{name} must"):
            NP6Client("k", base_url=url if name == "base_url" else None)


def assert_no_leak(error: BaseException, skip: str = "", secret: str = CANARY) -> None:
    """The secret is in no text of the error, of its cause and context, nor of any local variable on the way.
    `skip` is the file whose own variables may hold it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        todo += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
        assert secret not in f"{each} {each!r} {vars(each)!r} {each.args!r}"
        captured = traceback.TracebackException.from_exception(each, capture_locals=True)
        for frame in captured.stack:
            if frame.filename != skip:
                for name, value in (frame.locals or {}).items():
                    assert secret not in value, f"{name} in {frame.name}, {frame.filename}:{frame.lineno}"


class TestKeyStaysHidden:
    async def test_in_every_object(self) -> None:
        """repr, str, format and vars, however deep, of the client, its streams and the events."""
        async with FakeNP6(contacts=2, api_key=CANARY) as server, NP6Client(CANARY, base_url=server.url) as np6:
            stream = np6.events.stream(server.contact_ids[0])
            event = await anext(stream)
            async with np6.events.stream_many(server.contact_ids) as bulk:
                pairs = [pair async for pair in bulk]
            for value in (np6, np6.events, stream, event, bulk, pairs, stream.stats, bulk.stats):
                for each in members(value):
                    assert CANARY not in f"{each!r}"
                    assert CANARY not in f"{each!s}"
            await stream.aclose()

    FAILURES: dict[str, Callable[[FakeNP6], object]] = {  # noqa: RUF012
        "revoked": lambda server: setattr(server, "api_key", "another"),
        "forbidden": lambda server: setattr(server, "forbidden", True),
        "unknown": lambda server: server.set_raw("A", b"", status=404),
        "server error": lambda server: server.script(Fault.status(500), times=None),
        "redirect": lambda server: server.set_raw("A", b"", status=302, headers={"Location": "/x"}),
        "rate limit": lambda server: server.script(Fault.rate_limited(3600), times=None),
        "drop": lambda server: server.script(Fault.drop(), times=None),
        "reset": lambda server: server.script(Fault.reset(), times=None),
        "hang": lambda server: server.script(Fault.hang(), times=None),
        "stall": lambda server: server.script(Fault.stall(after=300), times=None),
        "cut": lambda server: server.script(Fault.cut(after=300, how="length"), times=None),
        "gzip": lambda server: server.script(Fault.cut(after=300, how="gzip"), times=None),
        "html": lambda server: server.script(Fault.html(), times=None),
        "object": lambda server: server.script(Fault.object(), times=None),
        "garbage": lambda server: server.script(Fault.garbage(), times=None),
        "bit flip": lambda server: server.script(Fault.bit_flip(), times=None),
    }

    @pytest.mark.parametrize("failure", FAILURES)
    async def test_in_every_failure(self, failure: str, caplog: pytest.LogCaptureFixture) -> None:
        """Message, cause, context, members, tracebacks with locals, and all logs at the lowest level."""
        caplog.set_level(1)
        asyncio.get_running_loop().set_debug(True)
        async with FakeNP6(contacts=1, api_key=CANARY) as server:
            contact = server.contact_ids[0]
            retry = RetryPolicy(max_attempts=2, max_protocol_attempts=2, sleep=no_sleep)
            async with NP6Client(CANARY, base_url=server.url, retry=retry, timeout=Timeout(read=0.02)) as np6:
                self.FAILURES[failure](server)
                with pytest.raises(NP6Error) as caught:
                    await np6.events.list("A" if failure in ("unknown", "redirect") else contact)
                assert_no_leak(caught.value, skip=__file__)
        assert CANARY not in caplog.text
        assert not [record for record in caplog.records if CANARY in repr(vars(record))]
        assert "np6_async" in {record.name for record in caplog.records}

    async def test_where_nobody_listens(self) -> None:
        """A refused connection."""
        async with NP6Client(CANARY, base_url="http://127.0.0.1:9", retry=RetryPolicy(max_attempts=1)) as np6:
            with pytest.raises(NP6Error) as caught:
                await np6.events.list("A")
        assert_no_leak(caught.value, skip=__file__)

    def test_in_construction_errors(self) -> None:
        """A good key beside another argument that is wrong."""
        wrong: list[dict[str, Any]] = [
            {"base_url": "nowhere"},
            {"base_url": "https://a..b"},
            {"base_url": "https://" + "x" * 70 + ".com"},
            {"base_url": "https://exa mple.com"},
            {"base_url": "https://127.0.0.1:0"},
            {"concurrency": 0},
            {"user_agent": "a\nb"},
            {"tz": "Europe/Paris"},
            {"session": 1},
        ]
        for options in wrong:
            with pytest.raises(ConfigError) as caught:
                NP6Client(CANARY, **options)
            assert_no_leak(caught.value, skip=__file__)


class TestConstruction:
    def test_it_needs_no_event_loop(self) -> None:
        """A client may be a module's global."""
        client = NP6Client("k")
        assert not client.closed
        assert repr(client) == "NP6Client(base_url='https://api-cm.np6.com', concurrency=16, closed=False)"
        client.events.stream("A")

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"concurrency": 0}, "concurrency must be a whole number from 1 to 1000, not 0"),
            ({"concurrency": 1001}, "concurrency must be a whole number from 1 to 1000"),
            ({"concurrency": 2.0}, "concurrency must be a whole number"),
            ({"concurrency": True}, "concurrency must be a whole number"),
            ({"timeout": "5"}, r"timeout must be Timeout\(\.\.\.\) or a number of seconds, not str"),
            ({"timeout": True}, r"timeout must be Timeout\(\.\.\.\) or a number of seconds, not bool"),
            ({"timeout": 0}, "must be a number of seconds above 0, not 0"),
            ({"max_retries": 3}, r"there is no option max_retries=; use retry=RetryPolicy\(max_attempts=N\), which"),
            ({"verify": False}, "there is no option verify=; use ssl_context="),
            ({"proxies": {}}, "there is no option proxies=; use proxy="),
            ({"concurency": 3}, "there is no option concurency=; use concurrency="),
            ({"x": 3}, r"(?m)there is no option x=$"),
            ({"retry": 3}, r"retry must be RetryPolicy\(\.\.\.\), not int"),
            ({"limits": {}}, r"limits must be DecodeLimits\(\.\.\.\), not dict"),
            ({"ssl_context": False}, r"ssl_context must be an ssl\.SSLContext, not bool"),
            ({"rate_limiter": 50}, "rate_limiter must be an async context manager, not int"),
            ({"hooks": print}, "hooks must be an iterable of callables"),
            ({"hooks": [LoggingHook]}, r"class LoggingHook: pass an instance, LoggingHook\(\)"),
            ({"hooks": ["log"]}, "hooks must be an iterable of callables"),
            ({"tz": "Europe/Paris"}, "tz must be a time zone such as zoneinfo"),
            ({"tz": timedelta(hours=1)}, "tz must be a time zone"),
            ({"user_agent": ""}, "user_agent must be printable ASCII"),
            ({"user_agent": "a\r\nX: y"}, "user_agent must be printable ASCII"),
            ({"user_agent": "é"}, "user_agent must be printable ASCII"),
            ({"user_agent": 1}, "user_agent must be printable ASCII"),
        ],
        ids=str,
    )
    def test_what_cannot_work_is_refused(self, options: dict[str, Any], problem: str) -> None:
        """At once, with a ConfigError that says what would be right."""
        with pytest.raises(ConfigError, match=problem):
            NP6Client("k", **options)

    def test_zones_of_pytz_are_refused(self) -> None:
        """As a tzinfo they are the local mean time of 1891: nine minutes off in Paris, without a word."""

        class PytzLike(tzinfo):  # abstract only to type checkers
            def localize(self, moment: datetime) -> datetime:
                return moment

        with pytest.raises(ConfigError, match=r"not be a pytz zone; use zoneinfo"):
            NP6Client("k", tz=PytzLike())  # type: ignore[abstract]


def paths(server: FakeNP6) -> list[str]:
    return [request.path for request in server.requests]


OF_CONTACTS = [kind for kind in EventKind if kind is not EventKind.CANCELLATIONS]


class TestQueries:
    @pytest.mark.parametrize("kind", OF_CONTACTS, ids=str)
    @pytest.mark.parametrize("how", ["id", "unicity", "hash"])
    async def test_every_kind_and_address(self, kind: EventKind, how: str) -> None:
        """The path of each kind, the contact in the path or in the query, and always a sort order."""
        async with FakeNP6(contacts=1) as server, server.client() as np6:
            contact = server.contact_ids[0]
            value = {"id": contact, "unicity": server.unicity(contact), "hash": server.hash(contact)}[how]
            found = await np6.events.list(getattr(Contact, f"by_{how}")(value), kind)
            assert [str(event.id) for event in found] == [
                each["id"] for each in sorted(server.events(contact, kind.value), key=lambda e: e["timestamp"])
            ] or len({e.timestamp for e in found}) < len(found)
            request = server.requests[0]
            suffix = {"all": "", "stops": "/responses/stop"}.get(kind.value, f"/{kind.value}")
            if how == "id":
                assert request.path == f"/targets/{contact}/events{suffix}"
                assert dict(request.query) == {"sort": "asc"}
            else:
                assert request.path == f"/targets/events{suffix}"
                assert dict(request.query) == {"sort": "asc", how: value}

    async def test_texts_work_like_the_members(self) -> None:
        """`kind="hits/open"` asks what `EventKind.HITS_OPEN` asks."""
        async with FakeNP6(contacts=1) as server, server.client() as np6:
            for kind in OF_CONTACTS:
                await np6.events.list(server.contact_ids[0], kind)
                await np6.events.list(server.contact_ids[0], kind.value)
            assert paths(server)[::2] == paths(server)[1::2]

    @pytest.mark.parametrize(
        ("options", "query"),
        [
            ({}, "sort=asc"),
            ({"newest_first": True}, "sort=desc"),
            ({"start": "2026-01-01"}, "sort=asc&start=2026-01-01T00:00:00.000Z"),
            ({"end": date(2026, 2, 1)}, "sort=asc&end=2026-02-01T00:00:00.000Z"),
            (
                {"start": datetime(2026, 1, 1, 12, tzinfo=UTC), "end": 1_767_312_000, "newest_first": True},
                "sort=desc&start=2026-01-01T12:00:00.000Z&end=2026-01-02T00:00:00.000Z",
            ),
            ({"kind": "hits", "classification": "mpp,gsr"}, "sort=asc&classification=mpp,gsr"),
            ({"kind": "hits/open", "classification": ["mpp", "gsr"]}, "sort=asc&classification=mpp,gsr"),
        ],
        ids=str,
    )
    async def test_parameters(self, options: dict[str, Any], query: str, responses: aioresponses) -> None:
        """Exactly these go into the URL."""
        suffix = f"/{options['kind']}" if "kind" in options else ""
        responses.get(f"https://api-cm.np6.com/targets/A/events{suffix}?{query}", body="[]")
        async with NP6Client("k") as np6:
            assert await np6.events.list("A", **options) == []
        (asked,) = responses.requests
        assert sorted(asked[1].raw_query_string.split("&")) == sorted(query.split("&"))

    async def test_dates_are_read_in_the_clients_zone(self, responses: aioresponses) -> None:
        """Midnight there."""
        responses.get("https://api-cm.np6.com/targets/A/events?sort=asc&start=2025-12-31T22:00:00.000Z", body="[]")
        async with NP6Client("k", tz=timezone(timedelta(hours=2))) as np6:
            assert await np6.events.list("A", start="2026-01-01") == []

    async def test_an_empty_window_requests_nothing(self) -> None:
        """start == end: no events, no request, in each method."""
        async with FakeNP6(contacts=1) as server, server.client() as np6:
            day: dict[str, Any] = {"start": "2026-01-01", "end": "2026-01-01"}
            contact = server.contact_ids[0]
            assert await np6.events.list(contact, **day) == []
            assert [event async for event in np6.events.stream(contact, **day)] == []
            async with np6.events.stream_many([contact], **day) as events:
                assert [pair async for pair in events] == []
            assert server.request_count == 0


class TestLimit:
    async def test_reading_stops_there(self) -> None:
        """50 of 3,000 cost little more than 50, and nothing stays open after them."""
        async with FakeNP6(contacts=1, events_per_contact=3000, period=timedelta(days=3000)) as server:
            contact = server.contact_ids[0]
            truth = sorted((each["timestamp"] for each in server.events(contact)), reverse=True)
            async with server.client(concurrency=1) as np6:
                for _ in range(3):
                    latest = await np6.events.list(contact, limit=50, newest_first=True)
                    assert [event.timestamp for event in latest] == truth[:50]
                    assert np6._runtime.slots.in_use == 0
                assert not np6._runtime.transport._live
                oldest = await np6.events.list(contact, limit=1)
                assert [event.timestamp for event in oldest] == truth[-1:]

    async def test_more_than_there_are(self) -> None:
        """All of them."""
        async with FakeNP6(contacts=1) as server, server.client() as np6:
            assert len(await np6.events.list(server.contact_ids[0], limit=1000)) == 10

    async def test_none_wanted(self) -> None:
        """limit=0 requests nothing."""
        async with FakeNP6(contacts=1) as server, server.client() as np6:
            assert await np6.events.list(server.contact_ids[0], limit=0) == []
            assert server.request_count == 0


async def test_missing_contacts() -> None:
    """404 is NotFound, or no events where the caller says so; another error stays one."""
    async with FakeNP6() as server, server.client(retry=RetryPolicy(max_attempts=1)) as np6:
        with pytest.raises(NotFound, match="contact UNKNOWN1: 404"):
            await np6.events.list("UNKNOWN1")
        assert await np6.events.list("UNKNOWN1", missing="empty") == []
        async with np6.events.stream_many(["UNKNOWN1"] * 30, missing="empty") as events:
            assert [pair async for pair in events] == []
            assert events.stats.done == 30
        server.set_raw("A", b"", status=500)
        with pytest.raises(NP6Error):
            await np6.events.list("A", missing="empty")


BAD_ARGUMENTS: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("stream", {"kind": "opens"}, InvalidInput),
    ("stream", {"kind": None}, InvalidInput),
    ("stream", {"kind": 3}, InvalidInput),
    ("stream", {"classification": "mpp"}, InvalidInput),
    ("stream", {"kind": "bounces", "classification": ["mpp"]}, InvalidInput),
    ("stream", {"kind": "hits", "classification": ""}, InvalidInput),
    ("stream", {"kind": "hits", "classification": []}, InvalidInput),
    ("stream", {"kind": "hits", "classification": "mpp&sort=desc"}, InvalidInput),
    ("stream", {"kind": "hits", "classification": [1]}, InvalidInput),
    ("stream", {"kind": "hits", "classification": 1}, InvalidInput),
    ("stream", {"missing": "ignore"}, InvalidInput),
    ("stream", {"missing": None}, InvalidInput),
    ("stream", {"start": "yesterday"}, InvalidInput),
    ("stream", {"start": datetime(2026, 1, 1)}, InvalidInput),  # noqa: DTZ001
    ("stream", {"start": "2026-02-01", "end": "2026-01-01"}, InvalidInput),
    ("stream", {"contact": ""}, InvalidContact),
    ("stream", {"contact": "a/b"}, InvalidContact),
    ("stream", {"contact": 42}, InvalidContact),
    ("stream", {"contact": None}, InvalidContact),
    ("stream", {"contact": b"A"}, InvalidContact),
    ("list", {"limit": -1}, InvalidInput),
    ("list", {"limit": 1.5}, InvalidInput),
    ("list", {"limit": True}, InvalidInput),
    ("list", {"limit": "5"}, InvalidInput),
    ("list", {"contact": ["A"]}, InvalidContact),
    ("stream_many", {"contacts": "000MLGPR"}, InvalidInput),
    ("stream_many", {"contacts": b"000MLGPR"}, InvalidInput),
    ("stream_many", {"contacts": Contact.by_id("A")}, InvalidInput),
    ("stream_many", {"contacts": 7}, InvalidInput),
    ("stream_many", {"contacts": None}, InvalidInput),
    ("stream_many", {"concurrency": 0}, InvalidInput),
    ("stream_many", {"concurrency": 1001}, InvalidInput),
    ("stream_many", {"concurrency": "8"}, InvalidInput),
    ("stream_many", {"on_error": "ignore"}, InvalidInput),
    ("stream_many", {"on_error": None}, InvalidInput),
    ("stream_many", {"kind": "nope"}, InvalidInput),
    ("stream_many", {"missing": "nope"}, InvalidInput),
]


@pytest.mark.parametrize(("method", "options", "error"), BAD_ARGUMENTS, ids=str)
async def test_bad_arguments_are_refused_before_any_io(
    method: str, options: dict[str, Any], error: type[Exception]
) -> None:
    """With a typed error, also a ValueError, at the call itself; no request goes out."""
    async with FakeNP6(contacts=1) as server, server.client() as np6:
        first = {"contacts": ["A"]} if method == "stream_many" else {"contact": "A"}

        async def call() -> None:
            result = getattr(np6.events, method)(**{**first, **options})
            if isinstance(result, Coroutine):
                await result

        with pytest.raises(error) as caught:
            await call()
        assert isinstance(caught.value, ValueError)
        assert len(str(caught.value)) > 20
        assert server.request_count == server.connections == 0


class TestClose:
    async def test_use_after_close(self) -> None:
        """One sentence, from every way in; closing twice is fine."""
        async with FakeNP6(contacts=1) as server:
            np6 = server.client()
            async with np6:
                await np6.events.list(server.contact_ids[0])
            await np6.close()
            assert np6.closed
            assert repr(np6).endswith("closed=True)")
            with pytest.raises(ClientClosed, match="this NP6Client is closed; create a new one"):
                await np6.events.list("A")
            with pytest.raises(ClientClosed, match="this NP6Client is closed"):
                await anext(np6.events.stream("A"))
            with pytest.raises(ClientClosed, match="this NP6Client is closed"):
                async with np6:
                    pass

    async def test_bulk_fetches_after_close(self) -> None:
        """The same sentence, and no hang."""
        np6 = NP6Client("k")
        await np6.close()
        async with asyncio.timeout(10):
            with pytest.raises(ClientClosed, match="this NP6Client is closed"):
                async with np6.events.stream_many(["A"]):
                    pass

    def test_a_second_event_loop(self) -> None:
        """asyncio.run twice with one client: the second says what to do."""
        with FakeNP6(contacts=1) as server:
            np6 = server.client()

            async def use() -> int:
                return len(await np6.events.list(server.contact_ids[0]))

            async def first() -> int:
                try:
                    return await use()
                finally:
                    await np6._runtime.transport.close()

            assert asyncio.run(first()) == 10
            with pytest.raises(ClientClosed, match="belongs to another event loop; create one client in each loop"):
                asyncio.run(use())

    async def assert_close_ends(
        self, np6: NP6Client, *calls: Coroutine[Any, Any, Any], ready: Callable[[], bool]
    ) -> None:
        tasks = [asyncio.create_task(call) for call in calls]
        async with asyncio.timeout(5):
            while not ready():
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.005)
        assert not any(task.done() for task in tasks)
        async with asyncio.timeout(30):
            await np6.close()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {ClientClosed}, results

    @pytest.mark.parametrize("fault", [Fault.hang(), Fault.stall(after=0), Fault.stall(after=900)], ids=repr)
    async def test_it_ends_reads(self, fault: Fault) -> None:
        """Before the response, at its beginning and inside it; also the one that waits for a slot meanwhile."""
        async with FakeNP6(contacts=3) as server:
            server.script(fault, times=None)
            np6 = server.client(concurrency=2)
            calls = [np6.events.list(contact) for contact in server.contact_ids]
            await self.assert_close_ends(np6, *calls, ready=lambda: server.request_count == 2)

    async def test_it_ends_a_pause(self) -> None:
        """A wait of minutes after a 429, for the one that met it and those that queue after it."""
        async with FakeNP6(contacts=3) as server:
            server.script(Fault.rate_limited(200), times=None)
            np6 = server.client(concurrency=2)
            calls = [np6.events.list(contact) for contact in server.contact_ids]
            await self.assert_close_ends(np6, *calls, ready=lambda: server.request_count >= 1)

    async def test_it_ends_a_backoff(self) -> None:
        """A wait between two attempts."""
        async with FakeNP6(contacts=1) as server:
            server.script(Fault.status(503, retry_after=200), times=None)
            np6 = server.client()
            call = np6.events.list(server.contact_ids[0])
            await self.assert_close_ends(np6, call, ready=lambda: server.request_count == 1)

    async def test_it_ends_a_connection_attempt(self) -> None:
        """A name that never resolves."""
        connecting = asyncio.Event()

        class NoAnswer(AbstractResolver):
            async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
                connecting.set()
                await asyncio.sleep(60)
                return []

            async def close(self) -> None: ...

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoAnswer())) as session:
            np6 = NP6Client("k", session=session)
            await self.assert_close_ends(np6, np6.events.list("A"), ready=connecting.is_set)

    async def test_it_ends_a_wait_for_the_rate_limiter(self) -> None:
        """The caller's own limiter may take its time."""
        waiting = asyncio.Event()

        class Slow:
            async def __aenter__(self) -> None:
                waiting.set()
                await asyncio.sleep(60)

            async def __aexit__(self, *_: object) -> None: ...

        np6 = NP6Client("k", base_url="http://127.0.0.1:9", rate_limiter=Slow())
        await self.assert_close_ends(np6, np6.events.list("A"), ready=waiting.is_set)

    async def test_it_ends_bulk_fetches(self) -> None:
        """With ClientClosed for the consumer, and no task left over."""
        async with FakeNP6(contacts=20) as server:
            server.script(Fault.hang(), times=None)
            np6 = server.client()

            async def bulk() -> None:
                async with np6.events.stream_many(server.contact_ids, on_error="collect") as events:
                    async for _ in events:
                        pass

            await self.assert_close_ends(np6, bulk(), ready=lambda: server.request_count == 16)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_nothing_stays_open(self) -> None:
        """After close the server sees no connection."""
        async with FakeNP6(contacts=50) as server:
            async with server.client() as np6:
                await asyncio.gather(*[np6.events.list(contact) for contact in server.contact_ids])
            await asyncio.sleep(0.01)
            assert server.open_connections == 0
        gc.collect()


class TestDeadline:
    async def test_it_bounds_all_the_waiting(self) -> None:
        """Attempts and backoffs together, and then it is an error with its own word."""
        async with FakeNP6(contacts=1) as server:
            server.script(Fault.hang(), times=None)
            async with server.client(timeout=Timeout(deadline=0.03)) as np6:
                with pytest.raises(TimeoutExceeded, match=r"Timeout\.deadline") as caught:
                    await np6.events.list(server.contact_ids[0])
            assert caught.value.limit == "deadline"
            assert server.request_count == 1

    async def test_it_does_not_count_the_consumers_time(self) -> None:
        """Who takes long over an event loses nothing."""
        async with FakeNP6(contacts=1, events_per_contact=300) as server:
            ticks = [0.0]
            retry = RetryPolicy(clock=lambda: ticks[0])
            async with server.client(timeout=Timeout(deadline=5), retry=retry) as np6:
                count = 0
                async for batch in np6.events.stream(server.contact_ids[0]).batches():
                    count += len(batch)
                    ticks[0] += 1000
                assert count == 300


async def test_the_rate_limiter_is_entered_before_every_request() -> None:
    """Retries included: aiolimiter and the like count what the server sees."""
    entered: list[int] = []
    async with FakeNP6(contacts=5) as server:

        class Limiter:
            async def __aenter__(self) -> None:
                entered.append(server.request_count)

            async def __aexit__(self, *_: object) -> None: ...

        server.script(Fault.status(500), Fault.drop())
        retry = RetryPolicy(sleep=no_sleep)
        async with server.client(rate_limiter=Limiter(), retry=retry) as np6:
            for contact in server.contact_ids:
                await np6.events.list(contact)
        assert entered == list(range(7))
        assert server.request_count == 7


async def test_logs_of_the_libraries_hold_no_key(caplog: pytest.LogCaptureFixture) -> None:
    """aiohttp and asyncio at DEBUG, over a success."""
    for name in ("", "aiohttp", "aiohttp.client", "asyncio", "np6_async"):
        caplog.set_level(logging.DEBUG, name)
    async with FakeNP6(contacts=1, api_key=CANARY) as server, NP6Client(CANARY, base_url=server.url) as np6:
        await np6.events.list(server.contact_ids[0])
    assert "np6_async" in {record.name for record in caplog.records}
    assert CANARY not in caplog.text


class TestRateLimit:
    """`client.rate_limit`: what the server last said."""

    def test_before_any_response(self) -> None:
        assert NP6Client("k").rate_limit is None

    async def test_a_server_without_the_headers(self) -> None:
        """It stays None: NP6 need not send them."""
        async with FakeNP6(contacts=1) as server, server.client() as np6:
            await np6.events.list(server.contact_ids[0])
            assert np6.rate_limit is None

    async def test_what_the_headers_say(self) -> None:
        """The limit, what is left of it and when it is renewed, as aware datetimes; every response is news."""
        headers = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "599", "X-RateLimit-Reset": "60"}
        clock = 1_767_225_600.0
        async with (
            FakeNP6(contacts=0) as server,
            server.client(retry=RetryPolicy(wall_clock=lambda: clock, clock=lambda: 50.0)) as np6,
        ):
            server.set_raw("A", b"[]", headers=headers)
            server.set_raw("B", b"[]", headers={"X-RateLimit-Limit": "600"})
            await np6.events.list("A")
            said = np6.rate_limit
            assert said == RateLimitStatus(600, 599, 60.0, datetime(2026, 1, 1, tzinfo=UTC), None)
            assert said.reset_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
            assert not said.paused
            await np6.events.list("B")
            assert np6.rate_limit == RateLimitStatus(600, None, None, datetime(2026, 1, 1, tzinfo=UTC), None)
            assert np6.rate_limit.reset_at is None

    async def test_a_client_that_is_paused(self) -> None:
        """After a 429 it tells until when, also where the server sends no other header."""
        async with (
            FakeNP6(contacts=1) as server,
            server.client(retry=RetryPolicy(wall_clock=lambda: 1_767_225_600.0, clock=lambda: 50.0)) as np6,
        ):
            server.script(Fault.rate_limited(7), times=None)
            reading = asyncio.create_task(np6.events.list(server.contact_ids[0]))
            while np6.rate_limit is None:
                await asyncio.sleep(0.001)
            assert np6.rate_limit == RateLimitStatus(None, None, None, None, datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC))
            assert np6.rate_limit.paused
            await np6.close()
            with pytest.raises(ClientClosed):
                await reading
