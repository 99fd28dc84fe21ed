"""Caching the targets of a recipe's teachers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from headstart.cache import Batches, Keep, Progress, all_views, write_cache
from headstart.distill.flops import forward_flops
from headstart.errors import RecipeError
from headstart.recipe.checks import check_cacheable
from headstart.recipe.recipe import Recipe
from headstart.tasks import Task
from headstart.train.costs.teachers import teacher_cost
from headstart.train.session import Session
from headstart.train.setup.cached_targets import data_settings, distilled_batches, few_views

By = Literal["epoch", "view"]


def cache_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    keep: Keep = Keep(),  # noqa: B008 - immutable
    by: By = "epoch",
    teacher_paths: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Run a recipe's teachers once over the batches that its run would distil on, and keep what they give.

    Runs with `distill.cache: FOLDER` then read it: this recipe's, and those of other students, losses or shorter
    lengths on the same data with the same `data.seed`; by view, those of any length, window and seed. What is there
    already is not made again.

    Args:
        recipe: With a `distill` section.
        folder: The cache folder; gets one file a teacher.
        keep: What to keep of each target.
        by: Whether targets are of the batches that the run distils on (`"epoch"`), or of every view of every training
            sample (`"view"`), where augmentation has so few: two with a flip alone, one without any.
        teacher_paths: Run folders of the teachers that the recipe names.
        progress: Told what it will take, and how it comes along.

    Returns:
        The files.

    Raises:
        RecipeError: The recipe does not distil, its inputs do not follow from sample and epoch alone, or its samples
            have too many views.
        HeadstartError: As `write_cache`, and what recipe, data or teachers got wrong.
    """
    if recipe.distill is None:
        raise RecipeError(f"{recipe.name}: the recipe has no distill section, so there are no targets to cache")
    check_cacheable(recipe, by_view=by == "view")
    # Every batch goes to all teachers: streaming them would copy all of them for each.
    resident = {"cache": None, "residence": "device", "spool": None}
    live = recipe.model_copy(update={"init": None, "distill": recipe.distill.model_copy(update=resident)})
    session = Session(live, teacher_paths)
    if session.distiller is None or session.pool is None:
        raise RecipeError(f"{recipe.name}: its window never opens; look at distill.start and distill.stop")
    window, processes = session.distiller.window, session.accelerator.num_processes
    if by == "view":
        batches = batches_of_all_views(live, session.task)
    else:
        batches = distilled_batches(live, session.task, window, session.total_steps, processes)
    return write_targets(session, folder, batches, keep=keep, teacher_paths=teacher_paths, progress=progress)


def batches_of_all_views(recipe: Recipe, task: Task) -> Batches:
    """Batches of all views of a recipe's training samples, of which `check_cacheable` has said that they are few."""
    few = few_views(task)
    assert few is not None
    return all_views(few, recipe.train.batch_size // recipe.train.accumulate)


def write_targets(
    session: Session,
    folder: str | Path,
    batches: Batches,
    *,
    keep: Keep = Keep(),  # noqa: B008 - immutable
    teacher_paths: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Cache what the teachers of a session give for batches; arguments and result as for `cache_recipe`.

    Args:
        session: With live teachers, all on the device.
        folder: See there.
        batches: Which.
        keep: See there.
        teacher_paths: See there.
        progress: See there.

    Raises:
        HeadstartError: As `write_cache`.
    """
    recipe, distiller, pool, task = session.recipe, session.distiller, session.pool, session.task
    assert recipe.distill is not None and distiller is not None and pool is not None
    paths, named = teacher_paths or {}, zip(recipe.distill.specs, pool.live, strict=True)
    return write_cache(
        folder,
        pool.live,
        batches,
        data=data_settings(recipe, task, by_view=batches.views is not None),
        use=distiller.use,
        keep=keep,
        training={teacher.name: teacher_cost(spec, teacher, paths.get(spec, spec)) for spec, teacher in named},
        flops=lambda teacher, inputs: forward_flops(teacher.module, teacher.prepared(inputs), task.forward),
        progress=progress,
    )
