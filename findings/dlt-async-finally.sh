#!/usr/bin/env bash
# dlt stops its event loop before the `finally` of an async resource has ended, with add_limit as well as after an error.
# So np6_async/integrations/_extraction.py drives its client in a loop of its own, from a generator that is not async.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check dlt==1.31.0

echo "dlt takes three items of an async resource, and the finally of the resource, which awaits, never ends."
RUNTIME__DLTHUB_TELEMETRY=false "$folder/venv/bin/python" - "$folder" 2> "$folder/said" <<'END'
import asyncio
import sys

import dlt

ended = []


@dlt.resource
async def numbers():
    try:
        for number in range(1000):
            await asyncio.sleep(0.02)
            yield {"number": number}
    finally:
        await asyncio.sleep(0.05)
        ended.append("finally")


print("dlt", dlt.__version__)
pipeline = dlt.pipeline("numbers", pipelines_dir=sys.argv[1], destination="dummy")
pipeline.extract(numbers().add_limit(3))
print("what has ended:", ended)
sys.exit(ended != [])
END
grep -m 1 "RuntimeError" "$folder/said" || true
