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
    """The page faults of making 10,000 pieces of 256 KiB, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10_000):
        bytearray(256 * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def faults(**environment):
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": environment} if environment else {}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=60
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.submit(churn, pure=False).result()
        return client.submit(churn, pure=False).result()


if __name__ == "__main__":
    print("distributed", distributed.__version__)
    print("Dask's environment:", dask.config.get("distributed.nanny.pre-spawn-environ"))
    usual, without = faults(), faults(OMP_NUM_THREADS=1)
    print(f"page faults in Dask's environment: {usual:,}")
    print(f"page faults without MALLOC_TRIM_THRESHOLD_: {without:,}")
    sys.exit(0 if usual > 100 * max(without, 1) else 1)
END_OF_PROGRAM

echo "The same 10,000 pieces of memory are made by a worker in the environment that Dask gives it, and by one without a line of it."
cd "$folder"
venv/bin/python program.py 2> "$folder/said" || { code=$?; tail -n 3 "$folder/said"; exit "$code"; }
