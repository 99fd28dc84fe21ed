"""The picture of where the time went: student, teacher and data, an arm a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.records import RaceRecord
from headstart.report import figures
from headstart.report.cells import TimeSplit, shared_budget, summarise
from headstart.report.pictures import canvas
from headstart.report.pictures.canvas import INK, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PARTS = (("student", canvas.STUDENT), ("teacher", canvas.TEACHER), ("data", canvas.DATA))
_ROOM = 0.022  # of a figure in a bar, for each of its characters, as a share of the widest bar


def time_picture(record: RaceRecord) -> Picture | None:
    """Where the calibrated time of a run goes, for every arm at the budget that most of them have in common.

    Returns:
        None where no arm's time can be split: there is no calibration, or it lacks their kinds of step.
    """
    budget = shared_budget(record)
    if budget is None:
        return None
    row = next((row for row in summarise(record) if row[0].budget == budget), [])
    splits = {cell.arm: cell.split for cell in row if cell.split is not None}
    if not splits:
        return None
    widest = max(split.total for split in splits.values())
    size, unit = figures.cost_unit(widest, "calibrated")

    def paint(axes: Axes) -> None:
        for place, split in enumerate(splits.values()):
            _paint_bar(axes, place, split, size, widest)
        axes.set_yticks(range(len(splits)), [canvas.plain(arm) for arm in splits])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.08)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"Training time, {unit}")
        axes.grid(axis="x")

    at = figures.budget(budget, record.budget_unit)
    told = "; ".join(
        f"{arm}: student {figures.seconds(split.student)} s, teacher {figures.seconds(split.teacher)} s, "
        f"data {figures.seconds(split.data)} s"
        for arm, split in splits.items()
    )
    return Picture(
        name="time",
        title=f"Where the time goes at {at}",
        caption="Student: its forward and backward pass and the update. Teacher: what distilling adds to a step. Data: "
        "making the batch. All arms at the same budget; a faster arm needs a smaller one for the same quality.",
        alt=f"Calibrated time of a run at {at}. {told}.",
        figure=canvas.draw(paint),
    )


def _paint_bar(axes: Axes, place: int, split: TimeSplit, unit: float, widest: float) -> None:
    """One arm's bar, its parts with their seconds in them and the whole behind it."""
    left = 0.0
    for part, colour in _PARTS:
        width = getattr(split, part)
        label = part if place == 0 else None
        axes.barh(place, width / unit, left=left / unit, height=0.6, color=colour, label=label)
        figure = figures.seconds(width / unit)
        if width > _ROOM * len(figure) * widest:
            middle = (left + width / 2) / unit
            axes.text(middle, place, figure, ha="center", va="center", color=canvas.ON_COLOUR)
        left += width
    axes.annotate(
        figures.seconds(split.total / unit),
        (split.total / unit, place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        weight="bold",
    )
