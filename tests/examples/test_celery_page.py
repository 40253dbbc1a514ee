"""The task of docs/how-to/scripts.md in a real worker of Celery, with a pool of processes and a real Redis."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.needs import needs
from support.waiting import until

from np6_async.testing import FakeNP6

needs("celery", "redis", command="redis-server")

from celery import Celery
from support import services

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

PAGE = Path(__file__).parents[2] / "docs/how-to/scripts.md"
TASKS = 30


def test_a_client_of_the_module_serves_each_process_of_the_pool(tmp_path: Path) -> None:
    """It was made before the fork and used after it."""
    (code,) = re.findall(r"^```python\n(from celery .*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    folder = tmp_path / "redis"
    folder.mkdir()
    log = tmp_path / "worker.log"
    with FakeNP6(contacts=TASKS) as server, services.redis_server(folder) as redis:
        assert "redis://127.0.0.1:6379" in code
        (tmp_path / "program.py").write_text(code.replace("redis://127.0.0.1:6379", redis))
        with Celery(broker=redis) as sender, log.open("w") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "program", "worker", "--concurrency", "2", "--loglevel", "INFO"],
                cwd=tmp_path,
                env={**os.environ, "NP6_API_KEY": server.api_key, "NP6_BASE_URL": server.url},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                for contact in server.contact_ids:
                    sender.send_task("program.verdicts", [contact])
                until(lambda: log.read_text().count(" succeeded in ") == TASKS or worker.poll() is not None)
            finally:
                worker.terminate()
                worker.wait(60)
        said = log.read_text()
        assert "Traceback" not in said
        assert server.request_count == TASKS
        assert server.connections < TASKS / 2  # the tasks of a process share them
        until(lambda: server.open_connections == 0)
