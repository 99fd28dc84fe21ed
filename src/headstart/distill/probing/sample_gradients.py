"""The student's gradients on what a teacher says to single samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from headstart.distill.inputs import each_tensor, tensors
from headstart.distill.losses import kl
from headstart.distill.pool.teacher import Teacher
from headstart.distill.probing.grace import grace, projected
from headstart.distill.probing.student import StudentCopy
from headstart.distill.projection import Projection, as_logits

_SAMPLES = 64
_AT_ONCE = 2**26  # numbers of gradients that exist at a time


def grace_of(student: StudentCopy, teacher: Teacher, inputs: Any, temperature: float) -> float | None:
    """GRACE of a teacher, from the gradients of KL at T = 1 on the first samples of a batch, the student in eval mode.

    Args:
        student: The copy.
        teacher: The teacher.
        inputs: Of the batch.
        temperature: What calibrates the teacher.

    Returns:
        None where a batch cannot be cut into samples (its tensors have different first dimensions, or are maps of one
        row each), the student gives several heads, or there are fewer than ten samples.
    """
    lengths = {len(tensor) if tensor.dim() else 0 for tensor in tensors(inputs)}
    if len(lengths) != 1 or min(lengths) < 10:
        return None
    parameters = [parameter for parameter in student.module.parameters() if parameter.requires_grad]
    group = max(1, _AT_ONCE // max(1, sum(parameter.numel() for parameter in parameters)))
    count = min(_SAMPLES, min(lengths))
    found: list[Tensor] = []
    student.module.eval()
    for begin in range(0, count, group):
        rows = []
        for place in range(begin, min(count, begin + group)):
            one = each_tensor(lambda tensor, place=place: tensor[place : place + 1], inputs)  # type: ignore[misc]
            own = student.asked(one)
            if not isinstance(own, Tensor | Projection):
                return None
            with torch.no_grad():
                theirs = as_logits(teacher.targets(one)) / temperature  # type: ignore[arg-type]
            loss = kl(as_logits(own).flatten(0, -2), theirs.flatten(0, -2), temperature=1.0).mean()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            whole = zip(gradients, parameters, strict=True)
            rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten().float() for g, p in whole]))
        found.append(projected(torch.stack(rows)))
    return grace(torch.cat(found))
