"""The recipes of a race: what each of its arms and runs trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headstart.errors import RecipeError
from headstart.race import Run, most_telling_first, plan_race, run_folder
from headstart.recipe.distill_section import Distill
from headstart.recipe.load import dump_recipe, varied
from headstart.recipe.race_section import Race
from headstart.recipe.recipe import Recipe
from headstart.records import Arm, RunRecord, read_record
from headstart.teachers.find import RECORD


def race_section(recipe: Recipe) -> Race:
    """What a recipe says about its race.

    Raises:
        RecipeError: Nothing.
    """
    if recipe.race is None:
        raise RecipeError(
            f"{recipe.name}: the recipe has no race section; add budgets, seeds, arms and the primary arm"
        )
    return recipe.race


def race_definition(recipe: Recipe) -> str:
    """What must not change while a recipe is raced: all but the race section, as more budgets are the same race."""
    return dump_recipe(recipe.model_copy(update={"race": None}))


def race_arms(settings: Race) -> list[Arm]:
    """The arms as a race takes them."""
    return [
        Arm(
            name=name,
            description=arm.description,
            overrides=settings.overrides(name),
            budgets=arm.budgets,
            seeds=arm.seeds,
        )
        for name, arm in settings.arms.items()
    ]


def planned_runs(recipe: Recipe, *, limited: bool = False) -> list[Run]:
    """The runs of a recipe's race, in their order, or in that of a race with limited time.

    Raises:
        HeadstartError: As `race_recipe`.
    """
    section = race_section(recipe)
    arms = race_arms(section)
    plan = plan_race(arms, section.budgets, section.seeds, section.baseline, section.primary, section.curve)
    return most_telling_first(plan) if limited else plan.runs


def arm_recipe(recipe: Recipe, arm: str) -> Recipe:
    """The variation of a recipe that an arm stands for, without the race.

    Raises:
        RecipeError: An override does not fit.
    """
    settings = race_section(recipe)
    overrides = settings.overrides(arm)
    if settings.curve == "cyclic":  # for now a length that whole cycles make; each run has its own
        overrides |= _length(recipe, min(settings.budgets))
    return varied(recipe.model_copy(update={"race": None}), overrides, f"race.arms.{arm}.set")


def run_recipe(arm: Recipe, budget: float, seed: int) -> Recipe:
    """An arm's recipe at one budget with one seed."""
    return varied(arm, {**_length(arm, budget), "train.seed": seed}, "race.budgets")


def shorter_runs(recipe: Recipe, folder: Path, run: Run) -> list[Path]:
    """The run folders of the shorter runs from which a run of a cyclic race can go on, the shortest first.

    Returns:
        None of them for a race with separate runs.
    """
    settings = race_section(recipe)
    budgets = settings.arms[run.arm].budgets or settings.budgets
    shorter = sorted(budget for budget in budgets if budget < run.budget) if settings.curve == "cyclic" else []
    return [run_folder(folder, run.arm, budget, run.seed) for budget in shorter]


def decided_arms(recipe: Recipe, arms: Mapping[str, Recipe], folder: Path) -> list[Recipe]:
    """The arms' recipes, and of an arm that leaves settings to a look at its teachers what its runs have made of it.

    Args:
        recipe: With a `race` section.
        arms: By name.
        folder: The race folder, with its finished runs.
    """
    found: list[Recipe] = []
    section = race_section(recipe)
    for name, arm in arms.items():
        if arm.distill is not None and arm.distill.cache is not None:  # which holds the longest run's targets
            arm = varied(arm, _length(arm, max(section.arms[name].budgets or section.budgets)), "race.budgets")
        if arm.distill is None or not arm.distill.undecided:
            found.append(arm)
            continue
        found.append(arm.model_copy(update={"distill": None}))
        for run in planned_runs(recipe):
            record = run_folder(folder, run.arm, run.budget, run.seed) / RECORD
            if run.arm != name or not record.exists():
                continue
            auto = read_record(RunRecord, record).auto
            if auto is not None and auto.distill is not None:
                made = Distill.model_validate(auto.distill)
                found.append(arm.model_copy(update={"distill": made}))
    return found


def budget_unit(recipe: Recipe) -> str:
    """What budgets count: `epochs` or `steps`, whichever the recipe trains by."""
    return "epochs" if recipe.train.epochs is not None else "steps"


def _length(recipe: Recipe, budget: float) -> dict[str, float]:
    """The override that makes a recipe train for a budget."""
    unit = budget_unit(recipe)
    return {f"train.{unit}": int(budget) if unit == "steps" else budget}
