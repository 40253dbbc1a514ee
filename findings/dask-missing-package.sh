#!/usr/bin/env bash
# A worker of Dask that cannot import what a task needs ends, and writes the arguments of the task to its log.
# So np6_async sends nothing but `pickle.load` and a BytesIO, which every process can read and whose repr says nothing:
# np6_async/integrations/_dask_jobs.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check distributed==2026.8.0
mkdir "$folder/here"
printf 'def double(text):\n    return 2 * text\n' > "$folder/here/only_here.py"

echo "A function is submitted whose module one worker does not have: the worker ends, and its argument is in the log."
cd "$folder"
"$folder/venv/bin/python" - "$folder" << 'END_OF_PROGRAM'
import asyncio
import subprocess
import sys

sys.path.insert(0, sys.argv[1] + "/here")

import distributed
import only_here


async def main():
    print("distributed", distributed.__version__)
    async with distributed.LocalCluster(
        n_workers=0, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0", asynchronous=True
    ) as cluster:
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        async with distributed.Client(cluster, asynchronous=True) as client:
            await client.wait_for_workers(1)
            future = client.submit(only_here.double, "jane@example.com")
            try:
                log, _ = await asyncio.wait_for(asyncio.to_thread(worker.communicate), 30)
            except TimeoutError:
                worker.kill()
                log = ""
            print("the worker has ended with", worker.wait(), "and the task is", future.status)
    lines = [line for line in log.splitlines() if "jane@example.com" in line]
    print(*(line[:400] for line in lines[:1]), sep="\n")
    return not lines


sys.exit(asyncio.run(main()))
END_OF_PROGRAM
