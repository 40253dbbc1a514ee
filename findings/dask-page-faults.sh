#!/usr/bin/env bash
# Dask sets MALLOC_TRIM_THRESHOLD_ for its workers. With glibc that also fixes the size from which memory is mapped and
# unmapped, 128 KiB, which otherwise grows with what a program uses: so work with larger pieces has many page faults.
# So the processes of `LocalWorkers` do without: np6_async/integrations/_dask_processes.py. Linux with glibc.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check distributed==2026.8.0

cat > "$folder/program.py" << 'END_OF_PROGRAM'
import resource
import sys

import dask
import distributed


def churn():
    """The page faults of making 10,000 pieces of 256 KiB, one after the other, where there was a larger one before."""
    bytearray(1024 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10_000):
        bytearray(256 * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


if __name__ == "__main__":
    environment = dask.config.get("distributed.nanny.pre-spawn-environ")
    if sys.argv[1:] == ["without"]:
        environment = {name: value for name, value in environment.items() if name != "MALLOC_TRIM_THRESHOLD_"}
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": environment}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=60
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.submit(churn, pure=False).result()
        print(client.submit(churn, pure=False).result())
END_OF_PROGRAM

echo "10,000 pieces of memory are made by a worker in the environment that Dask gives it, and by one without a line of it."
cd "$folder"
"$folder/venv/bin/pip" list --disable-pip-version-check 2> /dev/null | grep -E '^distributed '
usual=$(venv/bin/python program.py 2> said || { tail -n 3 said >&2; exit 1; })
without=$(venv/bin/python program.py without 2> said || { tail -n 3 said >&2; exit 1; })
echo "page faults in Dask's environment: $usual"
echo "page faults without MALLOC_TRIM_THRESHOLD_: $without"
((usual > 100 * (without + 1)))
