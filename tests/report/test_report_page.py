"""The page of a report: it stands alone, names nobody, and no text from outside gets to run in it."""

from __future__ import annotations

import os
import re
import stat
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from np6_async import structure
from np6_async.report import Report
from np6_async.testing import FakeNP6, make_activation, make_bounce, make_hit

HOSTILE: Final = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "'><svg/onload=alert(1)>",
    "</style></title></bdi><script>",
    "\u202egnp.exe\x00\x1b[31m",
    "&lt;b&gt; &amp;",
]


class Page(HTMLParser):
    """What a browser finds: tags with their attributes, and texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def filled(title: str = "Spring", **options: Any) -> Report:
    report = Report(title, **options)
    with FakeNP6(30, 30) as server:
        for contact in server.contact_ids:
            report.add(map(structure, server.events(contact, "all")), robots=True)
            report.add(map(structure, server.events(contact, "hits")))
    return report


def hostile(text: str) -> Report:
    """A report in which whatever is text from outside is this one."""
    report = Report(text)
    report.note(text)
    for number in range(12):
        for event in (make_activation(), make_bounce(code=text, diagnostic=text), make_hit()):
            activation = event["source"]["detail"]["activation"]
            activation |= {"id": text, "recipient": f"p{number}@{text}"}
            activation["receiver"] = {"type": "footprint", "id": text, "unicity": text}
            report.add([structure(event)])
    return report


def test_the_page_is_well_formed() -> None:
    """As XML too, but for what HTML writes otherwise: so no tag is left open."""
    html = filled().html()
    assert html.startswith("<!doctype html>")
    body = html.removeprefix("<!doctype html>")
    body = re.sub(r"<(meta|link)([^>]*)>", r"<\1\2/>", body)
    root = ET.fromstring(re.sub(r"<style>.*?</style>", "", body, flags=re.DOTALL))  # noqa: S314 - our own
    assert [each.tag for each in root] == ["head", "body"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_from_outside_becomes_part_of_the_page(text: str) -> None:
    tame, page = Page(hostile("tame").html()), Page(hostile(text).html())
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in tame.tags]
    assert [list(attributes) for _, attributes in page.tags] == [list(attributes) for _, attributes in tame.tags]
    assert text.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\u202e", "\ufffd") in page.texts


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=60).filter(str.strip))
def test_any_title_is_shown_and_nothing_else(title: str) -> None:
    report = Report(title)
    page = Page(report.html())
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Page(Report("x").html()).tags]
    report.html().encode(errors="replace").decode()


def test_there_is_no_script_and_nothing_is_loaded() -> None:
    page = Page(filled().html())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "embed", "img", "base", "form", "a"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "link" or attributes == {"rel": "icon", "href": "data:,"}
    assert not re.search(r"https?://|url\(|@import", filled().html())
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_no_address_no_contact_and_no_text_of_a_mail_server_is_in_the_page() -> None:
    with FakeNP6(30, 30) as server:
        names = {*server.contact_ids}
        diagnostics = set()
        for contact in server.contact_ids:
            for event in server.events(contact, "all"):
                activation = event["source"]["detail"].get("activation") or {}
                names |= {activation.get("recipient")}
                bounce = event["source"]["detail"].get("bounce")
                diagnostics |= {bounce["status"]["diagnostic"]} if bounce else set()
    html = filled().html()
    assert not [name for name in names if name and name in html]
    assert not [text for text in diagnostics if text and text in html]
    assert "@" not in re.sub(r"@(media|page)", "", html)


def test_an_address_where_an_id_is_expected_is_not_told() -> None:
    event = make_activation()
    event["source"]["detail"]["activation"]["id"] = "anne@example.com"
    report = Report()
    report.add([structure(event)])
    assert "anne" not in report.html()
    assert "(an address)" in report.html()


def test_every_picture_says_in_words_what_it_shows() -> None:
    pictures = [attributes for tag, attributes in Page(filled().html()).tags if tag == "svg"]
    told = [attributes["aria-label"] for attributes in pictures if attributes.get("role") == "img"]
    assert [str(text).split(",")[0] for text in told] == ["Sent", "Bounced", "Opened", "Clicked", "Stopped"]
    assert all(re.search(r"from .* to .*: [\d,]+ in all, most in one week: ", str(text)) for text in told)
    for attributes in pictures:
        assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"


def test_the_worst_codes_are_told_in_words() -> None:
    report = Report()
    codes = ["5.1.1"] * 3 + ["4.7.650"] * 2 + ["nonsense"]
    report.add(structure(make_bounce(code=code)) for code in codes)
    words = [text for text in Page(report.html()).texts if text.endswith(("(permanent)", "(temporary)"))]
    told = ["The mailbox does not exist (permanent)"]
    told.append("Microsoft restricts the sending server for a while: too much or suspicious mail (temporary)")
    assert words == told
    assert "The bounce has no enhanced status code" in report.html()


def test_a_report_of_nothing_says_so() -> None:
    page = Page(Report("Nothing").html())
    assert page.texts.count("There is nothing to show.") == 4
    assert "no events, UTC" in page.texts


def test_the_time_and_the_zone_are_told() -> None:
    report = Report(tz=ZoneInfo("Europe/Paris"))
    report.add([structure(make_activation(at="2026-02-28T23:30Z"))])
    assert "1 Mar 2026, Europe/Paris" in Page(report.html()).texts
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    report.between(begin, begin + timedelta(days=40))
    assert "1 Jan 2026, 01:00 to 10 Feb 2026, 01:00, Europe/Paris" in Page(report.html()).texts


def test_a_list_that_is_long_is_cut_and_the_others_are_one_row() -> None:
    report = Report()
    for number in range(40):
        event = make_activation()
        event["source"]["detail"]["activation"]["id"] = f"A{number:02}"
        report.add([structure(event)] * (100 - number))
    page = Page(report.html())
    assert [text for text in page.texts if re.fullmatch(r"A\d\d", text)] == [f"A{number:02}" for number in range(30)]
    assert "10 others" in page.texts
    assert f"{sum(100 - number for number in range(30, 40)):,}" in page.texts


# Writing


def test_a_page_is_written_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    report = filled()
    target = tmp_path / "report.html"
    target.write_text("before")
    target.chmod(0o640)
    report.write(target)
    assert target.read_text("utf-8").endswith("</html>\n")
    assert list(tmp_path.iterdir()) == [target]
    if sys.platform != "win32":
        assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_page_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Report().write(target)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("before")
    (tmp_path / "link.html").symlink_to("real.html")
    Report().write(tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").read_text("utf-8").startswith("<!doctype html>")
