"""What is done with each event: the same members are read, whatever object a contender makes of it.

Each reader returns what it read, and the benchmark first checks that all contenders read the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from np6_async import Bounce, Event, Hit

Reader: TypeAlias = Callable[[Any], tuple[Any, ...]]


def _sdk_envelope(event: Event) -> tuple[Any, ...]:
    return event.id, event.timestamp, event.type, event.identity.customer


def _sdk_everything(event: Event) -> tuple[Any, ...]:
    detail = event.detail
    sent = detail.activation
    receiver = sent.receiver
    who = receiver.value if receiver.type == "id" else receiver.id
    envelope = (event.id, event.timestamp, event.type, event.identity.customer)
    if isinstance(event, Bounce):
        status = event.status
        return *envelope, event.verdict, status.code.enhanced, status.diagnostic, sent.stamp.time, who
    if isinstance(event, Hit):
        return *envelope, event.link.type, sent.id, sent.stamp.time, who
    return *envelope, sent.id, sent.kind, sent.stamp.time, who


def _dict_envelope(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["id"], event["timestamp"], event["type"], event["identity"]["customer"]


def _dict_everything(event: dict[str, Any]) -> tuple[Any, ...]:
    detail = event["source"]["detail"]
    sent = detail["activation"]
    receiver = sent["receiver"]
    who = receiver["value"] if receiver["type"] == "id" else receiver["id"]
    kind = event["type"]
    envelope = (event["id"], event["timestamp"], kind, event["identity"]["customer"])
    if kind == "bounce":
        status, analysis = detail["bounce"]["status"], detail["bounce"]["analysis"]
        code = status["code"]["enhanced"]
        return *envelope, analysis["verdict"], code, status["diagnostic"], sent["stamp"]["time"], who
    if kind == "hit":
        return *envelope, detail["link"]["type"], sent["id"], sent["stamp"]["time"], who
    return *envelope, sent["id"], sent["kind"], sent["stamp"]["time"], who


def _model_envelope(event: Any) -> tuple[Any, ...]:
    return event.id, event.timestamp, event.type, event.identity.customer


def _model_everything(event: Any) -> tuple[Any, ...]:
    detail = event.source.detail
    sent = detail.activation
    receiver = sent.receiver
    who = receiver.value if receiver.type == "id" else receiver.id
    envelope = (event.id, event.timestamp, event.type, event.identity.customer)
    if event.type == "bounce":
        status, analysis = detail.bounce.status, detail.bounce.analysis
        return *envelope, analysis.verdict, status.code.enhanced, status.diagnostic, sent.stamp.time, who
    if event.type == "hit":
        return *envelope, detail.link.type, sent.id, sent.stamp.time, who
    return *envelope, sent.id, sent.kind, sent.stamp.time, who


# By the kind of object that a contender makes, then by consumer.
READERS: Final[dict[str, dict[str, Reader]]] = {
    "sdk": {"envelope": _sdk_envelope, "everything": _sdk_everything},
    "dict": {"envelope": _dict_envelope, "everything": _dict_everything},
    "model": {"envelope": _model_envelope, "everything": _model_everything},
}
