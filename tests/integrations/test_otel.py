"""Spans and metrics of OpenTelemetry, as the SDK's in-memory exporters receive them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from attrs import define
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from yarl import URL

from np6_async import Contact, NotFound, NP6Client, RetryPolicy, StreamInterrupted
from np6_async.integrations.otel import OpenTelemetryHook, url_filter
from np6_async.testing import FakeNP6, Fault

CANARY = "canary-key-7f3a"
FETCH = "np6.fetch /targets/{id}/events"
REQUEST = "GET /targets/{id}/events"


@define
class Telemetry:
    """A hook, and what it recorded."""

    hook: OpenTelemetryHook
    tracer: Tracer
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name or not name]

    def points(self, name: str) -> Sequence[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def client(self, server: FakeNP6, **options: Any) -> NP6Client:
        options = {"hooks": [self.hook], "retry": RetryPolicy(base_delay=0), **options}
        return server.client(**options)


@pytest.fixture
def otel() -> Iterator[Telemetry]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    hook = OpenTelemetryHook(tracer_provider=tracers, meter_provider=meters)
    yield Telemetry(hook, tracers.get_tracer("test"), exporter, reader)
    assert not hook._fetches  # whatever was begun was ended
    meters.shutdown()
    tracers.shutdown()


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def own_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_a_fetch_is_a_span_with_a_child_for_each_request(otel: Telemetry) -> None:
    """Attributes follow the semantic conventions for HTTP clients; retries are events of the fetch."""
    async with FakeNP6(1, 12) as server, otel.client(server) as np6:
        server.script(Fault.status(503))
        await np6.events.list(server.contact_ids[0])
        port = int(server.url.rpartition(":")[2])
    (fetch,) = otel.spans(FETCH)
    failed, good = otel.spans(REQUEST)
    server_attributes = {"url.template": "/targets/{id}/events", "server.address": "127.0.0.1", "server.port": port}
    assert fetch.kind is SpanKind.INTERNAL
    attributes = dict(fetch.attributes or {})
    assert attributes.pop("np6.waited", -1.0) >= 0.0  # type: ignore[operator]
    assert attributes == {
        **server_attributes,
        "np6.events": 12,
        "np6.requests": 2,
        "np6.retries": 1,
        "np6.outcome": "complete",
    }
    assert fetch.status.status_code is StatusCode.UNSET
    assert [(event.name, dict(event.attributes or {})) for event in fetch.events] == [
        ("np6.retry", {"error.type": "ServerError", "np6.attempt": 1, "np6.delay": 0.0})
    ]
    assert [parent(failed), parent(good)] == [own_id(fetch)] * 2
    assert failed.kind is good.kind is SpanKind.CLIENT
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description is None
    assert dict(failed.attributes or {}) == {
        **server_attributes,
        "http.request.method": "GET",
        "http.response.status_code": 503,
        "http.response.header.x-request-id": ("00000000-0000-4000-8000-000000000001",),
        "error.type": "ServerError",
        "np6.events": 0,
        "np6.received": 0,
        "np6.outcome": "failed",
    }
    assert good.status.status_code is StatusCode.UNSET
    assert good.attributes is not None
    assert good.attributes["http.request.resend_count"] == 1
    assert good.attributes["http.response.status_code"] == 200
    assert good.attributes["np6.events"] == 12
    assert (fetch.start_time or 0) <= (failed.start_time or 0) <= (failed.end_time or 0) <= (good.start_time or 0)
    assert (good.end_time or 0) <= (fetch.end_time or 0)


async def test_spans_last_as_long_as_the_body(otel: Telemetry) -> None:
    """When the headers and the first events have arrived, neither span has ended."""
    async with FakeNP6(1, 2_000) as server, otel.client(server) as np6:
        server.script(Fault.stall(after=100_000))
        stream = np6.events.stream(server.contact_ids[0])
        await anext(stream)
        assert otel.spans() == []
        await stream.aclose()
        assert [span.name for span in otel.spans()] == [REQUEST, FETCH]
    for span in otel.spans():
        assert span.attributes is not None
        assert span.attributes["np6.outcome"] == "left"
        assert "error.type" not in span.attributes
        assert span.status.status_code is StatusCode.UNSET


async def test_a_broken_body_fails_its_request_and_not_the_fetch(otel: Telemetry) -> None:
    """The request that got 200 is an error; the fetch has events for the retry and for resuming, and is complete."""
    async with FakeNP6(1, 300) as server, otel.client(server) as np6:
        server.script(Fault.cut(after=100_000, how="length"))
        await np6.events.list(server.contact_ids[0])
    broken, rest = otel.spans(REQUEST)
    (fetch,) = otel.spans(FETCH)
    assert broken.attributes is not None
    assert rest.attributes is not None
    assert broken.attributes["http.response.status_code"] == 200
    assert broken.attributes["error.type"] == "StreamInterrupted"
    assert broken.status.status_code is StatusCode.ERROR
    retry, resume = fetch.events
    assert (retry.name, resume.name) == ("np6.retry", "np6.resume")
    assert dict(resume.attributes or {}) == {"np6.events": broken.attributes["np6.events"]}
    assert rest.attributes["np6.outcome"] == "complete"
    assert fetch.status.status_code is StatusCode.UNSET


async def test_every_request_has_the_id_by_which_np6_knows_it(otel: Telemetry) -> None:
    """And so has the error of a body that was cut off, and its fetch."""
    async with FakeNP6(1, 300) as server, otel.client(server, retry=RetryPolicy(max_attempts=1)) as np6:
        await np6.events.list(server.contact_ids[0])
        server.script(Fault.cut(after=100, how="length"))
        with pytest.raises(StreamInterrupted) as caught:
            await np6.events.list(server.contact_ids[0])
        first, second, probe = (request.request_id for request in server.requests)
    assert caught.value.request_id == second
    assert str(caught.value).endswith(f"[request id {second}]")
    ids = [(span.attributes or {}).get("http.response.header.x-request-id") for span in otel.spans(REQUEST)]
    assert ids == [(first,), (second,), (probe,)]
    whole, failed = otel.spans(FETCH)
    assert "http.response.header.x-request-id" not in (whole.attributes or {})
    assert (failed.attributes or {})["http.response.header.x-request-id"] == (second,)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api-cm.np6.com/targets/000MLGPR/events/hits/open?start=1", "/targets/{id}/events/hits/open"),
        ("https://api-cm.np6.com/targets/events?unicity=somebody%40example.com", "/targets/events"),
        ("https://api-cm.np6.com/targets/events/bounces?unicity=a%40b.c", "/targets/events/bounces"),
        ("https://api-cm.np6.com/targets/000MLGPR", "/targets/{id}"),
        ("https://api-cm.np6.com/segments/41/targets?x=1", "/segments/41/targets"),
    ],
)
def test_the_filter_for_aiohttps_instrumentation_leaves_no_contact_in_a_url(url: str, shown: str) -> None:
    for prefix in ("", "/prefix"):
        assert url_filter(URL(url.replace(".com/", f".com{prefix}/", 1))) == f"https://api-cm.np6.com{prefix}{shown}"


async def test_a_failed_fetch_has_the_class_of_its_error(otel: Telemetry) -> None:
    """It has no text, which would name the contact."""
    async with FakeNP6(1) as server, otel.client(server) as np6:
        with pytest.raises(NotFound):
            await np6.events.list("UNKNOWN1")
    (fetch,) = otel.spans(FETCH)
    assert fetch.attributes is not None
    assert fetch.attributes["error.type"] == "NotFound"
    assert fetch.attributes["np6.outcome"] == "failed"
    assert (fetch.status.status_code, fetch.status.description) == (StatusCode.ERROR, None)
    assert fetch.events == ()


async def test_a_pause_for_the_rate_limit_is_an_event(otel: Telemetry) -> None:
    async with FakeNP6(1) as server, otel.client(server) as np6:
        server.script(Fault.rate_limited(0.01))
        await np6.events.list(server.contact_ids[0])
    (fetch,) = otel.spans(FETCH)
    (pause,) = fetch.events
    assert pause.name == "np6.rate_limit_wait"
    assert pause.attributes is not None
    assert pause.attributes["np6.delay"] == pytest.approx(0.01, abs=0.002)
    (waited,) = otel.points("np6.client.wait.time")
    assert fetch.attributes is not None
    assert waited.value == fetch.attributes["np6.waited"] > 0


async def test_each_fetch_of_a_bulk_run_is_a_child_of_the_span_in_which_it_was_entered(otel: Telemetry) -> None:
    """With many in flight in worker tasks, retries among them, and contacts that are fetched twice concurrently."""
    async with FakeNP6(20, 30) as server, otel.client(server) as np6:
        for contact in server.contact_ids[:5]:
            server.script(Fault.cut(after=3_000), contact=contact)
        ids = [contact for contact in server.contact_ids for _ in range(2)]
        with otel.tracer.start_as_current_span("job") as job:
            async with np6.events.stream_many(ids, concurrency=16) as events:
                assert len([pair async for pair in events]) == 40 * 30
    fetches, requests = otel.spans(FETCH), otel.spans(REQUEST)
    assert len(fetches) == 40
    assert {parent(fetch) for fetch in fetches} == {job.get_span_context().span_id}
    made = Counter(parent(request) for request in requests)
    assert sorted(made.values()) == [1] * 35 + [2] * 5
    for fetch in fetches:
        assert fetch.attributes is not None
        assert fetch.attributes["np6.requests"] == made[own_id(fetch)]
        assert fetch.attributes["np6.events"] == 30


async def test_each_of_many_tasks_has_its_own_parent(otel: Telemetry) -> None:
    """One client and one hook for all requests of a web application."""

    async def handle(np6: NP6Client, contact: str) -> int:
        with otel.tracer.start_as_current_span(f"handler {contact}") as span:
            await np6.events.list(contact)
            return span.get_span_context().span_id

    async with FakeNP6(12) as server, otel.client(server) as np6:
        handlers = await asyncio.gather(*[handle(np6, contact) for contact in server.contact_ids])
    assert sorted(parent(fetch) or 0 for fetch in otel.spans(FETCH)) == sorted(handlers)


async def test_metrics_count_what_happened(otel: Telemetry) -> None:
    """Requests, retries by cause, events, bytes and durations, under one template for any number of contacts."""
    async with FakeNP6(10, 8) as server, otel.client(server) as np6:
        server.script(Fault.status(503), Fault.drop())
        ids = [*server.contact_ids, "UNKNOWN1"]
        async with np6.events.stream_many(ids, on_error="skip") as events:
            assert len([pair async for pair in events]) == 80
            received = events.stats.bytes
    (requests,), (events_,) = otel.points("np6.client.requests"), otel.points("np6.client.events")
    assert (requests.value, events_.value) == (13, 80)
    assert sum(point.value for point in otel.points("np6.client.received")) == received
    retries = {point.attributes["error.type"]: point.value for point in otel.points("np6.client.retries")}
    assert retries == {"ServerError": 1, "ConnectError": 1}
    durations = {
        (point.attributes.get("http.response.status_code"), point.attributes.get("error.type")): point.count
        for point in otel.points("np6.client.request.duration")
    }
    assert durations == {(200, None): 10, (503, "ServerError"): 1, (404, "NotFound"): 1, (None, "ConnectError"): 1}
    fetches = {point.attributes.get("error.type"): point.count for point in otel.points("np6.client.fetch.duration")}
    assert fetches == {None: 10, "NotFound": 1}
    for name in ("requests", "events", "retries", "received", "wait.time", "request.duration", "fetch.duration"):
        for point in otel.points(f"np6.client.{name}"):
            assert point.attributes["url.template"] == "/targets/{id}/events"
            assert point.attributes["server.address"] == "127.0.0.1"


async def test_nothing_recorded_names_a_contact_a_query_or_the_key(otel: Telemetry) -> None:
    """Through successes, retries and failures, with contacts by id and by address."""
    async with FakeNP6(2, 5, api_key=CANARY) as server, otel.client(server, api_key=CANARY) as np6:
        contact, other = server.contact_ids
        address = server.unicity(other)
        server.script(Fault.status(500), Fault.html(), Fault.cut(after=700))
        await np6.events.list(contact, start="2020-01-01")
        await np6.events.list(Contact.by_unicity(address))
        for missing in ("UNKNOWN1", Contact.by_unicity("nobody@example.com")):
            with pytest.raises(NotFound):
                await np6.events.list(missing)
    data = otel.reader.get_metrics_data()
    assert data is not None
    text = "".join(span.to_json() for span in otel.spans()) + data.to_json()
    assert "/targets/events" in text
    for secret in (CANARY, contact, other, address, "UNKNOWN1", "nobody", "%40", "2020-01", "sort="):
        assert secret not in text


def test_without_the_extra_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import np6_async.integrations.otel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'np6_async[otel]'" in done.stderr
