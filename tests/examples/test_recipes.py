"""The recipes of docs/how-to/workers.md and prometheus.md: the pages show exactly this code, and it works."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import pytest
from support.needs import needs
from support.waiting import until

from np6_async import ConnectError, Contact, OutageEnded, OutageWait, RetryPolicy
from np6_async.testing import FakeNP6, Fault, make_bounce

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/how-to" / name for name in ("workers.md", "prometheus.md")]
SHOWN = re.findall(r"^<!-- (\S+) -->$", "\n".join(page.read_text(encoding="utf-8") for page in PAGES), re.MULTILINE)
YEAR = ("2025-01-01", "2026-01-01")


def test_the_pages_show_every_recipe() -> None:
    recipes = {f"examples/recipes/{each.name}" for each in (ROOT / "examples/recipes").glob("[!_]*.py")}
    assert set(SHOWN) == {"examples/worker/parts.py", *recipes}


@pytest.fixture
def parts(np6_server: FakeNP6, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the recipes write; their environment names the fake server, its key and its contacts."""
    (tmp_path / "ids.txt").write_text("\n".join(np6_server.contact_ids))
    for name, value in {
        "CONTACTS": str(tmp_path / "ids.txt"),
        "CURSOR": str(tmp_path / "cursor.txt"),
        "NP6_API_KEY": np6_server.api_key,
        "NP6_BASE_URL": np6_server.url,
        "PARTS": str(tmp_path / "parts"),
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "parts"


@pytest.fixture
def recipe(parts: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a recipe as a new process would."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        loaded.append(f"examples.recipes.{name}")
        return importlib.import_module(loaded[-1])

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def files(directory: Path) -> list[Path]:
    """All of them, hidden ones too."""
    return list(directory.iterdir())


def check(parts: Path, np6: FakeNP6, number: int = 1) -> None:
    """Check that there are this many complete parts, with every event of every contact once."""
    assert len(files(parts)) == number
    lines = [json.loads(line) for part in parts.glob("*.ndjson") for line in part.read_bytes().splitlines()]
    found = Counter((line["contact"], line["event"]["id"]) for line in lines)
    assert found == Counter((contact, event["id"]) for contact in np6.contact_ids for event in np6.events(contact))


# -- one part ----------------------------------------------------------------------------------------


async def test_a_failed_part_leaves_no_file(np6_server: FakeNP6, tmp_path: Path) -> None:
    """Neither under its name nor under any other."""
    from examples.worker.parts import fetch_part

    np6_server.script(Fault.status(501))
    async with np6_server.client() as np6:
        with pytest.raises(ExceptionGroup):
            await fetch_part(np6, tmp_path, np6_server.contact_ids, *YEAR)
        assert files(tmp_path) == []
        await fetch_part(np6, tmp_path, np6_server.contact_ids, *YEAR)
    check(tmp_path, np6_server)


@pytest.mark.slow
async def test_the_same_arguments_make_the_same_part(np6_server: FakeNP6, tmp_path: Path) -> None:
    from examples.worker.parts import fetch_part

    async with np6_server.client() as np6:
        contacts = np6_server.contact_ids
        once = await fetch_part(np6, tmp_path, contacts, *YEAR)
        assert await fetch_part(np6, tmp_path, contacts, *YEAR) == once
        check(tmp_path, np6_server)
        others = [
            await fetch_part(np6, tmp_path, contacts[1:], *YEAR),
            await fetch_part(np6, tmp_path, contacts, "2025-06-01", YEAR[1]),
        ]
    assert len({once, *others}) == 3


async def test_half_an_emoji_does_not_spoil_a_part(np6_server: FakeNP6, tmp_path: Path) -> None:
    """Strict readers take every line."""
    from examples.worker.parts import fetch_part

    np6_server.set_raw("ANNE", b'[{"id":"1","timestamp":1735689600000,"type":"hit","note":"half \\ud83d"}]')
    async with np6_server.client() as np6:
        name = await fetch_part(np6, tmp_path, ["ANNE"], *YEAR)
    (row,) = map(msgspec.json.decode, (tmp_path / name).read_bytes().splitlines())
    assert row["event"]["note"] == "half \ufffd"


# -- arq ---------------------------------------------------------------------------------------------


async def test_arq_makes_one_client_and_closes_it(
    np6_server: FakeNP6, parts: Path, recipe: Callable[[str], ModuleType]
) -> None:
    needs("arq")
    worker = recipe("arq_worker")
    ctx: dict[str, Any] = {}
    await worker.startup(ctx)
    await worker.fetch(ctx, list(np6_server.contact_ids[:50]), *YEAR)
    await worker.fetch(ctx, list(np6_server.contact_ids[50:]), *YEAR)
    check(parts, np6_server, 2)
    assert np6_server.connections <= 16
    await worker.shutdown(ctx)
    assert ctx["np6"].closed


async def test_arq_tries_a_failed_job_again(
    np6_server: FakeNP6, parts: Path, recipe: Callable[[str], ModuleType]
) -> None:
    needs("arq")
    from arq import Retry

    worker = recipe("arq_worker")
    np6_server.script(Fault.status(501))
    async with np6_server.client() as np6:
        with pytest.raises(Retry):
            await worker.fetch({"np6": np6, "job_try": 1}, list(np6_server.contact_ids), *YEAR)
    assert files(parts) == []


@pytest.mark.services
@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # arq 0.25 on a newer redis
async def test_arq_runs_the_jobs_from_a_real_redis(
    np6_server: FakeNP6,
    parts: Path,
    recipe: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the worker closes the client at the end."""
    needs("arq", command="redis-server")
    from arq import create_pool
    from arq.worker import Worker
    from support.services import redis_server

    with redis_server(tmp_path) as url:
        monkeypatch.setenv("REDIS_URL", url)
        settings = recipe("arq_worker").WorkerSettings
        redis = await create_pool(settings.redis_settings)
        await redis.enqueue_job("fetch", list(np6_server.contact_ids), *YEAR)
        worker = Worker(
            functions=settings.functions,
            on_startup=settings.on_startup,
            on_shutdown=settings.on_shutdown,
            redis_pool=redis,
            burst=True,
            handle_signals=False,
            poll_delay=0.01,
        )
        await worker.async_run()
        await worker.close()
        assert (worker.jobs_complete, worker.jobs_failed) == (1, 0)
        await redis.aclose()
    check(parts, np6_server)


# -- Celery ------------------------------------------------------------------------------------------


def test_celery_keeps_one_client_for_all_tasks(
    np6_server: FakeNP6, parts: Path, recipe: Callable[[str], ModuleType]
) -> None:
    """They share its connections; a failed task is tried again; the client is closed when the process ends."""
    needs("celery")
    from celery.signals import worker_process_shutdown

    module = recipe("celery_app")
    module.app.conf.task_always_eager = True
    contacts = list(np6_server.contact_ids)
    for batch in (contacts[:50], contacts[50:]):
        assert module.fetch.delay(batch, *YEAR).get().endswith(".ndjson")
    assert np6_server.connections <= 16
    np6_server.script(Fault.status(501))
    module.fetch.delay(contacts[:50], *YEAR).get()
    assert np6_server.faults_consumed["status_501"] == 1
    check(parts, np6_server, 2)
    client = module.np6()
    worker_process_shutdown.send(sender=None)
    assert client.closed
    until(lambda: np6_server.open_connections == 0)


# -- Airflow -----------------------------------------------------------------------------------------


def plain(*args: Any, **_: Any) -> Any:
    """Replaces the decorators of Airflow: the function stays as it is, and no DAG is made."""
    return args[0] if args else plain


def test_the_tasks_of_airflow_fetch_every_contact(
    np6_server: FakeNP6, parts: Path, recipe: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The functions are called directly; if Airflow is not installed, its decorators do nothing."""
    if find_spec("airflow") is None:
        sdk = SimpleNamespace(CronDataIntervalTimetable=plain, dag=lambda **_: lambda _: plain, task=plain)
        monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
        monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)  # type: ignore[arg-type]
    module = recipe("airflow_dag")
    batches, fetch = (getattr(task, "function", task) for task in (module.batches, module.fetch))
    monkeypatch.setattr(module, "BATCH", 40)
    given = batches()
    assert [len(batch) for batch in given] == [40, 40, 20]
    for batch in given:
        fetch(batch, "2025-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00")
    check(parts, np6_server, 3)
    until(lambda: np6_server.open_connections == 0)


# -- asyncio -----------------------------------------------------------------------------------------


@pytest.mark.np6_server(contacts=0)
async def test_a_service_resumes_from_its_cursor(
    np6_server: FakeNP6, recipe: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupted call prints nothing twice and loses nothing; the next one prints what is new."""
    service = recipe("asyncio_service")
    now = datetime.now(UTC)
    np6_server.add_contact("ANNE", [make_bounce("hard", at=now - service.EVERY * hours) for hours in (5, 3)])
    np6_server.add_contact("BILL", [make_bounce("soft", at=now - service.EVERY * 2)])
    async with np6_server.client() as np6:
        np6_server.script(Fault.status(501), contact="ANNE", skip=22)  # the day's last hours but one
        with pytest.raises(ExceptionGroup):
            await service.new_bounces(np6, ["ANNE", "BILL"])
        await service.new_bounces(np6, ["ANNE", "BILL"])
        await service.new_bounces(np6, ["ANNE", "BILL"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["ANNE", "ANNE"]
    assert len(set(printed)) == 2


@pytest.mark.slow
@pytest.mark.np6_server(contacts=3, now=datetime.now(UTC))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("parts")
def test_a_signal_ends_the_service(np6_server: FakeNP6, number: signal.Signals) -> None:
    """In the middle of a fetch, with exit code 0 and no output."""
    np6_server.script(Fault.hang(), times=None)
    command = [sys.executable, "-m", "examples.recipes.asyncio_service"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until(lambda: np6_server.in_flight > 0 or process.poll() is not None)
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")


# -- Prometheus --------------------------------------------------------------------------------------


def samples(registry: Any) -> dict[str, float]:
    """The samples of a registry by name and labels, as Prometheus writes them, but for those of the buckets."""
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def scrape(port: int) -> str:
    """What Prometheus would read."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        return str(response.read(), "utf-8")


async def test_prometheus_sees_requests_retries_contacts_and_events(
    np6_server: FakeNP6, recipe: Callable[[str], ModuleType]
) -> None:
    needs("prometheus_client")
    from prometheus_client import CollectorRegistry

    path = "/targets/{id}/events"
    registry = CollectorRegistry()
    hook = recipe("prometheus").PrometheusHook(registry)
    contacts = np6_server.contact_ids
    np6_server.script(Fault.status(503), contact=contacts[0])
    np6_server.script(Fault.drop(), contact=contacts[1])
    np6_server.script(Fault.cut(after=100), contact=contacts[2])
    np6_server.script(Fault.status(404), contact=contacts[3])
    async with (
        np6_server.client(hooks=[hook], retry=RetryPolicy(base_delay=0)) as np6,
        np6.events.stream_many(contacts, on_error="collect") as events,
    ):
        async for _ in events.batches():
            assert samples(registry)["np6_requests_in_flight"] >= 0
    got = samples(registry)
    assert got[f"np6_requests_total{{{path}}}{{200}}"] == 100  # one of them was cut, and one is 404
    assert got[f"np6_requests_total{{{path}}}{{503}}"] == 1
    assert got[f"np6_requests_total{{{path}}}{{404}}"] == 1
    assert got[f"np6_requests_total{{{path}}}{{none}}"] == 1
    assert got[f"np6_request_seconds_count{{{path}}}"] == np6_server.request_count == 103
    retries = {name: value for name, value in got.items() if name.startswith("np6_retries_total")}
    assert sum(retries.values()) == 3
    assert retries[f"np6_retries_total{{{path}}}{{ServerError}}"] == 1
    assert (got["np6_contacts_total{done}"], got["np6_contacts_total{NotFound}"]) == (99, 1)
    held = sum(len(np6_server.events(contact)) for contact in contacts if contact != contacts[3])
    assert got[f"np6_events_total{{{path}}}"] == held == events.stats.events
    assert (got["np6_requests_in_flight"], got["np6_outage"]) == (0, 0)


async def test_prometheus_sees_pauses_and_waits(np6_server: FakeNP6, recipe: Callable[[str], ModuleType]) -> None:
    """The client's clock is the test's: nobody waits."""
    needs("prometheus_client")
    from prometheus_client import CollectorRegistry

    now, registry = [1_000.0], CollectorRegistry()
    hook = recipe("prometheus").PrometheusHook(registry)

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    np6_server.script(Fault.rate_limited(40))
    async with np6_server.client(hooks=[hook], retry=RetryPolicy(clock=lambda: now[0], sleep=sleep)) as np6:
        await np6.events.list(np6_server.contact_ids[0])
    got = samples(registry)
    assert (got["np6_rate_limit_pauses_total"], got["np6_rate_limit_paused_seconds_total"]) == (1, 40)
    assert got["np6_waited_seconds_total{/targets/{id}/events}"] >= 40


def test_prometheus_sees_an_outage_while_it_lasts(recipe: Callable[[str], ModuleType]) -> None:
    needs("prometheus_client")
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    hook = recipe("prometheus").PrometheusHook(registry)
    assert samples(registry)["np6_outage"] == 0
    hook(OutageWait("/targets/{id}/events", datetime.now(UTC), 1.0, ConnectError(), None))
    assert samples(registry)["np6_outage"] == 1
    hook(OutageEnded("/targets/{id}/events", 9.0, None))
    assert samples(registry)["np6_outage"] == 0


async def test_no_label_of_prometheus_names_a_contact(np6_server: FakeNP6, recipe: Callable[[str], ModuleType]) -> None:
    """As it is served: also where contacts are addressed by e-mail, and where they fail."""
    needs("prometheus_client")
    from prometheus_client import CollectorRegistry

    module, registry = recipe("prometheus"), CollectorRegistry()
    one, another = np6_server.contact_ids[:2]
    np6_server.script(Fault.status(404), contact=another)
    async with np6_server.client(hooks=[module.PrometheusHook(registry)]) as np6:
        contacts = [Contact.by_unicity(np6_server.unicity(one)), Contact.by_hash(np6_server.hash(one)), another]
        async with np6.events.stream_many(contacts, on_error="collect") as events:
            async for _ in events.batches():
                pass
        await np6.actions.list("bounces", action=np6_server.actions[0])
    with module.serving(registry, port=0) as port:
        text = await asyncio.to_thread(scrape, port)
    assert 'np6_requests_total{path="/targets/events",status="200"} 2.0' in text
    assert 'np6_contacts_total{outcome="NotFound"} 1.0' in text
    for secret in (one, another, np6_server.unicity(one), np6_server.hash(one), np6_server.api_key):
        assert secret not in text


@pytest.mark.usefixtures("parts")
async def test_the_metrics_are_served_while_a_program_fetches(
    np6_server: FakeNP6, recipe: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the port is free again when it has ended."""
    needs("prometheus_client")
    module = recipe("prometheus")
    from prometheus_client import CollectorRegistry

    registry, seen = CollectorRegistry(), []

    @contextmanager
    def serving() -> Iterator[int]:
        with original(registry, 0) as port:
            seen.append(port)
            yield port

    original, hook = module.serving, module.PrometheusHook
    monkeypatch.setattr(module, "serving", serving)
    monkeypatch.setattr(module, "PrometheusHook", lambda: hook(registry))
    await module.main()
    assert samples(registry)["np6_contacts_total{done}"] == 100
    with pytest.raises(URLError):
        await asyncio.to_thread(scrape, seen[0])
