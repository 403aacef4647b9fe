"""The live page in a real browser, fed by a server that speaks the gateway's contract."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, Page, expect

from tests.console import scenes
from tests.console.stage import Stage, rfc3339

PHONE = {"width": 360, "height": 780}
DESK = {"width": 1280, "height": 900}


@dataclass
class Watched:
    """What a page asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@asynccontextmanager
async def opened(
    browser: Browser, stage: Stage, path: str, size: dict[str, int], *, dark: bool = False
) -> AsyncIterator[Watched]:
    """The page at `path` in a window of `size`, in a fresh profile."""
    context = await browser.new_context(
        viewport={"width": size["width"], "height": size["height"]}, color_scheme="dark" if dark else "light"
    )
    try:
        watched = Watched(await context.new_page())
        watched.page.on("request", lambda request: watched.requests.append(request.url))
        watched.page.on(
            "console",
            lambda message: watched.complaints.append(message.text) if message.type in {"error", "warning"} else None,
        )
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        await watched.page.goto(stage.url + path)
        yield watched
    finally:
        await context.close()


async def shows(page: Page, name: str, value: int) -> None:
    """Waits until the number `name` is `value`."""
    await expect(page.get_by_test_id(name)).to_have_attribute("data-value", str(value))


async def test_the_page_shows_what_the_stream_and_the_tables_say(browser: Browser, stage: Stage) -> None:
    """Every number that a person or a drill reads here is the one that the platform sent."""
    scenes.viral(stage)
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        page = watched.page
        for name, value in (
            ("events-per-second", int(stage.metrics["events"])),
            ("users-per-second", 2104),
            ("freshness-ms", 84),
            ("window-events", 27_185),
            ("stored", 1_284_906),
            ("difference", 0),
            ("totals", 1_284_906),
            ("top-item-1", 21_408),
        ):
            await shows(page, name, value)
        await expect(page.get_by_test_id("stored")).to_have_text("1,284,906")
        await expect(page.get_by_test_id("top-item-1")).to_contain_text("/launch")
        await expect(page.get_by_test_id("process-writer")).to_have_attribute("data-restarts", "1")
        await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
        await expect(page.get_by_test_id("alarm")).to_have_count(0)


async def test_the_page_asks_only_its_own_origin_and_never_fights_the_policy(browser: Browser, stage: Stage) -> None:
    """A console of a closed network must work, and a script from elsewhere must not."""
    scenes.viral(stage)
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        await shows(watched.page, "stored", 1_284_906)
        await watched.page.mouse.move(640, 320)
        assert watched.requests
        assert [url for url in watched.requests if not url.startswith(stage.url + "/")] == []
        assert watched.complaints == []


async def test_the_key_leaves_the_address_bar_and_stays_with_the_tab(browser: Browser, stage: Stage) -> None:
    """A key in the address would end in the history and in screenshots."""
    scenes.viral(stage)
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        await shows(watched.page, "difference", 0)
        assert watched.page.url == stage.url + "/"
        await watched.page.reload()
        await shows(watched.page, "difference", 0)


async def test_a_refused_key_leads_back_to_the_form_with_a_sentence(browser: Browser, stage: Stage) -> None:
    """Whoever typed a wrong key learns so, and can type another."""
    scenes.viral(stage)
    async with opened(browser, stage, "/#key=gsk_other", DESK) as watched:
        await expect(watched.page.get_by_test_id("refusal")).to_have_text(
            "This key was not accepted: The API key is unknown or has expired."
        )
        await watched.page.get_by_label("API key").fill("gsk_stage")
        await watched.page.get_by_role("button", name="Open the live page").click()
        await shows(watched.page, "stored", 1_284_906)


async def test_a_broken_stream_is_visible_keeps_its_numbers_and_mends_itself(browser: Browser, stage: Stage) -> None:
    """Old numbers say that they are old; nobody has to reload."""
    scenes.viral(stage)
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        await shows(watched.page, "users-per-second", 2104)
        stage.open = False
        await expect(watched.page.get_by_test_id("connection")).to_have_attribute("data-state", "reconnecting")
        await expect(watched.page.get_by_test_id("connection-reason")).to_contain_text("Analytics does not answer.")
        await shows(watched.page, "users-per-second", 2104)
        stage.metrics["users"] = "7"
        stage.open = True
        await expect(watched.page.get_by_test_id("connection")).to_have_attribute("data-state", "live", timeout=10_000)
        await shows(watched.page, "users-per-second", 7)


async def test_books_that_are_off_raise_an_alarm_until_they_agree_again(browser: Browser, stage: Stage) -> None:
    """A lost or doubled event is the one thing that this page must shout about."""
    scenes.viral(stage)
    stage.metrics["difference"] = stage.balance["difference"] = "-12"
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        await expect(watched.page.get_by_test_id("alarm")).to_contain_text(
            "The store holds 12 events more than were accepted."
        )
        await shows(watched.page, "difference", -12)
        stage.metrics["difference"] = stage.balance["difference"] = "0"
        await expect(watched.page.get_by_test_id("alarm")).to_have_count(0)
        await shows(watched.page, "difference", 0)


async def test_books_that_nobody_can_read_are_not_a_zero(browser: Browser, stage: Stage) -> None:
    """Before the first balance nothing is known; once the store is away, what was stored stays and the difference is not known."""
    scenes.viral(stage)
    stage.store_away = True
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        await shows(watched.page, "users-per-second", 2104)
        for figure in ("stored", "difference"):
            await expect(watched.page.get_by_test_id(figure)).to_have_attribute("data-value", "")
        await expect(watched.page.get_by_text("not known yet")).to_be_visible()
        stage.store_away = False
        await shows(watched.page, "difference", 0)
        stage.store_away = True
        await expect(watched.page.get_by_text("not known now: the store is away")).to_be_visible(timeout=10_000)
        await expect(watched.page.get_by_test_id("difference")).to_have_attribute("data-value", "")
        await shows(watched.page, "stored", 1_284_906)


async def test_sums_that_were_read_a_moment_apart_are_no_fault_and_a_difference_of_the_books_is(
    browser: Browser, stage: Stage
) -> None:
    """Goal: nothing is red while all is well, and nothing that stays away is explained away."""
    scenes.viral(stage)
    began_s = time.time()
    sums = {"accepted": "88", "stored": "88", "rollupSecond": "118", "rollupMinute": "88", "rollupHour": "58"}
    sums |= {"rollupDeviceHour": "88", "rollupItemMinute": "88", "rollupItemHour": "89"}
    stage.balance |= {**sums, "totals": "88", "time": rfc3339(began_s)}
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        page = watched.page
        await expect(page.get_by_test_id("entry-rollup-second")).to_have_text("By second30 more 118")
        await expect(page.get_by_test_id("entry-rollup-minute")).to_have_text("By minute88")
        await expect(page.get_by_test_id("entry-rollup-hour")).to_have_text("By hour30 to come 58")
        await expect(page.get_by_test_id("entry-rollup-item-hour")).to_have_text("Items by hour1 more 89")
        await expect(page.locator(".books .state-bad, .books .state-waiting")).to_have_count(0)
        stage.balance["time"] = rfc3339(began_s + 11)
        await expect(page.get_by_test_id("entry-rollup-hour")).to_contain_text("30 missing")
        stage.balance |= {"accepted": "90", "difference": "2", "time": rfc3339(began_s + 12)}
        await expect(page.get_by_test_id("entry-books-stored")).to_have_text("Stored\N{MINUS SIGN}2 88")
        await expect(page.locator(".books .state-bad")).to_have_count(1)
        await expect(page.get_by_test_id("entry-rollup-hour")).to_contain_text("30 to come")


async def test_the_tile_takes_its_good_verdict_back_while_the_books_do_not_answer(
    browser: Browser, stage: Stage
) -> None:
    """Goal: no tile is green beside a panel that says that nobody answers, and the reason is a sentence."""
    scenes.viral(stage)
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        page = watched.page
        difference = page.locator(".figure", has=page.get_by_test_id("difference"))
        await expect(difference).to_have_class(re.compile("mood-good"))
        stage.books_late = True
        await expect(page.locator(".books-card .note")).to_have_text("No answer came in time.")
        await expect(difference).to_have_class(re.compile("mood-waiting"))
        await expect(page.get_by_test_id("difference")).to_have_attribute("data-value", "")
        stage.metrics["difference"] = "5"
        await shows(page, "difference", 5)
        stage.metrics["difference"], stage.books_late = "0", False
        await expect(difference).to_have_class(re.compile("mood-good"))


async def test_what_is_stored_says_when_it_was_read(browser: Browser, stage: Stage) -> None:
    scenes.viral(stage)
    stage.books_age_s = 4.5
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        stored = watched.page.locator(".figure", has=watched.page.get_by_test_id("stored"))
        await expect(stored).to_contain_text("read 4\N{NARROW NO-BREAK SPACE}s ago")


async def test_the_time_under_the_curves_end_is_whole(browser: Browser, stage: Stage) -> None:
    """Method: the newest second is a full minute, which has a label; it is painted, and nothing is at the picture's very edge."""
    scenes.viral(stage)
    stage.metrics["time"] = rfc3339(time.time() // 60 * 60 + 1)
    painted = """(columns) => {
        const canvas = document.querySelector(".chart canvas");
        const strip = canvas.getContext("2d").getImageData(canvas.width - columns, 0, columns, canvas.height);
        return strip.data.some((value) => value > 0);
    }"""
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        await shows(watched.page, "events-per-second", int(stage.metrics["events"]))
        await watched.page.wait_for_function(f"({painted})(20) && !({painted})(1)", timeout=5_000)


async def test_counters_that_stand_still_say_so_and_show_no_number_that_nobody_counted(
    browser: Browser, stage: Stage
) -> None:
    """Goal: while the log is away nothing on the page is green or zero for want of news, also when nothing was counted before."""
    scenes.viral(stage)
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        page = watched.page
        freshness = page.locator(".figure", has=page.get_by_test_id("freshness-ms"))
        await shows(page, "freshness-ms", 84)
        await expect(freshness).not_to_have_class(re.compile("mood-waiting"))
        stage.complete_s = time.time() - 45
        stage.metrics |= {"freshnessMs": "45000", "events": "0", "users": "0"}
        await expect(freshness).to_contain_text("the counters stand still since")
        await expect(freshness).to_have_class(re.compile("mood-waiting"))
        await shows(page, "freshness-ms", 45_000)
        for unknown in ("events-per-second", "users-per-second"):
            await expect(page.get_by_test_id(unknown)).to_have_attribute("data-value", "")
        stage.metrics |= {"windowEvents": "0"}
        await shows(page, "window-events", 0)
        await shows(page, "freshness-ms", 45_000)
        stage.complete_s = None
        stage.metrics |= {"freshnessMs": "90", "events": "5", "users": "4", "windowEvents": "30000"}
        await shows(page, "freshness-ms", 90)
        await shows(page, "users-per-second", 4)
        await expect(freshness).not_to_have_class(re.compile("mood-waiting"))


async def test_a_platform_without_traffic_says_so(browser: Browser, stage: Stage) -> None:
    """Protobuf leaves zeros out: an empty message is a quiet platform, not a broken page."""
    async with opened(browser, stage, "/#key=gsk_stage", DESK) as watched:
        await shows(watched.page, "events-per-second", 0)
        await expect(watched.page.get_by_text("Nothing was opened in the last minute.")).to_be_visible()
        await expect(watched.page.get_by_test_id("freshness-ms")).to_have_attribute("data-value", "")
        assert watched.complaints == []


@pytest.mark.parametrize("path", ["/", "/#key=gsk_stage"])
@pytest.mark.parametrize("dark", [False, True])
async def test_nothing_is_wider_than_a_phone(browser: Browser, stage: Stage, path: str, dark: bool) -> None:
    """At 360 pixels the page scrolls one way only, in both themes, with numbers of any length."""
    scenes.viral(stage)
    stage.metrics |= {"stored": "9876543210123", "events": "1234567", "windowEvents": "987654321"}
    stage.upstreams["processes"][6]["state"] = "backing-off"
    async with opened(browser, stage, path, PHONE, dark=dark) as watched:
        if "key" in path:
            await shows(watched.page, "stored", 9_876_543_210_123)
        width = await watched.page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]


async def test_the_theme_follows_the_system_until_somebody_chooses(browser: Browser, stage: Stage) -> None:
    """The choice outlives a reload."""
    scenes.viral(stage)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    async with opened(browser, stage, "/#key=gsk_stage", DESK, dark=True) as watched:
        await shows(watched.page, "difference", 0)
        night = await watched.page.evaluate(ground)
        await watched.page.get_by_test_id("theme-light").click()
        assert await watched.page.evaluate(ground) != night
        await watched.page.reload()
        await shows(watched.page, "difference", 0)
        assert await watched.page.evaluate(ground) != night
