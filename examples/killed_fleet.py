"""An export by two workers that is killed in the middle and resumed: ``python -m examples.killed_fleet``.

The fake server of np6_async stands in for NP6. Needs: pip install 'np6_async[cli,dask]'.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from np6_async.export import read_report
from np6_async.testing import FakeNP6

CONTACTS = 20_000


def main(contacts: int = CONTACTS) -> None:
    with tempfile.TemporaryDirectory() as folder, FakeNP6(contacts) as server:
        ids, out = Path(folder, "ids.txt"), Path(folder, "out")
        ids.write_text("\n".join(server.contact_ids))
        np6 = [sys.executable, "-m", "np6_async.cli", "export", "--ids-from", str(ids), "--output", str(out)]
        words = [*np6, "--workers", "2", "--shard-size", "1000", "--resume"]
        environment = {**os.environ, "NP6_API_KEY": server.api_key, "NP6_BASE_URL": server.url}

        print("$ np6", *words[3:])
        with subprocess.Popen(words, env=environment) as process:
            while server.request_count < contacts / 2 and process.poll() is None:
                time.sleep(0.01)
            process.kill()
        report = read_report(out)
        done = report.done if report is not None else 0
        print(f"killed after {server.request_count:,} requests: {done:,} contacts count")

        print("$ the same once more")
        subprocess.run(words, env=environment, check=True)
        print(f"{server.request_count - contacts:,} contacts were fetched twice: those that workers had in hand")
        report = read_report(out)
        assert report is not None
        written = [json.loads(line) for part in report.parts for line in Path(part).read_bytes().splitlines()]
        found = sorted((line["contact"], line["event"]["id"]) for line in written)
        truth = sorted((contact, event["id"]) for contact in server.contact_ids for event in server.events(contact))
        print(f"{len(found):,} events, {'each once' if found == truth else 'which are not those of the server'}")
        if found != truth:
            sys.exit(1)


if __name__ == "__main__":
    main()
