"""What a race is to run, checked, and in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headstart.errors import RaceError
from headstart.race.run_names import run_name
from headstart.records import Arm, Curve

_LONGEST_NAME = 200  # file systems stop at 255 bytes, and temporary files put something around it


class Run(NamedTuple):
    """One training of a race: which arm, how long, which seed."""

    arm: str
    budget: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """A checked race: arms with unique names, budgets rising, seeds as given."""

    arms: tuple[Arm, ...]
    budgets: tuple[float, ...]
    seeds: tuple[int, ...]
    baseline: str
    primary: str
    curve: Curve = "separate"

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order in which they are to be run."""
        own = {arm.name: (arm.budgets or self.budgets, arm.seeds or self.seeds) for arm in self.arms}
        runs = interleaved([arm.name for arm in self.arms], self.budgets, self.seeds)
        return [run for run in runs if run.budget in own[run.arm][0] and run.seed in own[run.arm][1]]


def interleaved(arms: Sequence[str], budgets: Sequence[float], seeds: Sequence[int]) -> list[Run]:
    """The order of a race: seed by seed, and in it budget by budget, all arms of a pair of those side by side.

    From block to block the arms' order is turned around (ABBA), so that a machine that warms up or is shared wrongs no
    arm; each budget sees both orders over the seeds.

    Args:
        arms: Names of the arms.
        budgets: Budgets; run from the smallest up, so that a first picture is there early.
        seeds: Seeds, the same for every arm.

    Example:
        >>> [f"{run.arm}{run.budget}" for run in interleaved(["A", "B"], [1, 2], [0, 1])]
        ['A1', 'B1', 'B2', 'A2', 'B1', 'A1', 'A2', 'B2']
    """
    return [
        Run(arm, budget, seed)
        for turn, seed in enumerate(seeds)
        for block, budget in enumerate(sorted(budgets), start=turn)
        for arm in (reversed(arms) if block % 2 else arms)
    ]


def plan_race(
    arms: Iterable[str | Arm],
    budgets: Iterable[float],
    seeds: Iterable[int],
    baseline: str | None = None,
    primary: str | None = None,
    curve: Curve = "separate",
) -> Plan:
    """Check what a race was asked for.

    Args:
        arms: Two arms or more, by name or as `records.Arm`; the budgets and seeds of an `Arm` are some of the race's.
        budgets: Numbers above 0, all different.
        seeds: Whole numbers, all different.
        baseline: The arm to compare with; the first one unless given.
        primary: The arm that the verdict is about; the first one that is not the baseline unless given.
        curve: Whether a budget is a run of its own, or goes on from the budget before it with the same arm and seed.

    Raises:
        RaceError: One of them cannot be used; says which and what to give.
    """
    checked = _arms(arms)
    names = [arm.name for arm in checked]
    base = names[0] if baseline is None else _known("baseline", baseline, names)
    others = [name for name in names if name != base]
    first = others[0] if primary is None else _known("primary", primary, names)
    if base == first:
        raise RaceError(f"race: {base!r} is both baseline and primary arm; name another arm as one of them")
    plan = Plan(checked, _budgets(budgets), _seeds(seeds), base, first, curve)
    for arm in checked:
        for what, own, all_of_them in (("budgets", arm.budgets, plan.budgets), ("seeds", arm.seeds, plan.seeds)):
            if own is not None and not (own and set(own) <= set(all_of_them)):
                raise RaceError(
                    f"race: the {what} {own} of arm {arm.name!r} must be some of the race's: {list(all_of_them)}"
                )
    return plan


def _arms(arms: Iterable[str | Arm]) -> tuple[Arm, ...]:
    if isinstance(arms, str):
        raise RaceError(f"race: arms={arms!r} is one name; give a list, such as ['baseline', 'distill']")
    checked = tuple(Arm(name=arm) if isinstance(arm, str) else arm for arm in arms)
    if not checked:
        raise RaceError("race: no arms; give at least two, a baseline and one to compare with it")
    if len(checked) == 1:
        raise RaceError(f"race: only one arm, {checked[0].name!r}; give one more to compare it with")
    names = [arm.name for arm in checked]
    if not all(name.strip() for name in names):
        raise RaceError("race: an arm has an empty name; give every arm a name")
    # Folders of names that differ only in case are one folder on some file systems.
    _all_different("arm", names, [name.casefold() for name in names])
    for name in names:
        if len(run_name(name, 0.0, 0)) > _LONGEST_NAME:
            raise RaceError(f"race: the arm name {name[:40]!r}... is too long for a folder; shorten it")
    return checked


def _budgets(budgets: Iterable[float]) -> tuple[float, ...]:
    given = tuple(budgets)
    if not given:
        raise RaceError("race: no budgets; give at least one, better three or more")
    for budget in given:
        if isinstance(budget, bool) or not (math.isfinite(budget) and budget > 0):
            raise RaceError(f"race: budget {budget} is no length of training; give a number above 0")
    _all_different("budget", given, given)
    return tuple(sorted(given))


def _seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    given = tuple(seeds)
    if not given:
        raise RaceError("race: no seeds; give at least one, better three: one seed gives no interval")
    for seed in given:
        if isinstance(seed, bool) or seed != int(seed):
            raise RaceError(f"race: seed {seed} is no whole number; give whole numbers, such as 0, 1, 2")
    _all_different("seed", given, given)
    return tuple(int(seed) for seed in given)


def _known(role: str, name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise RaceError(f"race: {role} {name!r} is not among the arms ({', '.join(names)}); name one of them")
    return name


def _all_different(what: str, given: Sequence[object], keys: Sequence[object]) -> None:
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise RaceError(f"race: {what} {given[index]!r} is there twice; give each {what} once")
