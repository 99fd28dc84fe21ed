"""A student that writes into its inputs is refused; a loader that does so is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller
from headstart.errors import HeadstartError


class Writing(nn.Module):
    """Normalises its images in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 3))

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layers(images.sub_(0.5))
        return output


def net() -> nn.Sequential:
    return Writing().layers


def filled() -> Tensor:
    """A batch as collators make it, sample by sample."""
    images = torch.zeros(8, 3, 2, 2)
    for image in images:
        image.copy_(torch.rand(3, 2, 2))
    return images


def test_a_student_that_writes_is_named() -> None:
    student, images = Writing(), torch.rand(8, 3, 2, 2)
    for wrapped in (student, nn.Sequential(student), nn.DataParallel(student)):
        logits = wrapped(images)
        with pytest.raises(HeadstartError, match=r"changes its inputs in place.*distiller.prefetch"):
            Distiller(net(), total_steps=4)(logits.sum(), logits, images)


def test_prefetched_teachers_have_seen_the_batch_before() -> None:
    teacher, student, images = net(), Writing(), torch.rand(8, 3, 2, 2)
    expected = teacher.eval()(images).detach().log_softmax(-1)
    distiller = Distiller(teacher, total_steps=4, temperature=1.0)
    distiller.prefetch(images)
    logits = student(images)
    distiller(logits.sum(), logits, images)
    divergence = F.kl_div(logits.log_softmax(-1), expected, log_target=True, reduction="batchmean")
    assert distiller.last is not None and distiller.last.distill_loss == pytest.approx(divergence.item(), rel=1e-4)


def test_a_loader_may_write_and_nothing_of_the_student_is_touched() -> None:
    calls: list[int] = []

    class Counted(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            calls.append(1)
            for layer in self:
                images = layer(images)
            return images

    student, images, distiller = Counted(*net()), filled(), Distiller(net(), total_steps=4)
    logits = student(images)
    before, drawn = {name: value.clone() for name, value in student.state_dict().items()}, torch.get_rng_state()
    for _ in range(2):
        distiller(logits.sum(), logits, images)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn) and len(calls) == 2  # once tried


def test_a_student_that_cannot_be_tried_is_taken() -> None:
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, images: Tensor) -> Tensor:
            output: Tensor = self.layer(images.flatten(1)) * float(images.max())
            return output

    images = filled()
    logits = Looking()(images)
    assert Distiller(net(), total_steps=4)(logits.sum(), logits, images).isfinite()


def test_hooks_see_real_forwards_only() -> None:
    student, images, seen = Writing(), torch.rand(8, 3, 2, 2), list[Tensor]()
    student.layers.register_forward_hook(lambda _, __, output: seen.append(output))
    logits = student(images)
    Distiller(net(), total_steps=4)(logits.sum(), logits, images)
    assert len(seen) == 1
