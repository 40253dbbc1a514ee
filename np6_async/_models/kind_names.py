"""What people call the kinds of events, and which kinds they may mean."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

# In lower case, without a plural s and with - for every separator.
_MEANT: Final = {
    "event": ("all",),
    "everything": ("all",),
    "any": ("all",),
    "send": ("activations",),
    "sent": ("activations",),
    "sending": ("activations",),
    "message": ("activations",),
    "delivery": ("activations",),
    "deliverie": ("activations",),
    "delivered": ("activations",),
    "activated": ("activations",),
    "bounced": ("bounces",),
    "hard": ("bounces",),
    "soft": ("bounces",),
    "cancelled": ("cancellations",),
    "canceled": ("cancellations",),
    "cancel": ("cancellations",),
    "stopped": ("stops",),
    "response-stop": ("stops",),
    "optout": ("stops", "hits/unsubscribe"),
    "opt-out": ("stops", "hits/unsubscribe"),
    "unsubscribe": ("hits/unsubscribe", "stops"),
    "unsubscribed": ("hits/unsubscribe", "stops"),
    "unsubscription": ("hits/unsubscribe", "stops"),
    "open": ("hits/open",),
    "opened": ("hits/open",),
    "opening": ("hits/open",),
    "view": ("hits/open",),
    "click": ("hits/redirection",),
    "clicked": ("hits/redirection",),
    "link": ("hits/redirection",),
    "redirect": ("hits/redirection",),
    "redirection": ("hits/redirection",),
    "mirror": ("hits/mirror",),
    "form": ("hits/form",),
}


def meant(text: str, kinds: Collection[str]) -> list[str]:
    """Which of `kinds` somebody means who writes `text`, the likeliest first; empty where there is no telling."""
    name = text.strip().lower().replace("_", "-").replace(" ", "-")
    if name.replace("-", "/") in kinds:
        return [name.replace("-", "/")]
    single = name.replace("/", "-").removeprefix("hit-").removeprefix("hits-").removesuffix("s")
    if single in _MEANT:
        return [kind for kind in _MEANT[single] if kind in kinds]
    if f"{single}s" in kinds:
        return [f"{single}s"]
    from difflib import get_close_matches  # here, because it is for mistakes only

    return get_close_matches(name, kinds, n=1, cutoff=0.75)
