"""Observations: which come, in which order, and what they do not show."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import traceback
from typing import Any, TypeVar

import attrs
import pytest

from np6_async import (
    ClientClosed,
    ConfigError,
    Contact,
    ContactDone,
    ContactFailed,
    FetchFinished,
    FetchStarted,
    LoggingHook,
    NotFound,
    NP6Client,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryPolicy,
    RetryScheduled,
    ServerError,
    StreamInterrupted,
)
from np6_async._http.credentials import ApiKey
from np6_async._http.observations import Observation, Observers
from np6_async.testing import FakeNP6, Fault

T = TypeVar("T")
ADDRESS = "someone.private@example.com"
CANARY = "canary-key-7f3a"


async def no_sleep(_: float) -> None: ...


def policy(**options: Any) -> RetryPolicy:
    return RetryPolicy(sleep=no_sleep, random=lambda: 0.5, **options)


RECORDS: list[Observation] = [
    FetchStarted("/targets/events", "https://api-cm.np6.com", Contact.by_unicity(ADDRESS)),
    FetchFinished("/targets/events", 1.5, 10, 2, 1, 0.5, NotFound(ADDRESS, status=404), Contact.by_unicity(ADDRESS)),
    RequestStarted("/targets/events", 1, Contact.by_unicity(ADDRESS)),
    RequestFinished("/targets/events", 1, 0.25, 500, 1, None, Contact.by_unicity(ADDRESS)),
    RequestFinished("/targets/events", 2, 0.25, 0, 0, ServerError(ADDRESS, status=500), Contact.by_unicity(ADDRESS)),
    RetryScheduled("/targets/events", 1, 0.5, StreamInterrupted(ADDRESS), Contact.by_unicity(ADDRESS)),
    RateLimitWait("/targets/events", 2.0, Contact.by_unicity(ADDRESS)),
    Resumed("/targets/events", 10, Contact.by_unicity(ADDRESS)),
    ContactDone("/targets/events", 10, 2, Contact.by_unicity(ADDRESS)),
    ContactFailed("/targets/events", 10, 2, NotFound(ADDRESS, status=404), Contact.by_unicity(ADDRESS)),
]


# What logging adds to each record: any digits may be in them, as in the port of a server.
NUMBERS = ("created", "msecs", "process", "relativeCreated", "thread")


class TestRecords:
    @pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
    def test_no_text_names_a_person(self, record: Observation) -> None:
        """Neither str nor repr nor format shows a contact or the message of an error."""
        for text in (str(record), repr(record), f"{record}"):
            assert ADDRESS not in text
            assert "private" not in text
            assert "\n" not in text

    @pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
    def test_hooks_get_the_contact_all_the_same(self, record: Observation) -> None:
        """As a member, for metrics by contact; and no record can be changed by one hook for the next."""
        assert record.contact.value == ADDRESS
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            record.path = "x"  # type: ignore[misc]

    def test_the_texts(self) -> None:
        """What a log line says."""
        assert [str(record) for record in RECORDS] == [
            "fetch of /targets/events begins",
            "fetch of /targets/events: NotFound, 10 events in 2 requests, 1.500 s",
            "GET /targets/events, attempt 1",
            "GET /targets/events: complete, 1 events, 500 bytes in 0.250 s",
            "GET /targets/events: ServerError, 0 events, 0 bytes in 0.250 s",
            "GET /targets/events: StreamInterrupted at attempt 1, again in 0.50 s",
            "rate limited: every request waits 2.00 s",
            "GET /targets/events: resumes after 10 events",
            "contact done: 10 events in 2 requests",
            "contact failed after 10 events in 2 requests: NotFound",
        ]


class TestKey:
    def test_it_does_not_show_itself(self) -> None:
        """In no text, no member, no pickle, no copy, no traceback with locals."""
        key = ApiKey(CANARY)
        assert key.reveal() == CANARY
        assert str(key) == repr(key) == f"{key}" == "ApiKey('***')"
        assert not hasattr(key, "__dict__")
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not pickled"):
                leak(key)
        try:
            raise RuntimeError
        except RuntimeError as error:
            captured = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert CANARY not in "".join(captured.format())


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def __call__(self, observation: Observation) -> None:
        self.seen.append(observation)

    @property
    def names(self) -> list[str]:
        """The types of what was seen, from the first request to the last."""
        return [name for name in self.all_names if not name.startswith("Fetch")]

    @property
    def all_names(self) -> list[str]:
        return [type(each).__name__ for each in self.seen]

    def of(self, observed: type[T]) -> list[T]:
        return [each for each in self.seen if isinstance(each, observed)]


class TestOrder:
    async def run(self, server: FakeNP6, **options: Any) -> Recorder:
        recorder = Recorder()
        async with server.client(hooks=[recorder], retry=policy(), **options) as np6:
            contact = server.contact_ids[0]
            assert len(await np6.events.list(contact)) == len(server.events(contact))
        return recorder

    async def test_a_simple_fetch(self) -> None:
        """Started, finished, done: with the counts, and the path without the contact."""
        async with FakeNP6(contacts=1, events_per_contact=12) as server:
            recorder = await self.run(server)
        assert recorder.names == ["RequestStarted", "RequestFinished", "ContactDone"]
        (finished,) = recorder.of(RequestFinished)
        assert (finished.path, finished.events, finished.error) == ("/targets/{id}/events", 12, None)
        assert finished.received > 12 * 300
        assert finished.seconds > 0
        assert finished.status == 200
        (done,) = recorder.of(ContactDone)
        assert (done.events, done.requests) == (12, 1)

    async def test_a_retry(self) -> None:
        """Each attempt has a beginning and an end, and the wait stands between them."""
        async with FakeNP6(contacts=1, events_per_contact=3) as server:
            server.script(Fault.status(503))
            recorder = await self.run(server)
        assert recorder.names[:4] == ["RequestStarted", "RequestFinished", "RetryScheduled", "RequestStarted"]
        assert recorder.names[4:] == ["RequestFinished", "ContactDone"]
        (retry,) = recorder.of(RetryScheduled)
        assert [each.status for each in recorder.of(RequestFinished)] == [503, 200]
        assert isinstance(retry.error, ServerError)
        assert (retry.attempt, retry.delay) == (1, 0.125)
        assert [each.attempt for each in recorder.of(RequestStarted)] == [1, 2]

    async def test_a_429(self) -> None:
        """A pause, and no retry: the attempt is not counted."""
        async with FakeNP6(contacts=1, events_per_contact=3) as server:
            server.script(Fault.rate_limited(retry_after=0.01))
            recorder = Recorder()
            async with server.client(hooks=[recorder]) as np6:
                await np6.events.list(server.contact_ids[0])
        assert recorder.names[:4] == ["RequestStarted", "RequestFinished", "RateLimitWait", "RequestStarted"]
        assert "RetryScheduled" not in recorder.names
        (wait,) = recorder.of(RateLimitWait)
        assert wait.seconds == pytest.approx(0.01, abs=0.002)
        assert [each.attempt for each in recorder.of(RequestStarted)] == [1, 1]

    async def test_a_resume(self) -> None:
        """What was delivered before the break is reported when the next response begins."""
        async with FakeNP6(contacts=1, events_per_contact=300) as server:
            server.script(Fault.cut(after=100_000, how="length"))
            recorder = await self.run(server)
        names = recorder.names
        assert names[:5] == ["RequestStarted", "RequestFinished", "RetryScheduled", "RequestStarted", "Resumed"]
        broken, _ = recorder.of(RequestFinished)
        (resumed,) = recorder.of(Resumed)
        assert isinstance(broken.error, StreamInterrupted)
        assert resumed.delivered == broken.events > 0

    async def test_a_failure(self) -> None:
        """The last word on a contact that failed is ContactFailed, with the error that is raised."""
        recorder = Recorder()
        async with FakeNP6(contacts=1) as server, server.client(hooks=[recorder]) as np6:
            with pytest.raises(NotFound) as caught:
                await np6.events.list("UNKNOWN1")
        assert recorder.names == ["RequestStarted", "RequestFinished", "ContactFailed"]
        failed = recorder.seen[-1]
        assert isinstance(failed, ContactFailed)
        assert failed.error is caught.value

    async def test_a_stale_connection(self) -> None:
        """A request sent again because an idle connection was found closed is a retry without a wait."""
        recorder = Recorder()
        async with FakeNP6(contacts=2) as server, server.client(hooks=[recorder], retry=policy()) as np6:
            server.script(Fault.close_after())
            first, second = server.contact_ids
            stream = np6.events.stream(second)
            await np6.events.list(first)
            assert len([event async for event in stream]) == 10
        retries = recorder.of(RetryScheduled)
        assert len(retries) == stream.stats.retries
        assert all((each.attempt, each.delay) == (1, 0.0) for each in retries)


class TestFetches:
    """FetchStarted has one FetchFinished, however the stream ends; what lies between has the same number."""

    async def test_a_complete_fetch(self) -> None:
        """It ends without an error, with all counts, before the contact is done."""
        recorder = Recorder()
        async with FakeNP6(contacts=1, events_per_contact=7) as server:
            server.script(Fault.status(503))
            async with server.client(hooks=[recorder], retry=policy()) as np6:
                await np6.events.list(server.contact_ids[0])
            assert recorder.all_names[0] == "FetchStarted"
            assert recorder.all_names[-2:] == ["FetchFinished", "ContactDone"]
            (started,), (finished,) = recorder.of(FetchStarted), recorder.of(FetchFinished)
            assert (started.path, started.origin) == ("/targets/{id}/events", server.url)
        assert (finished.error, finished.events, finished.requests, finished.retries) == (None, 7, 2, 1)
        assert finished.seconds >= finished.waited >= 0
        assert len({each.fetch for each in recorder.seen}) == 1

    async def test_a_failed_fetch(self) -> None:
        """It ends with the error that is raised."""
        recorder = Recorder()
        async with FakeNP6(contacts=1) as server, server.client(hooks=[recorder]) as np6:
            with pytest.raises(NotFound) as caught:
                await np6.events.list("UNKNOWN1")
        assert recorder.all_names[-2:] == ["FetchFinished", "ContactFailed"]
        assert recorder.of(FetchFinished)[0].error is caught.value

    @pytest.mark.parametrize("way", ["aclose", "cancel", "client", "garbage"])
    async def test_a_stream_that_was_left_early(self, way: str) -> None:
        """The request and the fetch end with ClientClosed, and the contact is neither done nor failed."""
        recorder = Recorder()
        async with FakeNP6(contacts=1, events_per_contact=2_000) as server:
            server.script(Fault.stall(after=100_000))
            async with server.client(hooks=[recorder]) as np6:
                stream = np6.events.stream(server.contact_ids[0])
                await anext(stream)
                if way == "aclose":
                    await stream.aclose()
                elif way == "cancel":
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.05):
                            async for _ in stream:
                                pass
                elif way == "client":
                    await np6.close()
                    with pytest.raises(ClientClosed):
                        async for _ in stream:
                            pass
                else:
                    del stream
                    gc.collect()
                    await asyncio.sleep(0)
        assert recorder.all_names[-2:] == ["RequestFinished", "FetchFinished"]
        for each in (*recorder.of(RequestFinished), *recorder.of(FetchFinished)):
            assert isinstance(each.error, ClientClosed)

    async def test_contacts_of_a_bulk_run_that_was_left(self) -> None:
        """Whatever was begun ends, also where its events wait in the buffer, and no two have the same number."""
        recorder = Recorder()
        async with FakeNP6(contacts=60) as server, server.client(hooks=[recorder]) as np6:
            ids = [*server.contact_ids, *server.contact_ids]
            async with np6.events.stream_many(ids, concurrency=8) as events:
                async for _ in events:
                    break
        started = [each.fetch for each in recorder.of(FetchStarted)]
        assert started
        assert sorted(started) == sorted({each.fetch for each in recorder.of(FetchFinished)})
        requests = [each.fetch for each in recorder.of(RequestStarted)]
        assert sorted(requests) == sorted(each.fetch for each in recorder.of(RequestFinished))

    @pytest.mark.parametrize("many", [False, True])
    async def test_closing_the_client_ends_streams_that_nobody_reads(self, many: bool) -> None:
        """At once, and what was left open is not read any more: it raises ClientClosed."""
        recorder = Recorder()
        async with FakeNP6(contacts=5, events_per_contact=3_000) as server:
            np6 = server.client(hooks=[recorder])
            if many:
                bulk = np6.events.stream_many(server.contact_ids, concurrency=3)
                await bulk.__aenter__()
                await anext(bulk)
            else:
                stream = np6.events.stream(server.contact_ids[0])
                await anext(stream)
            await np6.close()
            ends = [*recorder.of(RequestFinished), *recorder.of(FetchFinished)]
            begins = [*recorder.of(RequestStarted), *recorder.of(FetchStarted)]
            assert [each.fetch for each in begins]
            assert sorted(each.fetch for each in ends) == sorted(each.fetch for each in begins)
            assert {type(each.error) for each in ends} == {ClientClosed}
            with pytest.raises(ClientClosed):
                async for _ in bulk if many else stream:
                    pass
            if many:
                await bulk.aclose()
        assert len(recorder.of(FetchFinished)) == len(recorder.of(FetchStarted))

    async def test_the_client_remembers_no_fetch_that_has_ended(self) -> None:
        """However it ended."""
        async with FakeNP6(contacts=3) as server, server.client(hooks=[Recorder()]) as np6:
            for contact in server.contact_ids:
                await np6.events.list(contact)
            with pytest.raises(NotFound):
                await np6.events.list("UNKNOWN1")
            async with np6.events.stream(server.contact_ids[0]) as events:
                await anext(events)
            assert not np6._runtime.lifetime._on_close

    @pytest.mark.parametrize("moment", [FetchStarted, RequestStarted, RequestFinished, FetchFinished])
    async def test_a_hook_that_closes_the_client(self, moment: type) -> None:
        """At whatever moment it does, each begin has one end."""
        recorder = Recorder()
        closing: list[asyncio.Task[None]] = []

        def close(observation: Observation) -> None:
            if isinstance(observation, moment) and not closing:
                stream._fetch.close()
                closing.append(asyncio.create_task(np6.close()))

        async with FakeNP6(contacts=1) as server:
            np6 = server.client(hooks=[recorder, close])
            stream = np6.events.stream(server.contact_ids[0])
            try:
                async for _ in stream:
                    pass
            except ClientClosed:
                assert moment in (FetchStarted, RequestStarted)
            await closing[0]
        for begin, end in ((FetchStarted, FetchFinished), (RequestStarted, RequestFinished)):
            assert recorder.all_names.count(begin.__name__) == recorder.all_names.count(end.__name__) <= 1

    async def test_a_fetch_that_requests_nothing(self) -> None:
        """An empty window is a fetch without a request."""
        recorder = Recorder()
        async with FakeNP6(contacts=1) as server, server.client(hooks=[recorder]) as np6:
            await np6.events.list(server.contact_ids[0], start="2026-01-01", end="2026-01-01")
        assert recorder.all_names == ["FetchStarted", "FetchFinished", "ContactDone"]


class TestObservers:
    async def test_a_hook_that_raises_breaks_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """The fetch continues, the next hook is called, and the log names the type of the error, not its text."""
        recorder = Recorder()

        def broken(_: Observation) -> None:
            raise ValueError(ADDRESS)

        async with FakeNP6(contacts=1) as server, server.client(hooks=[broken, recorder]) as np6:
            assert await np6.events.list(server.contact_ids[0])
        assert len(recorder.seen) == 5
        assert "a hook raised ValueError" in caplog.text
        assert ADDRESS not in caplog.text

    async def test_a_log_that_cannot_say_whether_it_listens_breaks_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is asked for each fetch; the others are notified anyway."""

        class Broken(LoggingHook):
            def listens(self) -> bool:
                raise ValueError(ADDRESS)

        caplog.set_level(logging.INFO, "mine")
        mine = LoggingHook("mine", levels={RequestFinished: logging.INFO})
        async with FakeNP6(contacts=1) as server, server.client(hooks=[Broken(), mine]) as np6:
            assert await np6.events.list(server.contact_ids[0])
        assert [record.message for record in caplog.records if record.name == "np6_async"] == [
            "a hook raised ValueError"
        ]
        assert [record.name for record in caplog.records].count("mine") == 1

    def test_nobody_listens_by_default(self) -> None:
        """Without hooks and without a log of INFO no record is even made."""
        assert not Observers(())
        assert Observers([print])

    def test_a_log_of_info_listens(self, caplog: pytest.LogCaptureFixture) -> None:
        """Then records are made."""
        with caplog.at_level(logging.INFO, "np6_async"):
            assert Observers(())

    async def test_levels(self, caplog: pytest.LogCaptureFixture) -> None:
        """What may worry somebody is INFO, the rest DEBUG; the logger is `np6_async`."""
        caplog.set_level(logging.DEBUG, "np6_async")
        async with FakeNP6(contacts=1) as server, server.client(retry=policy()) as np6:
            server.script(Fault.status(500))
            await np6.events.list(server.contact_ids[0])
        levels = {record.getMessage().split(":")[0].split(",")[0]: record.levelname for record in caplog.records}
        assert {record.name for record in caplog.records if record.name.startswith("np6")} == {"np6_async"}
        infos = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
        assert infos == ["GET /targets/{id}/events: ServerError at attempt 1, again in 0.12 s"]
        assert levels["contact done"] == "DEBUG"

    async def test_logs_hold_no_contact_and_no_query(self, caplog: pytest.LogCaptureFixture) -> None:
        """At DEBUG, over a success, a retry and a failure, for contacts that are addresses."""
        caplog.set_level(logging.DEBUG)
        async with FakeNP6(contacts=2) as server:
            address = server.unicity(server.contact_ids[0])
            server.script(Fault.status(500), Fault.cut(after=700, how="length"), Fault.html())
            async with server.client(retry=policy()) as np6:
                await np6.events.list(Contact.by_unicity(address), start="2020-01-01")
                with pytest.raises(NotFound) as caught:
                    await np6.events.list(Contact.by_unicity(ADDRESS))
        assert "/targets/events" in caplog.text
        for secret in (address, ADDRESS, "%40", "2020", "sort="):
            assert secret not in caplog.text
            assert secret not in str(caught.value)

    def test_importing_sets_up_no_log_output(self) -> None:
        """The logger has a NullHandler and nothing else, as a library's should."""
        assert [type(each) for each in logging.getLogger("np6_async").handlers] == [logging.NullHandler]


class TestLoggingHook:
    async def fetch(self, hook: LoggingHook) -> None:
        async with FakeNP6(contacts=1) as server, server.client(hooks=[hook], retry=policy()) as np6:
            server.script(Fault.status(503))
            await np6.events.list(Contact.by_unicity(server.unicity(server.contact_ids[0])), start="2020-01-01")

    async def test_logger_and_levels_are_yours(self, caplog: pytest.LogCaptureFixture) -> None:
        """Each type of observation at its own level or not at all, in place of the client's own log."""
        caplog.set_level(logging.INFO)
        levels = {RetryScheduled: logging.WARNING, RequestFinished: logging.INFO, RateLimitWait: None}
        await self.fetch(LoggingHook("mine", levels=levels))
        assert [(record.name, record.levelname) for record in caplog.records] == [
            ("mine", "INFO"),
            ("mine", "WARNING"),
            ("mine", "INFO"),
        ]

    async def test_structured_logs_get_members_without_contact_and_query(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They are in `extra`; the error is there as its type, and so is the server's id of the request."""
        caplog.set_level(logging.DEBUG, "np6_async")
        await self.fetch(LoggingHook(logging.getLogger("np6_async")))
        records = [record for record in caplog.records if record.name == "np6_async"]
        (retry,) = [record for record in records if vars(record)["np6_observation"] == "RetryScheduled"]
        extra = {name: value for name, value in vars(retry).items() if name.startswith("np6_")}
        assert isinstance(extra.pop("np6_fetch"), int)
        assert extra == {
            "np6_observation": "RetryScheduled",
            "np6_path": "/targets/events",
            "np6_attempt": 1,
            "np6_delay": 0.125,
            "np6_method": "GET",
            "np6_error": "ServerError",
            "np6_request_id": "00000000-0000-4000-8000-000000000001",
        }
        for record in records:
            assert record.args == ()  # nor does the record keep what would
            members = {name: value for name, value in vars(record).items() if name not in NUMBERS}
            text = str({**members, "np6_origin": members.get("np6_origin", "").rpartition(":")[0]})
            for secret in ("@example", "%40", "2020"):
                assert secret not in text

    def test_it_listens_where_its_highest_level_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """Otherwise no record is made."""
        hook = LoggingHook("quiet", levels={RequestFinished: logging.WARNING})
        with caplog.at_level(logging.ERROR, "quiet"):
            assert not Observers([hook])
        with caplog.at_level(logging.WARNING, "quiet"):
            assert Observers([hook])
        silent = dict.fromkeys({type(each) for each in RECORDS})
        assert not Observers([LoggingHook(levels=silent)])

    def test_wrong_arguments_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"logger must be a logging\.Logger or the name of one, not int"):
            LoggingHook(5)  # type: ignore[arg-type]
        for levels in ({str: 10}, {RetryScheduled: "INFO"}, {RetryScheduled: True}):
            with pytest.raises(ConfigError, match="levels must map types of observations"):
                LoggingHook(levels=levels)  # type: ignore[arg-type]


async def test_the_key_is_in_no_record() -> None:
    """However deep one looks."""
    recorder = Recorder()
    async with FakeNP6(contacts=1, api_key=CANARY) as server:
        server.script(Fault.drop(), Fault.status(500))
        async with NP6Client(CANARY, base_url=server.url, hooks=[recorder], retry=policy()) as np6:
            await np6.events.list(server.contact_ids[0])
    for record in recorder.seen:
        assert CANARY not in repr(attrs.asdict(record))
