"""Several races beside each other: a table, a picture, and a page that links to their reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from headstart.errors import HeadstartError
from headstart.files import write_atomically
from headstart.records import ArmResult, RaceRecord
from headstart.report import figures, html
from headstart.report.figures import CLOCK_NAMES, NOTHING, QualityScale
from headstart.report.loaded import loaded_text
from headstart.report.money import Price, money_clock, saved_seconds
from headstart.report.page import PAGE, shown
from headstart.report.pictures import canvas
from headstart.report.pictures.canvas import ARM_COLOURS, INK, SOFT, Picture
from headstart.report.result_tables import Cell, Column, Link, Table, or_nothing, speedup_text
from headstart.report.sentences import primary_result, verdict_sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Races = Mapping[str, RaceRecord] | Mapping[Path, RaceRecord]


def write_comparison(races: Races, path: str | os.PathLike[str], *, price: Price | None = None) -> Path:
    """Write one self-contained page that compares races: verdicts, speed-ups with their intervals, gains, costs.

    The races may be of different tasks: what is compared are ratios and gains, each against its own baseline. Their
    curves are not laid over each other, because quality and seconds of different races are not of one kind.

    Args:
        races: Race folder -> its record, judged. Two or more.
        path: The page. Links to the races' own reports are relative to it.
        price: Of the machine; with it the table tells savings in money, too.

    Returns:
        The path of the page.

    Raises:
        HeadstartError: There are fewer than two races, or the page cannot be written.
    """
    if len(races) < 2:
        raise HeadstartError("a comparison takes two races or more; give their folders")
    path = Path(path)
    picture = _speedups(_named(races))
    page = html.render(
        "compare.html.j2",
        title=f"{len(races)} races compared",
        table=comparison_table(races, price=price, base=path.parent),
        verdicts=[(name, verdict_sentence(record)) for name, record in _named(races).items()],
        pictures=[] if picture is None else [shown(picture)],
        missing=[] if picture is not None else ["Speed-ups are not drawn: no race has one."],
    )
    with html.writing(path):
        write_atomically(path, page.encode())
    return path


def comparison_table(races: Races, *, price: Price | None = None, base: Path | None = None) -> Table:
    """One row for each race: its primary arm against its baseline, on its headline clock.

    Args:
        races: As in `write_comparison`.
        price: As in `write_comparison`.
        base: The folder that links to the races' reports start from; None: no links.
    """
    columns = (
        Column("Race", "label"),
        Column("Arm", "label"),
        Column("Verdict", "label"),
        Column("Speed-up"),
        Column("95 % interval"),
        Column("Baseline's best costs"),
        Column("Arm gets there for"),
        Column("Gain at equal cost"),
        Column("Teachers counted in"),
        Column("Breaks even after"),
        Column("Saved by each training"),
        Column("Clock", "label"),
        Column("Report", "label"),
    )
    folders = [Path(folder) for folder in races]
    rows = [
        [name, *_row(record, price), () if base is None else _report_links(folder, base)]
        for folder, (name, record) in zip(folders, _named(races).items(), strict=True)
    ]
    caption = "The primary arm of each race against its own baseline."
    return Table(caption, columns, rows).without_empty("Saved by each training", "Report")


def _row(record: RaceRecord, price: Price | None) -> list[Cell]:
    result = primary_result(record)
    if result is None or result.status == "no data":
        return [record.primary, *[NOTHING] * 9, CLOCK_NAMES[record.headline_clock]]
    scale, clock = QualityScale.of(record), result.clock
    priced = price is not None and clock == money_clock(record)
    return [
        result.arm,
        result.verdict,
        speedup_text(result),
        (figures.speedup_interval(result.speedup) if result.speedup else "") or NOTHING,
        or_nothing(result.baseline_cost, lambda value: figures.amount(value, clock)),
        or_nothing(result.arm_cost, lambda value: figures.amount(value, clock)),
        NOTHING if result.gain is None else scale.difference(result.gain.value),
        loaded_text(record, result),
        or_nothing(result.break_even, lambda number: figures.count(number, "training")),
        or_nothing(saved_seconds(result) if priced else None, price.text) if price is not None else NOTHING,
        CLOCK_NAMES[clock],
    ]


def _named(races: Races) -> dict[str, RaceRecord]:
    """The races by name; by the folder where several have the same."""
    names = [record.name for record in races.values()]
    last = [Path(folder).name for folder in races]
    return {
        record.name if names.count(record.name) == 1 else name if last.count(name) == 1 else str(folder): record
        for (folder, record), name in zip(races.items(), last, strict=True)
    }


def _report_links(folder: Path, base: Path) -> tuple[Link, ...]:
    """A link to a race's own report, where it has been written."""
    page = folder / PAGE
    if not page.is_file():
        return ()
    return (Link("report", quote(f"./{Path(os.path.relpath(page, base)).as_posix()}")),)


def _speedups(races: Mapping[str, RaceRecord]) -> Picture | None:
    """The speed-ups with their intervals, a race a line; None where no race has one."""
    found = {name: primary_result(record) for name, record in races.items()}
    results = {name: result for name, result in found.items() if result is not None and result.speedup is not None}
    if not results:
        return None

    def paint(axes: Axes) -> None:
        axes.axvline(1.0, color=SOFT, linewidth=1.0)
        axes.set_xscale("log")
        for place, result in enumerate(results.values()):
            _paint_interval(axes, place, result)
        low, high = axes.get_xlim()
        ticks = canvas.round_ticks(low, high, most=5)
        axes.set_xticks(ticks, [f"{tick:.4g}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(range(len(results)), [canvas.plain(name) for name in results])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(results) - 0.5, -0.5)
        axes.set_xlabel("Speed-up to the baseline's best")
        axes.grid(axis="x")

    told = "; ".join(
        f"{name}: {speedup_text(result)}"
        + figures.in_brackets(figures.speedup_interval(result.speedup) if result.speedup else "")
        for name, result in results.items()
    )
    return Picture(
        name="speedups",
        title="Speed-ups and their 95 % intervals",
        caption="Right of the line at 1x the arm is faster. A filled mark is resolved, of an open one the interval "
        "does not tell. At an arrow the interval has no end.",
        alt=f"Speed-ups with 95 % intervals. {told}.",
        figure=canvas.draw(paint, legend=False),
    )


def _paint_interval(axes: Axes, place: int, result: ArmResult) -> None:
    """One race's speed-up and interval; an arrow stands for an end that is open."""
    speedup = result.speedup
    assert speedup is not None
    colour = ARM_COLOURS[1]
    if figures.speedup_interval(speedup):
        low, high = speedup.low or 0.5 * speedup.value, speedup.high or 2.0 * speedup.value
        axes.plot([low, high], [place, place], color=colour, linewidth=2.0, solid_capstyle="butt")
        for end, is_open, mark in ((low, not speedup.low, "<"), (high, speedup.high is None, ">")):
            if is_open:
                axes.plot([end], [place], mark, color=colour, markersize=7)
    filled = colour if result.verdict != "not resolved" else canvas.PAPER
    axes.plot([speedup.value], [place], "o", color=colour, markerfacecolor=filled, markersize=8, markeredgewidth=1.8)
    axes.annotate(speedup_text(result), (speedup.value, place), xytext=(0, 9), textcoords="offset points", ha="center")
