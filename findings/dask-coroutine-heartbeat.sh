#!/usr/bin/env bash
# Dask awaits a coroutine on the loop by which a worker says that it is alive: one that computes has the worker removed.
# So the calls of np6_async are plain functions, each with an event loop of its own: np6_async/integrations/_dask_jobs.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check distributed==2026.8.0

cat > "$folder/program.py" << 'END_OF_PROGRAM'
import asyncio
import sys
import time

import dask
import distributed


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


async def compute_in_coroutine(seconds):
    compute(seconds)


async def missed(function):
    """Whether the scheduler took the worker for dead while it ran the function for 8 s."""
    async with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            silence_logs=60, asynchronous=True,
        ) as cluster,
        distributed.Client(cluster, asynchronous=True) as client,
    ):
        future = client.submit(function, 8)
        await asyncio.wait([asyncio.ensure_future(distributed.wait(future))], timeout=12)
        return any(event["action"] == "worker-ttl-timed-out" for _, event in await client.get_events("scheduler"))


async def main():
    print("distributed", distributed.__version__)
    with dask.config.set({"distributed.scheduler.worker-ttl": "1s"}):
        function, coroutine = await missed(compute), await missed(compute_in_coroutine)
    print("the worker was taken for dead during a function:", function)
    print("the worker was taken for dead during a coroutine:", coroutine)
    return 0 if (function, coroutine) == (False, True) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
END_OF_PROGRAM

echo "The same work is done for 8 s by a function and by a coroutine; only during the latter no heartbeat is sent."
cd "$folder"
venv/bin/python program.py 2> "$folder/said" || { code=$?; tail -n 3 "$folder/said"; exit "$code"; }
