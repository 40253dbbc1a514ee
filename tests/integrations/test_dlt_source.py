"""`np6_async.integrations.dlt`, by real pipelines into duckdb and into a folder of Parquet files."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

dlt = pytest.importorskip("dlt")
pytest.importorskip("duckdb")

from support import dlt_world
from support.sync_world import MINUTE, NOON, Clock

from np6_async import Contact, NP6Client
from np6_async.integrations import _extraction
from np6_async.integrations.dlt import account_events, contact_events
from np6_async.testing import FakeNP6, Fault, make_bounce, make_hit

pytestmark = [
    pytest.mark.lake,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # dlt's own
]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[FakeNP6]:
    with FakeNP6(contacts=8, events_per_contact=(5, 12)) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_client(server: FakeNP6, clock: Clock) -> Callable[[], NP6Client]:
    return lambda: clock.client(server)


@pytest.fixture
def pipeline(tmp_path: Path) -> Any:
    return dlt_world.pipeline(tmp_path, "duckdb")


def rows(pipeline: Any, query: str) -> list[tuple[Any, ...]]:
    with pipeline.sql_client() as database:
        return [tuple(row) for row in database.execute_sql(query)]


def publish(server: FakeNP6, name: str, at: int) -> int:
    """A new hit of each contact; returns how many."""
    for contact in server.contact_ids:
        server.add_events(contact, [make_hit("open", id=f"{contact}-{name}", at=at, contact=contact)])
    return len(server.contact_ids)


# -- what is loaded ----------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["contacts", "account"])
@pytest.mark.parametrize("destination", ["duckdb", "filesystem"])
def test_each_run_loads_what_is_new_and_what_came_late(
    of: str, destination: str, server: FakeNP6, clock: Clock, make_client: Callable[[], NP6Client], tmp_path: Path
) -> None:
    pipeline = dlt_world.pipeline(tmp_path, destination)

    def run() -> int:
        options: dict[str, Any] = {"client": make_client, "overlap": dlt_world.OVERLAP}
        source = account_events(**options) if of == "account" else contact_events(server.contact_ids, **options)
        pipeline.run(source, loader_file_format="parquet")
        assert dlt_world.loaded(tmp_path, destination) == dlt_world.truth(server)
        return dlt_world.new_rows(pipeline)

    assert run() == dlt_world.truth(server).total()
    clock.now += 60 * MINUTE
    new = publish(server, "new", clock.now - 10 * MINUTE) + publish(server, "late", clock.now - 90 * MINUTE)
    assert run() == new
    clock.now += MINUTE
    assert run() == 0


def test_events_that_are_delivered_again_are_merged(
    server: FakeNP6, make_client: Callable[[], NP6Client], tmp_path: Path
) -> None:
    """Here because the state is lost; without an id, too."""
    server.add_contact("00NOID00", [{"type": "creation", "timestamp": NOON - 60 * MINUTE, "n": n} for n in range(2)])
    for name in ("first", "second"):
        pipeline = dlt_world.pipeline(tmp_path, "duckdb", name)
        pipeline.run(contact_events([*server.contact_ids, "00NOID00"], client=make_client))
        assert dlt_world.new_rows(pipeline) == dlt_world.loaded(tmp_path, "duckdb").total()
    found = rows(pipeline, "SELECT event_key, id FROM events WHERE contact = '00NOID00'")
    assert len(found) == 2
    assert all(key.startswith("raw:") and name is None for key, name in found)


def test_each_kind_has_a_resource_of_its_own(
    server: FakeNP6, make_client: Callable[[], NP6Client], pipeline: Any, tmp_path: Path
) -> None:
    source = account_events(client=make_client)
    assert list(source.selected_resources) == ["events"]
    kinds = {"activations", "cancellations", "bounces", "stops", "hits"}
    hits = {"hits_open", "hits_redirection", "hits_unsubscribe", "hits_mirror", "hits_form"}
    assert set(source.resources) == {"events", *kinds, *hits}
    assert set(contact_events([], client=make_client).resources) == set(source.resources) - {"cancellations"}
    pipeline.run(source.with_resources("bounces", "hits_open"))
    assert dlt_world.loaded(tmp_path, "duckdb", "bounces") == dlt_world.truth(server, "bounces")
    assert dlt_world.loaded(tmp_path, "duckdb", "hits_open") == dlt_world.truth(server, "hits/open")


def test_columns_have_the_types_that_were_declared(
    server: FakeNP6, make_client: Callable[[], NP6Client], pipeline: Any
) -> None:
    """Whatever the events are: here no event has a cancellation, and no time an execution."""
    server.add_contact("00BOUNCE", [make_bounce("hard", at=NOON - 60 * MINUTE, contact="00BOUNCE")])
    pipeline.run(contact_events(["00BOUNCE"], client=make_client))
    found = rows(
        pipeline,
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_name = 'events' AND table_schema = 'events' ORDER BY ordinal_position",
    )
    assert [name for name, *_ in found] == list(_extraction.hints())
    types = {name: kind for name, kind, _ in found}
    assert {name for name, kind in types.items() if kind == "TIMESTAMP WITH TIME ZONE"} == {
        "timestamp",
        "activation_time",
        "execution_time",
    }
    assert set(types.values()) == {"VARCHAR", "TIMESTAMP WITH TIME ZONE"}
    assert {name for name, _, nullable in found if nullable == "NO"} == {"event_key", "timestamp"}
    ((at,),) = rows(pipeline, "SELECT timestamp FROM events")
    assert at.astimezone(UTC) == datetime.fromtimestamp(NOON / 1000 - 3600, UTC)


def test_the_rest_of_an_event_can_be_a_json_column(
    server: FakeNP6, make_client: Callable[[], NP6Client], pipeline: Any
) -> None:
    server.add_contact("00BOUNCE", [make_bounce("hard", at=NOON - 60 * MINUTE, contact="00BOUNCE") | {"more": [1]}])
    source = contact_events(["00BOUNCE"], client=make_client)
    source.events.apply_hints(columns={"rest": {"data_type": "json"}})
    pipeline.run(source)
    assert rows(pipeline, "SELECT rest ->> '$.more[0]', typeof(rest) FROM events") == [("1", "JSON")]


def test_the_contacts_of_a_segment_are_read_in_each_run(
    server: FakeNP6, clock: Clock, make_client: Callable[[], NP6Client], pipeline: Any, tmp_path: Path
) -> None:
    some = list(server.contact_ids[:3])
    server.add_segment("77", some)
    calls = []

    def contacts(np6: NP6Client) -> Any:
        calls.append(np6)
        return np6.segments.contacts("77")

    for number in range(2):
        source = contact_events(contacts, client=make_client)
        assert len(calls) == number
        pipeline.run(source)
        assert {contact for (contact,) in rows(pipeline, "SELECT contact FROM events")} == set(some)
        clock.now += MINUTE
        server.add_segment("77", some := list(server.contact_ids[:5]))


@pytest.mark.parametrize("of", ["contacts", "account"])
def test_a_run_in_pieces_loads_everything(of: str, clock: Clock, tmp_path: Path, monkeypatch: Any) -> None:
    """`add_limit` ends a run early; the next one takes up where it ended."""
    monkeypatch.setattr(_extraction, "ROWS", 300)
    with FakeNP6(contacts=60, events_per_contact=20) as server:
        options: dict[str, Any] = {"client": lambda: clock.client(server), "overlap": dlt_world.OVERLAP}
        pipeline, pieces = dlt_world.pipeline(tmp_path, "filesystem"), []
        while len(pieces) < 20 and (not pieces or pieces[-1]):
            source = account_events(**options) if of == "account" else contact_events(server.contact_ids, **options)
            pipeline.run(source.add_limit(1), loader_file_format="parquet")
            pieces.append(dlt_world.new_rows(pipeline))
            assert dlt_world.loaded(tmp_path, "filesystem").total() == sum(pieces)
        assert len(pieces) > 3
        assert dlt_world.loaded(tmp_path, "filesystem") == dlt_world.truth(server)


def test_a_backfill_fetches_everything_again(
    server: FakeNP6, clock: Clock, make_client: Callable[[], NP6Client], pipeline: Any, tmp_path: Path
) -> None:
    pipeline.run(account_events(start="2025-12-25", client=make_client))
    part = dlt_world.loaded(tmp_path, "duckdb").total()
    assert 0 < part < dlt_world.truth(server).total()
    pipeline.run(account_events(start="2025-01-01", client=make_client), refresh="drop_data")
    assert dlt_world.loaded(tmp_path, "duckdb") == dlt_world.truth(server)


# -- what goes wrong ---------------------------------------------------------------------------------


def test_contacts_that_fail_are_counted_and_loaded_by_the_next_run(
    server: FakeNP6,
    clock: Clock,
    make_client: Callable[[], NP6Client],
    pipeline: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    contacts = [*server.contact_ids, "00GONE00"]
    with caplog.at_level(logging.WARNING, "np6_async"):
        pipeline.run(contact_events(contacts, client=make_client))
    assert "contacts that failed: 1 (NotFound: 1); the next run of the pipeline resumes them" in caplog.messages
    assert "00GONE00" not in caplog.text
    assert dlt_world.loaded(tmp_path, "duckdb") == dlt_world.truth(server)
    (step,) = pipeline.last_trace.last_extract_info.metrics.values()
    metrics = step[0]["resource_metrics"]["events"].custom_metrics
    assert (metrics["contacts_done"], metrics["contacts_failed"]) == (8, 1)
    server.add_contact("00GONE00", [make_hit("open", at=NOON - 60 * MINUTE, contact="00GONE00")])
    clock.now += MINUTE
    pipeline.run(contact_events(contacts, client=make_client))
    assert dlt_world.new_rows(pipeline) == 1


@pytest.mark.parametrize("of", ["contacts", "account"])
def test_of_a_run_that_fails_nothing_is_loaded_and_the_next_one_loads_all(
    of: str, server: FakeNP6, make_client: Callable[[], NP6Client], pipeline: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_extraction, "ROWS", 10)

    def source(*more: str) -> Any:
        if of == "account":
            return account_events(client=make_client)
        contacts = [*server.contact_ids, *more]
        return contact_events(contacts, client=make_client, on_error="raise", concurrency=1)

    if of == "account":
        server.script(Fault.cut(after=20_000))
    with pytest.raises(Exception, match="step=extract") as failed:
        pipeline.run(source("00GONE00"))
    assert type(failed.value).__name__ == "PipelineStepFailed"
    pipeline.run(source())
    assert dlt_world.new_rows(pipeline) == dlt_world.truth(server).total()
    assert dlt_world.loaded(tmp_path, "duckdb") == dlt_world.truth(server)


def test_ctrl_c_ends_the_requests_and_loads_nothing(
    server: FakeNP6, make_client: Callable[[], NP6Client], pipeline: Any, tmp_path: Path
) -> None:
    server.script(Fault.stall(after=1_000))
    ended = threading.Event()

    def interrupt() -> None:
        while not server.in_flight:
            time.sleep(0.001)
        while not ended.is_set():  # again where dlt was just not listening, as whoever presses it would
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            ended.wait(5)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Exception, match="KeyboardInterrupt") as failed:
        pipeline.run(account_events(client=make_client))
    ended.set()
    thread.join()
    assert type(failed.value).__name__ == "PipelineStepFailed"
    assert not [each for each in threading.enumerate() if each.name.startswith("np6_async")]
    pipeline.run(account_events(client=make_client))
    assert dlt_world.loaded(tmp_path, "duckdb") == dlt_world.truth(server)


async def test_a_pipeline_runs_where_an_event_loop_runs_already(
    server: FakeNP6, make_client: Callable[[], NP6Client], pipeline: Any, tmp_path: Path
) -> None:
    """As in a notebook."""
    assert asyncio.get_running_loop().is_running()
    pipeline.run(account_events(client=make_client))
    assert dlt_world.loaded(tmp_path, "duckdb") == dlt_world.truth(server)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: contact_events(iter(["000MLGPR"])), "an iterator can be read only once"),
        (lambda: contact_events(41), "contacts"),
        (lambda: contact_events(["000MLGPR"], start="soon"), "start"),
        (lambda: contact_events(["000MLGPR"], missing="never"), "missing"),
        (lambda: account_events(overlap=5), "overlap must be a timedelta"),
        (lambda: account_events(personal="hash"), "needs personal_key="),
        (lambda: account_events(classification=5), "classification"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_once(
    make: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NP6_API_KEY", "key")
    with pytest.raises(Exception, match=message) as refused:
        make()
    assert type(refused.value).__module__ == "np6_async._errors"


# -- what is secret ----------------------------------------------------------------------------------


CANARY = "canary-0123456789-key"


def files_with(text: str, folder: Path) -> list[Path]:
    """Files of the folder that hold the text, in plain or in dlt's encodings."""
    needles = [text.encode(), text.encode("utf-16-le")]
    return [
        file for file in folder.rglob("*") if file.is_file() and any(needle in file.read_bytes() for needle in needles)
    ]


@pytest.mark.parametrize("way", ["argument", "SOURCES__NP6__API_KEY", "NP6_API_KEY", "dlt.secrets"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_key_is_in_no_file_and_no_log(
    way: str,
    fails: bool,
    server: FakeNP6,
    pipeline: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "DEBUG")
    server.api_key = CANARY
    server.forbidden = fails
    options = {"base_url": server.url}
    if way == "argument":
        options["api_key"] = CANARY
    elif way == "dlt.secrets":
        (tmp_path / ".dlt").mkdir()
        dlt.secrets["sources.np6.api_key"] = CANARY
    else:
        monkeypatch.setenv(way, CANARY)
    with caplog.at_level(logging.DEBUG):
        source = contact_events(server.contact_ids, **options)
        if fails:
            with pytest.raises(Exception, match="step=extract") as failed:
                pipeline.run(source)
            assert CANARY not in str(failed.value)
        else:
            pipeline.run(source)
            assert dlt_world.loaded(tmp_path, "duckdb") == dlt_world.truth(server)
    assert CANARY not in caplog.text
    assert CANARY not in "".join(capfd.readouterr())
    assert CANARY not in repr(source)
    assert CANARY not in repr(list(source.resources.values()))
    assert CANARY not in str(pipeline.last_trace.asdict())
    assert [file for file in files_with(CANARY, tmp_path) if ".dlt" not in file.parts] == []


def test_contacts_that_are_not_named_by_id_are_not_in_the_state(
    server: FakeNP6, clock: Clock, make_client: Callable[[], NP6Client], pipeline: Any
) -> None:
    """It is a table of the warehouse; that the rows name them is another matter."""
    names = [Contact.by_unicity(server.unicity(contact)) for contact in server.contact_ids]
    for _ in range(2):
        pipeline.run(contact_events(names, client=make_client))
        clock.now += MINUTE
    assert dlt_world.new_rows(pipeline) == 0
    assert "@" not in str(pipeline.state)


@pytest.mark.parametrize("personal", ["hash", "drop"])
def test_personal_data_can_be_hashed_or_left_out(
    personal: str, server: FakeNP6, make_client: Callable[[], NP6Client], pipeline: Any
) -> None:
    names = [Contact.by_unicity(server.unicity(contact)) for contact in server.contact_ids]
    key = {"personal_key": b"0123456789abcdef"} if personal == "hash" else {}
    pipeline.run(contact_events(names, client=make_client, personal=personal, **key))
    found = rows(pipeline, "SELECT * FROM events")
    assert len(found) == dlt_world.truth(server).total()
    assert "@" not in str(found).replace("[e-mail]", "")
    assert all((contact is None) is (personal == "drop") for (contact,) in rows(pipeline, "SELECT contact FROM events"))


def test_the_state_is_small(clock: Clock, tmp_path: Path) -> None:
    """A few dozen bytes of each contact, as dlt writes it in each run."""
    with FakeNP6(contacts=2_000, events_per_contact=1) as server:
        pipeline = dlt_world.pipeline(tmp_path, "duckdb")
        pipeline.run(contact_events(server.contact_ids, client=lambda: clock.client(server)))
        ((size,),) = rows(pipeline, "SELECT length(state) FROM _dlt_pipeline_state")
    assert size < 2_000 * 40
