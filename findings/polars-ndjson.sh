#!/usr/bin/env bash
# polars drops members of NDJSON that do not occur in the first 100 lines (pola-rs/polars, issue 29330), so
# docs/guide/reading-back.md has it read each event as text.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check polars==2.1.0

echo "polars reads 1,000 lines of NDJSON and loses, without an error or a warning, the member b of the last 900."
"$folder/venv/bin/python" -W error - <<'END'
import json
import sys

import polars as pl

print("polars", pl.__version__)
lines = [json.dumps({"a": n} if n < 100 else {"a": n, "b": "x"}) for n in range(1000)]
found = pl.read_ndjson("\n".join(lines).encode())
print(found.height, "rows, columns", found.columns)
sys.exit(found.columns != ["a"] or found.height != 1000)
END
