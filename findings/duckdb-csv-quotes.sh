#!/usr/bin/env bash
# duckdb takes a CSV for one without quotes if its first 20,480 rows have none (duckdb/duckdb, issue 21000), also where
# all columns are text, so docs/guide/reading-back.md passes quote and escape.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1

echo "duckdb refuses a CSV of RFC 4180 whose first cell in quotes comes after its sample, also with all_varchar."
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import sys

import duckdb

print("duckdb", duckdb.__version__)
with open("late.csv", "w", newline="") as file:
    file.write("id,text\r\n" + "a,b\r\n" * 21_000 + 'a,"b, c"\r\n')
told = duckdb.sql("""from read_csv('late.csv', all_varchar = true, header = true, quote = '"', escape = '"')""")
assert told.fetchall()[-1] == ("a", "b, c")
try:
    print(duckdb.sql("from read_csv('late.csv', all_varchar = true, header = true)").fetchall()[-1])
except duckdb.InvalidInputException as error:
    print("\n".join(str(error).splitlines()[:3]))
    sys.exit(0)
sys.exit(1)
END
