"""The arguments `kind` that decide which class of events a call returns, for type checkers."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .._models.events import EventKind

Activations: TypeAlias = Literal["activations", EventKind.ACTIVATIONS]
Bounces: TypeAlias = Literal["bounces", EventKind.BOUNCES]
Cancellations: TypeAlias = Literal["cancellations", EventKind.CANCELLATIONS]
Stops: TypeAlias = Literal["stops", EventKind.STOPS]
Hits: TypeAlias = Literal[
    "hits",
    "hits/open",
    "hits/redirection",
    "hits/unsubscribe",
    "hits/mirror",
    "hits/form",
    EventKind.HITS,
    EventKind.HITS_OPEN,
    EventKind.HITS_REDIRECTION,
    EventKind.HITS_UNSUBSCRIBE,
    EventKind.HITS_MIRROR,
    EventKind.HITS_FORM,
]
