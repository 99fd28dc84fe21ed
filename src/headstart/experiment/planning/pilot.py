"""A pilot: a small race at a fraction of the shortest budget, and what it forecasts.

What a pilot can tell. Within one run the loss falls with the learning rate at the end, with a teacher or without, so
that a time at which one run's curve crosses the end of another's compares a student in mid-schedule with one that has
been annealed. Only ends of complete schedules compare. So the taught arm is trained at two lengths, the curve of its
quality goes through these ends, and the time at which it crosses the baseline's is read there, as a race reads it,
with the interval that the noise between seeds allows. How the answer changes with longer budgets no pilot of one length
can know: what it forecasts for them is what the saving would be if it stayed in proportion, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.errors import RaceError, RecipeError
from headstart.experiment.arms import budget_unit
from headstart.experiment.planning.stand_ins import trained_at
from headstart.experiment.race import race_recipe
from headstart.experiment.train_teachers import teacher_recipes
from headstart.recipe.load import varied
from headstart.recipe.recipe import MlmRecipe, Recipe
from headstart.train.costs.pilot import PilotForecast, forecast_of
from headstart.train.costs.planned import PlanRecord
from headstart.train.watcher import Watcher

BASELINE, TAUGHT = "baseline", "taught"
LEAST_STEPS = 50  # of the shorter run: fewer leave no room for a warm-up, a high and a falling learning rate
_SEEDS = 2
_FIRST_SEED = 2000
_PAIRS = 15


def run_pilot(
    recipe: Recipe, plan: PlanRecord, fraction: float, folder: Path, teachers: Path, *, watcher: Watcher | None = None
) -> PilotForecast:
    """Train the pilot's runs, those that are not there yet, and forecast.

    Args:
        recipe: What is planned, with its race section if it has one.
        plan: Its plan.
        fraction: Of the shortest budget, that each of the longer runs takes.
        folder: The pilot's race folder.
        teachers: As for `plan_recipe`; those that the recipe describes have to be there.
        watcher: Told what happens.

    Raises:
        RecipeError: The pilot would be too short to tell anything, or longer than the shortest budget.
        RaceError: A run failed, or a teacher is not trained yet.
        Preempted: SIGTERM or Ctrl-C came, and the checkpoint is written.
        HeadstartError: As `race_recipe`.
    """
    made = pilot_recipe(recipe, plan, fraction, teachers)
    record = race_recipe(made, folder, watcher=watcher, command=f"headstart plan --pilot {fraction:g}")
    if record.failures:
        raise RaceError(f"{folder}: a run of the pilot failed: {record.failures[0].message}")
    shortest = shortest_budget(recipe)
    return forecast_of(
        record,
        fraction=fraction,
        plain_seconds=plan.ways[0].seconds * shortest / recipe.train.length,
        judged=judged_by(made),
    )


def pilot_recipe(recipe: Recipe, plan: PlanRecord, fraction: float, teachers: Path) -> Recipe:
    """The race that a pilot is: the baseline at a fraction of the shortest budget, the recipe at that and half of it.

    Raises:
        RecipeError: As `run_pilot`.
        RaceError: A teacher is not trained yet.
    """
    if not 0 < fraction <= 1:
        raise RecipeError(f"--pilot={fraction:g}: give a fraction of the shortest budget, above 0 and at most 1")
    shortest, length = shortest_budget(recipe), recipe.train.length
    steps = plan.steps * shortest / length
    if fraction * steps < 2 * LEAST_STEPS:
        needed = 2 * LEAST_STEPS / steps
        longer = f"give --pilot {needed:.2g}"
        instead = longer if needed <= 1 else "race it, which takes no longer than a pilot"
        raise RecipeError(
            f"--pilot={fraction:g}: of the shortest budget ({shortest:g} {budget_unit(recipe)}, {steps:.0f} steps) "
            f"that is {fraction * steps:.0f} steps, and below {2 * LEAST_STEPS} a run tells nothing of longer ones; "
            f"{instead}"
        )
    whole = fraction * shortest if budget_unit(recipe) == "epochs" else float(round(fraction * shortest))
    half = whole / 2 if budget_unit(recipe) == "epochs" else float(round(whole / 2))
    taken = {*recipe.race.seeds, *recipe.race.tune_seeds} if recipe.race is not None else set()
    seeds = [seed for seed in range(_FIRST_SEED, _FIRST_SEED + len(taken) + _SEEDS) if seed not in taken][:_SEEDS]
    race = {
        "budgets": [half, whole],
        "seeds": seeds,
        "baseline": BASELINE,
        "primary": TAUGHT,
        "calibration_pairs": _PAIRS,
        "arms": {
            BASELINE: {"description": "no older model", "budgets": [whole], "set": {"distill": None, "init": None}},
            TAUGHT: {"description": "the recipe"},
        },
    }
    changes: dict[str, Any] = {
        "race": race,
        "train.first_cycle": None,
        "train.trackers": [],
        **_places(recipe, teachers),
    }
    if getattr(recipe.data, "tuning", 0):
        changes["data.evaluate"] = "tuning"
    if isinstance(recipe, MlmRecipe):
        changes["glue"] = None
    return varied(recipe.model_copy(update={"race": None}), changes, "--pilot")


def shortest_budget(recipe: Recipe) -> float:
    """The race's, or else the length of the recipe's run."""
    return min(recipe.race.budgets) if recipe.race is not None else recipe.train.length


def judged_by(recipe: Recipe) -> str:
    """What a pilot is judged on, in words."""
    on = getattr(recipe.data, "evaluate", "test")
    return f"the samples of data.{on}" if on == "tuning" else f"the {on} data"


def _places(recipe: Recipe, teachers: Path) -> Mapping[str, Any]:
    """Overrides by which the recipe's teachers are found where they lie, and none is trained."""
    described = teacher_recipes(recipe, [recipe])
    at = trained_at(described, teachers)
    for name in described:
        if name not in at:
            raise RaceError(
                f"--pilot: teacher {name} is not trained yet (looked in {teachers}); a pilot needs what it teaches. "
                "Train it by headstart train or race, and give its folder with --teachers"
            )
    changes: dict[str, Any] = {"teachers": {}}
    if recipe.distill is not None:
        entries = recipe.distill.model_dump(mode="json")["teachers"]
        changes["distill.cache"] = None  # it is of other seeds
        changes["distill.teachers"] = [_moved(entry, at) for entry in entries]
    if recipe.init is not None:
        changes["init.from"] = str(at.get(recipe.init.source, recipe.init.source))
    return changes


def _moved(entry: Any, at: Mapping[str, Path]) -> Any:
    if isinstance(entry, str):
        return str(at.get(entry, entry))
    return {**entry, "spec": str(at.get(entry["spec"], entry["spec"]))}
