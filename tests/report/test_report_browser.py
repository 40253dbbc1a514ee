"""The page of a report as a person sees it: in a real Chromium, headless, on a screen, a phone and on paper.

    apt-get install --no-install-recommends chromium
    pip install -e '.[test,browser]'
    python -m pytest -m browser tests/report

With REPORT_SCREENSHOTS=1 the pictures of the documentation are written anew, to docs/images.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from zoneinfo import ZoneInfo

import pytest

from np6_async import structure
from np6_async.report import Report
from np6_async.testing import make_activation, make_bounce, make_hit, make_optout

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MAY_WRITE = os.environ.get("REPORT_SCREENSHOTS") == "1"
FIRST = datetime(2026, 1, 5, 8, tzinfo=UTC)  # a Monday
WEEKS = 12
DOMAINS = ("mail.example", "post.example", "courrier.example", "example.org", "a-very-long-name-of-a-company.example")
CODES = ("5.1.1", "5.1.1", "4.2.2", "4.7.650", "5.7.26", "5.1.10", "5.2.99", None)
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "W" * 150,
)


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what}: the browser tests must run in CI")
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed: pip install -e '.[browser]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        _missing("there is no chromium: apt-get install --no-install-recommends chromium")
    with sync_playwright() as playwright:
        # In a container, Chromium's sandbox is not available and /dev/shm is small.
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield made
        made.close()


def spring() -> Report:
    """Twelve weeks of newsletters, the same each time."""
    chance = random.Random(5)
    report = Report("Newsletters of the spring", tz=ZoneInfo("Europe/Paris"))

    def add(event: dict[str, Any], action: str, address: str) -> None:
        activation = event["source"]["detail"].setdefault("activation", {})
        activation |= {"id": action, "recipient": address, "receiver": {"type": "id", "value": "A"}}
        report.add([structure(event)])

    for week in range(WEEKS):
        for action, share in (("000PE4", 1.0), ("000Q3K", 0.6), ("000R9Z", 0.25)):
            for number in range(int((60 + 20 * chance.random() + 4 * week) * share)):
                at = FIRST + timedelta(weeks=week, hours=number % 60, minutes=chance.randrange(60))
                address = f"p{chance.randrange(400)}@{DOMAINS[min(int(chance.expovariate(1)), 4)]}"
                add(make_activation(at=at), action, address)
                if chance.random() < 0.04:
                    code = chance.choice(CODES)
                    bounce = make_bounce("hard" if code and code[0] == "5" else "soft", code=code or "none", at=at)
                    add(bounce, action, address)
                    continue
                for kind, likely in (("open", 0.45), ("redirection", 0.12)):
                    if chance.random() < likely:
                        add(make_hit(kind, at=at + timedelta(hours=chance.randrange(70))), action, address)
                if chance.random() < 0.008:
                    add(make_optout(at=at + timedelta(hours=2)), action, address)
    return report


def hostile() -> Report:
    """What comes from outside wants to run, or is very long."""
    report = Report(HOSTILE[0])
    for text in HOSTILE:
        report.note(text)
        for number in range(12):
            for event in (make_activation(), make_bounce(code=text, diagnostic=text), make_hit()):
                activation = event["source"]["detail"]["activation"]
                activation |= {"id": text, "recipient": f"p{number}@{text[:60]}.example"}
                report.add([structure(event)])
    return report


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"spring": spring(), "nothing": Report("Nothing"), "hostile": hostile()}
    for name, report in made.items():
        report.write(folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opens a page by name; fails where it says something in the console, or asks for anything."""
    wrong: list[str] = []
    contexts = []

    def open_page(name: str, width: int = 1280, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda each: None if each.url.startswith(("file:", "data:")) else wrong.append(each.url))
        page.goto(pages[name].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 768, 1280])
@pytest.mark.parametrize("name", ["spring", "nothing", "hostile"])
def test_nothing_is_wider_than_the_screen(opened: Any, name: str, width: int, scheme: str) -> None:
    page = opened(name, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """[...document.querySelectorAll("main *")]
          .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth)
          .map(e => e.outerHTML)"""
    )
    assert wide == []


@pytest.mark.parametrize("width", [390, 1280])
def test_tables_of_usual_numbers_fit_without_scrolling(opened: Any, width: int) -> None:
    page = opened("spring", width)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    widths = "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    assert page.evaluate(widths) == [0, 0, 0, 0]


def test_no_text_from_outside_runs(opened: Any) -> None:
    page = opened("hostile")
    assert page.title() == HOSTILE[0]
    assert page.evaluate("document.querySelectorAll('img, script').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_against_its_background(opened: Any, scheme: str) -> None:
    """At least 4.5 to 1, as WCAG 2 asks for."""
    page = opened("spring", 1280, scheme)
    found = page.evaluate(
        """() => {
          const number = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255;
            return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
          const light = text => { const [r, g, b] = number(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const behind = element => { for (let e = element; e; e = e.parentElement) {
            const color = getComputedStyle(e).backgroundColor;
            if (!color.endsWith(", 0)")) return color; } return "rgb(255, 255, 255)"; };
          return [...document.querySelectorAll("main *")]
            .filter(e => e.childNodes.length && e.innerText && e.innerText.trim())
            .map(e => { const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
              return [(a + 0.05) / (b + 0.05), e.tagName, e.innerText.slice(0, 20)]; })
            .filter(each => each[0] < 4.5);
        }"""
    )
    assert found == []


def test_pictures_are_told_to_those_who_are_read_to(opened: Any) -> None:
    page = opened("spring")
    images = page.get_by_role("img")
    names = [images.nth(at).get_attribute("aria-label") for at in range(images.count())]
    assert [str(name).split(",")[0] for name in names] == ["Sent", "Bounced", "Opened", "Clicked", "Stopped"]
    assert str(names[0]).startswith("Sent, from 5 Jan 2026 to ")


def test_a_column_is_as_high_as_its_number(opened: Any) -> None:
    page = opened("spring")
    bars = page.evaluate(
        "[...document.querySelectorAll('figure.sent rect')].map(e => [e.textContent, e.getBoundingClientRect().height])"
    )
    numbers = [int(text.rsplit(" ", 1)[1].replace(",", "")) for text, _ in bars]
    assert len(numbers) == WEEKS + 1 or len(numbers) == WEEKS
    tallest = max(height for _, height in bars)
    for number, (_, height) in zip(numbers, bars, strict=True):
        assert height / tallest == pytest.approx(number / max(numbers), abs=0.01)


def test_it_is_printed_in_light_colours_on_a_few_sheets(opened: Any, tmp_path: Path) -> None:
    page = opened("spring", 1280, "dark")
    page.emulate_media(media="print")
    style = "getComputedStyle(document.body)"
    assert page.evaluate(f"[{style}.backgroundColor, {style}.color]") == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 1 <= pdf.count(b"/Type /Page\n") <= 4
    if MAY_WRITE:
        (tmp_path / "report.pdf").write_bytes(pdf)


@pytest.mark.skipif(not MAY_WRITE, reason="writes the pictures of the documentation")
def test_the_pictures_of_the_documentation(opened: Any) -> None:
    opened("spring", 1000).screenshot(path=IMAGES / "report.png", clip={"x": 0, "y": 0, "width": 1000, "height": 870})
    phone = opened("spring", 390, "dark")
    phone.set_viewport_size({"width": 390, "height": 1_080})
    phone.screenshot(path=IMAGES / "report-phone-dark.png")
