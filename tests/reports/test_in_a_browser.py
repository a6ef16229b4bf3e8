"""The pages opened from a file in headless Chromium: no request, no error, by keyboard, on a phone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from striate.reports.comparison import comparison_report
from striate.reports.run import run_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

CHROMIUM = which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

HOSTILE = "<img src=x onerror=alert(1)>"
KINDS = ("classification", "detection", "segmentation", "comparison")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Chromium has no sandbox where everything runs as root.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Opened:
    """A page, and what it did that it should not have."""

    page: Any
    wrong: list[str] = field(default_factory=list)


@pytest.fixture
def opened(
    browser: Any, written: Callable[[str], Path], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Opened]]:
    """Opens the page of a kind, at a width, in a scheme."""
    contexts = []

    def show(kind: str, width: int = 1200, scheme: str = "light") -> Opened:
        evidence = request.getfixturevalue(kind)
        path = written((comparison_report if kind == "comparison" else run_report)(evidence))
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        shown = Opened(context.new_page())
        shown.page.on("console", lambda message: shown.wrong.append(message.text))
        shown.page.on("pageerror", lambda error: shown.wrong.append(str(error)))
        shown.page.on("dialog", lambda dialog: shown.wrong.append(dialog.message))
        shown.page.on(
            "request",
            lambda asked: (
                shown.wrong.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
            ),
        )
        shown.page.goto(path.as_uri())
        return shown

    yield show
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_without_request_or_error_and_never_scrolls_sideways(
    opened: Callable[..., Opened], kind: str, width: int
) -> None:
    shown = opened(kind, width)
    assert shown.wrong == []
    assert shown.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_serious(opened: Callable[..., Opened], kind: str, scheme: str) -> None:
    shown = opened(kind, 390, scheme)
    found = axe.Axe().run(shown.page).response["violations"]
    assert [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ] == []


def test_light_and_dark_differ(opened: Callable[..., Opened]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    grounds = [opened("classification", scheme=scheme).page.evaluate(ground) for scheme in ("light", "dark")]
    assert grounds[0] != grounds[1]


def test_a_cell_opens_its_pictures_by_keyboard_and_escape_goes_back(opened: Callable[..., Opened]) -> None:
    page = opened("classification").page
    panel = page.locator("#cell-pictures")
    assert not panel.is_visible()
    page.locator("#confusion .scroll").first.focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.dataset.cell"
    assert page.evaluate(focused) == "0,1"  # of all cells the first mistake
    page.keyboard.press("Enter")
    assert panel.locator("h3").inner_text() == f"cat, taken for {HOSTILE}: 2 pictures, 1 of them shown"
    assert page.evaluate("document.activeElement.tagName") == "H3"
    assert panel.locator("img").count() == 1
    assert HOSTILE in panel.inner_text()
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert page.evaluate(focused) == "0,1"


def test_arrows_go_from_cell_to_cell(opened: Callable[..., Opened]) -> None:
    page = opened("classification").page
    # Of the cells with pictures, (0, 1) and (2, 2) share no row or column: arrows stay.
    page.locator('[data-cell="0,1"]').focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") == "0,1"
    page.evaluate("document.querySelector('[data-cell=\"2,2\"]').dataset.cell = '2,1'")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") == "2,1"
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.dataset.cell") == "0,1"


def test_html_in_names_never_becomes_an_element(opened: Callable[..., Opened]) -> None:
    shown = opened("classification")
    for cell in shown.page.locator("[data-cell]").all():
        cell.click()
    assert shown.page.locator('img[src="x"]').count() == 0
    assert shown.wrong == []


def test_a_table_sorts_by_any_column_and_says_so(opened: Callable[..., Opened]) -> None:
    page = opened("classification").page
    pictures = page.locator("#classes th").filter(has_text="pictures")
    names = page.locator("#classes tbody th")
    pictures.locator("button").click()
    assert names.all_inner_texts() == ["</script>", "cat", HOSTILE]  # 1,000, 10, 9: as numbers
    assert pictures.get_attribute("aria-sort") == "descending"
    pictures.locator("button").press("Enter")
    assert names.all_inner_texts() == [HOSTILE, "cat", "</script>"]
    page.locator("#classes th button").first.click()
    assert names.all_inner_texts()[-1] == "cat"
    assert pictures.get_attribute("aria-sort") is None


def test_the_network_folds(opened: Callable[..., Opened]) -> None:
    page = opened("classification").page
    shown = page.locator("#network tbody tr:visible")
    assert shown.count() == 7
    stem = page.locator("#network button").filter(has_text="stem")
    stem.click()
    assert shown.locator("th").all_inner_texts() == ["input", "stem", "head", "fc"]
    stem.press("Enter")
    page.locator("#network button").filter(has_text="block").click()
    assert shown.locator("th").all_inner_texts() == ["input", "stem", "conv", "block", "head", "fc"]


def test_a_window_wider_than_the_phone_scrolls_by_itself_and_by_keyboard(
    opened: Callable[..., Opened],
) -> None:
    page = opened("classification", 390).page
    region = page.get_by_role("region", name="channel 1, input")
    widths = region.evaluate("(own) => [own.scrollWidth, own.clientWidth]")
    assert widths[0] > widths[1]
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(own) => own.scrollLeft > 0", arg=region.element_handle())


def test_a_window_is_a_table_with_rows_and_columns_for_those_who_hear_it(
    opened: Callable[..., Opened],
) -> None:
    table = opened("classification").page.get_by_role("table", name="input", exact=True).first
    assert table.get_by_role("columnheader").all_inner_texts() == [str(place) for place in range(11)]
    assert table.get_by_role("rowheader").all_inner_texts() == [str(place) for place in range(-1, 10)]
    assert table.get_by_role("cell").nth(1).inner_text() == "0 p"


def test_a_folded_channel_opens_by_keyboard(opened: Callable[..., Opened]) -> None:
    page = opened("classification").page
    folded = page.locator("#inside summary").nth(1)
    cells = page.get_by_role("region", name="channel 0, kernel")
    assert not cells.is_visible()
    folded.press("Enter")
    assert cells.is_visible()


def test_printed_everything_is_opened(opened: Callable[..., Opened]) -> None:
    page = opened("classification").page
    assert page.locator("details:not([open])").count() > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()


def test_without_the_script_all_but_the_pictures_of_cells_is_there(
    browser: Any, written: Callable[[str], Path], classification: Any
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written(run_report(classification)).as_uri())
    assert page.locator("#network tbody tr:visible").count() == 7
    assert page.locator("#classes tbody tr").count() == 3
    context.close()
