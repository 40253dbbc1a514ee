"""OpenTelemetry: a span for each fetch and each request, and metrics. Extra: ``np6_async[otel]``.

::

    from np6_async import NP6Client
    from np6_async.integrations.otel import OpenTelemetryHook

    async with NP6Client(hooks=[OpenTelemetryHook()]) as np6: ...

No span or metric holds a contact, a query or the key: paths are templates such as ``/targets/{id}/events``, and errors
are given by their type. For this reason ``url.full``, which the semantic conventions ask for, is left out.

OpenTelemetry's instrumentation of aiohttp traces all sessions of a process, this package's too, and puts whole URLs
into its spans: contact ids and, for contacts by unicity, e-mail addresses. Where a program has it, give it
`url_filter`.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from attrs import define

from .. import (
    ClientClosed,
    FetchFinished,
    FetchStarted,
    NP6Error,
    Observation,
    RateLimitWait,
    RequestFinished,
    RequestStarted,
    Resumed,
    RetryScheduled,
    __version__,
)

try:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer, set_span_in_context
except ModuleNotFoundError:
    raise ImportError("np6_async.integrations.otel needs OpenTelemetry: pip install 'np6_async[otel]'") from None

# Those of the semantic conventions, and longer ones: these durations include the body.
_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_CONTACT: Final = re.compile(r"(?<=/targets/)(?!(?:count|events|redlist)(?:/|$))[^/]+")

_Attributes: TypeAlias = dict[str, str | int | float]


@define
class _Fetch:
    """A fetch that has not ended."""

    span: Span
    context: Context
    attributes: _Attributes  # of all its spans and metrics
    request: Span | None = None


class OpenTelemetryHook:
    """A hook that records spans and metrics. One may serve any number of clients, also on several event loops.

    Spans: ``np6.fetch /targets/{id}/events`` lasts from the first request for a contact to the end of its last
    response body, retries and waits included. Its parent is the span that was current when the first events of the
    stream were read, or when the bulk stream was entered. It has the events ``np6.retry``, ``np6.rate_limit_wait`` and
    ``np6.resume``. Its children ``GET /targets/{id}/events``, of kind CLIENT, are the requests, each from when it is
    sent to the end of the body. The attribute ``np6.outcome`` is ``complete``, ``failed`` or, for a stream that was
    left early, ``left``. A failed request or fetch, one whose body was cut off included, also has the status ERROR and
    ``error.type``, the name of the class of the error. ``http.response.header.x-request-id`` is on every request that
    NP6 gave one, and on a fetch that failed.

    Metrics, each by path template and server: ``np6.client.requests``, ``np6.client.request.duration`` (s),
    ``np6.client.retries``, ``np6.client.events``, ``np6.client.received`` (By, after decompression),
    ``np6.client.wait.time`` (s, spent on backoff, rate limits and pacing, reported when a fetch ends) and
    ``np6.client.fetch.duration`` (s). Durations include the time that the consumer takes for its events, so they are
    not named ``http.client.request.duration``.

    `tracer_provider` and `meter_provider` default to the global ones.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = get_tracer("np6_async", __version__, tracer_provider)
        meter = get_meter("np6_async", __version__, meter_provider)
        self._requests = meter.create_counter("np6.client.requests", "{request}", "Requests sent.")
        self._retries = meter.create_counter("np6.client.retries", "{retry}", "Requests sent again after a failure.")
        self._events = meter.create_counter("np6.client.events", "{event}", "Events received, each counted once.")
        self._received = meter.create_counter("np6.client.received", "By", "Bytes of bodies, after decompression.")
        self._wait = meter.create_counter("np6.client.wait.time", "s", "Time spent on backoff, rate limits and pacing.")
        self._request_duration = meter.create_histogram(
            "np6.client.request.duration",
            "s",
            "From the sending of a request to the end of the response body.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._fetch_duration = meter.create_histogram(
            "np6.client.fetch.duration",
            "s",
            "From the start of a contact's fetch to its end.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._fetches: dict[int, _Fetch] = {}

    def __call__(self, observation: Observation, /) -> None:
        """Record the observation."""
        if isinstance(observation, FetchStarted):
            self._fetches[observation.fetch] = self._begin_fetch(observation)
            return
        fetch = self._fetches.get(observation.fetch)
        if fetch is None:  # the fetch, and its span, have ended
            return
        match observation:
            case RequestStarted():
                self._begin_request(fetch, observation)
            case RequestFinished():
                self._end_request(fetch, observation)
            case RetryScheduled():
                failure: _Attributes = {"error.type": _type(observation.error)}
                self._retries.add(1, fetch.attributes | failure)
                wait: _Attributes = {"np6.attempt": observation.attempt, "np6.delay": observation.delay}
                fetch.span.add_event("np6.retry", failure | wait)
            case RateLimitWait():
                fetch.span.add_event("np6.rate_limit_wait", {"np6.delay": observation.seconds})
            case Resumed():
                fetch.span.add_event("np6.resume", {"np6.events": observation.delivered})
            case FetchFinished():
                del self._fetches[observation.fetch]
                self._end_fetch(fetch, observation)

    def _begin_fetch(self, started: FetchStarted) -> _Fetch:
        origin = urlsplit(started.origin)
        attributes: _Attributes = {
            "url.template": started.path,
            "server.address": origin.hostname or "",
            "server.port": origin.port or (80 if origin.scheme == "http" else 443),
        }
        span = self._tracer.start_span(f"np6.fetch {started.path}", attributes=attributes)
        return _Fetch(span, set_span_in_context(span), attributes)

    def _begin_request(self, fetch: _Fetch, started: RequestStarted) -> None:
        self._requests.add(1, fetch.attributes)
        attributes: _Attributes = {**fetch.attributes, "http.request.method": started.method}
        if started.attempt > 1:
            attributes["http.request.resend_count"] = started.attempt - 1
        fetch.request = self._tracer.start_span(
            f"{started.method} {started.path}", context=fetch.context, kind=SpanKind.CLIENT, attributes=attributes
        )

    def _end_request(self, fetch: _Fetch, finished: RequestFinished) -> None:
        outcome: _Attributes = {}
        if finished.status is not None:
            outcome["http.response.status_code"] = finished.status
        if _failed(finished.error):
            outcome["error.type"] = _type(finished.error)
        self._events.add(finished.events, fetch.attributes)
        self._received.add(finished.received, fetch.attributes)
        self._request_duration.record(
            finished.seconds, {**fetch.attributes, "http.request.method": finished.method, **outcome}, fetch.context
        )
        span, fetch.request = fetch.request, None
        if span is None:
            return
        span.set_attributes({**outcome, "np6.events": finished.events, "np6.received": finished.received})
        _set_request_id(span, finished.request_id)
        _end(span, finished.error)

    def _end_fetch(self, fetch: _Fetch, finished: FetchFinished) -> None:
        failure: _Attributes = {"error.type": _type(finished.error)} if _failed(finished.error) else {}
        self._wait.add(finished.waited, fetch.attributes)
        self._fetch_duration.record(finished.seconds, fetch.attributes | failure, fetch.context)
        fetch.span.set_attributes(
            {
                **failure,
                "np6.events": finished.events,
                "np6.requests": finished.requests,
                "np6.retries": finished.retries,
                "np6.waited": finished.waited,
            }
        )
        _set_request_id(fetch.span, None if finished.error is None else finished.error.request_id)
        _end(fetch.span, finished.error)


def _set_request_id(span: Span, request_id: str | None) -> None:
    """NP6's support asks for it."""
    if request_id is not None:
        span.set_attribute("http.response.header.x-request-id", [request_id])


def url_filter(url: object) -> str:
    """`url` without its query, and with ``{id}`` in place of a contact; other URLs lose their query alone.

    For ``AioHttpClientInstrumentor().instrument(url_filter=url_filter)``, and for `create_trace_config` of the package
    opentelemetry-instrumentation-aiohttp-client.
    """
    whole = urlsplit(str(url))
    return _CONTACT.sub("{id}", urlunsplit((whole.scheme, whole.netloc, whole.path, "", "")))


def _failed(error: NP6Error | None) -> bool:
    """Whether it is a failure: leaving a stream early, or closing the client, is not."""
    return error is not None and not isinstance(error, ClientClosed)


def _type(error: NP6Error | None) -> str:
    return type(error).__name__


def _end(span: Span, error: NP6Error | None) -> None:
    failed = _failed(error)
    span.set_attribute("np6.outcome", "complete" if error is None else "failed" if failed else "left")
    if failed:
        span.set_status(Status(StatusCode.ERROR))  # no description: the text of the error names the contact
    span.end()
