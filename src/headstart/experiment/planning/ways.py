"""The ways in which a recipe's run can be trained, and what each costs: sums of measured step times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from headstart.distill.stopping import latest_stop
from headstart.experiment.planning.bench import with_distill
from headstart.experiment.planning.measure import Side, Times
from headstart.recipe.image_sizes import count_sides, side_of_step, sides_of
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import run_window
from headstart.train.costs.planned import PlannedCache, Way, WayName, way

WINDOWS = (0.3, 0.5, 1.0)


@dataclass(frozen=True)
class Costs:
    """What the ways of a recipe are made of.

    Attributes:
        recipe: With `distill` or without.
        steps: Of its run.
        times: By size of images.
        shares: How many of the distilled steps ask each teacher.
        slowest: Seconds that a step takes at least: where workers make batches more slowly than steps use them.
        student_flops: Of a plain step at each size.
        teacher_flops: Of what a distilled step asks, at each size.
        before: Seconds of the init that the recipe asks for; None: none.
        cache: Of the recipe's window; None: targets cannot be cached.
        refused: Why a kind of way is not possible.
    """

    recipe: Recipe
    steps: int
    times: Mapping[Side, Times]
    shares: Sequence[float]
    slowest: float
    student_flops: Mapping[Side, float]
    teacher_flops: Mapping[Side, float]
    before: float | None
    cache: PlannedCache | None
    refused: Mapping[WayName, str]

    @property
    def plain_seconds(self) -> float:
        """Of all steps of a run without distillation."""
        return sum(count * self._step(median(self.times[side].plain)) for side, count in self._sides().items())

    @property
    def plain_flops(self) -> float:
        """The same in FLOPs."""
        return sum(count * self.student_flops[side] for side, count in self._sides().items())

    def seconds(self, kind: WayName, distilled: Mapping[Side, int]) -> float:
        """Of all steps of a run that distils on so many of each size."""
        return sum(
            (count - distilled.get(side, 0)) * self._step(median(self.times[side].plain))
            + distilled.get(side, 0) * self._step(self._distilled(kind, self.times[side]))
            for side, count in self._sides().items()
        )

    def flops_overhead(self, kind: WayName, distilled: Mapping[Side, int]) -> float:
        """FLOPs of teachers over those of the plain run."""
        if kind == "cached":
            return 0.0
        return sum(count * self.teacher_flops[side] for side, count in distilled.items()) / self.plain_flops

    def _distilled(self, kind: WayName, times: Times) -> float:
        live = times.distilled_seconds(self.shares)
        if kind == "automatic":
            return live + max(0.0, times.beyond(times.automatic, times.distilled))
        if kind == "cached":
            return median(times.plain) + times.beyond(times.cached, times.plain)
        return live

    def _step(self, seconds: float) -> float:
        return max(seconds, self.slowest)

    def _sides(self) -> Counter[Side]:
        if sides_of(self.recipe) == [None]:
            return Counter({None: self.steps})
        return count_sides(self.recipe, self.steps)


def distilled_sides(recipe: Recipe, steps: int) -> Counter[Side]:
    """How many steps of a run are distilled, by size of their images."""
    if recipe.distill is None:
        return Counter()
    window = run_window(recipe.distill, recipe.train)
    if sides_of(recipe) == [None]:
        return Counter({None: window.distilled_steps(steps)})
    return Counter(side_of_step(recipe, step, steps) for step in range(steps) if window.scale(step, steps) > 0)


def ways_of(costs: Costs) -> list[Way]:
    """The plain run, and every other way that the recipe could go; the recipe's own among them.

    Windows other than its own begin where its does, on its cadence.
    """
    recipe, plain = costs.recipe, costs.plain_seconds
    found = [
        way("plain", "plain", plain, plain, flops_overhead=0.0, own=recipe.distill is None and recipe.init is None)
    ]
    if costs.before is not None:
        own = recipe.distill is None
        found.append(way("init", "init", plain, plain, before=costs.before, own=own, flops_overhead=0.0))
    if recipe.distill is None:
        return found
    own_stop, cached = recipe.distill.stop, recipe.distill.cache is not None
    with_init = costs.before is not None
    stops = sorted({*WINDOWS, *([own_stop] if own_stop != "auto" else [])})
    for stop in stops:
        if stop > recipe.distill.start:
            own = stop == own_stop and not cached and not with_init
            found.append(_distilling(costs, f"window {stop:g}", "window", with_window(recipe, stop), own=own))
    cap = latest_stop("auto", recipe.distill.cap)
    if cap > recipe.distill.start:
        automatic = with_window(recipe, "auto")
        own = own_stop == "auto" and not cached and not with_init
        found.append(_distilling(costs, f"automatic, to {cap:g} at most", "automatic", automatic, own=own))
    found.append(_distilling(costs, "cached", "cached", recipe, own=cached and not with_init))
    if with_init:
        kind: WayName = "cached" if cached else "automatic" if own_stop == "auto" else "window"
        name = "init + " + (kind if own_stop == "auto" or cached else f"window {own_stop:g}")
        found.append(_distilling(costs, name, kind, recipe, own=True, before=costs.before or 0.0))
    return found


def with_window(recipe: Recipe, stop: float | str) -> Recipe:
    """The recipe with another end of its window; ramps, which cost nothing, are left out."""
    assert recipe.distill is not None
    if stop == recipe.distill.stop:
        return recipe
    cap = recipe.distill.cap if stop == "auto" else None
    return with_distill(recipe, stop=stop, cap=cap, open_at=None, ramp_up=0.0, ramp_down=0.0)


def _distilling(
    costs: Costs, name: str, kind: WayName, recipe: Recipe, *, own: bool = False, before: float = 0.0
) -> Way:
    plain = costs.plain_seconds
    if kind in costs.refused:
        return way(name, kind, plain, plain, own=own).model_copy(update={"refused": costs.refused[kind]})
    distilled = distilled_sides(recipe, costs.steps)
    return way(
        name,
        kind,
        costs.seconds(kind, distilled),
        plain,
        before=before,
        own=own,
        once=costs.cache.seconds if kind == "cached" and costs.cache is not None else 0.0,
        at_most=kind == "automatic" or (recipe.distill is not None and recipe.distill.open_at is not None),
        flops_overhead=costs.flops_overhead(kind, distilled),
    )
