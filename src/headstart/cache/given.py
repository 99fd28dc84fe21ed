"""Targets that somebody else made: log-probabilities checked, and written as a cache that runs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.cache.batches import Batches
from headstart.cache.build import versions
from headstart.cache.container import Header
from headstart.cache.fingerprint import fingerprint
from headstart.cache.formats import TopKRows
from headstart.cache.source import cache_file
from headstart.cache.writer import CacheWriter
from headstart.distill.targets.source import Keys
from headstart.distill.targets.sparse import TopK
from headstart.errors import TeacherError
from headstart.tasks import Batch

# By how much rounding may lift the sum of a row's probabilities above 1 (servers give few digits), a logarithm above 0.
_OVER, _POSITIVE = 2e-3, 1e-5


def target_of_logprobs(token_ids: Tensor, logprobs: Tensor, *, classes: int, where: str = "targets") -> TopK:
    """The target that the log-probabilities of the most probable classes make, with all others as one class more.

    They are a softmax's at temperature 1, and the target is good for that temperature alone: what the others are
    together at another one does not follow from their sum.

    Args:
        token_ids: The classes, `[rows, k]` of int64, k less than `classes`.
        logprobs: Theirs, `[rows, k]`.
        classes: How many there are.
        where: Of the rows, for messages.

    Raises:
        TeacherError: They are no log-probabilities, or not of such classes.

    Example:
        >>> target = target_of_logprobs(torch.tensor([[2, 0]]), torch.tensor([[0.5, 0.25]]).log(), classes=4)
        >>> target.logits.exp()
        tensor([[0.5000, 0.2500, 0.2500]])
    """
    if token_ids.shape != logprobs.shape or token_ids.dim() != 2:
        raise TeacherError(
            f"{where}: classes of shape {tuple(token_ids.shape)} and log-probabilities of {tuple(logprobs.shape)}; "
            "give [rows, k] of both"
        )
    count = token_ids.shape[1]
    if not 1 <= count < classes:
        raise TeacherError(
            f"{where}: {count} log-probabilities a row, of {classes} classes; give from 1 to {classes - 1}"
        )
    _check_classes(token_ids, classes, where)
    logprobs = logprobs.to(torch.promote_types(logprobs.dtype, torch.float32))
    _check_logprobs(logprobs, where)
    left = (1.0 - logprobs.double().exp().sum(-1, keepdim=True)).clamp(min=1e-12)
    return TopK(token_ids, torch.cat([logprobs, left.log().to(logprobs.dtype)], -1), 1.0, classes)


def write(
    folder: str | Path,
    name: str,
    batches: Batches,
    give: Callable[[Batch], TopK],
    *,
    data: Mapping[str, Any],
) -> Path:
    """Write the targets that a function of yours gives as a cache, as `write_cache` does those of live teachers.

    Args:
        folder: The cache folder; gets one file.
        name: What the runs that read it call the teacher.
        batches: Which batches.
        give: The target of a batch's rows, sample after sample, from `target_of_logprobs`; called once for each, in
            order. All have the same number of rows a sample, and the same k.
        data: Settings that the inputs depend on: see `Fingerprint`.

    Returns:
        The file.

    Raises:
        TeacherError: A target does not fit its batch or the first one.
        HeadstartError: The folder holds targets of something else, or cannot be written.
    """
    plan = batches.plan
    if not plan:
        raise TeacherError("nothing to cache: the run distils on no step; look at distill.start and distill.stop")
    beginning = batches.batch(*plan[0])
    first, samples = give(beginning), len(beginning.samples)
    rows, over = divmod(len(first.indices), samples)
    if over or not rows:
        raise TeacherError(f"{name}: {len(first.indices)} rows for {samples} samples; give the same number for each")
    form = TopKRows(classes=first.classes, k=first.indices.shape[1], temperature=first.temperature)
    header = Header(
        teacher=name,
        fingerprint=fingerprint(None, batches.task, data),
        rows=form,
        rows_per_sample=rows,
        views=batches.views,
        batch_size=batches.size,
        parts=batches.parts,
        versions=versions(),
    )
    path = cache_file(folder, name)
    with CacheWriter(path, header, plan) as writer:
        for number in range(writer.done, len(plan)):
            batch = batches.batch(*plan[number])
            target = first if number == 0 else give(batch)
            found = (len(target.indices), target.indices.shape[1], target.temperature, target.classes)
            if found != (rows * len(batch.samples), form.k, form.temperature, form.classes):
                raise TeacherError(
                    f"{name}: batch {number} has a target of (rows, k, temperature, classes) = {found}, and the first "
                    f"had {(rows * samples, form.k, form.temperature, form.classes)}; all have to be alike"
                )
            writer.append(Keys(batch.samples, batch.epoch), form.encode_target(target).cpu().numpy())
    return path


def _check_classes(token_ids: Tensor, classes: int, where: str) -> None:
    outside = (token_ids < 0) | (token_ids >= classes)
    if bool(outside.any()):
        row = int(outside.any(-1).nonzero()[0])
        raise TeacherError(
            f"{where}, row {row}: class {int(token_ids[outside][0])} is none of the {classes} that the student has; "
            "they were made with another vocabulary"
        )
    ordered = token_ids.sort(-1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(-1)
    if bool(twice.any()):
        raise TeacherError(f"{where}, row {int(twice.nonzero()[0])}: a class stands there twice; give each once")


def _check_logprobs(logprobs: Tensor, where: str) -> None:
    wrong = ~logprobs.isfinite().all(-1)
    if bool(wrong.any()):
        raise TeacherError(
            f"{where}, row {int(wrong.nonzero()[0])}: a log-probability is {float(logprobs[~logprobs.isfinite()][0])}; "
            "leave classes without one out"
        )
    row_sums = logprobs.double().exp().sum(-1)
    wrong = (logprobs > _POSITIVE).any(-1) | (row_sums > 1.0 + _OVER)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        values = logprobs[row]
        kind = "probabilities" if bool(((values >= 0) & (values <= 1)).all()) else "logits, or of no softmax"
        raise TeacherError(
            f"{where}, row {row}: {[round(value, 4) for value in values[:4].tolist()]} are no log-probabilities, whose "
            f"exponentials sum to at most 1; they look like {kind}. Give log-softmax values at temperature 1"
        )
