"""The timeline as a person sees it: in a real Chromium, headless.

    apt-get install --no-install-recommends chromium
    pip install -e '.[test,browser]'
    python -m pytest -m browser

With TIMELINE_SCREENSHOTS=1 the pictures of the documentation are written anew, to docs/images.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from examples.timeline import account, demo
from examples.timeline import app as timeline
from examples.timeline.app import create_app
from examples.timeline.demo import ADDRESS, ANNE, events_of_anne, robots_of_anne
from np6_async import NP6Client, RetryPolicy
from np6_async.testing import FakeNP6, Fault, make_activation, make_bounce, make_event, make_hit

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

NOW = datetime(2026, 3, 18, 17, 40, tzinfo=UTC)
IMAGES = Path(__file__).parents[2] / "docs" / "images"
MAY_WRITE = os.environ.get("TIMELINE_SCREENSHOTS") == "1"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 1_080}
SIZES = {
    390: {"width": 390, "height": 844},
    768: {"width": 768, "height": 1_024},
    1280: {"width": 1280, "height": 1_060},
}
PICTURES = {  # of the documentation
    (1280, "light"): "timeline.png",
    (1280, "dark"): "timeline-dark.png",
    (768, "light"): "timeline-tablet.png",
    (390, "light"): "timeline-phone.png",
    (390, "dark"): "timeline-phone-dark.png",
}
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "\u202egnp.exe \u2066isolated \u200f\u05e9\u05dc\u05d5\u05dd",
    "W" * 5_000,
    'javascript:document.title="owned"',
)

Open = Callable[..., AbstractAsyncContextManager["Page"]]


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what}: the browser tests must run in CI")
    pytest.skip(what)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        _missing("playwright is not installed: pip install -e '.[browser]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        _missing("there is no chromium: apt-get install --no-install-recommends chromium")
    async with async_playwright() as playwright:
        # In a container, Chromium's sandbox is not available and /dev/shm is small.
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def np6() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=0) as server:
        server.add_contact(ANNE, events_of_anne(NOW), unicity=ADDRESS)
        server.add_events(ANNE, robots_of_anne(NOW), robot="mpp")
        yield server


@pytest.fixture
def open_page(browser: Browser, np6: FakeNP6, serve: Any) -> Open:
    """Opens the page; at the end of the test, the console must be free of complaints."""

    @asynccontextmanager
    async def open_page(connect: Any = None, *, path: str = "/", **context: Any) -> AsyncIterator[Page]:
        context = {"viewport": DESKTOP, "locale": "en-GB", "timezone_id": "Europe/Paris", **context}
        complaints: list[str] = []
        async with serve(np6, connect) as server:
            tab = await browser.new_context(**context)
            tab.set_default_timeout(20_000)
            page = await tab.new_page()
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
            await page.goto(str(server.make_url(path)))
            yield page
            await tab.close()
        assert complaints == []

    return open_page


async def search(page: Page, contact: str) -> None:
    await page.get_by_label("Contact", exact=True).fill(contact)
    await page.keyboard.press("Enter")


async def shows(page: Page, selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until the element has this text."""
    from playwright.async_api import expect

    await expect(page.locator(selector)).to_have_text(text, timeout=20_000)


async def days(page: Page) -> list[str]:
    """The days above the events, without the names of weekdays: versions of Chromium differ in the comma."""
    return [re.sub(r"^\w+,? ", "", day) for day in await page.locator("#events h3").all_text_contents()]


@pytest.mark.parametrize("by", ["id", "unicity", "hash"])
async def test_a_contact_is_found_by_id_by_address_and_by_hash(open_page: Open, np6: FakeNP6, by: str) -> None:
    contact = {"id": ANNE, "unicity": ADDRESS, "hash": np6.hash(ANNE)}[by]
    async with open_page() as page:
        await search(page, contact)
        await shows(page, "#state", "Complete.")
        await shows(page, "#count", str(len(np6.events(ANNE))))
        assert await page.locator("h2").text_content() == contact
        assert await page.locator("#events li").count() == 200  # and a button for the rest
        await page.get_by_role("button", name=re.compile(r"^Show \d+ more of \d+$")).click()
        await page.locator("#events li").nth(min(len(np6.events(ANNE)), 400) - 1).wait_for()
        assert await page.locator("#chart .bin").count() > 20


async def test_the_first_event_is_there_before_the_stream_ends(open_page: Open) -> None:
    """The server holds back the rest of the response until the page shows the first event."""
    rest = asyncio.Event()
    first, second = make_hit("open"), make_bounce("hard")
    first["timestamp"] = second["timestamp"] + 1  # the page asks for the newest first

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b"[" + web.json_response(first).body + b",")  # type: ignore[operator]
        await rest.wait()
        await response.write(web.json_response(second).body + b"]")  # type: ignore[operator]
        return response

    upstream = web.Application()
    upstream.router.add_get("/targets/{contact}/events", respond)
    async with TestServer(upstream) as server:

        def connect(hooks: Any) -> NP6Client:
            return NP6Client("key", base_url=str(server.make_url("/")), hooks=hooks)

        async with open_page(connect) as page:
            await search(page, ANNE)
            await shows(page, "#events li .title", "Message opened")
            await shows(page, "#state", "Events are arriving …")
            assert await page.get_by_role("button", name="Stop", exact=True).is_visible()
            rest.set()
            await shows(page, "#state", "Complete.")
            assert await page.locator("#events li .title").all_text_contents() == [
                "Message opened",
                "Bounced permanently",
            ]
            assert not await page.get_by_role("button", name="Stop", exact=True).is_visible()


@pytest.mark.parametrize("how", ["stop", "leave", "close", "search again"])
async def test_nothing_is_fetched_for_a_reader_who_is_gone(open_page: Open, np6: FakeNP6, until: Any, how: str) -> None:
    np6.script(Fault.stall(after=20_000), contact=ANNE)
    np6.add_contact("000BILL0", [make_bounce()])
    async with open_page() as page:
        await search(page, ANNE)
        await page.locator("#events li").first.wait_for()
        assert np6.in_flight == 1
        match how:
            case "stop":
                await page.get_by_role("button", name="Stop", exact=True).click()
                await shows(page, "#state", "Stopped: there may be more.")
            case "leave":
                await page.goto("about:blank")
            case "close":
                await page.close()
            case "search again":
                await search(page, "000BILL0")
                await shows(page, "#events li .title", "Bounced permanently")
        await until(lambda: np6.in_flight == 0)


async def test_kinds_are_filtered_with_the_keyboard(open_page: Open, np6: FakeNP6) -> None:
    everything, bounces = len(np6.events(ANNE)), len(np6.events(ANNE, "bounces"))
    async with open_page() as page:
        await search(page, ANNE)
        await shows(page, "#state", "Complete.")
        for kind in ("Sent", "Opened", "Clicked", "Stopped", "Other"):
            box = page.get_by_role("checkbox", name=kind)
            await box.focus()
            await page.keyboard.press("Space")
        await shows(page, "#count", str(bounces))
        await shows(page, "#count-words", f"of {everything} events")
        assert set(await page.locator("#events li .title").all_text_contents()) == {"Bounced temporarily"}
        assert await page.locator("#chart .part:not(.bounced)").count() == 0
        await page.keyboard.press("Space")  # the last one again
        other = int(await page.locator("#count-other").text_content() or 0)
        await shows(page, "#count", str(bounces + other))
        assert np6.request_count == 2  # for all events and for the hits; filters send no request


async def test_both_days_of_a_range_are_included_in_the_readers_time_zone(open_page: Open, np6: FakeNP6) -> None:
    moments = ("2026-03-01T22:59Z", "2026-03-01T23:00Z", "2026-03-03T22:59Z", "2026-03-03T23:00Z")
    np6.add_contact("000BILL0", [make_bounce(at=at) for at in moments])
    async with open_page() as page:
        await page.get_by_label("From").fill("2026-03-02")
        await page.get_by_label("To, included").fill("2026-03-03")
        await search(page, "000BILL0")
        await shows(page, "#state", "Complete.")
        assert await days(page) == ["3 March 2026", "2 March 2026"]
        assert await page.locator("#events time").all_text_contents() == ["23:59", "00:00"]
        await page.reload()  # the search survives, though no request to the page's server holds it
        await shows(page, "#count", "2")


async def test_an_unknown_contact_is_explained(open_page: Open) -> None:
    async with open_page() as page:
        for contact, words in (
            ("000NOONE", "NP6 has no contact with this id."),
            ("no.one@example.com", "NP6 has no contact with this e-mail address."),
            ("0" * 32, "NP6 has no contact with this hash."),
            ("../x", "That is not a contact id: use only letters, digits and . _ ~ : + = -, as in 000MLGPR."),
            ("", "Type the id, the e-mail address or the hash of a contact."),
        ):
            await search(page, contact)
            await shows(page, "#problem", words)
            assert await page.locator("#contact").get_attribute("aria-invalid") == "true"
            assert not await page.locator("#result").is_visible()


async def test_a_bad_date_is_explained(open_page: Open, np6: FakeNP6) -> None:
    async with open_page() as page:
        await page.get_by_label("From").fill("2026-03-02")
        await page.get_by_label("To, included").fill("2026-03-01")
        await search(page, ANNE)
        await shows(page, "#problem", "The first day is after the last day.")
        await page.get_by_label("From").fill("")
        await page.get_by_label("To, included").fill("")
        await page.get_by_label("To, included").focus()
        await page.keyboard.type("1")  # without a month or a year
        await search(page, ANNE)
        await shows(page, "#problem", "The last day is incomplete or not a calendar date.")
        assert await page.locator("#to").get_attribute("aria-invalid") == "true"
        assert np6.request_count == 0


async def test_an_outage_of_np6_is_explained(open_page: Open, np6: FakeNP6) -> None:
    np6.script(Fault.status(503), times=None)
    async with open_page() as page:
        await search(page, ANNE)
        await shows(
            page, "#problem", re.compile(r"NP6 is not working right now \(status 503\)\. Try again in a few min")
        )


async def test_a_response_that_breaks_off_permanently_is_shown_as_incomplete(open_page: Open, np6: FakeNP6) -> None:
    np6.script(Fault.cut(after=20_000))
    np6.script(Fault.drop(), times=None)
    async with open_page() as page:
        await search(page, ANNE)
        await shows(page, "#problem", re.compile(r"Try again in a few minutes\. Not all events are shown\.$"))
        await shows(page, "#state", "Not complete.")
        assert await page.locator("#events li").count() > 10


async def test_a_wrong_key_is_explained(open_page: Open, np6: FakeNP6) -> None:
    def connect(hooks: Any) -> NP6Client:
        return np6.client(hooks=hooks, api_key="another")

    async with open_page(connect) as page:
        await search(page, ANNE)
        await shows(page, "#problem", re.compile("^NP6 does not accept the API key of this page"))


async def test_a_wait_for_the_rate_limit_is_shown_while_it_lasts(open_page: Open, np6: FakeNP6) -> None:
    """The client's clock stands still until the page shows the wait."""
    seen, now = asyncio.Event(), [1_000.0]

    async def sleep(seconds: float) -> None:
        await seen.wait()
        now[0] += seconds

    def connect(hooks: Any) -> NP6Client:
        return np6.client(hooks=hooks, retry=RetryPolicy(clock=lambda: now[0], sleep=sleep))

    np6.script(Fault.rate_limited(40), contact=ANNE)
    async with open_page(connect) as page:
        await search(page, ANNE)
        await shows(
            page, "#notice", re.compile(r"^NP6 allows no more requests for now\. Resuming in (40|[1-3]?\d) s …$")
        )
        seen.set()
        await shows(page, "#state", "Complete.")
        assert not await page.locator("#notice").is_visible()
        await shows(page, "#count", str(len(np6.events(ANNE))))


async def test_a_longer_wait_is_explained(open_page: Open, np6: FakeNP6) -> None:
    np6.script(Fault.rate_limited(1_800))
    async with open_page() as page:
        await search(page, ANNE)
        await shows(page, "#problem", "NP6 allows no more requests for now. Try again in 30 minutes.")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_hostile_texts_are_shown_and_do_nothing(open_page: Open, np6: FakeNP6, viewport: dict[str, int]) -> None:
    events = [make_bounce(diagnostic=text) for text in HOSTILE]
    events += [make_event(text) for text in HOSTILE]
    events += [make_event("hit", source={"detail": {"link": {"type": text}}}) for text in HOSTILE]
    events += [make_event("reply", source={"type": text, "detail": {"reply": {text: text}}}) for text in HOSTILE]
    np6.add_contact("000EVIL0", events)
    async with open_page(viewport=viewport) as page:
        await search(page, "000EVIL0")
        await shows(page, "#state", "Complete.")
        for button in await page.get_by_role("button", name="All data").all():
            await button.click()
        await page.locator("#events pre").nth(len(events) - 1).wait_for()
        assert await page.locator("#events img, #events script, #events a").count() == 0
        assert await page.title() == "Contact timeline"
        shown = await page.locator("#events").inner_text()
        assert all(text[:200] in shown for text in HOSTILE)
        assert await overflow(page) <= 0
        # Right-to-left text affects only its own element.
        assert await page.locator("dd").evaluate_all(
            "all => all.every(one => getComputedStyle(one).unicodeBidi.includes('isolate'))"
        )


async def overflow(page: Page) -> int:
    width: int = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


async def test_the_key_is_in_nothing_that_the_browser_gets(open_page: Open, np6: FakeNP6) -> None:
    np6.api_key = "a-key-that-no-browser-sees"
    async with open_page() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.reload()
        for contact in (ANNE, "000NOONE", "../x"):
            await search(page, contact)
            await page.locator("#stop").wait_for(state="hidden")
        assert len({url.partition("?")[0] for url in asked}) >= 5
        assert np6.api_key not in await page.content()
        for url in sorted(set(asked)):  # what is fetched here appears among the requests, too
            got = await page.evaluate(
                "async url => { const a = await fetch(url); return JSON.stringify([...a.headers]) + await a.text() }",
                url,
            )
            assert len(got) > 100
            assert np6.api_key not in got


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_of_360_pixels_needs_no_sideways_scrolling(open_page: Open, scheme: str) -> None:
    async with open_page(
        viewport=PHONE, device_scale_factor=2, color_scheme=scheme, is_mobile=True, has_touch=True
    ) as page:
        assert await overflow(page) <= 0
        await search(page, ADDRESS)
        await shows(page, "#state", "Complete.")
        await page.locator("body").click(position={"x": 2, "y": 2})
        assert await overflow(page) <= 0
        small = await page.locator(
            "button:visible, input:visible:not([type=checkbox]), select:visible, .kinds label:visible"
        ).evaluate_all("all => all.filter(one => one.getBoundingClientRect().height < 32).map(one => one.textContent)")
        assert small == []  # easy to touch


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
async def test_the_page_fits_every_screen_and_its_texts_are_readable_in_both_colour_schemes(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, width: int, scheme: str
) -> None:
    """Nothing scrolls sideways, and every text has a contrast of 4.5:1 with its background (WCAG AA)."""
    monkeypatch.setattr(timeline, "clock", NOW.timestamp)
    small: dict[str, Any] = {"is_mobile": True, "has_touch": True, "device_scale_factor": 2} if width == 390 else {}
    async with open_page(color_scheme=scheme, viewport=SIZES[width], **small) as page:
        assert await overflow(page) <= 0
        assert await page.evaluate(CONTRAST) == []
        await search(page, ADDRESS)
        await shows(page, "#state", "Complete.")
        await page.evaluate("document.activeElement.blur()")
        if name := PICTURES.get((width, scheme)):
            await picture(page, name)
        await page.get_by_role("checkbox", name="Other").focus()
        await page.keyboard.press("Space")
        await page.locator("#chart .bin").last.press("Enter")
        await page.locator("#chips button").wait_for()
        await page.locator("#grounds").evaluate("grounds => { grounds.open = true }")
        assert await overflow(page) <= 0
        assert await page.evaluate(CONTRAST) == []


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (part) => part <= 10 ? part / 3295 : ((part / 255 + .055) / 1.055) ** 2.4;
    const [r, g, b] = colour.slice(0, 3).map(linear);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const back = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const front = rgb(node.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(front), light(back(node))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) faint.push(node.textContent);
  }
  return faint;
}"""


# --- Back and Forward ---


async def back(page: Page) -> None:
    """As the browser's button does, without waiting for a load: there is none."""
    await page.evaluate("history.back()")


async def forward(page: Page) -> None:
    await page.evaluate("history.forward()")


@pytest.fixture
def two(np6: FakeNP6) -> tuple[str, str]:
    """Two contacts, with three events and with one."""
    moments = "2026-03-01T10:00Z", "2026-03-02T10:00Z", "2026-03-02T11:00Z"
    np6.add_contact("000BILL0", [make_bounce("soft", at=at) for at in moments], unicity="bill@example.com")
    np6.add_contact("000CARL0", [make_activation(at="2026-03-03T10:00Z")])
    return "bill@example.com", "000CARL0"


async def test_back_and_forward_move_between_searches(open_page: Open, two: tuple[str, str]) -> None:
    first, second = two
    async with open_page() as page:
        await page.get_by_label("From").fill("2026-03-02")
        await search(page, first)
        await shows(page, "#count", "2")
        await page.get_by_label("From").fill("")
        await search(page, second)
        await shows(page, "#who", second)
        await shows(page, "#count", "1")
        await back(page)
        await shows(page, "#who", first)
        await shows(page, "#count", "2")
        assert await page.get_by_label("Contact", exact=True).input_value() == first
        assert await page.get_by_label("From").input_value() == "2026-03-02"
        await back(page)  # to the empty page
        await page.locator("#result").wait_for(state="hidden")
        assert await page.get_by_label("Contact", exact=True).input_value() == ""
        await forward(page)
        await shows(page, "#count", "2")
        await forward(page)
        await shows(page, "#who", second)
        await shows(page, "#state", "Complete.")


async def test_back_returns_from_the_page_of_the_account_to_the_search(open_page: Open, two: tuple[str, str]) -> None:
    async with open_page() as page:
        await search(page, two[0])
        await shows(page, "#state", "Complete.")
        await page.get_by_role("link", name="Whole account").click()
        await page.get_by_role("link", name="Contact timeline").wait_for()
        await page.go_back()
        await shows(page, "#who", two[0])
        await shows(page, "#count", "3")


async def test_the_same_search_again_is_no_new_entry_of_the_history(open_page: Open, two: tuple[str, str]) -> None:
    async with open_page() as page:
        before = await page.evaluate("history.length")
        for _ in range(3):
            await search(page, two[0])
            await shows(page, "#state", "Complete.")
        assert await page.evaluate("history.length") == before + 1


async def test_neither_the_address_bar_nor_the_title_names_a_contact(open_page: Open, two: tuple[str, str]) -> None:
    """They end up in lists of visited pages, in logs, and in what people paste. A reload searches all the same."""
    async with open_page() as page:
        empty = page.url
        for contact in two:
            await search(page, contact)
            await shows(page, "#state", "Complete.")
            assert page.url == empty
            assert await page.title() == "Contact timeline"
        await page.reload()
        await shows(page, "#who", two[1])
        await shows(page, "#count", "1")
        assert page.url == empty


async def test_a_link_names_the_contact_only_where_one_is_copied(open_page: Open, two: tuple[str, str]) -> None:
    """After the "#", which browsers send to no server; opening it shows the search, and clears the address bar."""
    async with open_page(permissions=["clipboard-read", "clipboard-write"]) as page:
        empty = page.url
        await page.get_by_label("Time zone").select_option("America/New_York")
        await page.get_by_label("To, included").fill("2026-03-01")
        await search(page, two[0])
        await shows(page, "#count", "1")
        await page.get_by_role("button", name="Copy link").click()
        await shows(page, "#spoken", "Link copied. It names the contact.")
        link = await page.evaluate("navigator.clipboard.readText()")
        assert link == f"{empty}#contact=bill%40example.com&to=2026-03-01&zone=America%2FNew_York"
        tab = await page.context.browser.new_context(locale="en-GB", timezone_id="Asia/Tokyo")  # type: ignore[union-attr]
        other = await tab.new_page()
        await other.goto(link)
        await shows(other, "#who", two[0])
        await shows(other, "#count", "1")
        await shows(other, "#caption", re.compile(r"Times in America/New_York\.$"))
        assert other.url == empty
        await tab.close()


# --- Filters by a click ---


async def test_one_click_on_a_kind_shows_that_kind_alone(open_page: Open, np6: FakeNP6) -> None:
    opened = sum(event["source"]["detail"].get("link", {}).get("type") == "open" for event in np6.events(ANNE))
    async with open_page() as page:
        await search(page, ANNE)
        await shows(page, "#state", "Complete.")
        await page.locator("#events li.opened").first.get_by_role("button", name="Only this kind: Opened").click()
        await shows(page, "#count", str(opened))
        await shows(page, "#spoken", f"{opened} of {len(np6.events(ANNE))} events shown")
        assert await page.locator("#events li:not(.opened)").count() == 0
        assert await page.locator("#chart .part:not(.opened)").count() == 0
        chip = page.get_by_role("button", name="Only Opened: remove this filter")
        assert await chip.evaluate("chip => chip === document.activeElement")
        await chip.press("Enter")
        await shows(page, "#count", str(len(np6.events(ANNE))))
        await back(page)  # the filter is there again
        await shows(page, "#count", str(opened))
        assert not await page.get_by_role("checkbox", name="Sent").is_checked()
        await back(page)
        await shows(page, "#count", str(len(np6.events(ANNE))))
        assert await page.get_by_role("checkbox", name="Sent").is_checked()
        assert await page.locator("#chips").is_hidden()
        assert np6.request_count == 2  # filters send no request, and neither does Back to one


async def test_a_click_on_a_bar_shows_its_days(open_page: Open, np6: FakeNP6, two: tuple[str, str]) -> None:
    async with open_page() as page:
        await search(page, two[0])
        await shows(page, "#state", "Complete.")
        asked = np6.request_count
        first, second = page.locator("#chart .bin").nth(0), page.locator("#chart .bin").nth(1)
        assert await first.get_attribute("aria-label") == "1 Mar 2026: Bounced 1"
        await second.click()
        await shows(page, "#count", "2")
        assert await days(page) == ["2 March 2026"]
        assert await page.locator("#chart .bin").count() == 2  # all days stay in the chart
        assert [await bar.get_attribute("aria-pressed") for bar in (first, second)] == ["false", "true"]
        await first.click()
        await shows(page, "#count", "1")
        await back(page)
        await shows(page, "#count", "2")
        await back(page)
        await shows(page, "#count", "3")
        await forward(page)
        await shows(page, "#count", "2")
        await page.get_by_role("button", name="2 Mar 2026: remove this filter").click()
        await shows(page, "#count", "3")
        await second.click()
        await second.click()  # a second click removes it, too
        await shows(page, "#count", "3")
        assert np6.request_count == asked


async def test_bars_are_reached_and_chosen_with_the_keyboard(open_page: Open, two: tuple[str, str]) -> None:
    """Tab goes to one of them, and the arrow keys to the others."""
    async with open_page() as page:
        await search(page, two[0])
        await shows(page, "#state", "Complete.")
        await page.locator("#kinds input:visible").last.focus()
        for _ in range(2):  # the second leaves the chart
            await page.keyboard.press("Tab")
            in_chart = await page.evaluate("document.activeElement.closest('#chart') !== null")
            if in_chart:
                await page.keyboard.press("ArrowLeft")
                await page.keyboard.press("Enter")
                await shows(page, "#count", "1")
                label = await page.evaluate("document.activeElement.getAttribute('aria-label')")
                assert label == "1 Mar 2026: Bounced 1"  # the focus stays on the bar
        assert not in_chart
        assert await page.get_by_role("group", name="Events over time: Bounced 3").get_by_role("button").count() == 2


# --- The time zone ---


async def test_times_days_and_bars_follow_the_chosen_zone(open_page: Open, np6: FakeNP6, two: tuple[str, str]) -> None:
    """The browser's by default; the choice is kept for later pages."""
    async with open_page() as page:
        zone = page.get_by_label("Time zone")
        assert await zone.input_value() == "Europe/Paris"
        await search(page, two[0])
        await shows(page, "#state", "Complete.")
        await shows(page, "#caption", re.compile(r"Times in Europe/Paris\.$"))
        assert await page.locator("#events time").all_text_contents() == ["12:00", "11:00", "11:00"]
        asked = np6.request_count
        await zone.select_option("Pacific/Kiritimati")  # UTC+14
        await shows(page, "#caption", "2 Mar 2026 to 3 Mar 2026, one bar a day. Times in Pacific/Kiritimati.")
        assert await page.locator("#events time").all_text_contents() == ["01:00", "00:00", "00:00"]
        assert await days(page) == ["3 March 2026", "2 March 2026"]
        assert await page.locator("#chart .bin").first.get_attribute("aria-label") == "2 Mar 2026: Bounced 1"
        assert np6.request_count == asked
        await zone.select_option("UTC")
        await shows(page, "#caption", "1 Mar 2026 to 2 Mar 2026, one bar a day. Times in UTC.")
        assert (await page.locator("#events time").first.get_attribute("title") or "").endswith("11:00:00 UTC")
        await page.reload()
        await shows(page, "#caption", re.compile(r"Times in UTC\.$"))
        await page.get_by_role("link", name="Whole account").click()
        await shows(page, "#caption", re.compile(r"Times in UTC\."))


async def test_every_zone_can_be_chosen_and_an_unknown_one_does_no_harm(open_page: Open) -> None:
    async with open_page() as page:
        zones = await page.locator("#zone option").evaluate_all("all => all.map(option => option.value)")
        assert len(zones) == len(set(zones)) > 400
        assert {"Europe/Paris", "UTC", "America/St_Johns", "Australia/Eucla"} < set(zones)
        await page.evaluate("localStorage.setItem('timeline.zone', 'Middle-earth/Mordor')")
        await page.reload()
        await page.get_by_label("Contact", exact=True).wait_for()
        assert await page.get_by_label("Time zone").input_value() == "Europe/Paris"


async def test_the_chosen_zone_decides_when_a_day_begins(open_page: Open, np6: FakeNP6) -> None:
    """Also for the dates of the search, which is made again for another zone."""
    np6.add_contact("000BILL0", [make_bounce(at=f"2026-03-29T{hour:02}:00Z") for hour in range(24)])
    async with open_page(timezone_id="America/Los_Angeles") as page:
        await page.get_by_label("Time zone").select_option("Europe/Paris")  # 29 March has 23 hours there
        await page.get_by_label("From").fill("2026-03-29")
        await page.get_by_label("To, included").fill("2026-03-29")
        await search(page, "000BILL0")
        await shows(page, "#count", "22")
        assert np6.requests[0].query["start"] == "2026-03-28T23:00:00.000Z"
        assert np6.requests[0].query["end"] == "2026-03-29T22:00:00.000Z"
        times = await page.locator("#events time").all_text_contents()
        assert times[-3:] == ["04:00", "03:00", "01:00"]  # 2:00 does not exist
        assert await page.locator("#chart .bin").count() == 1
        await page.get_by_label("Time zone").select_option("UTC")
        await shows(page, "#count", "24")


async def test_days_begin_right_in_every_zone(open_page: Open) -> None:
    """Where clocks change at midnight, too, and where a day was left out."""
    cases = {
        "Europe/Paris": {
            "2025-03-30": "2025-03-29T23:00",
            "2025-03-31": "2025-03-30T22:00",
            "2025-10-27": "2025-10-26T23:00",
        },
        "Asia/Beirut": {"2025-03-30": "2025-03-29T22:00", "2025-03-31": "2025-03-30T21:00"},  # 0:00 does not exist
        "America/Havana": {"2025-03-09": "2025-03-09T05:00", "2025-11-03": "2025-11-03T05:00"},
        "America/Sao_Paulo": {"2018-11-04": "2018-11-04T03:00", "2018-02-18": "2018-02-18T03:00"},
        "Asia/Kathmandu": {"2026-01-01": "2025-12-31T18:15"},
        "Pacific/Apia": {
            "2011-12-29": "2011-12-29T10:00",
            "2011-12-30": "2011-12-30T10:00",
            "2011-12-31": "2011-12-30T10:00",
        },
        "Pacific/Kiritimati": {"2026-01-01": "2025-12-31T10:00"},
        "Etc/GMT+12": {"2026-01-01": "2026-01-01T12:00"},
        "UTC": {"1970-01-01": "1970-01-01T00:00", "9998-12-31": "9998-12-31T00:00"},
    }
    async with open_page() as page:
        found = await page.evaluate(
            """async cases => {
              const { Zone, dayOf } = await import("/static/zones.js");
              const start = (name, day) => new Date(new Zone(name).start(dayOf(day))).toISOString().slice(0, 16);
              return Object.fromEntries(Object.entries(cases).map(([name, days]) => [
                name, Object.fromEntries(Object.keys(days).map(day => [day, start(name, day)])),
              ]));
            }""",
            cases,
        )
        assert found == cases


# --- Whether the contact can be reached, and robots ---


async def test_a_summary_says_first_whether_the_contact_can_still_be_reached(
    open_page: Open, np6: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "clock", NOW.timestamp)
    sent = make_activation(at="2026-03-09T12:00Z")
    np6.add_contact("000BILL0", [sent, make_hit("open", at="2026-03-10T12:00Z")])
    np6.add_contact("000CARL0", [sent, make_bounce("hard", code="5.1.1", at="2026-03-10T12:00Z")])
    async with open_page() as page:
        region = page.get_by_role("region", name="Can we still reach this contact?")
        await search(page, "000BILL0")
        await shows(page, "#answers", "Yes, by e-mail: opened a message on 10 March 2026.")
        assert await page.locator("#answers").get_attribute("role") == "status"  # it is announced
        names, values = region.locator("dt"), region.locator("dd")
        assert await names.all_inner_texts() == ["Last sent", "Last open", "Last click", "Hard bounce", "Stop"]
        assert await values.all_inner_texts() == ["9 Mar 2026", "10 Mar 2026", "none", "none", "none"]
        await search(page, "000CARL0")
        await shows(
            page,
            "#answers",
            "No, not by e-mail: messages have bounced permanently since 10 March 2026. "
            "The mailbox does not exist (permanent).",
        )


async def test_a_summary_of_some_dates_offers_to_judge_by_all(open_page: Open, np6: FakeNP6) -> None:
    now = datetime.now(UTC)
    np6.add_contact("000BILL0", [make_activation(at=now), make_hit("open", at=now)])
    async with open_page(timezone_id="UTC") as page:
        await page.get_by_label("From").fill(f"{now - timedelta(days=3):%Y-%m-%d}")
        await search(page, "000BILL0")
        await shows(page, "#answers", re.compile("^Doubtful, by e-mail: .*, but earlier events were not read.$"))
        await page.get_by_role("button", name="Judge by all dates").click()
        await shows(page, "#answers", re.compile("^Yes, by e-mail: opened a message on "))
        await page.get_by_role("button", name="Judge by all dates").wait_for(state="hidden")
        await back(page)
        await shows(page, "#answers", re.compile("^Doubtful, by e-mail: "))


async def test_a_timeline_that_is_not_complete_does_not_judge(open_page: Open, np6: FakeNP6) -> None:
    np6.script(Fault.stall(after=20_000), contact=ANNE)
    async with open_page() as page:
        await search(page, ANNE)
        await page.locator("#events li").first.wait_for()
        await shows(page, "#answers", "Reading the events …")
        await page.get_by_role("button", name="Stop", exact=True).click()
        await shows(page, "#answers", "Not known: not all events were read.")


async def test_opens_by_robots_are_marked_and_can_be_filtered_out(open_page: Open, np6: FakeNP6) -> None:
    np6.add_contact("000BILL0", [make_activation(at="2026-03-01"), make_hit("open", at="2026-03-02")])
    np6.add_events("000BILL0", [make_hit(link, at="2026-03-03") for link in ("open", "redirection")], robot="mpp")
    async with open_page() as page:
        await search(page, "000BILL0")
        await shows(page, "#state", "Complete.")
        assert await page.locator("#events .robot").all_text_contents() == ["by a robot", "by a robot"]
        assert await page.locator("#events li", has=page.locator(".robot")).count() == 2
        await shows(page, "#robots-note", re.compile(r"2 of them are in the list below, which has all events\.$"))
        assert await page.locator("#dates dd").nth(2).inner_text() == "none"  # the last click
        await page.get_by_role("checkbox", name="Robots").focus()
        await page.keyboard.press("Space")
        await shows(page, "#count", "2")
        assert await page.locator("#events .robot").count() == 0


async def test_robots_that_are_not_known_are_said_not_to_be(open_page: Open, np6: FakeNP6) -> None:
    np6.add_contact("000BILL0", [make_activation(), make_hit("open")])
    np6.script(Fault.status(403), path="*/hits")
    async with open_page() as page:
        await search(page, "000BILL0")
        await shows(page, "#robots-note", re.compile("^Some opens and clicks below may be by robots"))
        assert await page.locator("#dates dd").nth(1).inner_text() == "not known"


# --- On a phone ---

SMALL = {"viewport": {"width": 390, "height": 664}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
LONG = "maximiliane.von-und-zu-hohenstein-waldburg+newsletter@customers.a-rather-long-company-name.example.com"


async def test_on_a_phone_the_form_folds_away_and_the_first_event_is_visible(open_page: Open, np6: FakeNP6) -> None:
    async with open_page(**SMALL) as page:
        await page.get_by_label("Contact", exact=True).fill(ADDRESS)
        await page.get_by_role("button", name="Show events").tap()
        await shows(page, "#state", "Complete.")
        await page.locator("#search").wait_for(state="hidden")
        row = await page.locator("#events li .title").first.bounding_box()
        assert row is not None
        assert row["y"] + row["height"] <= 664  # without scrolling
        assert await page.evaluate("scrollY") == 0
        assert await page.locator("#answers .answer").first.is_visible()
        unfold = page.get_by_role("button", name="Change search")
        assert await unfold.get_attribute("aria-expanded") == "false"
        assert await page.locator("#who").evaluate("who => who === document.activeElement")  # where the reader goes on
        await unfold.tap()
        await page.get_by_role("button", name="Show events").wait_for()
        assert await page.get_by_label("Contact", exact=True).evaluate("field => field === document.activeElement")
        await unfold.tap()
        await page.get_by_role("button", name="Show events").wait_for(state="hidden")
        await unfold.tap()
        await page.get_by_role("button", name="Show events").wait_for()
        assert await unfold.get_attribute("aria-expanded") == "true"
        assert await page.get_by_label("Contact", exact=True).input_value() == ADDRESS
        await search(page, "000NOONE")  # what went wrong is shown with the form
        await shows(page, "#problem", "NP6 has no contact with this id.")
        assert await page.get_by_role("button", name="Show events").is_visible()


@pytest.mark.parametrize("width", [390, 768, 1280])
async def test_a_long_address_is_readable_in_its_field(open_page: Open, np6: FakeNP6, width: int) -> None:
    """All of it, on as many lines as it needs; Enter searches, and a line break that is pasted is no part of it."""
    np6.add_contact("000LONG0", [make_activation()], unicity=LONG)
    fits = "field => field.scrollWidth <= field.clientWidth && field.scrollHeight <= field.clientHeight"
    async with open_page(viewport={"width": width, "height": 800}) as page:
        field = page.get_by_label("Contact", exact=True)
        await field.fill(f"{LONG}\n")
        assert await field.input_value() == LONG
        assert await field.evaluate(fits)
        assert await overflow(page) <= 0
        await page.set_viewport_size({"width": 390, "height": 800})
        await search(page, LONG)
        await shows(page, "#who", LONG)
        await shows(page, "#count", "1")
        assert await overflow(page) <= 0
        await page.get_by_role("button", name="Change search").click()
        assert await field.evaluate(fits)


# --- The whole account ---


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads follow one another, and failures do not make them wait."""
    monkeypatch.setattr(account, "EVERY", 0.05)
    monkeypatch.setattr(account, "LONGEST", 0.05)


@pytest_asyncio.fixture(loop_scope="module")
async def busy() -> AsyncIterator[FakeNP6]:
    """An account that has sent six actions in the last hour."""
    now = datetime.now(UTC)
    async with FakeNP6(300, (2, 6), sends=6, now=now, period=timedelta(minutes=55)) as server:
        yield server


def to(server: FakeNP6, **options: Any) -> Callable[[Any], NP6Client]:
    """Connects the page to this server. After one failure, the client gives up, and the page waits."""
    policy = RetryPolicy(max_attempts=1, outage=0)
    return lambda hooks: server.client(hooks=hooks, **{"retry": policy, **options})


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


async def table(page: Page) -> dict[str, list[str]]:
    """The cells of each row, by its header."""
    rows: list[list[str]] = await page.locator("#actions :is(tbody, tfoot) tr").evaluate_all(
        "all => all.map(row => [...row.children].map(cell => cell.textContent))"
    )
    return {name: cells for name, *cells in rows}


async def no_reads(until: Any, server: FakeNP6) -> None:
    """Wait until the poller has ended."""
    await until(lambda: "account" not in {task.get_name() for task in asyncio.all_tasks()})
    await until(lambda: server.in_flight == 0)


async def test_the_last_hour_is_shown_by_action(open_page: Open, busy: FakeNP6) -> None:
    async with open_page(to(busy), path="/account") as page:
        await shows(page, "#state", "Live")
        events = list(busy.account_events())
        await shows(page, "#count", f"{len(events):,}")
        assert await page.locator("thead th").all_text_contents() == [
            *("Action", "Sending began", "Sent", "Opened", "Clicked", "Bounced", "Hard", "Soft"),
            *("Stopped", "Cancelled", "Other", "All"),
        ]
        rows = await table(page)
        assert {*rows, "no action"} == {*busy.actions, "Total", "no action"}
        for action in busy.actions:
            own = list(busy.account_events(action=action))
            sent = list(busy.account_events("activations", action=action))
            _, activations, *_, cancelled, _, count = rows[action]
            assert (activations, count) == (str(len(sent)), str(len(own)))
            assert cancelled == str(sum(event["type"] == "cancellation" for event in own))
        activations = sum(event["type"] == "activation" for event in events)
        assert rows["Total"][1] == f"{activations:,}"
        assert rows["Total"][-1] == f"{len(events):,}"
        assert await page.locator("#count-sent").text_content() == f"{activations:,}"
        assert await page.locator("#chart .bin").count() == len({event["timestamp"] // 60_000 for event in events})
        assert await page.get_by_role("table", name="Events of the last hour by action").is_visible()
        assert await page.get_by_role("rowheader", name="Total").count() == 1
        await shows(page, "#spoken", re.compile(r"^[\d,]+ events in the last hour, of \d actions$"))


@pytest.mark.usefixtures("at_once")
async def test_new_events_appear_without_a_reload(open_page: Open, np6: FakeNP6) -> None:
    async with open_page(path="/account") as page:
        await shows(page, "#state", "Live")
        await shows(page, "#nothing", "Nothing has happened in the last hour.")
        np6.add_events(ANNE, [make_hit("open", at=now_ms() - 500), make_hit("redirection", at=now_ms() - 400)])
        await shows(page, "#count", "2")
        assert not await page.locator("#nothing").is_visible()
        assert (await table(page))["000PE4"][1:4] == ["0", "1", "1"]
        row = await page.locator("#rows tr").element_handle()
        assert row is not None
        np6.add_events(ANNE, [make_bounce("hard", at=now_ms() - 90_000), make_activation(at=now_ms() - 1)])
        await shows(page, "#count", "4")
        assert (await table(page))["000PE4"][1:7] == ["1", "1", "1", "1", "1", "0"]
        assert await row.evaluate("row => row.isConnected")  # it was changed, not replaced
        assert await row.evaluate("row => row.querySelectorAll('.changed').length") >= 1


@pytest.mark.usefixtures("at_once")
async def test_the_account_page_shows_an_outage_while_it_lasts(open_page: Open, busy: FakeNP6) -> None:
    async with open_page(to(busy), path="/account") as page:
        await shows(page, "#state", "Live")
        count = await page.locator("#count").text_content()
        busy.script(Fault.status(503), times=None)
        await shows(page, "#notice-words", "NP6 is not working right now (status 503). Trying again")
        await shows(page, "#state", "Not live")
        assert await page.locator("#count").text_content() == count
        busy.reset()
        await shows(page, "#state", "Live")
        await page.locator("#notice").wait_for(state="hidden")


async def test_the_account_page_explains_a_wrong_key(open_page: Open, busy: FakeNP6) -> None:
    async with open_page(to(busy, api_key="another"), path="/account") as page:
        await shows(page, "#problem", re.compile("^NP6 does not accept the API key of this page"))
        await shows(page, "#state", "Not live")
        assert busy.request_count == 1
        await page.get_by_role("button", name="Resume").click()  # tries again, once
        await shows(page, "#problem", re.compile("^NP6 does not accept the API key of this page"))
        assert busy.request_count == 2


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("how", ["pause", "leave", "close", "hide"])
async def test_nothing_is_read_while_nobody_looks(open_page: Open, busy: FakeNP6, until: Any, how: str) -> None:
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with open_page(to(busy), path="/account") as page:
        await shows(page, "#state", "Live")
        match how:
            case "pause":
                await page.get_by_role("button", name="Pause").focus()
                await page.keyboard.press("Space")
                await shows(page, "#state", "Paused")
            case "leave":
                await page.get_by_role("link", name="Contact timeline").click()
                await page.get_by_role("link", name="Whole account").wait_for()
            case "close":
                await page.close()
            case "hide":
                await page.evaluate(hide, True)
        await no_reads(until, busy)
        busy.add_events(busy.contact_ids[0], [make_hit("open", at=now_ms())])
        count = sum(1 for _ in busy.account_events())
        match how:
            case "pause":
                await page.keyboard.press("Space")
            case "leave":
                await page.go_back()
            case "close":
                return
            case "hide":
                await page.evaluate(hide, False)
        await shows(page, "#state", "Live")
        await shows(page, "#count", f"{count:,}")


async def test_several_browsers_cost_np6_no_more_than_one(
    open_page: Open, busy: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "EVERY", 3_600)
    async with open_page(to(busy), path="/account") as page:
        await shows(page, "#state", "Live")
        another = await page.context.new_page()
        await another.goto(page.url)
        await shows(another, "#state", "Live")
        assert await table(another) == await table(page)
        assert busy.request_count == 1


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_hostile_actions_are_shown_and_do_nothing(
    open_page: Open, np6: FakeNP6, viewport: dict[str, int]
) -> None:
    details = [{"activation": {"id": text, "stamp": {"time": 10**40}}} for text in HOSTILE]
    np6.add_events(ANNE, [make_activation(at=now_ms() - 9, source={"type": "x", "detail": each}) for each in details])
    np6.add_events(ANNE, [make_activation(at=now_ms() - 9, source=None)])
    async with open_page(path="/account", viewport=viewport) as page:
        await shows(page, "#count", str(len(HOSTILE) + 1))
        names = await page.locator("#rows th").all_text_contents()
        assert sorted(name[:200] for name in names) == sorted([*(text[:200] for text in HOSTILE), "no action"])
        assert await page.locator("main :is(img, script, a)").count() == 0
        assert await page.title() == "Whole account, last hour"
        assert await overflow(page) <= 0
        assert await page.locator("#rows th").evaluate_all(
            "all => all.every(one => getComputedStyle(one).unicodeBidi.includes('isolate'))"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_account_page_fits_a_phone(open_page: Open, busy: FakeNP6, scheme: str) -> None:
    phone = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "reduced_motion": "reduce"}
    async with open_page(to(busy), path="/account", color_scheme=scheme, **phone) as page:
        await shows(page, "#state", "Live")
        assert await overflow(page) <= 0
        assert await page.get_by_role("row").count() == len(await table(page)) + 1  # laid out as cards, and yet a table
        assert await page.get_by_role("columnheader").count() == 12
        assert await page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_account_page_is_readable_in_both_colour_schemes(open_page: Open, busy: FakeNP6, scheme: str) -> None:
    # Without the flash of counts that change while the page is looked at.
    async with open_page(to(busy), path="/account", color_scheme=scheme, reduced_motion="reduce") as page:
        await shows(page, "#state", "Live")
        assert await page.evaluate(CONTRAST) == []


async def test_the_picture_of_the_account_page_is_that_of_the_demo(browser: Browser) -> None:
    async with TestServer(create_app(demo.connect, {"demo": False})) as server:
        page = await browser.new_page(viewport=DESKTOP, locale="en-GB", timezone_id="Europe/Paris")
        await page.goto(str(server.make_url("/account")))
        await shows(page, "#state", "Live")
        assert await page.locator("#rows tr").count() > 5
        await picture(page, "account.png")
        await page.close()


async def picture(page: Page, name: str) -> None:
    """Take a picture for the documentation if that was asked for; it is compressed if optipng is installed."""
    if MAY_WRITE:
        IMAGES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=IMAGES / name)
        if optipng := shutil.which("optipng"):
            await asyncio.to_thread(subprocess.run, [optipng, "-quiet", "-o5", str(IMAGES / name)], check=True)
