"""One job of `benchmarks.lake` in a process of its own: a program that knows nothing of the tree it is run on.

``python -P benchmarks/lake_worker.py JOB --url URL --contacts N --folder OUT``, with the tree in
PYTHONPATH. Prints a line of JSON: seconds of processor time (user and system, of all threads, from after the imports
on), events, and the KiB of memory at most. Exits with 3 where the tree does not have what the job needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

ABSENT: Final = 3
CONCURRENCY: Final = 32
_KEY: Final = "benchmark"
_ROWS: Final = 64 * 1024  # of a row group; as many rows wait by hand


class Job(NamedTuple):
    """What to fetch, and where to write."""

    url: str
    contacts: int
    folder: Path
    ndjson: Path | None

    def ids(self) -> Iterator[str]:
        return (f"M{number:07d}" for number in range(self.contacts))


Run = Callable[[Job], Coroutine[Any, Any, int]]


# With np6_async. Whatever a job imports, it imports before its clock starts.


def stream() -> Run:
    from np6_async import NP6Client

    async def run(job: Job) -> int:
        count = 0
        async with (
            NP6Client(_KEY, base_url=job.url, concurrency=CONCURRENCY) as np6,
            np6.events.stream_many(job.ids()) as events,
        ):
            async for _contact, _event in events:
                count += 1
        return count

    return run


def export(format: Any) -> Run:
    from np6_async import NP6Client
    from np6_async.export import Export

    if format == "parquet":
        import pyarrow.parquet  # noqa: F401

    async def run(job: Job) -> int:
        async with NP6Client(_KEY, base_url=job.url, concurrency=CONCURRENCY) as np6:
            report = await Export(np6, job.folder, job.ids(), format=format).run()
        return report.events

    return run


def table() -> Run:
    try:
        arrow: Any = import_module("np6_async.integrations.arrow")
    except ImportError:
        sys.exit(ABSENT)
    import pyarrow  # noqa: F401

    from np6_async import NP6Client

    async def run(job: Job) -> int:
        async with (
            NP6Client(_KEY, base_url=job.url, concurrency=CONCURRENCY) as np6,
            np6.events.stream_many(job.ids()) as events,
        ):
            rows: int = (await arrow.table(events)).num_rows
        return rows

    return run


# Without it.


def by_hand(*, file: bool) -> Run:
    """As good as its user would write it: the columns known in advance, whole row groups at a time."""
    import aiohttp
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [(name, pa.timestamp("ms", tz="UTC") if name in _TIMES else pa.string()) for name in _flat("", {})]
    )

    async def run(job: Job) -> int:
        gate = asyncio.Semaphore(CONCURRENCY)
        rows: list[dict[str, Any]] = []
        tables: list[Any] = []
        count = 0
        job.folder.mkdir()
        writer = pq.ParquetWriter(job.folder / "part.parquet", schema, compression="zstd") if file else None

        def flush() -> None:
            nonlocal count
            made = pa.Table.from_pylist(rows, schema)
            count += made.num_rows
            rows.clear()
            if writer is None:
                tables.append(made)
            else:
                writer.write_table(made)

        async def one(contact: str) -> None:
            async with gate, session.get(f"{job.url}/targets/{contact}/events?sort=asc") as response:
                response.raise_for_status()
                events = orjson.loads(await response.read())
            rows.extend(_flat(contact, event) for event in events)
            if len(rows) >= _ROWS:
                flush()

        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(connector=connector, headers={"X-Key": _KEY}) as session:
            await asyncio.gather(*map(one, job.ids()))
        flush()
        if writer is None:
            pa.concat_tables(tables)
        else:
            writer.close()
        return count

    return run


_TIMES: Final = ("timestamp", "activation_time", "execution_time")
_NONE: Final[dict[str, Any]] = {}


def _flat(contact: str, event: dict[str, Any]) -> dict[str, Any]:
    import orjson

    identity = event.get("identity", _NONE)
    source = event.get("source", _NONE)
    detail = source.get("detail", _NONE)
    activation = detail.get("activation", _NONE)
    execution = detail.get("execution", _NONE)
    sent, done = activation.get("stamp", _NONE), execution.get("stamp", _NONE)
    receiver = activation.get("receiver") or execution.get("recipient") or _NONE
    bounce = detail.get("bounce", _NONE)
    status, analysis = bounce.get("status", _NONE), bounce.get("analysis", _NONE)
    subject = analysis.get("subject", _NONE)
    link = detail.get("link", _NONE)
    cancellation = detail.get("cancellation", _NONE)
    reason = cancellation.get("value", _NONE)
    data = execution.get("data")
    rest = {name: value for name, value in link.items() if name != "type"}
    return {
        "contact": contact,
        "id": event.get("id"),
        "timestamp": event.get("timestamp"),
        "type": event.get("type"),
        "identity_type": identity.get("type"),
        "identity_agency": identity.get("agency"),
        "identity_customer": identity.get("customer"),
        "channel": source.get("type"),
        "receiver_type": receiver.get("type"),
        "receiver_id": receiver.get("id") or receiver.get("value"),
        "receiver_unicity": receiver.get("unicity"),
        "receiver_hash": receiver.get("hash"),
        "activation_id": activation.get("id"),
        "activation_kind": activation.get("kind"),
        "activation_version": activation.get("version"),
        "activation_time": sent.get("time"),
        "activation_stamp": sent.get("id"),
        "activation_thread": sent.get("thread"),
        "activation_set": sent.get("set"),
        "activation_recipient": activation.get("recipient"),
        "execution_id": execution.get("id"),
        "execution_kind": execution.get("kind"),
        "execution_time": done.get("time"),
        "execution_stamp": done.get("id"),
        "execution_thread": done.get("thread"),
        "execution_set": done.get("set"),
        "execution_data": orjson.dumps(data).decode() if data else None,
        "bounce_type": status.get("type"),
        "bounce_code": status.get("code", _NONE).get("enhanced"),
        "bounce_diagnostic": status.get("diagnostic"),
        "bounce_mta": status.get("mta"),
        "bounce_verdict": analysis.get("verdict"),
        "bounce_subject": subject.get("type"),
        "bounce_subject_detail": subject.get("detail", _NONE).get("type"),
        "link_type": link.get("type"),
        "cancellation_type": cancellation.get("type"),
        "cancellation_reason": reason.get("type"),
        "cancellation_message": reason.get("message"),
        "rest": orjson.dumps({"source": {"detail": {"link": rest}}}).decode() if rest else None,
    }


_STAMP: Final = "STRUCT(time BIGINT, id VARCHAR, thread VARCHAR, set VARCHAR)"
_RECEIVER: Final = "STRUCT(type VARCHAR, id VARCHAR, value VARCHAR, unicity VARCHAR, hash VARCHAR)"
_DETAIL: Final = (
    f"activation STRUCT(id VARCHAR, kind VARCHAR, version VARCHAR, receiver {_RECEIVER}, stamp {_STAMP}, "
    f"recipient VARCHAR), execution STRUCT(id VARCHAR, kind VARCHAR, recipient {_RECEIVER}, stamp {_STAMP}, data JSON),"
    "bounce STRUCT(status STRUCT(type VARCHAR, code STRUCT(enhanced VARCHAR), diagnostic VARCHAR, mta VARCHAR), "
    "analysis STRUCT(verdict VARCHAR, subject STRUCT(type VARCHAR, detail STRUCT(type VARCHAR)))), link JSON, "
    "cancellation STRUCT(type VARCHAR, value STRUCT(type VARCHAR, message VARCHAR))"
)
_EVENT: Final = (
    "STRUCT(id VARCHAR, timestamp BIGINT, type VARCHAR, identity STRUCT(type VARCHAR, agency VARCHAR, "
    f"customer VARCHAR), source STRUCT(type VARCHAR, detail STRUCT({_DETAIL})))"
)
_QUERY: Final = f"""
copy (
    select contact, event.id, epoch_ms(event.timestamp) as timestamp, event.type,
        event.identity.type as identity_type, event.identity.agency as identity_agency,
        event.identity.customer as identity_customer, event.source.type as channel,
        coalesce(d.activation.receiver.type, d.execution.recipient.type) as receiver_type,
        coalesce(d.activation.receiver.id, d.activation.receiver.value, d.execution.recipient.id) as receiver_id,
        coalesce(d.activation.receiver.unicity, d.execution.recipient.unicity) as receiver_unicity,
        coalesce(d.activation.receiver.hash, d.execution.recipient.hash) as receiver_hash,
        d.activation.id as activation_id, d.activation.kind as activation_kind,
        d.activation.version as activation_version, epoch_ms(d.activation.stamp.time) as activation_time,
        d.activation.stamp.id as activation_stamp, d.activation.stamp.thread as activation_thread,
        d.activation.stamp.set as activation_set, d.activation.recipient as activation_recipient,
        d.execution.id as execution_id, d.execution.kind as execution_kind,
        epoch_ms(d.execution.stamp.time) as execution_time, d.execution.stamp.id as execution_stamp,
        d.execution.stamp.thread as execution_thread, d.execution.stamp.set as execution_set,
        d.execution.data::varchar as execution_data, d.bounce.status.type as bounce_type,
        d.bounce.status.code.enhanced as bounce_code, d.bounce.status.diagnostic as bounce_diagnostic,
        d.bounce.status.mta as bounce_mta, d.bounce.analysis.verdict as bounce_verdict,
        d.bounce.analysis.subject.type as bounce_subject,
        d.bounce.analysis.subject.detail.type as bounce_subject_detail, d.link->>'type' as link_type,
        d.cancellation.type as cancellation_type, d.cancellation.value.type as cancellation_reason,
        d.cancellation.value.message as cancellation_message, d.link::varchar as rest
    from (
        select contact, event, event.source.detail as d
        from read_json(?, format = 'newline_delimited', columns = {{contact: 'VARCHAR', event: '{_EVENT}'}})
    )
) to 'FILE' (format parquet, compression zstd)
"""


def duckdb() -> Run:
    """From the NDJSON that an export wrote: nothing is fetched."""
    import duckdb

    async def run(job: Job) -> int:
        job.folder.mkdir()
        with duckdb.connect() as database:
            query = _QUERY.replace("FILE", str(job.folder / "part.parquet"))
            done = database.execute(query, [str(job.ndjson)]).fetchone()
        return int(done[0]) if done else 0

    return run


JOBS: Final[dict[str, Callable[[], Run]]] = {
    "stream": stream,
    "ndjson": lambda: export("ndjson"),
    "parquet": lambda: export("parquet"),
    "csv": lambda: export("csv"),
    "table": table,
    "by hand": lambda: by_hand(file=True),
    "by hand, table": lambda: by_hand(file=False),
    "duckdb": duckdb,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--contacts", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="is made by the job")
    parser.add_argument("--ndjson", type=Path, help="what duckdb reads")
    parser.add_argument("--core", type=int, help="the processor to stay on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    run = JOBS[options.job]()
    before = time.process_time()
    events = asyncio.run(run(Job(options.url, options.contacts, options.folder, options.ndjson)))
    seconds = time.process_time() - before
    print(json.dumps({"seconds": seconds, "events": events, "peak": _peak()}))


def _peak() -> int:
    """KiB; 0 where the OS does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
