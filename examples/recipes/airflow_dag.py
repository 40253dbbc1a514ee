"""Airflow 3: put this file in the folder of DAGs."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import CronDataIntervalTimetable, dag, task

from examples.worker.parts import fetch_part
from np6_async import NP6Client

PARTS = Path(os.environ.get("PARTS", "parts"))
CONTACTS = Path(os.environ.get("CONTACTS", "ids.txt"))
BATCH = 1000


@task
def batches() -> list[list[str]]:
    contacts = CONTACTS.read_text().split()
    return [contacts[at : at + BATCH] for at in range(0, len(contacts), BATCH)]


@task(retries=5, retry_exponential_backoff=True, execution_timeout=timedelta(minutes=30), max_active_tis_per_dag=4)
def fetch(contacts: list[str], start: str, end: str) -> str:
    """Each Airflow task is its own process, with its own event loop and client."""

    async def run() -> str:
        async with NP6Client() as np6, asyncio.timeout(25 * 60):
            return await fetch_part(np6, PARTS, contacts, start, end)

    return asyncio.run(run())


# Not "@daily": in Airflow 3 the interval of such a run ends where it begins, and is empty.
DAILY = CronDataIntervalTimetable("@daily", timezone="UTC")


@dag(schedule=DAILY, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def contact_events() -> None:
    # The interval of the run and not "now": a repeated run fetches the same.
    fetch.partial(start="{{ data_interval_start.isoformat() }}", end="{{ data_interval_end.isoformat() }}").expand(
        contacts=batches()
    )


contact_events()
