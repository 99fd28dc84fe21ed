"""Which look at teachers tells beforehand what races then show: the probe's gain, or GRACE?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import torch
from scipy.stats import spearmanr

from headstart import load_teacher, probe
from headstart.generators import generators_untouched
from headstart.recipe.recipe import Recipe
from headstart.teachers import find_teacher
from headstart.train.setup.build_task import build_task
from results_file import Figure

_BATCHES, _SIZE = 8, 128


def rankings_of(recipe: Recipe, places: Mapping[str, Path], speed_ups: Mapping[str, float]) -> dict[str, Figure]:
    """Spearman's rank correlation of each score with the speed-ups that races have shown.

    Args:
        recipe: The student, and the test split that it is judged by, which no teacher has been trained on.
        places: The teachers' run folders, by name.
        speed_ups: Of the same fixed setting with each teacher; those without one are left out.

    Returns:
        `gain`, the speed-up that the probe expects and `distill: auto` goes by, and `grace`, of which less is better: 1
        where teachers come in the order that the race found. Nothing of fewer than three teachers.
    """
    raced = [name for name in places if name in speed_ups]
    if len(raced) < 3:
        return {}
    task = build_task(recipe, torch.device("cpu"))
    batches = [(batch.inputs, batch.labels) for batch in islice(task.held_out(_SIZE), _BATCHES)]
    records = {name: find_teacher(places[name]).record for name in raced}
    with generators_untouched():
        torch.manual_seed(0)
        found = probe(
            (load_teacher(places[name], name=name) for name in raced),
            task.build_model(),
            batches,
            head="classes",
            forward=task.forward,
            total_steps=recipe.train.steps,
            trained={name: record.flops for name, record in records.items() if record is not None and record.flops},
            timed=False,
            gradients=True,
        )
    shown = [speed_ups[name] for name in raced]
    scores = {
        "gain": [teacher.speed_up for teacher in found.teachers],
        "grace": [-teacher.grace if teacher.grace is not None else float("nan") for teacher in found.teachers],
    }
    return {
        name: Figure(value=float(spearmanr(values, shown).statistic), n=len(raced)) for name, values in scores.items()
    }
