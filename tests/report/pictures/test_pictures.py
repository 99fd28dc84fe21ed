"""The pictures: drawn from the record's figures, valid as files, the same every time, and safe inside a page."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from headstart.race import speedup_against_quality, tradeoff_curves
from headstart.records import Arm, Estimate, RaceRecord
from headstart.report.cells import TimeSplit, shared_budget
from headstart.report.page import draw_pictures
from headstart.report.pictures.canvas import Picture, draw, look, plain, round_ticks
from headstart.report.pictures.curves import speedup_picture, tradeoff_picture
from headstart.report.pictures.time_split import _paint_bar, time_picture

NO_METRICS = "Losses over training are not drawn: the runs have left no metrics.jsonl in the race folder."


def drawn(picture: Picture | None) -> Picture:
    assert picture is not None
    return picture


def test_every_picture_is_written_as_valid_png_and_svg(race: RaceRecord, tmp_path: Path) -> None:
    pictures, missing = draw_pictures(race)
    assert [picture.name for picture in pictures] == ["curves", "speedup", "time", "flops"]
    assert missing == [NO_METRICS]
    for picture in pictures:
        picture.save(tmp_path)
        with Image.open(tmp_path / f"{picture.name}.png") as image:
            assert image.size == (980, 700)
            assert np.asarray(image.convert("L")).std() > 5
        root = ElementTree.parse(tmp_path / f"{picture.name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        words = "".join(root.itertext())
        assert all(arm in words for arm in ("early", "whole"))


def test_the_same_race_gives_the_same_svg(race: RaceRecord) -> None:
    first, second = (drawn(tradeoff_picture(race, "calibrated", "curves")) for _ in range(2))
    assert first._render("svg") == second._render("svg")
    assert first.inline() == second.inline()
    assert b"<dc:date>" not in first._render("svg")


def test_tradeoff_curves_show_every_run_and_the_mean_curves(race: RaceRecord) -> None:
    (axes,) = drawn(tradeoff_picture(race, "calibrated", "curves")).figure.axes
    dots = np.concatenate(
        [np.asarray(collection.get_offsets()) for collection in axes.collections if collection.get_label()]
    )
    qualities = sorted(100 * run.quality for run in race.runs)
    shown = [quality for quality in qualities if np.isclose(dots[:, 1], quality).any()]
    assert shown == qualities
    lines = [np.asarray(line.get_xydata()) for line in axes.lines]
    for curve in tradeoff_curves(race, "calibrated").values():
        points = np.column_stack([curve.cost, 100 * curve.monotone])
        assert any(line.shape == points.shape and np.allclose(line, points) for line in lines)


def test_tradeoff_curves_mark_the_target_and_both_costs(race: RaceRecord) -> None:
    (axes,) = drawn(tradeoff_picture(race, "calibrated", "curves")).figure.axes
    assert "baseline's best: 92.0 %" in axes.get_legend_handles_labels()[1]
    assert "1.70x" in [text.get_text() for text in axes.texts]
    (arrow,) = (text for text in axes.texts if not text.get_text())
    assert arrow.xy[0] == 229.5  # type: ignore[attr-defined]
    assert axes.get_xscale() == "log"


def test_speedup_curves_and_intervals_are_drawn(race: RaceRecord) -> None:
    (axes,) = drawn(speedup_picture(race)).figure.axes
    lines = [np.asarray(line.get_xydata()) for line in axes.lines]
    for arm in ("early", "whole"):
        curve = speedup_against_quality(race, arm, "calibrated")
        points = np.column_stack([100 * curve.quality, curve.speedup])
        assert any(line.shape == points.shape and np.allclose(line, points) for line in lines)
    bars = [line[:, 1].tolist() for line in lines if line.shape == (2, 2)]
    assert [1.5, 1.9] in bars
    assert [0.95, 1.62] in bars


def test_an_open_end_of_an_interval_goes_on_to_the_edge(with_primary: Callable[..., RaceRecord]) -> None:
    speedup = Estimate(value=1.2, low=0.0, high=1.5)
    (axes,) = drawn(speedup_picture(with_primary(verdict="not resolved", speedup=speedup))).figure.axes
    bars = [np.asarray(line.get_xydata())[:, 1].tolist() for line in axes.lines]
    assert [axes.get_ylim()[0], 1.5] in bars


def test_bars_are_the_calibrated_parts_at_the_reference_budget(race: RaceRecord) -> None:
    picture = drawn(time_picture(race))
    (axes,) = picture.figure.axes
    widths = [patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]
    steps = 16 * 469
    student, teacher, data = widths[3:6]  # of the second arm, which distils half of its steps
    assert teacher == pytest.approx(steps / 2 * 0.021)
    assert data == pytest.approx(steps * 0.004)
    assert student + teacher + data == pytest.approx(steps / 2 * (0.052 + 0.074))
    assert picture.title == "Where the time goes at 16 epochs"


def test_a_bar_too_narrow_for_its_figure_has_none() -> None:
    axes = Figure().add_subplot()
    _paint_bar(axes, 0, TimeSplit(student=0.253, teacher=0.0344, data=0.009), 1.0, 0.296)
    assert [text.get_text() for text in axes.texts] == ["0.253", "0.296"]


def test_bars_are_at_a_budget_that_all_arms_have(race: RaceRecord) -> None:
    runs = [run for run in race.runs if run.arm == "baseline" or run.budget <= 4]
    (axes,) = drawn(time_picture(race.model_copy(update={"runs": runs}))).figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["baseline", "early", "whole"]
    assert shared_budget(race.model_copy(update={"runs": runs})) == 4.0
    assert shared_budget(race) == 16.0  # the baseline's best
    assert shared_budget(race.model_copy(update={"runs": []})) is None


def test_what_cannot_be_drawn_is_told(race: RaceRecord) -> None:
    bare = [run.model_copy(update={"flops": None, "teacher_flops": None}) for run in race.runs]
    pictures, missing = draw_pictures(
        race.model_copy(update={"calibration": None, "runs": bare, "headline_clock": "seconds"})
    )
    assert [picture.name for picture in pictures] == ["curves", "speedup"]
    assert missing == [
        "Where the time goes cannot be shown: the race does not know the parts of a step, it was not calibrated.",
        "Curves in FLOPs are not drawn: the runs do not count them.",
        NO_METRICS,
    ]
    pictures, missing = draw_pictures(race.model_copy(update={"runs": []}))
    assert (pictures, len(missing)) == ([], 5)


def test_a_metric_where_lower_is_better_puts_the_better_end_on_the_right(race: RaceRecord) -> None:
    runs = [
        run.model_copy(update={"quality": 3 - 2 * run.quality, "metric": "loss", "higher_is_better": False})
        for run in race.runs
    ]
    (axes,) = drawn(speedup_picture(race.model_copy(update={"runs": runs, "results": []}))).figure.axes
    left, right = axes.get_xlim()
    assert left > right
    assert axes.get_xlabel() == "Loss, lower is better"


def test_inline_pictures_take_the_colours_of_the_page_and_say_what_they_show(race: RaceRecord) -> None:
    svg = drawn(tradeoff_picture(race, "calibrated", "curves")).inline()
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root[0].tag == "title"
    assert root[0].text == "Accuracy against training time"
    assert root[1].text is not None and root[1].text.startswith("Tradeoff curves of accuracy")
    assert root.attrib["aria-labelledby"].split() == [root[0].attrib["id"], root[1].attrib["id"]]
    assert "#1b1f24" not in svg
    assert "var(--arm-1)" in svg
    identifiers = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    used = [element.attrib["href"] for element in root.iter() if "href" in element.attrib]
    assert used and all(reference[1:] in identifiers for reference in used)


def test_names_are_drawn_as_they_are(race: RaceRecord) -> None:
    names = {"early": r"_a $\frac{ </svg><script>", "whole": "_" + 60 * "long"}
    renamed = race.model_copy(
        update={
            "arms": [Arm(name=names.get(arm.name, arm.name)) for arm in race.arms],
            "runs": [run.model_copy(update={"arm": names.get(run.arm, run.arm)}) for run in race.runs],
            "results": [],
            "primary": names["early"],
        }
    )
    picture = drawn(tradeoff_picture(renamed, "calibrated", "curves"))
    root = ElementTree.fromstring(picture._render("svg"))
    assert r"_a $\frac{ </svg><script>" in "".join(root.itertext())
    assert "<script" not in picture.inline()


@pytest.mark.parametrize(("arms", "letters"), [(2, 5), (6, 12), (20, 12), (20, 22), (12, 28)])
def test_a_legend_stays_inside_its_picture_and_leaves_the_axes_their_room(arms: int, letters: int) -> None:
    def paint(axes: Axes) -> None:
        for number in range(arms):
            axes.plot([0, 1], [0, 1], label=f"{number:02}".ljust(letters, "m"))

    figure = draw(paint)
    (legend,), (axes,) = figure.legends, figure.axes
    box, whole = legend.get_window_extent(), figure.bbox
    assert box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1
    assert box.y0 >= axes.get_window_extent().y1
    assert axes.get_window_extent().height >= 0.6 * draw(paint, legend=False).axes[0].get_window_extent().height


def test_plain_names() -> None:
    assert plain("two\nlines") == "two lines"
    assert plain(40 * "x") == 27 * "x" + "…"


def test_arms_beyond_the_palette_still_differ(race: RaceRecord) -> None:
    many = race.model_copy(update={"arms": [Arm(name=f"arm {number}") for number in range(22)]})
    looks = {tuple(look(many, arm.name)[part] for part in ("color", "marker", "linestyle")) for arm in many.arms}
    assert len(looks) == 22


@pytest.mark.parametrize(("low", "high"), [(45.0, 800.0), (100.0, 450.0), (0.4, 30000.0), (1e-3, 1e9), (7.0, 9.0)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert 1 <= len(ticks) <= 7
    assert all(low <= tick <= high and float(f"{tick:.2g}") == tick for tick in ticks)
    assert ticks == sorted(ticks)
