"""How a race spends limited time: in which order, and whether the next run still fits.

The order is fixed before the first run, and what ends a race is the clock: neither looks at how well a run did. A rule
that gave more seeds to whatever is about to be resolved, or that stopped once it is, would stop at lucky moments, and
more than 5 of 100 equal arms would be called faster or slower.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from headstart.race.plan import Plan, Run


class Spent(NamedTuple):
    """What a run took: its arm, the budget that it trained (of a cyclic race: what it added), and seconds."""

    arm: str
    budget: float
    seconds: float


def most_telling_first(plan: Plan) -> list[Run]:
    """The order of a race that may be cut at any point.

    Baseline and primary arm come before the other arms, and of those seed after seed, so that wherever it is cut no two
    cells of the comparison differ by more than one seed. The first seed goes from the smallest budget up: a first
    picture is there early, and what longer runs take can be forecast from shorter ones. Further seeds go from the
    largest budget down, as the baseline's best and the time to it are mostly read there; in a cyclic race they go up,
    too, because a longer run goes on from a shorter one.

    Example:
        >>> from headstart.race.plan import plan_race
        >>> plan = plan_race(["plain", "mine", "rival"], [1, 2], [0, 1])
        >>> [f"{run.arm}{run.budget}" for run in most_telling_first(plan)][:8]
        ['plain1', 'mine1', 'mine2', 'plain2', 'plain2', 'mine2', 'mine1', 'plain1']
    """
    judged = {plan.baseline, plan.primary}
    turn = {seed: number for number, seed in enumerate(plan.seeds)}

    def place(run: Run) -> tuple[bool, int, float]:
        down = turn[run.seed] > 0 and plan.curve == "separate"
        return run.arm not in judged, turn[run.seed], -run.budget if down else run.budget

    return sorted(plan.runs, key=place)  # stable: arms stay side by side, in an order that turns around


def added_budget(run: Run, finished: Collection[Run], plan: Plan) -> float:
    """What a run trains: its budget, less that of the run which it goes on from in a cyclic race."""
    if plan.curve == "separate":
        return run.budget
    shorter = [other.budget for other in finished if (other.arm, other.seed) == (run.arm, run.seed)]
    return run.budget - max((budget for budget in shorter if budget < run.budget), default=0.0)


def forecast_seconds(spent: Sequence[Spent], arm: str, budget: float) -> float | None:
    """How long a run will take: as long as those of its arm and budget did, else at the rate of its arm, or of all.

    Args:
        spent: What runs took so far.
        arm: The run's arm.
        budget: What it trains.

    Returns:
        Seconds; None where nothing has run yet. From shorter runs rather too many, as each has its start-up and its
        evaluation in it.

    Example:
        >>> forecast_seconds([Spent("plain", 1, 10), Spent("plain", 3, 26), Spent("mine", 1, 12)], "plain", 8)
        72.0
    """
    own = [run for run in spent if run.arm == arm] or spent
    alike = [run for run in own if run.budget == budget and run.arm == arm] or own
    total = sum(run.budget for run in alike)
    return budget * sum(run.seconds for run in alike) / total if total else None
