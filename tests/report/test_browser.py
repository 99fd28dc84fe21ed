"""The page in a real browser: at desktop and phone width, light, dark and printed, by keyboard and screen reader."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from browser import Browser, find_browser
from headstart.records import RaceRecord
from headstart.report import write_comparison, write_report
from tests.report.pictures.test_training import logged

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium to look at the page with"),
]

# The lowest contrast of any text with what is behind it, by WCAG's formula, and that text.
CONTRAST = """(() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => parse(colour).slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (parse(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let lowest = [99, ""];
  for (const element of document.querySelectorAll("h1, h2, h3, p, dt, dd, th, td, caption, figcaption, a, pre, span")) {
    if (!element.innerText.trim()) continue;
    const [text, ground] = [getComputedStyle(element).color, behind(element)].map(light);
    const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, element.outerHTML.slice(0, 80)];
  }
  return lowest;
})()"""
SCROLLS_SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with Browser(program) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(race: RaceRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race")
    return write_report(logged(race, folder, agreement=0.75), folder)


@pytest.mark.parametrize("width", [1280, 360])
def test_only_tables_scroll_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert not browser.ask(SCROLLS_SIDEWAYS)


def test_the_answers_are_on_the_first_screen(browser: Browser, page: Path) -> None:
    bottom = (
        "Math.max(...[...document.querySelectorAll('.answers .figure')].map(e => e.getBoundingClientRect().bottom))"
    )
    for width, height in ((1280, 800), (390, 844)):
        browser.open(page, width=width, height=height)
        assert browser.ask(bottom) < height


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    contrast, where = browser.ask(CONTRAST)
    assert contrast >= 4.5, where


def test_light_and_dark_differ_and_print_is_light(browser: Browser, page: Path) -> None:
    def brightness(scheme: str, media: str) -> float:
        browser.open(page, scheme=scheme, media=media)
        picture = Image.open(io.BytesIO(browser.picture())).convert("L")
        histogram = picture.histogram()
        return sum(value * count for value, count in enumerate(histogram)) / sum(histogram)

    assert brightness("light", "screen") > 200
    assert brightness("dark", "screen") < 80
    assert brightness("dark", "print") > 200
    curve = "getComputedStyle(document.documentElement).getPropertyValue('--arm-0')"
    assert browser.ask(curve).strip() == "#1b1f24"


def test_pictures_have_a_legible_size_on_a_phone(browser: Browser, page: Path) -> None:
    browser.open(page, width=360, height=740)
    heights = "[...document.querySelectorAll('figure svg text')].map(e => e.getBoundingClientRect())"
    assert browser.ask(f"Math.min(...{heights}.map(box => Math.min(box.width || 99, box.height)))") > 4
    sizes = "[...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect())"
    assert browser.ask(f"{sizes}.every(box => box.left >= 0 && box.right <= innerWidth && box.height > 200)")


def test_the_keyboard_reaches_contents_tables_and_links_in_order(browser: Browser, page: Path) -> None:
    browser.open(page)
    seen = []
    for _ in range(40):
        browser.press("Tab")
        seen.append(
            browser.ask(
                "[document.activeElement.tagName, document.activeElement.getBoundingClientRect().top + scrollY]"
            )
        )
    tags = [tag for tag, _ in seen]
    assert tags[0] == "A"  # past the header, to the contents
    assert {"DIV", "PRE", "SUMMARY"} <= set(tags)
    tops = [top for tag, top in seen[1 : tags.index("BODY") if "BODY" in tags else None]]
    assert tops == sorted(tops)


def test_a_screen_reader_finds_headings_named_pictures_and_table_headers(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.call("Accessibility.enable")
    nodes = [node for node in browser.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    roles = [role for role, _ in named]
    pictures = [name for role, name in named if role in ("image", "img")]
    assert len(pictures) == 7
    assert all(name.strip() for name in pictures)
    assert any("Tradeoff curves of accuracy" in name for name in pictures)
    assert roles.count("table") == roles.count("Caption") or roles.count("table") == roles.count("caption")
    assert {"main", "heading", "columnheader", "rowheader", "region"} <= set(roles)
    assert all(name.strip() for role, name in named if role in ("region", "link", "heading"))


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page)
    paper = browser.pdf()
    assert paper.startswith(b"%PDF")
    assert len(paper) > 20_000


def test_the_comparison_fits_a_phone_too(browser: Browser, race: RaceRecord, page: Path, tmp_path: Path) -> None:
    other = race.model_copy(update={"name": "a race with a rather long name of several words"})
    comparison = write_comparison({page.parent: race, tmp_path: other}, tmp_path / "comparison.html")
    for width in (1280, 360):
        browser.open(comparison, width=width)
        assert not browser.ask(SCROLLS_SIDEWAYS)
    assert browser.ask("document.querySelector('table a').href").endswith("/report.html")
    assert browser.ask(CONTRAST)[0] >= 4.5
