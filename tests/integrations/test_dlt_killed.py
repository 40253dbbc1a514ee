"""kill -9 at every step of a pipeline: what is loaded in the end is what the server has, each event once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest.importorskip("dlt")
pytest.importorskip("duckdb")

from support import dlt_world
from support.sync_world import MINUTE, NOON

from np6_async.testing import FakeNP6, make_hit

pytestmark = [
    pytest.mark.lake,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # dlt's own
]

POINTS = {
    "before the first rows": "np6_async.integrations._extraction:Tables.build:1",
    "between rows": "np6_async.integrations._extraction:Tables.build:3",
    "after the last rows": "dlt.extract.storage:ExtractStorage.close_writers:1+",
    "before the package is there": "dlt.extract.extract:Extract.commit_packages:1",
    "after the package is there, before the state": "dlt.extract.extract:Extract.commit_packages:1+",
    "before normalizing": "dlt.pipeline.pipeline:Pipeline.normalize:1",
    "before loading": "dlt.pipeline.pipeline:Pipeline.load:1",
    "after the first file": "dlt.common.destination.client:RunnableLoadJob.run_managed:1+",
    "before the package is complete": "dlt.load.load:Load.complete_package:1",
    "after the package is complete": "dlt.load.load:Load.complete_package:1+",
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(("destination", "of"), [("duckdb", "contacts"), ("filesystem", "account")])
def test_a_pipeline_that_is_killed_loses_and_doubles_nothing(
    point: str, destination: str, of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first run and in the second, which finds new events and late ones."""
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "ERROR")
    monkeypatch.chdir(tmp_path)
    with FakeNP6(contacts=12, events_per_contact=(20, 30)) as server:
        monkeypatch.setenv("NP6_API_KEY", server.api_key)

        def publish(name: str, at: int) -> None:
            for contact in server.contact_ids:
                hits = [make_hit("open", id=f"{contact}-{name}-{i}", at=at, contact=contact) for i in range(30)]
                server.add_events(contact, hits)

        for number in range(2):
            now = NOON + number * 60 * MINUTE
            publish(f"new-{number}", now - 5 * MINUTE)
            publish(f"late-{number}", now - 90 * MINUTE)  # in the second round, the first has passed that time
            what = tmp_path, destination, server.url, of
            contacts = list(server.contact_ids)
            assert dlt_world.run_until(POINTS[point], *what, " ".join(contacts), now) == -signal.SIGKILL
            publish(f"later-{number}", now - 80 * MINUTE)
            for later in (1, 2):  # where a package waits, dlt loads it and leaves the source to the next run
                dlt_world.run(*what, contacts, now + later * MINUTE)
            assert dlt_world.loaded(tmp_path, destination) == dlt_world.truth(server)
