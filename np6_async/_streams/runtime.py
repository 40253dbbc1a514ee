"""What all calls of one client share."""

from __future__ import annotations

from datetime import tzinfo

from attrs import Factory, field, frozen

from .._config import DecodeLimits, RetryPolicy, Timeout
from .._http.availability import Availability
from .._http.concurrency import Slots
from .._http.lifetime import Lifetime, SharedTimeout
from .._http.observations import Observers
from .._http.rate_limiter import RateLimiter
from .._http.server_clock import ServerClock
from .._http.transport import Transport
from .._protocol.event_decoder import Demand


@frozen
class Runtime:
    """The parts of a client. `read_timeout` is for the next bytes of a response."""

    transport: Transport
    slots: Slots
    concurrency: int
    rate_limiter: RateLimiter
    policy: RetryPolicy
    availability: Availability
    timeout: Timeout
    limits: DecodeLimits
    observers: Observers
    lifetime: Lifetime
    read_timeout: SharedTimeout
    tz: tzinfo | None = None
    demand: Demand = field(factory=Demand)
    server_clock: ServerClock = Factory(
        lambda self: ServerClock(self.policy.clock, self.policy.wall_clock), takes_self=True
    )
