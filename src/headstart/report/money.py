"""What trainings cost in money, from a price per hour of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.errors import HeadstartError
from headstart.records import ArmResult, Clock, RaceRecord
from headstart.report.figures import CLOCK_NAMES
from headstart.report.result_tables import Column, Table, or_nothing


@dataclass(frozen=True)
class Price:
    """The price of the machine that a race ran on.

    Args:
        per_hour: For an hour of it, above 0.
        currency: Written behind every amount.

    Raises:
        HeadstartError: The price is not above 0.

    Example:
        >>> Price(2.5).of(7200.0), Price(2.5, "EUR").text(36.0)
        (5.0, '0.025 EUR')
    """

    per_hour: float
    currency: str = "USD"

    def __post_init__(self) -> None:
        if not 0 < self.per_hour < float("inf"):
            raise HeadstartError(f"price={self.per_hour}: give what an hour of the machine costs, a number above 0")

    def of(self, seconds: float) -> float:
        """What so many seconds cost."""
        return seconds / 3600 * self.per_hour

    def text(self, seconds: float) -> str:
        """The same as it is written: two decimals, more where the amount is below 1."""
        amount = self.of(seconds)
        return f"{amount:,.2f} {self.currency}" if abs(amount) >= 1 or not amount else f"{amount:.2g} {self.currency}"


def money_clock(record: RaceRecord) -> Clock:
    """The clock that is priced: the headline's, which is one of seconds."""
    return record.headline_clock if record.headline_clock != "flops" else "seconds"


def money_table(record: RaceRecord, price: Price) -> Table:
    """One row for each arm: what a training to the baseline's best costs, without and with it."""
    clock = money_clock(record)
    columns = (
        Column("Arm", "label"),
        Column("Baseline's best"),
        Column("Arm, teachers at hand"),
        Column("Saved by each training"),
        Column("Teachers' training"),
        Column("Saved by the first, teachers counted in"),
    )
    caption = (
        f"A training to the baseline's best in money: {CLOCK_NAMES[clock]} at {price.text(3600)} an hour. "
        "Below 0 it costs more."
    )
    results = [result for result in record.results if result.clock == clock]
    return Table(caption, columns, [_row(result, price) for result in results])


def saved_seconds(result: ArmResult) -> float | None:
    """Seconds that a training with the arm saves, its teachers being at hand; None where it never gets there."""
    if result.baseline_cost is None or result.arm_cost is None:
        return None
    return result.baseline_cost - result.arm_cost


def _row(result: ArmResult, price: Price) -> list[str]:
    saved = saved_seconds(result)
    loaded = None if saved is None or result.teacher_cost is None else saved - result.teacher_cost
    figures = (result.baseline_cost, result.arm_cost, saved, result.teacher_cost, loaded)
    return [result.arm, *(or_nothing(figure, price.text) for figure in figures)]
