"""Targets made elsewhere, by a server or another project, put where a recipe's run reads them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.cache import Batches, target_of_logprobs, write
from headstart.cache.foreign import TokenOf, Told, read_told
from headstart.distill.targets.source import numbered
from headstart.distill.targets.sparse import TopK
from headstart.errors import RecipeError, TeacherError
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

logger = logging.getLogger(__name__)

_WHOLE = 1e-5  # so near to 1 are sums that were made so
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
            place of every sequence has, the most probable ones.
        by: As in `cache_recipe`: targets of what the run distils on, or of all sequences, for runs of any seed.

    Returns:
        The file.

    Raises:
        RecipeError: The recipe is none that such targets are good for.
        TeacherError: A file cannot be read; is of another text or tokenizer; holds no log-probabilities; or sequences
            that the run distils on are missing.
    """
    wanted = _wanted(recipe, by)
    found = _collected(wanted, files)
    missing = [sample for sample in wanted.samples if sample not in found]
    if missing:
        raise TeacherError(
            f"{', '.join(map(str, files))}: of the {wanted} {len(missing)} have no targets, sample {missing[0]} the "
            f"first; headstart cache RECIPE --by {by} --prompts FILE writes what to ask for"
        )
    count = min(ids.shape[1] for ids, _ in found.values())
    classes = wanted.task.num_classes
    if all(bool(((values.double().exp().sum(-1) - 1).abs() < _WHOLE).all()) for _, values in found.values()):
        logger.warning(
            "%s: the probabilities of each place sum to 1, so that somebody has divided by their sum (axolotl does in "
            "the data it prepares): what the teacher gave to all other tokens is lost, and the student is taught that "
            "they never come. Import what the server answered, where you have it",
            ", ".join(map(str, files)),
        )

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
    return _Wanted(task, batches, _samples_of(batches, task), numbered(distill.specs)[0])


def _samples_of(batches: Batches, task: CausalLM) -> Sequence[int]:
    if batches.views is not None:
        return range(task.samples)
    return sorted({sample for place in batches.plan for sample in batches.batch(*place).samples.tolist()})


def _some(wanted: _Wanted, begin: int) -> Iterator[tuple[int, list[int]]]:
    samples = wanted.samples[begin : begin + _AT_ONCE]
    return zip(samples, _rows(wanted.task, samples).tolist(), strict=True)


def _rows(task: CausalLM, samples: Sequence[int]) -> Tensor:
    return task.corpus.train.rows(torch.tensor(samples, dtype=torch.int64))


def _collected(wanted: _Wanted, files: Sequence[str | Path]) -> dict[int, tuple[Tensor, Tensor]]:
    """By sample, classes and log-probabilities of each place, `[length - 1, k]`, the most probable first."""
    task = wanted.task
    rows = dict(zip(wanted.samples, _rows(task, wanted.samples).numpy(), strict=True))
    by_tokens = {row.tobytes(): sample for sample, row in rows.items()}
    token_of = _by_text(task)
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for file in files:
        for told in read_told(file, token_of):
            sample = _sample_of(told, rows, by_tokens, wanted)
            if sample is not None:
                found[sample] = _sorted(told, task)
    return found


def _sample_of(
    told: Told, rows: Mapping[int, NDArray[np.int64]], by_tokens: Mapping[bytes, int], wanted: _Wanted
) -> int | None:
    """Which of the samples that are wanted a record is of; None where it is of one that is not."""
    if told.tokens is None:
        raise TeacherError(
            f"{told.where}: does not tell the tokens that it is of, so nobody can see whether it is of this text; add "
            "`input_ids`, as headstart cache RECIPE --prompts FILE has them"
        )
    given = np.array(told.tokens, dtype=np.int64)
    if told.sample is None:
        sample = by_tokens.get(given.tobytes())
        if sample is None:
            raise TeacherError(
                f"{told.where}: its {len(given)} tokens are none of the {wanted}; the text was cut in another way, or "
                "with another tokenizer"
            )
        return sample
    row = rows.get(told.sample)
    if row is None:
        return None
    if len(given) != len(row):
        raise TeacherError(f"{told.where}: has {len(given)} tokens, and sample {told.sample} has {len(row)}")
    if (different := np.flatnonzero(given != row)).size:
        place, decode = int(different[0]), wanted.task.corpus.tokenizer.decode
        there, here = (f"{int(one[place])} ({decode([int(one[place])])!r})" for one in (given, row))
        raise TeacherError(
            f"{told.where}: token {place} of sample {told.sample} is {there} there and {here} in the text; these "
            "targets are of another text, or made with another tokenizer"
        )
    return told.sample


def _sorted(told: Told, task: CausalLM) -> tuple[Tensor, Tensor]:
    length = task.data.length - 1
    if len(told.following) != length:
        raise TeacherError(
            f"{told.where}: tells what follows {len(told.following)} places, and a sequence has {length}"
        )
    count = min(len(ids) for ids, _ in told.following)
    if not count or any(len(ids) != len(values) for ids, values in told.following):
        raise TeacherError(f"{told.where}: a place has no log-probabilities, or not one for each class")
    ordered = [sorted(zip(values, ids, strict=True), reverse=True)[:count] for ids, values in told.following]
    ids = torch.tensor([[int(token) for _, token in place] for place in ordered])
    values = torch.tensor([[float(value) for value, _ in place] for place in ordered])
    target_of_logprobs(ids, values, classes=task.num_classes, where=told.where)
    return ids, values


def _by_text(task: CausalLM) -> TokenOf:
    """Finds a token by the text that it stands for, where no other one has that text."""
    table: dict[str, int | None] = {}

    def token_of(text: str) -> int | None:
        if not table:
            for number in range(task.num_classes):
                spoken = str(task.corpus.tokenizer.decode([number], clean_up_tokenization_spaces=False))
                table[spoken] = None if spoken in table else number
        return table.get(text)

    return token_of
