#!/usr/bin/env bash
# From an empty folder to the first timeline in a FastAPI application of one's own, by the steps of the documentation:
# the install of docs/index.md, the application of docs/how-to/web-app.md, the fake server of docs/how-to/command-line.md.
#
#   bash examples/first_hour.sh [FOLDER]
#
# Needs Python 3.11 or newer and a package registry. Says for each step how many seconds after the first it began.
set -euo pipefail

clone=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
cd "$folder"
servers=()
trap 'kill "${servers[@]}" 2> /dev/null || true; wait' EXIT

step() { printf '\n%4d s  %s\n' "$SECONDS" "$*"; }

# Wait until the file $1 has a match of $2, and print the match.
found() {
  for _ in $(seq 600); do
    grep -oP -m 1 "$2" "$1" 2> /dev/null && return
    sleep 0.1
  done
  cat "$1" >&2
  return 1
}

step "an environment with np6_async, FastAPI and a server, in $folder"
python3 -m venv .venv
.venv/bin/pip install -q "$clone" fastapi uvicorn

step "app.py, the application of docs/how-to/web-app.md"
awk '/^## FastAPI/ { here = 1 } here && /^```$/ { exit } code { print } here && /^```python$/ { code = 1 }' \
  "$clone/docs/how-to/web-app.md" > app.py
wc -l app.py

step "a fake NP6 server in the place of the real one"
.venv/bin/np6 fake-server --port 0 --contacts 20 --events 50 > np6.env 2> fake.log &
servers+=($!)
found np6.env 'NP6_API_KEY=.+'
. ./np6.env
contact=$(found fake.log 'contacts \(\K\w+')

step "the application, on it"
.venv/bin/uvicorn app:app --port 0 --no-access-log 2> app.log &
servers+=($!)
url=$(found app.log 'running on \Khttp://[\w.:]+')

step "the first timeline: $url/contacts/$contact/history"
cat > timeline.py << 'PYTHON'
import json
import sys
import urllib.request
from datetime import UTC, datetime


def get(path: str) -> dict:
    with urllib.request.urlopen(sys.argv[1] + path) as response:
        return json.load(response)


path = f"/contacts/{sys.argv[2]}/history"
pages = 0
while path:
    page = get(path)
    pages += 1
    if pages == 1:
        for event in page["events"][:5]:
            print(f"{datetime.fromtimestamp(event['timestamp'] / 1000, UTC):%Y-%m-%d %H:%M}", event["type"])
    path = page.get("next")
print(f"... and {pages} pages in all")
PYTHON
.venv/bin/python timeline.py "$url" "$contact"

step "done"
