"""The report in a real browser: nothing fails, loads or overflows, and the filters work."""

from collections.abc import Iterator

import pytest

from browser import CHROMIUM, Browser, NoBrowser
from conftest import DEFAULTS
from report_fixtures import HOSTILE, make_metrics, make_views
from reward_model.reporting.page import render_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)")

SHOWN = "[...document.querySelectorAll('details.pair')].filter(pair => pair.checkVisibility())"
COUNT = f"{SHOWN}.length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """With a report of two sets, one of hostile texts."""
    folder = tmp_path_factory.mktemp("browser")
    views = [make_views("heldout", HOSTILE, 60), make_views("other", ("good words", "bad words", "word salad"), 60)]
    (folder / "report.html").write_text(render_page(make_metrics(), DEFAULTS, views), encoding="utf-8")
    try:
        with Browser(folder / "profile") as opened:
            opened.show(1280, 900)
            opened.open((folder / "report.html").as_uri())
            yield opened
    except NoBrowser as reason:
        pytest.skip(f"Chromium cannot be used here: {reason}")


def change(browser: Browser, field: str, value: str) -> int:
    """Fill in a field of the filter; how many pairs are shown then."""
    browser.evaluate(f"field = document.getElementById('filter-{field}'); field.value = {value!r}")
    browser.evaluate("field.dispatchEvent(new Event('input', { bubbles: true }))")
    return browser.evaluate(COUNT)


def test_filters_and_search_show_the_pairs_that_fit(browser: Browser) -> None:
    everything = browser.evaluate(COUNT)
    assert everything == 2 * 50
    assert change(browser, "set", "other") == 50
    assert change(browser, "rank", "with") == 10
    assert change(browser, "text", "no such words") == 0
    assert browser.evaluate("document.getElementById('filter-count').textContent") == "0 of 100 pairs."
    assert 0 < change(browser, "text", "WORD SALAD") <= 10
    for field in ("set", "rank", "text"):
        change(browser, field, "")
    assert browser.evaluate(COUNT) == everything


def test_keys_open_one_pair_after_the_other(browser: Browser) -> None:
    browser.evaluate("document.activeElement.blur()")
    opened = "[...document.querySelectorAll('details.pair')].map(pair => +pair.open).join('').slice(0, 3)"
    for key, expected in (("j", "100"), ("j", "010"), ("k", "100")):
        browser.press(key)
        assert browser.evaluate(opened) == expected
    browser.press("/")
    assert browser.evaluate("document.activeElement.id") == "filter-text"
    browser.press("j")
    assert browser.evaluate("document.activeElement.value") == "j", "keys are letters in the search"
    assert change(browser, "text", "") == 100


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1600])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int, dark: bool) -> None:
    browser.show(width, 900, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('figure, figure > svg, details.pair, .text, h2')]"
    assert browser.evaluate(f"Math.max(...{wide}.map(each => each.getBoundingClientRect().right))") <= width
    browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")


def test_a_text_from_right_to_left_turns_nothing_around_it(browser: Browser) -> None:
    """An isolate that a text opens and does not close ends with the element only where that is a box of its own."""
    browser.evaluate(
        "pair = [...document.querySelectorAll('details.pair')].find(each => /^\u202e/.test(each.dataset.source))"
    )
    browser.evaluate("pair.open = true; bdi = pair.querySelector('.note bdi')")
    browser.evaluate("after = bdi.nextSibling; range = document.createRange()")
    lefts = []
    for place in (2, 3, 4, 5):  # of p, a, i, r
        browser.evaluate(f"range.setStart(after, {place}); range.setEnd(after, {place} + 1)")
        lefts.append(browser.evaluate("range.getBoundingClientRect().left"))
    assert browser.evaluate("after.textContent.slice(2, 6)") == "pair"
    assert lefts == sorted(lefts)
    assert browser.evaluate("pair.open = false") is False


def test_every_chart_is_drawn(browser: Browser) -> None:
    sizes = (
        "[...document.querySelectorAll('figure > svg')].map(each => each.getBBox()).map(box => box.width * box.height)"
    )
    drawn = browser.evaluate(sizes)
    assert len(drawn) == 2 * 7 + 2
    assert min(drawn) > 100 * 50
    label = "[...document.querySelectorAll('figure > svg text')]"
    inside = "each => each.getBoundingClientRect().left >= each.closest('figure').getBoundingClientRect().left"
    assert browser.evaluate(f"{label}.every({inside})"), "no label is cut off"
    colours = "new Set([...document.querySelectorAll('svg path')].map(path => getComputedStyle(path).fill)).size"
    assert browser.evaluate(colours) > 3


def test_nothing_was_run_loaded_or_complained_of(browser: Browser) -> None:
    assert browser.evaluate("typeof window.hacked") == "undefined"
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert not [event for event in browser.events if event["method"] in complaints]
    requests = [event for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    assert len(requests) == 1, "the page itself"
