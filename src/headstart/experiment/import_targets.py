"""Targets made elsewhere, by a server or another project, put where a recipe's run reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from headstart.cache import Batches, target_of_logprobs, write
from headstart.distill.targets.source import numbered
from headstart.distill.targets.sparse import TopK
from headstart.errors import RecipeError, TeacherError
from headstart.experiment.collect_targets import Collector
from headstart.experiment.fill_cache import By, batches_of_all_views
from headstart.files import write_atomically
from headstart.recipe.checks import check_cacheable
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import run_window, steps_of
from headstart.tasks import Batch
from headstart.tasks.text import CausalLM
from headstart.train import ranks
from headstart.train.setup.build_task import build_task
from headstart.train.setup.cached_targets import data_settings, distilled_batches

_AT_ONCE = 1024  # sequences turned into lists of numbers at a time


class _Wanted(NamedTuple):
    """What targets are wanted of.

    Attributes:
        task: The recipe's.
        batches: Those that its run distils on, or all sequences.
        samples: Which sequences are in these.
        name: The teacher's.
    """

    task: CausalLM
    batches: Batches
    samples: Sequence[int]
    name: str

    def __str__(self) -> str:
        whose = "of the text" if self.batches.views is not None else "that the run distils on"
        return f"{len(self.samples)} sequences {whose}"


def write_prompts(recipe: Recipe, path: str | Path, *, by: By = "epoch") -> int:
    """Write the sequences whose next tokens the targets have to be of, a line of JSON each: `sample`, `input_ids`.

    Args:
        recipe: As for `import_targets`.
        path: Where to.
        by: As there.

    Returns:
        How many.

    Raises:
        RecipeError: As `import_targets`.
    """
    wanted = _wanted(recipe, by)
    lines = [
        json.dumps({"sample": sample, "input_ids": row})
        for begin in range(0, len(wanted.samples), _AT_ONCE)
        for sample, row in _some(wanted, begin)
    ]
    write_atomically(Path(path), "\n".join([*lines, ""]).encode())
    return len(lines)


def import_targets(recipe: Recipe, folder: str | Path, files: Sequence[str | Path], *, by: By = "epoch") -> Path:
    """Read log-probabilities that were made elsewhere, check them, and write the cache that the recipe's run reads.

    Args:
        recipe: Of task `clm`, with a `distill` section that names one teacher (any name will do) and `temperature: 1`.
        folder: The cache folder; gets one file.
        files: In one of the forms of `headstart.cache.foreign`. Of each sequence as many classes are kept as every
            place of every sequence has, the most probable ones. A place that has far fewer than most is refused.
        by: As in `cache_recipe`: targets of what the run distils on, or of all sequences, for runs of any seed.

    Returns:
        The file.

    Raises:
        RecipeError: The recipe is none that such targets are good for.
        TeacherError: A file cannot be read; is of another text or tokenizer; holds no log-probabilities, or such that
            seem to stand one place off or were made to sum to 1; or sequences that the run distils on are missing.
    """
    wanted = _wanted(recipe, by)
    rows = dict(zip(wanted.samples, _rows(wanted.task, wanted.samples).numpy(), strict=True))
    collector, names = Collector(wanted.task, rows, str(wanted)), ", ".join(map(str, files))
    for file in files:
        collector.read(file)
    found, classes = collector.found, wanted.task.num_classes
    missing = [sample for sample in wanted.samples if sample not in found]
    if missing:
        raise TeacherError(
            f"{names}: of the {wanted} {len(missing)} have no targets, sample {missing[0]} the first; headstart cache "
            f"RECIPE --by {by} --prompts FILE writes what to ask for"
        )
    count = collector.judge(names)

    def give(batch: Batch) -> TopK:
        parts = [found[sample] for sample in batch.samples.tolist()]
        ids, values = (torch.cat([part[index][:, :count] for part in parts]) for index in (0, 1))
        return target_of_logprobs(ids, values, classes=classes, where=f"samples {batch.samples[:3].tolist()}, ...")

    settings = data_settings(recipe, wanted.task, by_view=by == "view")
    return write(folder, wanted.name, wanted.batches, give, data=settings)


def _wanted(recipe: Recipe, by: By) -> _Wanted:
    distill = recipe.distill
    if distill is None:
        raise RecipeError(f"{recipe.name}: the recipe has no distill section, so there are no targets to import")
    if recipe.task != "clm":
        raise RecipeError(f"{recipe.name}: targets are imported for the task clm, and this is {recipe.task}")
    check_cacheable(recipe, by_view=by == "view")
    assert distill.temperature != "auto"
    if distill.temperature != 1.0:
        raise RecipeError(
            f"distill.temperature={distill.temperature:g}: imported log-probabilities are a softmax's at temperature "
            "1, and what is left of it at another one nobody knows; set distill.temperature to 1"
        )
    if len(distill.specs) != 1:
        raise RecipeError(f"distill.teachers: files are one teacher's; name one, not {', '.join(distill.specs)}")
    task = build_task(recipe, "cpu")
    assert isinstance(task, CausalLM)
    if by == "view":
        batches = batches_of_all_views(recipe, task)
    else:
        total = steps_of(recipe, task.samples)
        batches = distilled_batches(recipe, task, run_window(distill, recipe.train), total, ranks.count())
    wanted = _Wanted(task, batches, _samples_of(batches, task), numbered(distill.specs)[0])
    _check_documents(wanted)
    return wanted


def _check_documents(wanted: _Wanted) -> None:
    """Refuse sequences of which the student sees each document alone, and a server that is given them does not."""
    task, samples = wanted.task, wanted.samples
    if not task.data.documents_apart:
        return
    parts = (samples[begin : begin + _AT_ONCE] for begin in range(0, len(samples), _AT_ONCE))
    several = sum(int(task.hold_several_documents(_rows(task, part)).sum()) for part in parts)
    if several:
        raise RecipeError(
            f"data.documents_apart=true: of the {wanted} {several} hold more than one document, which the student is "
            "to see each alone, and a server that is given the sequence sees all before; set "
            "data.documents_apart=false, for the prompts, the import and the runs that read it"
        )


def _samples_of(batches: Batches, task: CausalLM) -> Sequence[int]:
    if batches.views is not None:
        return range(task.samples)
    return sorted({sample for place in batches.plan for sample in batches.batch(*place).samples.tolist()})


def _some(wanted: _Wanted, begin: int) -> Iterator[tuple[int, list[int]]]:
    samples = wanted.samples[begin : begin + _AT_ONCE]
    return zip(samples, _rows(wanted.task, samples).tolist(), strict=True)


def _rows(task: CausalLM, samples: Sequence[int]) -> Tensor:
    return task.corpus.train.rows(torch.tensor(samples, dtype=torch.int64))
