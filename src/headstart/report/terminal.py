"""The results of a race as a small table for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from headstart.records import ArmResult, RaceRecord
from headstart.report import figures
from headstart.report.compare import Races, comparison_table
from headstart.report.figures import CLOCK_NAMES, NOTHING, QualityScale
from headstart.report.loaded import loaded_text
from headstart.report.result_tables import or_nothing, speedup_text

_COMPARED = ("Race", "Arm", "Verdict", "Speed-up", "95 % interval", "Gain at equal cost", "Breaks even after")


def results_table(record: RaceRecord) -> Table:
    """The results of a race for the terminal: a row an arm, on the headline clock, its speed-up in FLOPs beside it.

    Args:
        record: A race, judged (`headstart.race.judge`).

    Returns:
        A table to print with rich; names from the race are never read as markup.

    Example:
        >>> from headstart.records import Arm, ArmResult, Estimate, RaceRecord
        >>> result = ArmResult(
        ...     arm="b", clock="seconds", status="reached", verdict="not resolved", speedup=Estimate(value=1.7)
        ... )
        >>> race = RaceRecord(
        ...     arms=[Arm(name="a"), Arm(name="b")], baseline="a", primary="b", budgets=[1], seeds=[0], results=[result]
        ... )
        >>> results_table(race).row_count
        1
    """
    scale = QualityScale.of(record)
    caption = Text(f"Against {record.baseline}, in {CLOCK_NAMES[record.headline_clock]}.")
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("Arm", overflow="fold")
    table.add_column("Verdict")
    gain = "Gain at equal time" + (", points" if scale.percent else "")
    for head in ("Speed-up", "95 % interval", "In FLOPs", gain, "Teachers counted in", "Reuses to break even"):
        table.add_column(head, justify="right", min_width=max(len(word) for word in head.split()))
    for result in record.results:
        if result.clock == record.headline_clock:
            table.add_row(*(Text(cell) for cell in _row(record, result, scale)))
    return table


def races_table(races: Races) -> Table:
    """Several races for the terminal: a row a race, its primary arm on its headline clock.

    Args:
        races: Race folder -> its record, judged.
    """
    shown = comparison_table(races)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    places = [place for place, column in enumerate(shown.columns) if column.name in _COMPARED]
    for place in places:
        column = shown.columns[place]
        table.add_column(column.name, overflow="fold", justify="right" if column.kind == "number" else "left")
    for row in shown.rows:
        table.add_row(*(Text(str(row[place])) for place in places))
    return table


def _row(record: RaceRecord, result: ArmResult, scale: QualityScale) -> list[str]:
    in_flops = next((other for other in record.results if (other.arm, other.clock) == (result.arm, "flops")), None)
    return [
        result.arm,
        NOTHING if result.status == "no data" else result.verdict,
        speedup_text(result),
        (figures.speedup_interval(result.speedup) if result.speedup else "") or NOTHING,
        NOTHING if in_flops is None else speedup_text(in_flops),
        NOTHING if result.gain is None else scale.signed(result.gain.value),
        loaded_text(record, result),
        or_nothing(result.break_even, str),
    ]
