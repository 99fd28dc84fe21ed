"""Figures as people read them: one way to write a quality, a cost, a ratio and a budget everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from headstart.records import Clock, Estimate, RaceRecord

NOTHING = "\N{EN DASH}"

CLOCK_NAMES: dict[Clock, str] = {"calibrated": "calibrated seconds", "seconds": "raw seconds", "flops": "FLOPs"}
"""The clocks, in the order in which a report shows them."""

_SI = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((1000.0, 1.0, "seconds"), (4 * 3600.0, 60.0, "minutes"))
_LONG = (3600.0, "hours")


@dataclass(frozen=True)
class QualityScale:
    """How a race's metric is written: an accuracy in [0, 1] as per cent, anything else as it is.

    Args:
        metric: The metric's name.
        percent: Whether values are fractions to be shown as per cent.
        higher_is_better: The metric's direction.

    Example:
        >>> scale = QualityScale("accuracy", percent=True)
        >>> scale.text(0.9234), scale.difference(0.0042)
        ('92.3 %', '+0.42 points')
    """

    metric: str
    percent: bool
    higher_is_better: bool = True

    @classmethod
    def of(cls, record: RaceRecord) -> QualityScale:
        """The scale of a race's runs; of a race without runs, plain numbers."""
        if not record.runs:
            return cls("quality", percent=False)
        first = record.runs[0]
        fractions = all(0.0 <= run.quality <= 1.0 for run in record.runs)
        return cls(first.metric, "accuracy" in first.metric.lower() and fractions, first.higher_is_better)

    @property
    def factor(self) -> float:
        """What a value is multiplied by before it is shown."""
        return 100.0 if self.percent else 1.0

    @property
    def label(self) -> str:
        """The metric's name for an axis or a table's head, with its unit and, where it is unusual, its direction."""
        unit = " (%)" if self.percent else ""
        return self.metric + unit + ("" if self.higher_is_better else ", lower is better")

    def number(self, value: float) -> str:
        """A value without its unit, for a column whose head names it."""
        return f"{100 * value:.2f}" if self.percent else f"{value:.4g}"

    def text(self, value: float) -> str:
        """A value with its unit, rounded for a sentence."""
        return f"{100 * value:.1f} %" if self.percent else f"{value:.4g}"

    def signed(self, value: float) -> str:
        """A difference of qualities with its sign, without a unit."""
        return f"{100 * value:+.2f}" if self.percent else f"{value:+.3g}"

    def difference(self, value: float) -> str:
        """A difference of qualities with its sign and unit."""
        return self.signed(value) + (" points" if self.percent else "")


def ratio(value: float) -> str:
    """A speed-up without its sign of multiplication: two decimals, fewer where they would say nothing."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def times(value: float) -> str:
    """A speed-up: `1.70x`."""
    return ratio(value) + "x"


def speedup_interval(estimate: Estimate) -> str:
    """The 95 % interval of a speed-up as `1.50 to 1.90`; empty where there is none.

    With noise so large that it says nothing, neither end is there: that is an interval, too.

    Example:
        >>> speedup_interval(Estimate(value=1.7, low=1.5, high=1.9)), speedup_interval(Estimate(value=1.7, low=1.5))
        ('1.50 to 1.90', '1.50 or more')
    """
    if estimate.low == 0 and estimate.high is None:
        return "open at both ends"
    return _interval(estimate.low or None, estimate.high, ratio)  # a speed-up of 0 stands for "never": no lower end


def gain_interval(estimate: Estimate, scale: QualityScale) -> str:
    """The 95 % interval of a gain in quality; empty where there is none."""
    return _interval(estimate.low, estimate.high, scale.signed)


def amount(value: float, clock: Clock) -> str:
    """A cost in its clock's unit, three significant digits or whole seconds.

    Example:
        >>> amount(98.76, "seconds"), amount(1234.5, "calibrated"), amount(2.5e15, "flops")
        ('98.8 s', '1,234 s', '2.50 PFLOP')
    """
    return operations(value) if clock == "flops" else f"{seconds(value)} s"


def seconds(value: float) -> str:
    """Seconds without their unit, for a column whose head names it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 10 else f"{value:.1f}"


def operations(value: float) -> str:
    """A count of floating-point operations with an SI prefix."""
    size, name = cost_unit(value, "flops")
    scaled = value / size
    return f"{scaled:.0f} {name}" if scaled >= 100 or size == 1 else f"{scaled:#.3g} {name}"


def cost_unit(largest: float, clock: Clock) -> tuple[float, str]:
    """The unit that suits costs up to `largest`: its size in the clock's own unit, and its name for an axis.

    Example:
        >>> cost_unit(2000.0, "calibrated"), cost_unit(3e15, "flops")
        ((60.0, 'calibrated minutes'), (1000000000000000.0, 'PFLOP'))
    """
    if clock == "flops":
        size, prefix = next(((size, prefix) for size, prefix in _SI if largest >= size), (1.0, ""))
        return size, f"{prefix}FLOP"
    kind = "calibrated" if clock == "calibrated" else "raw"
    size, name = next(((size, name) for most, size, name in _TIMES if largest <= most), _LONG)
    return size, f"{kind} {name}"


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent; a dash where the whole is nothing."""
    return f"{100 * part / whole:.0f} %" if whole else NOTHING


def budget(value: float, unit: str) -> str:
    """A budget with its unit: `4 epochs`, or `budget 4` where the race has no name for it.

    Example:
        >>> budget(1.0, "epochs"), budget(0.5, "epochs"), budget(4.0, "budget")
        ('1 epoch', '0.5 epochs', 'budget 4')
    """
    if unit == "budget":
        return f"budget {plain_number(value)}"
    return f"{plain_number(value)} {unit.removesuffix('s') if value == 1 else unit}"


def energy(joules: float) -> str:
    """An energy in watt-hours, which electricity is paid by.

    Example:
        >>> energy(7200.0), energy(9e6)
        ('2.00 Wh', '2.50 kWh')
    """
    hours = joules / 3600
    return f"{hours / 1000:#.3g} kWh" if hours >= 1000 else f"{hours:#.3g} Wh"


def moment(date: str) -> str:
    """An ISO date as people read it, to the minute; anything else as it is.

    Example:
        >>> moment("2026-03-01T15:51:06+00:00"), moment("2026-03-01"), moment("in spring")
        ('2026-03-01 15:51 UTC', '2026-03-01', 'in spring')
    """
    try:
        found = datetime.fromisoformat(date)
    except ValueError:
        return date
    zone = f" {found.tzname()}" if found.tzinfo else ""
    return f"{found:%Y-%m-%d %H:%M}{zone}" if "T" in date else date


def plain_number(value: float) -> str:
    """A number as it was given: no digits it does not need."""
    return f"{value:,.10g}"


def count(number: int, what: str) -> str:
    """A number of things: `1 training`, `2 trainings`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def in_brackets(text: str, before: str = "") -> str:
    """The text in brackets and with a space in front, to follow a figure; nothing where there is no text."""
    return f" ({before}{text})" if text else ""


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def _interval(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    if low is None or high is None:
        return f"{write(low)} or more" if low is not None else f"{write(high)} or less" if high is not None else ""
    return f"{write(low)} to {write(high)}"
