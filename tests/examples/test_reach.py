"""Whether a contact can still be reached: the rules of the timeline's summary, event by event."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from examples.timeline.reach import Reach, Read, judge, sign
from np6_async import structure
from np6_async.testing import (
    make_activation,
    make_bounce,
    make_event,
    make_hit,
    make_optout,
)

NOW = datetime(2026, 3, 18, 17, 40, tzinfo=UTC)
SENT, OPEN, CLICK, HARD, SOFT, STOP = "sent", "open", "click", "hard", "soft", "stop"


def ago(days: float) -> int:
    """Epoch ms, so many days before now."""
    return int((NOW - timedelta(days=days)).timestamp() * 1000)


def event(what: str, days: float, channel: str | None = "email") -> dict[str, Any]:
    at = ago(days)
    made = {
        SENT: lambda: make_activation(at=at),
        OPEN: lambda: make_hit("open", at=at),
        CLICK: lambda: make_hit("redirection", at=at),
        HARD: lambda: make_bounce("hard", code="5.1.1", at=at),
        SOFT: lambda: make_bounce("soft", code="4.2.2", at=at),
        STOP: lambda: make_optout(at=at),
        "unsubscribe": lambda: make_hit("unsubscribe", at=at),
    }.get(what, lambda: make_event(what, at=at))()
    made["source"]["type"] = channel
    return cast(dict[str, Any], made)


def answers(
    *happened: tuple[str, float] | tuple[str, float, str | None],
    robots: Collection[int] = (),
    known: bool = True,
    read: Read = "all",
) -> list[Reach]:
    """The answers for these events; `robots` are the places of theirs."""
    events = [structure(event(*each)) for each in happened]
    people = {each.id for at, each in enumerate(events) if at not in robots and each.id}
    signs = [found for each in reversed(events) if (found := sign(each))]
    return judge(signs, now=int(NOW.timestamp() * 1000), people=people if known else None, read=read)


def answer(*happened: tuple[str, float], **more: Any) -> str:
    """The one answer as the page says it, with days ago in place of dates."""
    (given,) = answers(*happened, **more)
    days = "" if given.at is None else f" {round((NOW.timestamp() * 1000 - given.at) / 86_400_000)} days ago"
    return f"{given.verdict}: {given.why}{days}{given.then}"


def test_somebody_who_opened_the_last_message_can_be_reached() -> None:
    assert answer((SENT, 3), (OPEN, 2)) == "yes: opened a message on 2 days ago"
    assert answer((SENT, 3), (OPEN, 2), (CLICK, 1)) == "yes: clicked in a message on 1 days ago"
    assert answer((SENT, 3), ("reply", 1)) == "yes: replied on 1 days ago"


def test_a_hard_bounce_means_no_since_the_first_one() -> None:
    assert answer((SENT, 90), (OPEN, 89), (SENT, 60), (HARD, 60), (SENT, 30), (HARD, 30)) == (
        "no: messages have bounced permanently since 60 days ago"
    )


def test_what_the_mail_server_said_is_given_in_words() -> None:
    (given,) = answers((SENT, 3), (HARD, 3))
    assert given.said == given.bounce == "The mailbox does not exist (permanent)"
    (given,) = answers((SENT, 3), (SOFT, 3))
    assert given.said == "The mailbox is full (temporary)"
    (given,) = answers((SENT, 3), (SOFT, 3), (SENT, 2))
    assert given.said is None
    odd = structure(make_bounce("hard", source={"detail": {"bounce": {"analysis": {"verdict": "hard"}}}}))
    found = sign(odd)
    assert found is not None
    assert (found.kind, found.words) == ("hard", "no reason given")


def test_something_opened_without_a_robot_after_a_hard_bounce_means_reachable_again() -> None:
    events = (SENT, 60), (HARD, 60), (OPEN, 50)
    assert answer(*events) == "yes: opened a message on 50 days ago, after a hard bounce"
    assert answer(*events, robots=[2]) == "no: messages have bounced permanently since 60 days ago"
    assert answer(*events, (SENT, 9), (HARD, 9)) == "no: messages have bounced permanently since 9 days ago"


def test_a_message_after_a_hard_bounce_that_has_not_come_back_leaves_it_doubtful() -> None:
    assert answer((SENT, 60), (HARD, 60), (SENT, 30)) == (
        "doubtful: bounced permanently on 60 days ago, and a message sent later has not come back"
    )


def test_a_soft_bounce_counts_until_a_message_arrives() -> None:
    course = [(SENT, 40), (OPEN, 39), (SENT, 30), (SOFT, 30), (SENT, 20), (SOFT, 20)]
    assert answer(*course) == "doubtful: messages have bounced temporarily since 30 days ago"
    assert answer(*course, (OPEN, 15)) == "yes: opened a message on 15 days ago"
    course += [(SENT, 10)]
    assert answer(*course) == "yes: opened a message on 39 days ago"
    assert answer(*course, (SENT, 5), (SOFT, 5)) == "doubtful: messages have bounced temporarily since 5 days ago"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (STOP, "opted out"),
        ("complaint", "reported a message as unwanted"),
        ("suppression", "was put on a suppression list"),
        ("unsubscribe", "followed the unsubscribe link"),
    ],
)
def test_a_stop_means_no_whatever_else_happens(what: str, words: str) -> None:
    assert answer((SENT, 60), (what, 50), (OPEN, 40)) == f"no: {words} on 50 days ago"
    assert answer((SENT, 60), (what, 50), (STOP, 40)) == f"no: {words} on 50 days ago"  # the first one
    assert answer((SENT, 60), (HARD, 60), (what, 50)) == f"no: {words} on 50 days ago"


def test_messages_that_were_sent_after_a_stop_make_it_doubtful() -> None:
    """But not those that were on their way, within two days."""
    assert answer((SENT, 60), (STOP, 50), (SENT, 48.5)) == "no: opted out on 50 days ago"
    later = answer((SENT, 60), (STOP, 50), (SENT, 40), (OPEN, 39))
    assert later == "doubtful: opted out on 50 days ago, yet messages have been sent since"
    assert answer((STOP, 50), (SENT, 40), (STOP, 30)) == "no: opted out on 30 days ago"


def test_a_robot_that_follows_the_unsubscribe_link_stops_nothing() -> None:
    course = (SENT, 3), (OPEN, 2), ("unsubscribe", 1)
    assert answer(*course, robots=[2]) == "yes: opened a message on 2 days ago"


def test_a_year_without_an_open_is_doubtful_by_email() -> None:
    assert answer((SENT, 400), (OPEN, 366), (SENT, 3)) == (
        "doubtful: messages do not come back, but none is known to have been opened since 366 days ago"
    )
    assert answer((SENT, 3)) == "doubtful: messages do not come back, but none is known to have been opened"
    assert answer((SENT, 3), (OPEN, 2), robots=[1]).startswith("doubtful: messages do not come back")


def test_by_sms_a_message_that_does_not_come_back_is_enough() -> None:
    (given,) = answers((SENT, 3, "sms"))
    assert (given.verdict, given.why, given.at) == (
        "yes",
        "the last message has not come back, sent on",
        ago(3),
    )


def test_without_messages_nothing_is_known() -> None:
    assert answer() == "doubtful: no message was sent"
    assert answer(("creation", 9), ("modification", 8), ("cancellation", 7), ("execution", 6)) == (
        "doubtful: no message was sent"
    )


def test_each_channel_has_its_own_answer() -> None:
    """That of the last message sent first."""
    email, sms = answers((SENT, 5), (OPEN, 4), (SENT, 9, "sms"), (STOP, 1, "sms"))
    assert (email.channel, email.verdict) == ("email", "yes")
    assert (sms.channel, sms.verdict, sms.stopped, sms.stop) == ("sms", "no", ago(1), "opted out")


def test_a_stop_that_names_no_channel_is_about_all() -> None:
    given = answers((SENT, 5), (OPEN, 4), (SENT, 9, "sms"), (STOP, 1, None))
    assert [(each.channel, each.verdict) for each in given] == [("email", "no"), ("sms", "no")]
    (given_alone,) = answers((SENT, 5, None), (OPEN, 4, None))
    assert (given_alone.channel, given_alone.verdict) == (None, "yes")


def test_opens_prove_nothing_where_it_is_not_known_which_are_by_robots() -> None:
    course = (SENT, 60), (HARD, 60), (OPEN, 50), (CLICK, 50)
    assert answer(*course, known=False) == "no: messages have bounced permanently since 60 days ago"
    (given,) = answers(*course, known=False)
    assert (given.opened, given.clicked) == (None, None)
    assert answer((SENT, 3), ("unsubscribe", 2), known=False) == "no: followed the unsubscribe link on 2 days ago"


def test_the_last_of_everything_is_given() -> None:
    (given,) = answers(
        *((SENT, 9), (OPEN, 8), (CLICK, 7), (HARD, 6), (STOP, 5), (SENT, 4.5), (OPEN, 4), (OPEN, 3), (CLICK, 2)),
        robots=[7],
    )
    assert (given.sent, given.opened, given.clicked, given.bounced, given.stopped) == (
        *(ago(4.5), ago(4), ago(2), ago(6), ago(5)),
    )
    (nothing,) = answers((SENT, 9))
    assert (nothing.opened, nothing.clicked, nothing.bounced, nothing.stopped) == (None, None, None, None)


def test_events_that_were_not_read_leave_it_doubtful_where_they_could_change_it() -> None:
    opened, stopped = ((SENT, 3), (OPEN, 2)), ((SENT, 3), (STOP, 2))
    assert answer(*opened, read="latest") == (
        "doubtful: opened a message on 2 days ago, but earlier events were not read"
    )
    assert answer(*stopped, read="latest") == "no: opted out on 2 days ago"
    for course in (opened, stopped):
        assert answer(*course, read="earlier").startswith("doubtful: ")
        assert answer(*course, read="earlier").endswith(", but later events were not read")


def test_what_happened_in_the_same_second_is_in_its_order() -> None:
    """A message is sent before it bounces, in whatever order NP6 lists the two."""
    assert answer((SENT, 3), (HARD, 3)) == answer((HARD, 3), (SENT, 3))
    assert answer((HARD, 3), (SENT, 3)) == "no: messages have bounced permanently since 3 days ago"
