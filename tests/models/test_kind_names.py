"""Whoever names a kind of event in other words is told what NP6 calls it."""

from __future__ import annotations

import pytest

from np6_async import EventKind, InvalidInput
from np6_async._models.kind_names import meant


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("bounce", ["bounces"]),
        ("Bounced", ["bounces"]),
        ("bounses", ["bounces"]),
        ("click", ["hits/redirection"]),
        ("clicks", ["hits/redirection"]),
        ("hits/clicks", ["hits/redirection"]),
        ("open", ["hits/open"]),
        ("opens", ["hits/open"]),
        ("hits_open", ["hits/open"]),
        ("HITS/OPEN", ["hits/open"]),
        ("unsubscribe", ["hits/unsubscribe", "stops"]),
        ("opt-outs", ["stops", "hits/unsubscribe"]),
        ("stop", ["stops"]),
        ("hit", ["hits"]),
        ("sent", ["activations"]),
        ("delivered", ["activations"]),
        ("deliveries", ["activations"]),
        ("events", ["all"]),
        ("", []),
        ("xyz", []),
    ],
)
def test_a_kind_in_other_words_is_recognised(text: str, kinds: list[str]) -> None:
    assert meant(text, [kind.value for kind in EventKind]) == kinds


def test_the_error_names_what_was_meant() -> None:
    with pytest.raises(InvalidInput, match=r"^kind='click' is not a kind of event; did you mean 'hits/redirection'\?"):
        EventKind.parse("click")
    with pytest.raises(InvalidInput, match=r"did you mean 'stops' or 'hits/unsubscribe'\? The kinds are: all, act"):
        EventKind.parse("optout")


def test_a_type_without_a_kind_of_its_own_comes_with_all() -> None:
    with pytest.raises(InvalidInput, match="'complaints' is not a kind of event; events of this type come with 'all'"):
        EventKind.parse("complaints")


def test_what_cannot_be_asked_for_is_not_suggested() -> None:
    """Contacts have no cancellations."""
    by_contact = set(EventKind) - {EventKind.CANCELLATIONS}
    with pytest.raises(InvalidInput, match="'cancelled' is not a kind of event; use one of: all, activations, bounces"):
        EventKind.parse("cancelled", by_contact)


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_is_meant_by_its_own_name(kind: EventKind) -> None:
    kinds = [each.value for each in EventKind]
    assert meant(kind.upper(), kinds) == [kind.value]
    assert meant(kind.replace("/", "_"), kinds) == [kind.value]
