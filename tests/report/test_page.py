"""The page: one file, complete without a network, escaped throughout, well formed, and true to the record."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from headstart.errors import HeadstartError
from headstart.records import Arm, Failure, RaceRecord
from headstart.report import verdict_sentence, write_report
from headstart.report.figures import NOTHING
from headstart.report.page import draw_pictures, render_page

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "\"><script>alert('x')</script>&amp;"


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, the text below each kind, and whether tags match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data.strip()

    def text(self, tag: str) -> str:
        return " ".join(data for name, data in self.texts if name == tag)

    def tags(self, *names: str) -> list[str]:
        return [tag for tag, _ in self.elements if tag in names]


@pytest.fixture(scope="module")
def page(race: RaceRecord, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("race") / "new" / "folder"
    path = write_report(race, folder)
    assert path == folder / "report.html"
    assert {file.name for file in path.parent.iterdir()} == {
        "report.html",
        *(f"{name}.{kind}" for name in ("curves", "speedup", "time", "flops") for kind in ("png", "svg")),
    }
    return path.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    parsed = Page(page)
    assert not parsed.tags("script", "link", "img", "iframe", "object", "embed", "base", "form")
    for _, attributes in parsed.elements:
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "./"))
    assert "http" not in page
    assert "@import" not in page
    assert all(reference.startswith("#") for reference in re.findall(r"url\(([^)]*)\)", page))


def test_the_page_is_well_formed_and_accessible(page: str) -> None:
    parsed = Page(page)
    identifiers = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in parsed.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(identifiers)
    headings = [int(tag[1]) for tag in parsed.tags("h1", "h2", "h3")]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert len(parsed.tags("caption")) == len(parsed.tags("table"))
    assert len(parsed.tags("title")) == 1 + len(parsed.tags("svg"))
    assert ("html", {"lang": "en"}) in parsed.elements


def test_the_first_screen_answers_the_four_questions(race: RaceRecord, page: str) -> None:
    header = page[: page.index("<main")]
    parsed = Page(page)
    verdict = re.search(r'<p class="verdict">(.*?)</p>\s*<p class="caveat">(.*?)</p>', header, re.DOTALL)
    assert verdict is not None
    assert " ".join(verdict.groups()).replace("&#39;", "'") == verdict_sentence(race)
    assert parsed.text("dt").startswith("Is it faster? By how much? How sure is that? What did the teachers cost?")
    for answer in (
        "Yes",
        "1.70x",
        "230 s instead of 390 s (calibrated). At equal time: +0.42 points.",
        "1.50 to 1.90",
        "95 % interval of the speed-up. 34 runs with 3 seeds, 2 failed.",
        "635 s",
        "Their training counted in once: 0.45x. Paid back after 4 trainings.",
    ):
        assert answer in header


def test_every_table_row_is_on_the_page(page: str) -> None:
    rows = Page(page).rows
    assert sum(row[0] in ("early", "whole") and "x (" in row[2] for row in rows) == 6
    assert sum(len(row) == 11 and row[1].endswith(" epochs") for row in rows) == 12
    assert ["large", "early, whole", "92.90", "172,506", "420", "240 TFLOP"] in rows
    assert ["whole", "8 epochs", "1", "loss not finite"] in rows
    assert ["plain", "52.0", "51.0 to 53.0", "200", "4.00", NOTHING] in rows
    assert ["python", "3.11.2"] in rows


def test_recipe_command_and_date_are_on_the_page(race: RaceRecord, page: str) -> None:
    parsed = Page(page)
    assert race.recipe in parsed.text("pre")
    assert race.command in parsed.text("pre")
    assert race.date in parsed.text("span")


def test_everything_from_the_race_is_escaped(race: RaceRecord) -> None:
    name = f"arm {HOSTILE}"
    hostile = race.model_copy(
        update={
            "name": HOSTILE,
            "arms": [*race.arms[:2], Arm(name=name, description=HOSTILE, overrides={HOSTILE: HOSTILE})],
            "runs": [
                run.model_copy(update={"arm": name if run.arm == "whole" else run.arm, "metric": HOSTILE})
                for run in race.runs
            ],
            "results": [
                result.model_copy(update={"arm": name if result.arm == "whole" else result.arm})
                for result in race.results
            ],
            "failures": [Failure(arm=name, budget=2.0, seed=0, message=HOSTILE)],
            "primary": name,
            "budget_unit": HOSTILE,
            "recipe": HOSTILE,
            "command": HOSTILE,
            "environment": {HOSTILE: HOSTILE},
            "date": HOSTILE,
        }
    )
    text = render_page(hostile, *draw_pictures(hostile))
    parsed = Page(text)
    assert not parsed.tags("script")
    assert "<script" not in text
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert HOSTILE in parsed.text("pre")
    assert any(HOSTILE in cell for row in parsed.rows for cell in row)


def test_a_page_that_cannot_be_written_leaves_no_half_of_a_picture(race: RaceRecord, tmp_path: Path) -> None:
    (tmp_path / "curves.svg").mkdir()
    with pytest.raises(HeadstartError, match=r"report.html: the report cannot be written .*; what was raced is kept"):
        write_report(race, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "curves.svg"]


def test_the_same_race_gives_the_same_page(race: RaceRecord, page: str, tmp_path: Path) -> None:
    again = write_report(race, tmp_path).read_text(encoding="utf-8")
    assert write_report(race, tmp_path).read_text(encoding="utf-8") == again
    # Elsewhere only the links differ: to what is there.
    assert again.partition('<h2 id="files">')[0] == page.partition('<h2 id="files">')[0]


def test_the_page_of_a_race_without_runs_says_what_is_missing(race: RaceRecord) -> None:
    empty = race.model_copy(update={"runs": [], "failures": [], "results": [], "calibration": None})
    text = render_page(empty, [], ["Nothing is drawn."])
    parsed = Page(text)
    assert "Not known" in parsed.text("dd")
    assert "Nothing is drawn." in parsed.text("p")
    assert "The race has not been judged." in parsed.text("p")
    assert "The runs name no teachers." in parsed.text("p")


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ({"teacher_cost": None, "loaded_speedup": None, "break_even": None}, ["Not known", "not their own training"]),
        ({"break_even": None}, ["Their training does not pay for itself."]),
        ({"verdict": "slower"}, ["No, slower", 'class="slower"']),
        ({"verdict": "not resolved"}, ["Not resolved", 'class="open"', "may be chance"]),
        ({"status": "not reached", "speedup": None, "arm_cost": None}, ["Not reached", "+0.21 to +0.63"]),
        ({"status": "at least"}, ["At least 1.70x"]),
        ({"gain": None, "speedup": {"value": 1.7}}, ["One run a budget gives no interval; race two seeds or more."]),
    ],
)
def test_the_answers_follow_the_result(race: RaceRecord, changes: dict[str, object], answers: list[str]) -> None:
    primary = race.results[0]
    result = type(primary).model_validate({**primary.model_dump(), **changes})
    text = render_page(race.model_copy(update={"results": [result]}), [], [])
    assert all(answer in text for answer in answers)
