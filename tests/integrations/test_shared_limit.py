"""`SharedLimit` with a real Redis: clients of several processes against one server with a limit."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.needs import needs

from np6_async import ConfigError, NP6Client, RetryPolicy, ServiceUnavailable
from np6_async._client import runtime_of
from np6_async.testing import FakeNP6, Fault, RateLimit

needs("redis", command="redis-server")

import redis
from support.services import free_port, redis_server
from support.shared_run import measure
from support.waiting import until

from np6_async.integrations.redis import SharedLimit

pytestmark = pytest.mark.services

CANARY = "canary-key-0123456789abcdef"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with redis_server(tmp_path) as url:
        yield url


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=400, events_per_contact=2, api_key=CANARY) as server:
        yield server


async def fetch(np6: NP6Client, contacts: list[str]) -> int:
    """How many events came."""
    count = 0
    async with asyncio.timeout(30), np6.events.stream_many(contacts) as stream:
        async for _, batch in stream.batches():
            count += len(batch)
    return count


class TestSettings:
    def test_making_one_does_no_io_and_shows_no_password(self) -> None:
        """Nor does a pickle of it that is read elsewhere make any connection."""
        limit = SharedLimit("rediss://user:secret@redis.example:6380/3?ssl_ca_path=x", share=0.25)
        assert repr(limit) == "SharedLimit('rediss://redis.example:6380/3', share=0.25)"
        assert pickle.loads(pickle.dumps(limit)) == limit  # noqa: S301 - our own
        assert repr(SharedLimit("unix:///run/redis.sock")) == "SharedLimit('unix:///run/redis.sock')"

    @pytest.mark.parametrize(
        ("url", "share", "words"),
        [
            ("http://u:secret@127.0.0.1", None, "must be a URL such as redis://"),
            ("127.0.0.1:6379", None, "must be a URL such as redis://"),
            ("redis://u:secret@", None, "must be a URL such as redis://"),
            ("redis://u:secret@h:port", None, "must be a URL such as redis://"),
            ("redis://u:secret@h/0?socket_timeout=secret", None, "must be a URL such as redis://"),
            (b"redis://h", None, "not bytes"),
            ("redis://h", 0, "above 0 and up to 1, or None, not 0"),
            ("redis://h", 1.5, "not 1.5"),
            ("redis://h", True, "not True"),
            ("redis://h", "0.25", "not '0.25'"),
        ],
    )
    def test_what_cannot_work_is_refused_at_once(self, url: Any, share: Any, words: str) -> None:
        """Before any I/O, and without quoting the URL."""
        with pytest.raises(ConfigError, match=words) as caught:
            SharedLimit(url, share=share)
        assert "secret" not in str(caught.value)

    def test_without_the_package_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As an error of the configuration."""
        monkeypatch.setattr("np6_async.integrations.redis.find_spec", lambda _: None)
        with pytest.raises(ConfigError, match=r"pip install np6_async\[redis\]"):
            SharedLimit("redis://h")

    def test_the_account_is_the_key_and_the_server(self) -> None:
        """Other keys and other servers have other limits."""
        seen = set()

        class Limit:
            def limiter(self, policy: RetryPolicy, *, requests: Any, account: str) -> Any:
                seen.add(account)
                return SharedLimit("redis://127.0.0.1:9").limiter(policy, requests=requests, account=account)

        for key in (CANARY, CANARY, "other"):
            for base_url in ("http://127.0.0.1:9", "http://127.0.0.1:9/", "http://127.0.0.1:8"):
                NP6Client(key, base_url=base_url, rate_limiter=Limit())
        assert len(seen) == 4
        assert not any(CANARY in account for account in seen)


class TestSharing:
    async def test_clients_share_windows_and_pauses(self, server: FakeNP6, url: str) -> None:
        """Three of them, 100 requests a second: few are refused, and nothing is lost."""
        server.rate_limit = RateLimit(limit=100)
        limit = SharedLimit(url)
        ids = list(server.contact_ids)
        async with (
            server.client(rate_limiter=limit) as one,
            server.client(rate_limiter=limit) as two,
            server.client(rate_limiter=limit) as three,
        ):
            counts = await asyncio.gather(*(fetch(np6, ids[n::3]) for n, np6 in enumerate((one, two, three))))
            assert sum(counts) == 800
            assert one.rate_limit is not None
            assert one.rate_limit.limit == 100
        assert server.request_count <= 400 + 48 + 20

    async def test_no_value_and_no_name_in_redis_holds_the_key(self, server: FakeNP6, url: str) -> None:
        """Nor a contact; and there is one value, which is small and forgotten after a day."""
        async with server.client(rate_limiter=SharedLimit(url)) as np6:
            await fetch(np6, list(server.contact_ids[:50]))
        with redis.Redis.from_url(url) as connection:
            (name,) = connection.keys("*")
            value = connection.get(name) or b""
            assert name.startswith(b"np6:limit:")
            assert 0 < connection.ttl(name) <= 86_400
        assert len(value) < 600
        for secret in (CANARY, server.contact_ids[0]):
            assert secret.encode() not in name + value

    async def test_a_sick_process_does_not_stop_the_others(self, server: FakeNP6, url: str) -> None:
        """It finds that nobody answers; each of the others sends one probe, and goes on."""
        limit = SharedLimit(url)
        ids = list(server.contact_ids)
        async with server.client(rate_limiter=limit) as well, server.client(rate_limiter=limit) as sick:
            await fetch(well, ids[:5])
            await fetch(sick, ids[:5])

            async def broken(*_: Any, **options: Any) -> Any:
                from np6_async import ConnectError

                raise ConnectError("no connection")

            transport = runtime_of(sick).transport
            request, transport.request = transport.request, broken  # type: ignore[method-assign]
            lost = asyncio.ensure_future(fetch(sick, ids[5:20]))
            async with asyncio.timeout(20):
                while not runtime_of(sick).availability.holding:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.3)
            assert not lost.done()
            before = server.request_count
            for part in range(4):
                assert await fetch(well, ids[20 + part * 20 : 40 + part * 20]) == 40
                await asyncio.sleep(0.15)
            probes = server.request_count - before - 80
            assert probes == 1
            transport.request = request  # type: ignore[method-assign]
            assert await lost == 30

    async def test_nothing_is_left_open(self, server: FakeNP6, url: str) -> None:
        """Connections to Redis belong to the client, and end with it."""
        with redis.Redis.from_url(url) as connection:
            before = connection.info("clients")["connected_clients"]
            async with server.client(rate_limiter=SharedLimit(url)) as np6:
                await fetch(np6, list(server.contact_ids[:10]))
                assert connection.info("clients")["connected_clients"] > before
            until(lambda: connection.info("clients")["connected_clients"] == before, 10)
        assert len(asyncio.all_tasks()) == 1

    def test_a_client_in_each_event_loop(self, url: str) -> None:
        """One `SharedLimit` serves them all, one after the other."""
        limit = SharedLimit(url)
        with FakeNP6(contacts=5, events_per_contact=2) as server:
            for _ in range(2):

                async def main() -> None:
                    async with server.client(rate_limiter=limit) as np6:
                        assert await fetch(np6, list(server.contact_ids)) == 10

                asyncio.run(main())


class TestAway:
    async def test_without_a_share_the_run_ends_in_words(self, server: FakeNP6, monkeypatch: Any) -> None:
        """After 10 s, here after 1 s: no contact has failed."""
        monkeypatch.setattr("np6_async.integrations._sharing_limiter._PATIENCE", 1.0)
        limit = SharedLimit(f"redis://user:secret@127.0.0.1:{free_port()}")
        async with server.client(rate_limiter=limit) as np6:
            with pytest.raises(ServiceUnavailable, match="no connection to Redis") as caught:
                await fetch(np6, list(server.contact_ids))
        assert "secret" not in str(caught.value)
        assert server.request_count == 0

    async def test_with_a_share_nothing_waits_for_it(self, server: FakeNP6, caplog: Any) -> None:
        """The run is done by this process's own lights, and the log says so once."""
        limit = SharedLimit(f"redis://127.0.0.1:{free_port()}", share=0.25)
        with caplog.at_level(logging.WARNING, logger="np6_async"):
            async with server.client(rate_limiter=limit) as np6:
                assert await fetch(np6, list(server.contact_ids)) == 800
        assert len([record for record in caplog.records if "goes on alone" in record.message]) == 1

    async def test_a_redis_that_hangs_is_a_redis_that_is_away(self, server: FakeNP6, tmp_path: Path) -> None:
        """Within seconds, whatever its connections do."""
        port = free_port()
        with redis_server(tmp_path, port=port) as url:
            async with server.client(rate_limiter=SharedLimit(url, share=0.5)) as np6:
                await fetch(np6, list(server.contact_ids[:10]))
                with redis.Redis(port=port) as connection:
                    pid = connection.info("server")["process_id"]
                os.kill(pid, signal.SIGSTOP)
                try:
                    assert await fetch(np6, list(server.contact_ids)) == 800
                finally:
                    os.kill(pid, signal.SIGCONT)

    async def test_a_restart_in_the_middle_loses_nothing(self, server: FakeNP6, tmp_path: Path) -> None:
        """Redis is killed, and comes back empty on the same port: the run waits, and what was learnt is there again."""
        server.rate_limit = RateLimit(limit=100)
        port, ids = free_port(), list(server.contact_ids)
        limit = SharedLimit(f"redis://127.0.0.1:{port}")
        async with server.client(rate_limiter=limit) as one, server.client(rate_limiter=limit) as two:
            with redis_server(tmp_path, port=port):
                runs = [asyncio.ensure_future(fetch(np6, ids[number::2])) for number, np6 in enumerate((one, two))]
                while server.request_count < 150:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            with redis_server(tmp_path, port=port):
                assert sum(await asyncio.gather(*runs)) == 800
        assert server.request_count <= 400 + 32 + 32

    async def test_a_wrong_password_is_said_at_once(self, server: FakeNP6, tmp_path: Path) -> None:
        """It will not get better by waiting."""
        with redis_server(tmp_path, "--requirepass", "right") as url:
            limit = SharedLimit(url.replace("redis://", "redis://:wrong-secret@"))
            async with server.client(rate_limiter=limit) as np6:
                with pytest.raises(ServiceUnavailable, match="does not accept the user and password") as caught:
                    await fetch(np6, list(server.contact_ids))
            assert "secret" not in str(caught.value)
            right = SharedLimit(url.replace("redis://", "redis://:right@"))
            async with server.client(rate_limiter=right) as np6:
                assert await fetch(np6, list(server.contact_ids)) == 800

    async def test_a_full_redis_is_away(self, server: FakeNP6, tmp_path: Path, monkeypatch: Any) -> None:
        """Its words are in the error."""
        monkeypatch.setattr("np6_async.integrations._sharing_limiter._PATIENCE", 1.0)
        with redis_server(tmp_path, "--maxmemory", "1") as url:
            async with server.client(rate_limiter=SharedLimit(url)) as np6:
                with pytest.raises(ServiceUnavailable, match="the memory of Redis is full"):
                    await fetch(np6, list(server.contact_ids))


@pytest.mark.parametrize("program", ["valkey-server"])
async def test_valkey_will_do(program: str, server: FakeNP6, tmp_path: Path) -> None:
    """The same commands."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    with redis_server(tmp_path, program=program) as url:
        async with server.client(rate_limiter=SharedLimit(url)) as np6:
            assert await fetch(np6, list(server.contact_ids)) == 800


def test_L1_four_processes_share_500_requests_a_second() -> None:  # noqa: N802 - the id of its goal
    """A 429 is all that tells of the limit. The large size: python -m support.shared_run --contacts 30000."""
    report = measure(4_000, RateLimit(limit=500, headers=False))
    assert (report.done, report.events, report.served) == (4_000, 8_000, 4_000)
    assert report.refused <= 64 + 40  # each process has 16 in flight when the first 429 comes
    assert max(report.by_second) <= 500 + 50
    assert report.redis_calls <= 100 * len(report.by_second)
    assert report.value_bytes < 600
    assert all(one["done"] == 1_000 for one in report.processes)


def test_faults_of_the_server_are_those_of_a_client_alone(url: str) -> None:
    """Responses that break, and outages: nothing is lost."""

    async def main() -> None:
        async with FakeNP6(contacts=100, events_per_contact=5) as server:
            server.fault_rate(0.2, [Fault.status(503), Fault.drop(), Fault.status(429)], seed=3)
            limit = SharedLimit(url)
            retry = RetryPolicy(base_delay=0.01, max_delay=0.05, max_attempts=20)
            one, two = (server.client(rate_limiter=limit, retry=retry) for _ in range(2))
            async with one, two:
                ids = list(server.contact_ids)
                counts = await asyncio.gather(fetch(one, ids[:50]), fetch(two, ids[50:]))
                assert sum(counts) == 500

    asyncio.run(main())
