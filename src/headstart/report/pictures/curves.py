"""The pictures of how fast the arms are: tradeoff curves, and speed-up against quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.race import TradeoffCurve, speedup_against_quality, tradeoff_curves
from headstart.race.statistics.costs import run_cost
from headstart.records import ArmResult, Clock, RaceRecord
from headstart.report import figures
from headstart.report.figures import CLOCK_NAMES, QualityScale
from headstart.report.pictures import canvas
from headstart.report.pictures.canvas import INK, PAPER, SOFT, Picture
from headstart.report.result_tables import speedup_text
from headstart.report.sentences import primary_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CAPTION = (
    "Each mark is a run. The lines are the mean curves over the seeds, made monotone; from them the speed-up is read: "
    "from the baseline's best across to where the arm gets there."
)
_SPEEDUP_CAPTION = (
    "How many times sooner an arm reaches a quality than the baseline does; below 1x it is slower. The dashed line is "
    "the baseline's best, the markers on it the arms' speed-ups with their 95 % intervals."
)
_FLOPS_CAPTION = "The same race with operations counted instead of seconds."


def tradeoff_picture(record: RaceRecord, clock: Clock, name: str) -> Picture | None:
    """Quality against cost: every run a dot, the mean curves, and for the primary arm the two costs of q*.

    Returns:
        None where no arm has a cost on this clock.
    """
    curves = tradeoff_curves(record, clock)
    if not curves:
        return None
    scale = QualityScale.of(record)
    result = next((r for r in record.results if (r.arm, r.clock) == (record.primary, clock)), None)

    def paint(axes: Axes) -> None:
        for curve in curves.values():
            _paint_curve(axes, record, curve, clock, scale)
        axes.set_ylabel(figures.capitalised(scale.label))
        axes.grid(axis="y")
        axes.margins(x=0.06, y=0.1)
        canvas.cost_axis(axes, clock, max(float(curve.cost[-1]) for curve in curves.values()))
        if result is not None:
            _mark_speedup(axes, result, scale)

    told = "; ".join(_tell_curve(curve, clock, scale) for curve in curves.values())
    return Picture(
        name=name,
        title=f"{figures.capitalised(scale.metric)} against {'FLOPs' if clock == 'flops' else 'training time'}",
        caption=_FLOPS_CAPTION if clock == "flops" and record.headline_clock != "flops" else _CAPTION,
        alt=f"Tradeoff curves of {scale.metric} against {CLOCK_NAMES[clock]}. {told}.",
        figure=canvas.draw(paint),
    )


def speedup_picture(record: RaceRecord) -> Picture | None:
    """The speed-up of every arm at every quality that it and the baseline reach; None where no arm does."""
    clock = record.headline_clock
    arms = [arm.name for arm in record.arms if arm.name != record.baseline]
    curves = [curve for arm in arms if (curve := speedup_against_quality(record, arm, clock)).quality.size]
    if not curves:
        return None
    scale = QualityScale.of(record)
    result = primary_result(record)

    def paint(axes: Axes) -> None:
        axes.axhline(1.0, color=SOFT, linewidth=1.0)
        for curve in curves:
            look = canvas.look(record, curve.arm)
            axes.plot([], [], label=canvas.plain(curve.arm), **look)
            axes.plot(scale.factor * curve.quality, curve.speedup, **{**look, "marker": ""})
        if result is not None and result.target_quality is not None:
            axes.axvline(scale.factor * result.target_quality, color=SOFT, linewidth=1.0, linestyle=(0, (4, 3)))
        _mark_estimates(axes, record, scale)
        axes.set_xlabel(figures.capitalised(scale.label))
        axes.set_ylabel(f"Speed-up in {CLOCK_NAMES[clock]}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}x")
        axes.grid(axis="y")
        if not scale.higher_is_better:
            axes.invert_xaxis()  # the better quality is on the right, whatever the metric

    told = "; ".join(
        f"{curve.arm} from {figures.times(curve.speedup[0])} at {scale.text(curve.quality[0])} "
        f"to {figures.times(curve.speedup[-1])} at {scale.text(curve.quality[-1])}"
        for curve in curves
    )
    return Picture(
        name="speedup",
        title=f"Speed-up against {scale.metric}",
        caption=_SPEEDUP_CAPTION,
        alt=f"Speed-up over the baseline against {scale.metric}: {told}.",
        figure=canvas.draw(paint),
    )


def _paint_curve(axes: Axes, record: RaceRecord, curve: TradeoffCurve, clock: Clock, scale: QualityScale) -> None:
    look = canvas.look(record, curve.arm)
    runs = [run for run in record.runs if run.arm == curve.arm]
    costs = [run_cost(run, clock, record.calibration) or float("nan") for run in runs]
    qualities = [scale.factor * run.quality for run in runs]
    axes.plot([], [], label=canvas.plain(curve.arm), **look)
    axes.plot(curve.cost, scale.factor * curve.monotone, **{**look, "marker": ""})
    dots = {"color": look["color"], "marker": look["marker"], "edgecolor": PAPER, "linewidths": 0.4, "alpha": 0.75}
    axes.scatter(costs, qualities, s=24, zorder=3, **dots)


def _mark_speedup(axes: Axes, result: ArmResult, scale: QualityScale) -> None:
    """The line at q*, and where the baseline and the arm meet it, joined by the speed-up."""
    if result.target_quality is None or result.baseline_cost is None:
        return
    target = scale.factor * result.target_quality
    axes.set_ylim(axes.get_ylim())
    # Named in the legend: beside the line there may be curves at either end.
    told = f"baseline's best: {scale.text(result.target_quality)}"
    axes.axhline(target, color=SOFT, linewidth=1.0, linestyle=(0, (4, 3)), label=told)
    poor, good = axes.get_ylim() if scale.higher_is_better else reversed(axes.get_ylim())
    ends = [cost for cost in (result.baseline_cost, result.arm_cost) if cost is not None]
    axes.vlines(ends, poor, target, color=SOFT, linewidth=1.0, linestyle=(0, (1, 2)))
    if result.speedup is not None and result.arm_cost is not None:
        _draw_arrow(axes, result.baseline_cost, result.arm_cost, poor + 0.07 * (good - poor), speedup_text(result))


def _draw_arrow(axes: Axes, start: float, end: float, height: float, text: str) -> None:
    """An arrow from one cost to another with its text above the middle."""
    axes.annotate(
        "",
        (end, height),
        xytext=(start, height),
        arrowprops={"arrowstyle": "->", "color": INK, "shrinkA": 0, "shrinkB": 0},
    )
    axes.annotate(
        text,
        ((start * end) ** 0.5, height),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        weight="bold",
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
    )


def _mark_estimates(axes: Axes, record: RaceRecord, scale: QualityScale) -> None:
    """The arms' speed-ups at q* with their intervals, side by side; an open end goes on to the edge."""
    found = [result for result in record.results if result.clock == record.headline_clock]
    marks = [
        (r.arm, r.target_quality, r.speedup) for r in found if r.target_quality is not None and r.speedup is not None
    ]
    finite = [end for _, _, speedup in marks for end in (speedup.value, speedup.low, speedup.high) if end]
    left, right = axes.get_xlim()
    bottom, top = (
        min([axes.get_ylim()[0], *(0.97 * end for end in finite)]),
        max([axes.get_ylim()[1], *(1.03 * end for end in finite)]),
    )
    axes.set(xlim=(left - 0.02 * (right - left), right + 0.02 * (right - left)), ylim=(bottom, top))
    for number, (arm, target, speedup) in enumerate(marks):
        look = canvas.look(record, arm)
        place = scale.factor * target + 0.012 * (right - left) * (number - (len(marks) - 1) / 2)
        if figures.speedup_interval(speedup):
            ends = [speedup.low or bottom, top if speedup.high is None else speedup.high]
            axes.plot([place, place], ends, color=look["color"], linewidth=1.6, solid_capstyle="butt")
        axes.plot([place], [speedup.value], **{**look, "linestyle": ""})


def _tell_curve(curve: TradeoffCurve, clock: Clock, scale: QualityScale) -> str:
    start, end = (
        f"{scale.text(curve.quality[i])} at {figures.amount(curve.cost[i], clock)}" for i in (0, len(curve.cost) - 1)
    )
    return f"{curve.arm}: {start}" + (f" to {end}" if len(curve.cost) > 1 else "")
