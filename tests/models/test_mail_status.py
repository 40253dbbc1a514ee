"""What a bounce says in words."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from np6_async import structure
from np6_async._models.details import BounceCode, BounceStatus
from np6_async._models.events import Bounce
from np6_async._models.mail_status import meaning
from np6_async.testing import make_bounce

TABLE: dict[str, Any] = tomllib.loads((files("np6_async") / "_models" / "mail_status.toml").read_text("utf-8"))
# How many details each subject of the registry has, the first being 0.
REGISTERED = {0: 1, 1: 11, 2: 5, 3: 7, 4: 8, 5: 7, 6: 11, 7: 31}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("5.1.1", "The mailbox does not exist (permanent)"),
        ("4.2.2", "The mailbox is full (temporary)"),
        ("5.2.2", "The mailbox is full (permanent)"),
        ("5.7.26", "The message failed several checks of its origin (SPF, DKIM, DMARC) (permanent)"),
        ("2.1.5", "The address is valid (delivered)"),
        (" 5.1.1 ", "The mailbox does not exist (permanent)"),
    ],
)
def test_a_registered_code_is_told_in_words_and_whether_it_lasts(code: str, words: str) -> None:
    assert BounceStatus(code=BounceCode(code)).meaning == words


def test_every_code_of_the_registry_has_words() -> None:
    expected = [f"{subject}.{detail}" for subject, count in REGISTERED.items() for detail in range(count)]
    assert list(TABLE["codes"]) == expected
    assert list(TABLE["subjects"]) == [str(subject) for subject in REGISTERED]


def test_the_words_can_stand_in_a_table() -> None:
    """They are one line each, begin with a capital, and end without a stop."""
    providers = TABLE["providers"]
    for words in [*TABLE["codes"].values(), *TABLE["subjects"].values(), *providers[1]["codes"].values()]:
        assert re.fullmatch(r"[A-Z][^\n.]{5,90}[^\n. ]", words), words


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("5.2.99", "Something is wrong with the recipient's mailbox (permanent)"),
        ("4.7.999", "Refused for reasons of security or policy (temporary)"),
        ("5.42.1", "The mail server gave no reason (permanent)"),
    ],
)
def test_an_unknown_code_is_described_by_its_subject_and_class(code: str, words: str) -> None:
    assert meaning(code) == words


def test_a_code_of_a_provider_is_told_for_its_whole_range_and_nothing_beside_it() -> None:
    told = {code: meaning(code) for code in ("4.7.499", "4.7.500", "4.7.650", "4.7.699", "4.7.700", "5.7.650")}
    assert told["4.7.500"] == told["4.7.650"] == told["4.7.699"]
    assert "Microsoft restricts the sending server for a while" in str(told["4.7.650"])
    assert told["4.7.499"] == told["4.7.700"] == "Refused for reasons of security or policy (temporary)"
    assert told["5.7.650"] == "Refused for reasons of security or policy (permanent)"


def test_a_registered_code_that_a_provider_uses_otherwise_is_told_both_ways() -> None:
    expected = "The domain of the address says that it takes no mail; from Microsoft: the mailbox does not exist"
    assert meaning("5.1.10") == f"{expected} (permanent)"


def test_every_code_of_a_provider_has_a_source_and_a_date_and_is_used() -> None:
    for provider in TABLE["providers"]:
        assert provider["source"].startswith("https://")
        assert isinstance(provider["date"], dt.date)
        for code, words in provider.get("codes", {}).items():
            first = code.partition("-")[0]
            assert first.partition(".")[2] not in TABLE["codes"], f"{code} is registered"
            assert str(meaning(first)).startswith(words)
        for code, words in provider.get("also", {}).items():
            assert f"from {provider['name']}: {words} (" in str(meaning(code))


@pytest.mark.parametrize("code", ["", "5", "5.1", "5.1.1.1", "550", "3.1.1", "9.9.9", "5.1.x", "5.1.1000", "x5.1.1"])
def test_what_is_not_an_enhanced_code_has_no_meaning(code: str) -> None:
    assert BounceStatus(code=BounceCode(code)).meaning is None


def test_a_bounce_without_a_code_has_no_meaning() -> None:
    assert BounceStatus().meaning is None
    assert BounceStatus(code=BounceCode()).meaning is None


@given(st.sampled_from("245"), st.integers(0, 999), st.integers(0, 999))
def test_whatever_the_code_there_are_words_that_end_with_its_class(kind: str, subject: int, detail: int) -> None:
    words = meaning(f"{kind}.{subject}.{detail}")
    assert words is not None
    assert words.endswith({"2": "(delivered)", "4": "(temporary)", "5": "(permanent)"}[kind])


@given(st.text(max_size=12))
def test_any_text_has_a_meaning_or_none(code: str) -> None:
    assert meaning(code) is None or re.fullmatch(r"[245](\.[0-9]{1,3}){2}", code.strip())


def test_an_event_has_it() -> None:
    event = structure(make_bounce("soft", code="4.2.2"))
    assert isinstance(event, Bounce)
    assert event.status is not None
    assert event.status.meaning == "The mailbox is full (temporary)"


def test_who_reads_no_bounces_does_not_wait_for_the_table() -> None:
    code = (
        "import np6_async, sys; from np6_async._models import mail_status as m; print(m._table.cache_info().currsize)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "0"
