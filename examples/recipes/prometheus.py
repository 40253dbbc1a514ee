"""Metrics for Prometheus: ``python -m examples.recipes.prometheus`` fetches once, and serves them while it does."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from np6_async import (
    ContactDone,
    ContactFailed,
    FetchFinished,
    NP6Client,
    Observation,
    OutageEnded,
    OutageWait,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)

CONTACTS = Path(os.environ.get("CONTACTS", "ids.txt"))
PORT = int(os.environ.get("METRICS_PORT", "9464"))
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)  # seconds; a request lasts until its body is read


class PrometheusHook:
    """Counts what clients do. One serves all clients of a process, in any of its threads.

    No label names a contact: paths are templates, such as /targets/{id}/events, and errors are names of classes.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"np6_{name}", text, labels, registry=registry)

        self.requests = counter("requests", "Requests that ended, by status (none: no response).", "path", "status")
        self.retries = counter("retries", "Requests that failed and are sent again.", "path", "error")
        self.events = counter("events", "Events delivered, each counted once.", "path")
        self.contacts = counter("contacts", "Contacts of which everything was delivered, or that failed.", "outcome")
        self.waited = counter("waited_seconds", "Time that fetches spent waiting to be allowed to ask.", "path")
        self.pauses = counter("rate_limit_pauses", "Times that NP6 asked a client to pause.")
        self.paused = counter("rate_limit_paused_seconds", "How long NP6 asked the clients to pause, in total.")
        self.in_flight = Gauge("np6_requests_in_flight", "Requests whose responses are read.", registry=registry)
        self.outage = Gauge("np6_outage", "1 while NP6 answers nobody.", registry=registry)
        self.seconds = Histogram(
            "np6_request_seconds",
            "From a request to the end of its response, the program's own time included.",
            ["path"],
            buckets=BUCKETS,
            registry=registry,
        )

    def __call__(self, observation: Observation, /) -> None:
        match observation:
            case RequestStarted():
                self.in_flight.inc()
            case RequestFinished(path=path, status=status):
                self.in_flight.dec()
                self.requests.labels(path, status or "none").inc()
                self.seconds.labels(path).observe(observation.seconds)
                self.events.labels(path).inc(observation.events)
            case RetryScheduled(path=path, error=error):
                self.retries.labels(path, type(error).__name__).inc()
            case FetchFinished(path=path, waited=waited):
                self.waited.labels(path).inc(waited)
            case RateLimitWait(seconds=seconds):
                self.pauses.inc()
                self.paused.inc(seconds)
            case OutageWait():
                self.outage.set(1)
            case OutageEnded():
                self.outage.set(0)
            case ContactDone():
                self.contacts.labels("done").inc()
            case ContactFailed(error=error):
                self.contacts.labels(type(error).__name__).inc()


@contextmanager
def serving(registry: CollectorRegistry = REGISTRY, port: int = PORT) -> Iterator[int]:
    """Serve the metrics on the loopback interface, in a thread; gives the port, of which 0 is any that is free."""
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def contacts() -> list[str]:
    return CONTACTS.read_text().split()


async def fetch(np6: NP6Client) -> None:
    async with np6.events.stream_many(contacts(), start=timedelta(days=1), on_error="collect") as events:
        async for _contact, _batch in events.batches():
            pass  # here goes what the events are for
    print(events.stats)


async def main() -> None:
    with serving():
        async with NP6Client(hooks=[PrometheusHook()]) as np6:
            await fetch(np6)


if __name__ == "__main__":
    asyncio.run(main())
