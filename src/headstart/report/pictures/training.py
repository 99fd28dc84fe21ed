"""The pictures of what happened during training: losses, and how far student and teacher agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from headstart.records import RaceRecord
from headstart.report import figures
from headstart.report.cells import shared_budget
from headstart.report.pictures import canvas
from headstart.report.pictures.canvas import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRICS = "metrics.jsonl"
_POINTS = 40  # of a curve: more would show the batches' noise and not the course of training
Line = Mapping[str, Any]
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class _Quantity:
    """Something that a line of metrics holds.

    Attributes:
        take: Its value; None where the line has none.
        factor: What it is multiplied by before it is shown.
        falls: A loss: it falls fast at first, and is shown on a logarithmic axis.
    """

    name: str
    title: str
    label: str
    caption: str
    take: Callable[[Line], object]
    factor: float = 1.0
    falls: bool = True


_ALL = "Means over the seeds, of single batches in training mode."
_QUANTITIES = (
    _Quantity(
        "task-loss",
        "Task loss",
        "Task loss",
        f"The loss that every arm has, without what teachers add. {_ALL}",
        lambda line: line.get("task_loss", line.get("loss")),
    ),
    _Quantity(
        "distill-loss",
        "Distillation loss",
        "Distillation loss",
        f"Before weighting, while the window is open. {_ALL}",
        lambda line: line.get("distill_loss"),
    ),
    _Quantity(
        "agreement",
        "Agreement of student and teacher",
        "Same top class (%)",
        f"Share of the distilled rows in which both have the same top class, while the window is open. {_ALL}",
        lambda line: line.get("agreement"),
        factor=100.0,
        falls=False,
    ),
)


def training_pictures(record: RaceRecord, folder: Path | None) -> tuple[list[Picture], list[str]]:
    """Losses and agreement over the steps of training, at the budget that most arms have in common.

    Args:
        record: The race.
        folder: The race folder, for the metrics of its runs; None: there are none to read.

    Returns:
        The pictures, and a sentence for what is not there.
    """
    budget = shared_budget(record)
    lines = {} if folder is None or budget is None else _read(record, folder, budget)
    if budget is None or not lines:
        return [], [f"Losses over training are not drawn: the runs have left no {_METRICS} in the race folder."]
    drawn = {quantity.name: _picture(record, quantity, lines, budget) for quantity in _QUANTITIES}
    missing = []
    if drawn["distill-loss"] is not None and drawn["agreement"] is None:
        missing.append("Agreement of student and teacher is not drawn: the runs did not log it.")
    return [picture for picture in drawn.values() if picture is not None], missing


def _read(record: RaceRecord, folder: Path, budget: float) -> dict[str, list[list[Line]]]:
    """The metrics of the runs at one budget that have any, by arm."""
    found: dict[str, list[list[Line]]] = {}
    for arm in record.arms:
        for run in record.runs:
            if (run.arm, run.budget) == (arm.name, budget) and run.folder is not None:
                lines = list(_lines(folder / run.folder / _METRICS))
                if lines:
                    found.setdefault(arm.name, []).append(lines)
    return found


def _lines(path: Path) -> Iterator[Line]:
    """The lines of a file of metrics; what is none of ours is passed over."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            yield values


def _picture(
    record: RaceRecord, quantity: _Quantity, lines: Mapping[str, list[list[Line]]], budget: float
) -> Picture | None:
    curves = {arm: curve for arm, runs in lines.items() if (curve := _curve(runs, quantity))}
    if not curves:
        return None

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for arm, curve in curves.items():
            look = canvas.look(record, arm)
            marks = {"markersize": 4.5, "markevery": max(1, len(curve) // 6), "linewidth": 1.5}
            axes.plot(*zip(*curve, strict=True), label=canvas.plain(arm), **{**look, **marks})
        axes.set_xlabel("Step")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))  # there is no half of a step
        axes.set_ylabel(quantity.label)
        axes.set_xlim(left=0)
        if quantity.falls and all(value > 0 for curve in curves.values() for _, value in curve):
            canvas.plain_logarithmic(axes)
        axes.grid(axis="y")

    told = "; ".join(f"{arm} from {curve[0][1]:.3g} to {curve[-1][1]:.3g}" for arm, curve in curves.items())
    at = figures.budget(budget, record.budget_unit)
    return Picture(
        name=quantity.name,
        title=f"{quantity.title} during training, {at}",
        caption=quantity.caption,
        alt=f"{quantity.label} over the steps of training at {at}: {told}.",
        figure=canvas.draw(paint),
    )


def _curve(runs: Sequence[Sequence[Line]], quantity: _Quantity) -> Curve:
    """The mean over the runs at each step that one of them logged, then over neighbouring steps."""
    values: dict[int, list[float]] = {}
    for line in (line for lines in runs for line in lines):
        value = quantity.take(line)
        if isinstance(value, int | float):
            values.setdefault(line["step"], []).append(quantity.factor * value)
    points = [(float(step), fmean(values[step])) for step in sorted(values)]
    size = -(-len(points) // _POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size or 1)]
    return [(fmean(step for step, _ in group), fmean(value for _, value in group)) for group in groups]
