"""``python -m examples.fastapi_events``: with NP6 if a key is in the environment, otherwise with a fake server."""

import os
from datetime import UTC, datetime

import uvicorn

from np6_async.testing import FakeNP6

from .app import app


def serve() -> None:
    uvicorn.run(app, port=8000, access_log=False)  # an access log would contain the ids of contacts


if os.environ.keys() & {"NP6_API_KEY", "NP6_API_KEY_FILE"}:
    serve()
else:
    with FakeNP6(contacts=20, events_per_contact=50, now=datetime.now(UTC)) as fake:
        os.environ |= {"NP6_API_KEY": fake.api_key, "NP6_BASE_URL": fake.url}
        print(f"Try: curl -N 'http://127.0.0.1:8000/contacts/{fake.contact_ids[0]}/events?kind=bounces'", flush=True)
        serve()
