"""The quick lane of a bulk run: most contacts take one request, whose whole response is small.

Such a contact needs no `Fetch`: the worker sends the request in its own coroutine, the body waits in the buffer, and
the consumer decodes it when it takes it. Decoding then makes no events that wait, and get cold, in memory.

Anything else leaves the lane: a wait for the rate limiter or in an outage, hooks that listen, any status code but 200,
a body that is large, breaks or is not an array, and events that are out of order or not to be delivered as they are. A
`Fetch` then adopts what there is, the response or the error, and goes on as if it had sent the request itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic

from .._errors import NP6Error
from .._http.lifetime import CancelScope
from .._http.response import Response
from .._protocol.event_query import EventQuery, S
from .._protocol.rate_headers import parse_rate
from .buffer import OVERHEAD
from .fetch import BodyResponse, Fetch
from .runtime import Runtime
from .stats import BulkStats

# Bytes of a body that is read whole, so that with its overhead it is 64 KiB in the buffer at most.
_MOST: Final = 64 * 1024 - OVERHEAD


class QuickLane(Generic[S]):
    """The requests of a run. `query_of` is called with each contact when its turn has come.

    `stats` counts the requests and bytes of the lane, `in_flight` its contacts.
    """

    def __init__(self, runtime: Runtime, query_of: Callable[[S], EventQuery[S]]) -> None:
        self._runtime = runtime
        self._query_of: Callable[[S], EventQuery[S]] = query_of
        self._closed = runtime.timeout.deadline is not None
        self.stats = BulkStats()
        self.in_flight = 0

    def scope(self) -> CancelScope:
        """For all requests of one worker, one after the other."""
        return self._runtime.lifetime.scope()

    async def fetch(self, contact: S, scope: CancelScope) -> tuple[EventQuery[S], bytes] | Fetch[S, Any]:
        """A whole body of events and the query it is for, or the `Fetch` of a contact that has left the lane."""
        runtime, stats = self._runtime, self.stats
        query = self._query_of(contact)
        if self._closed or query.empty or runtime.observers or runtime.availability.holding:
            return Fetch(runtime, contact, query)
        limiter = runtime.rate_limiter
        sent_at = limiter.acquire_nowait()
        if sent_at is None:
            return Fetch(runtime, contact, query)
        stats.requests += 1
        self.in_flight += 1
        adopted: Response | BodyResponse | NP6Error
        response: Response | None = None
        body = b""
        try:
            with scope:
                runtime.read_timeout.start(scope)
                adopted = response = await runtime.transport.request(
                    *query.first_target(contact), connect=runtime.timeout.connect
                )
                if response.status == 200:
                    limiter.responded(sent_at, parse_rate(response.headers, runtime.policy.wall_clock))
                    if response.headers.get("Date") != runtime.server_clock.date:
                        runtime.server_clock.observe(response.headers, sent_at)
                    whole = response.whole_nowait(_MOST)
                    while whole is None and len(body) <= _MOST:
                        runtime.read_timeout.start(scope)
                        body += await response.read()
                        if response.ended:
                            whole = body
                            response.close()
                    if whole is None:
                        response.unread(body)
                    elif len(whole) <= _MOST and whole[:1] == b"[" and whole[-1:] == b"]":
                        runtime.availability.succeed(sent_at, query, contact)
                        stats.bytes += len(whole)
                        return query, whole
                    else:
                        adopted = BodyResponse(whole, headers=response.headers)
        except NP6Error as error:
            adopted = error
            if response is not None:
                response.close()
                adopted = BodyResponse(body, error, response.headers)
        except BaseException:
            if response is None:
                limiter.failed()
            else:
                response.close()
            raise
        finally:
            self.in_flight -= 1
        stats.requests -= 1  # the fetch counts it
        fetch: Fetch[S, Any] = Fetch(runtime, contact, query)
        responded = response is not None and response.status == 200
        fetch.adopt(adopted, sent_at, responded=responded)
        return fetch

    def refetch(self, contact: S, query: EventQuery[S], body: bytes) -> Fetch[S, Any]:
        """The `Fetch` of a contact whose body has to be looked at more closely."""
        fetch: Fetch[S, Any] = Fetch(self._runtime, contact, query)
        fetch.adopt(BodyResponse(body), 0.0, responded=True)
        return fetch
