"""What a pilot's race forecasts: the arithmetic, and the refusal to guess."""

from __future__ import annotations

from headstart.errors import RaceError
from headstart.records import Amount, ArmResult, Estimate, RaceRecord, Record, Status, Verdict


class PilotForecast(Record):
    """What a pilot has shown, and what it would mean for the shortest budget.

    Attributes:
        fraction: Of the shortest budget, that the pilot's longer runs took.
        budget: Of these.
        unit: Of the budget.
        seeds: How many.
        judged: On what.
        status: As in `ArmResult`, of the recipe against the plain run, at the pilot's budget.
        verdict: The same. `not resolved`: more pilot is needed, and nothing is forecast.
        speedup: At the pilot's budget, with its 95 % interval; None where the recipe's curve never got there.
        saved_seconds: Of the shortest budget's plain run, if the speed-up there were that of the pilot, which is an
            assumption and no measurement; None where the verdict is `not resolved`. Below 0: lost.
        more_seeds: About how many more seeds would resolve it; None: resolved, or there is no such number.
    """

    fraction: Amount
    budget: Amount
    unit: str
    seeds: int
    judged: str = ""
    status: Status
    verdict: Verdict
    speedup: Estimate | None = None
    saved_seconds: Estimate | None = None
    more_seeds: int | None = None


def forecast_of(record: RaceRecord, *, fraction: float, plain_seconds: float, judged: str = "") -> PilotForecast:
    """Read a pilot's race.

    Args:
        record: The race, judged.
        fraction: See `PilotForecast`.
        plain_seconds: Of the plain run at the shortest budget.
        judged: See there.

    Raises:
        RaceError: The race has no result.
    """
    result = _result(record)
    return PilotForecast(
        fraction=fraction,
        budget=max(record.budgets),
        unit=record.budget_unit,
        seeds=len(record.seeds),
        judged=judged,
        status=result.status,
        verdict=result.verdict,
        speedup=result.speedup,
        saved_seconds=None if result.verdict == "not resolved" else _saved(result.speedup, plain_seconds),
        more_seeds=result.more_seeds,
    )


def _result(record: RaceRecord) -> ArmResult:
    for result in record.results:
        if result.arm == record.primary and result.clock == record.headline_clock and result.status != "no data":
            return result
    raise RaceError(f"{record.name}: the pilot's runs cannot be compared; look at its report.html")


def _saved(speedup: Estimate | None, plain_seconds: float) -> Estimate | None:
    """The time that a speed-up saves of a plain run; a speed-up whose lower end is 0 may lose any time."""
    if speedup is None:
        return None

    def saved(value: float | None) -> float | None:
        return None if not value else plain_seconds * (1 - 1 / value)

    middle = saved(speedup.value)
    return None if middle is None else Estimate(value=middle, low=saved(speedup.low), high=saved(speedup.high))
