"""Loops, losses and optimisers of all kinds around a Distiller: each number against the same written by hand."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from headstart import Distiller
from headstart.distill import Teacher
from headstart.errors import HeadstartError, TeacherError
from tests.distill.batch import CLASSES, FEATURES

ROWS, STEPS, W, T = 6, 5, 0.9, 4.0
Step = Callable[[nn.Module, torch.optim.Optimizer, Callable[[], Tensor]], None]


def network(seed: int, *, outputs: int = CLASSES) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, outputs)).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(ROWS, FEATURES, dtype=torch.float64, generator=generator)
    return inputs, torch.arange(ROWS) % CLASSES


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Of each row."""
    p, log_q = F.softmax(teacher / T, -1), F.log_softmax(student / T, -1)
    return T**2 * (p * (p.log() - log_q)).sum(-1)


def mixed(task: Tensor, distill: Tensor, w: float = W) -> Tensor:
    return (1 - w) * task + w * distill


def whole(teacher: Any, **options: Any) -> Distiller:
    return Distiller(teacher, total_steps=STEPS, stop=1.0, **options)


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True))


def closure_step(student: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """As LBFGS, which asks for the loss several times a step."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[arg-type]


def sam_step(student: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """Sharpness-aware: the gradient where the loss is about highest nearby (arXiv 2010.01412)."""
    weights = list(student.parameters())
    slopes = torch.autograd.grad(loss(), weights)
    norm = torch.stack([slope.norm() for slope in slopes]).norm()
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight.add_(slope, alpha=0.05 / float(norm))
    torch.autograd.backward(loss())
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight.sub_(slope, alpha=0.05 / float(norm))
    optimizer.step()
    optimizer.zero_grad()


def scaled_step(student: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """As mixed precision in fp16 takes it."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    torch.autograd.backward(scaler.scale(loss()))
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def validating_step(student: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """With an evaluation in the middle of it."""
    value = loss()
    with torch.no_grad():
        loss()
    torch.autograd.backward(value)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("step", "make"),
    [
        (closure_step, lambda weights: torch.optim.LBFGS(weights, lr=0.1, max_iter=4)),
        (sam_step, lambda weights: torch.optim.SGD(weights, lr=0.1)),
        (scaled_step, lambda weights: torch.optim.SGD(weights, lr=0.1)),
        (validating_step, lambda weights: torch.optim.Adam(weights, lr=0.1)),
    ],
    ids=["closure", "sharpness-aware", "scaled", "validating"],
)
def test_a_step_of_any_kind_trains_to_the_weights_of_the_loss_by_hand(
    step: Step, make: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
) -> None:
    inputs, labels = batch()
    teachers, ends = [network(seed) for seed in (2, 3)], []
    for distilled in (True, False):
        student, distiller = network(1), Distiller(copy.deepcopy(teachers), total_steps=STEPS, stop=0.6)
        drawn = [distiller._asking.pool.chosen(number)[0] for number in range(STEPS)]  # type: ignore[union-attr]
        optimizer = make(student.parameters())

        def loss(student: nn.Module = student, distiller: Distiller = distiller) -> Tensor:
            logits = student(inputs)
            task = F.cross_entropy(logits, labels)
            if distilled:  # noqa: B023 - called in this turn of the loop
                return distiller(task, logits, inputs)
            now = distiller.current_step
            return mixed(task, kl(logits, teachers[drawn[now]](inputs)).mean()) if now < 3 else task  # noqa: B023

        for _ in range(STEPS):
            step(student, optimizer, loss)
            distiller.step()
        ends.append(student.state_dict())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_that_are_computed_again(reentrant: bool) -> None:
    inputs, labels = batch()
    inputs.requires_grad_(reentrant)  # which that kind needs
    student, teacher = network(1), network(2)
    logits = checkpoint(student, inputs, use_reentrant=reentrant)
    loss = whole(copy.deepcopy(teacher))(F.cross_entropy(logits, labels), logits, inputs)
    plain = student(inputs)
    expected = mixed(F.cross_entropy(plain, labels), kl(plain, teacher(inputs).detach()).mean())
    torch.autograd.backward(loss)
    found = [parameter.grad for parameter in student.parameters()]
    torch.testing.assert_close([loss, *found], [expected, *gradients(expected, student)])


def test_two_distillers_in_one_loop() -> None:
    inputs, labels = batch()
    student, first, second = network(1), network(2), network(3)
    logits = student(inputs)
    task = F.cross_entropy(logits, labels)
    one = whole(copy.deepcopy(first), weight=0.5)(task, logits, inputs)
    both = whole(copy.deepcopy(second), weight=0.2, loss="mse")(one, logits, inputs)
    expected = mixed(task, kl(logits, first(inputs)).mean(), 0.5)
    expected = mixed(expected, (logits - second(inputs)).square().mean(), 0.2)
    torch.testing.assert_close(both, expected)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
@pytest.mark.parametrize("used", [False, True], ids=["new", "in use"])
def test_a_copy_of_a_distiller_goes_on_where_it_was_taken(how: str, used: bool) -> None:
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    distiller = whole(copy.deepcopy(teacher))
    if used:
        logits = student(inputs)
        distiller(F.cross_entropy(logits, labels), logits, inputs)
        distiller.step()
    if how == "torch.save":
        torch.save(distiller, stream := io.BytesIO())
        stream.seek(0)
        twin = torch.load(stream, weights_only=False)
    else:
        twin = copy.deepcopy(distiller) if how == "deepcopy" else pickle.loads(pickle.dumps(distiller))
    assert twin.current_step == int(used)
    logits = student(inputs)
    task = F.cross_entropy(logits, labels)
    torch.testing.assert_close(twin(task, logits, inputs), mixed(task, kl(logits, teacher(inputs)).mean()))
    twin.step()
    assert distiller.current_step == int(used)


def test_a_copy_of_a_distiller_still_refuses_what_it_shares_with_a_student() -> None:
    inputs, labels = batch()
    twin = copy.deepcopy(whole(network(2)))
    teacher: Any = twin._asking.pool.live[0].module  # type: ignore[union-attr]
    student = nn.Sequential(teacher[0], nn.Tanh(), network(1)[2])
    logits = student(inputs)
    torch.autograd.backward(twin(F.cross_entropy(logits, labels), logits, inputs))
    with pytest.raises(TeacherError, match=r"shares 0\.weight, 0\.bias with the student"):
        torch.optim.SGD(student.parameters(), lr=0.1).step()


def test_a_teacher_that_follows_the_student() -> None:
    """A mean teacher (arXiv 1703.01780): its weights are changed in place by the loop."""
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    distiller, optimizer = whole(teacher), torch.optim.SGD(student.parameters(), lr=0.5)
    twin = copy.deepcopy(teacher)
    for _ in range(3):
        logits = student(inputs)
        task = F.cross_entropy(logits, labels)
        loss = distiller(task, logits, inputs)
        torch.testing.assert_close(loss, mixed(task, kl(logits, twin(inputs)).mean()))
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        for average in (teacher, twin):
            with torch.no_grad():
                for mean, now in zip(average.parameters(), student.parameters(), strict=True):
                    mean.mul_(0.9).add_(now, alpha=0.1)
        distiller.step()


def test_a_batch_that_always_lies_in_the_same_memory() -> None:
    """As for CUDA graphs: what is in it now is what the teacher judges."""
    inputs, labels = batch()
    student, teacher, place = network(1), network(2), torch.empty_like(inputs)
    distiller = whole(copy.deepcopy(teacher))
    for shift in (0.0, 1.0, 2.0):
        place.copy_(inputs + shift)
        distiller.prefetch(place)
        logits = student(place)
        task = F.cross_entropy(logits, labels)
        torch.testing.assert_close(
            distiller(task, logits, place), mixed(task, kl(logits, teacher(inputs + shift)).mean())
        )
        distiller.step()


def test_weights_that_are_no_parameters_of_the_module() -> None:
    """As in meta-learning: the gradient goes to them."""
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    fast = {name: value.detach().mul(0.5).requires_grad_() for name, value in student.named_parameters()}
    logits = torch.func.functional_call(student, fast, (inputs,))
    task = F.cross_entropy(logits, labels)
    loss = whole(copy.deepcopy(teacher))(task, logits, inputs)
    expected = mixed(task, kl(logits, teacher(inputs).detach()).mean())
    for found, wanted in zip(
        torch.autograd.grad(loss, list(fast.values()), retain_graph=True),
        torch.autograd.grad(expected, list(fast.values())),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_another_default_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = batch()
    teacher, before = network(2).float(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        student = nn.Linear(FEATURES, CLASSES)
        logits = student(inputs)
        task = F.cross_entropy(logits, labels)
        loss = whole(copy.deepcopy(teacher))(task, logits, inputs)
    finally:
        torch.set_default_dtype(before)
    assert loss.dtype == torch.float64
    expected = mixed(task, kl(logits, teacher(inputs.float()).double()).mean())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)  # each side in its own precision


@pytest.mark.parametrize("ignored", [0, 255])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_what_the_task_loss_ignores_by_another_number_is_not_distilled(
    ignored: int, dtype: torch.dtype, smoothing: float
) -> None:
    """Also where the first batch has none of it."""
    inputs, labels = batch()
    labels, student, teacher = labels.clamp(min=1), network(1), network(2)
    distiller = whole(copy.deepcopy(teacher))
    for padded in (0, 2):
        given = labels.clone()
        given[:padded] = ignored
        logits = student(inputs)
        task = F.cross_entropy(logits, given, ignore_index=ignored, label_smoothing=smoothing)
        loss = distiller(task, logits, inputs, labels=given.to(dtype))
        expected = mixed(task, kl(logits, teacher(inputs).detach())[padded:].mean())
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradients(loss, student), gradients(expected, student), rtol=1e-6, atol=1e-9)


def test_pixels_that_the_task_loss_ignores_are_not_distilled() -> None:
    torch.manual_seed(4)
    student, teacher = (nn.Conv2d(3, CLASSES, 1).double() for _ in range(2))
    images, labels = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randint(CLASSES, (2, 4, 4))
    labels[:, :2] = 255
    logits = student(images)
    task = F.cross_entropy(logits, labels, ignore_index=255)
    loss = whole(copy.deepcopy(teacher), class_dim=1)(task, logits, images, labels=labels)
    rows = kl(logits.movedim(1, -1), teacher(images).movedim(1, -1))
    torch.testing.assert_close(loss, mixed(task, rows[:, 2:].mean()))


def test_two_losses_that_ignore_different_numbers_tell_nothing() -> None:
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    logits = student(inputs)
    task = F.cross_entropy(logits, labels, ignore_index=0) + F.cross_entropy(logits, labels)
    loss = whole(copy.deepcopy(teacher))(task, logits, inputs, labels=labels)
    torch.testing.assert_close(loss, mixed(task, kl(logits, teacher(inputs)).mean()))


def test_a_task_loss_that_is_a_sum_is_told_and_sums_of_both_are_right() -> None:
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    logits = student(inputs)
    task = F.cross_entropy(logits, labels, reduction="sum")
    with pytest.warns(UserWarning, match=r"the task loss is a sum .* about a 6th of its weight; .*num_items=1"):
        whole(copy.deepcopy(teacher))(task, logits, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = whole(copy.deepcopy(teacher))(task, logits, inputs, num_items=1)
        whole(copy.deepcopy(teacher))(task / ROWS, logits, inputs)
    torch.testing.assert_close(loss, mixed(task, kl(logits, teacher(inputs)).sum()))


def test_a_task_loss_for_each_row_is_averaged_afterwards() -> None:
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    logits = student(inputs)
    rows = F.cross_entropy(logits, labels, reduction="none")
    loss = whole(copy.deepcopy(teacher))(rows, logits, inputs).mean()
    torch.testing.assert_close(loss, mixed(rows.mean(), kl(logits, teacher(inputs)).mean()))


def test_weights_of_classes_are_the_task_losss_own() -> None:
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    logits = student(inputs)
    task = F.cross_entropy(logits, labels, weight=torch.arange(1.0, CLASSES + 1).double())
    loss = whole(copy.deepcopy(teacher))(task, logits, inputs, labels=labels)
    torch.testing.assert_close(loss, mixed(task, kl(logits, teacher(inputs)).mean()))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_several_labels_of_any_dtype_with_weights_of_positives(dtype: torch.dtype) -> None:
    inputs, labels = batch()
    hot = F.one_hot(labels, CLASSES).to(dtype)
    student, teacher = network(1), network(2)
    logits, target = student(inputs), teacher(inputs)
    weight = torch.full((CLASSES,), 3.0, dtype=torch.float64)
    task = F.binary_cross_entropy_with_logits(logits, hot.double(), pos_weight=weight)
    loss = whole(copy.deepcopy(teacher), head="labels")(task, logits, inputs, labels=hot)
    p, q = torch.sigmoid(target / T), torch.sigmoid(logits / T)
    rows = T**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    torch.testing.assert_close(loss, mixed(task, rows.mean()))


def test_labels_of_each_pixel_with_some_unknown() -> None:
    torch.manual_seed(4)
    student, teacher = (nn.Conv2d(3, 4, 1).double() for _ in range(2))
    images, labels = torch.randn(2, 3, 5, 5, dtype=torch.float64), torch.randint(2, (2, 4, 5, 5)).double()
    labels[:, 1] = torch.nan
    labels[0, 0] = -100
    logits, target = student(images), teacher(images)
    known = ~labels.isnan() & (labels != -100)
    task = F.binary_cross_entropy_with_logits(logits[known], labels[known])
    distiller = whole(copy.deepcopy(teacher), head="labels", class_dim=1, loss="mse")
    loss = distiller(task, logits, images, labels=labels)
    torch.testing.assert_close(loss, mixed(task, (logits - target).square()[known].mean()))


def test_classes_that_come_last_in_maps() -> None:
    torch.manual_seed(4)
    student, teacher = (nn.Linear(3, CLASSES).double() for _ in range(2))
    images, labels = torch.randn(2, 4, 4, 3, dtype=torch.float64), torch.randint(CLASSES, (2, 4, 4))
    logits = student(images)
    task = F.cross_entropy(logits.flatten(0, -2), labels.flatten())
    loss = whole(copy.deepcopy(teacher))(task, logits, images, labels=labels)
    torch.testing.assert_close(loss, mixed(task, kl(logits, teacher(images)).mean()))


def test_log_probabilities_are_logits_to_a_softmax() -> None:
    """A student that ends in log_softmax, and NLLLoss."""
    inputs, labels = batch()
    student, teacher = network(1), network(2)
    logs = F.log_softmax(student(inputs), -1)
    task = F.nll_loss(logs, labels)
    loss = whole(copy.deepcopy(teacher))(task, logs, inputs)
    torch.testing.assert_close(loss, mixed(task, kl(student(inputs), teacher(inputs)).mean()))


class Normalised(nn.Module):
    """Ends in a log_softmax."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        return F.log_softmax(self.module(inputs), -1)


@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
def test_log_probabilities_are_no_logits_to_a_squared_error(whose: str) -> None:
    inputs, labels = batch()
    student: nn.Module = network(1)
    teacher: nn.Module = network(2)
    student = student if whose == "teacher" else Normalised(student)
    teacher = teacher if whose == "student" else Normalised(teacher)
    logits = student(inputs)
    task = F.cross_entropy(logits, labels)
    distiller = whole(copy.deepcopy(teacher), loss="mse")
    if whose == "both":
        expected = (logits - teacher(inputs)).square().mean()
        torch.testing.assert_close(distiller(task, logits, inputs), mixed(task, expected))
        return
    one, other = ("the student", "teacher 'Sequential'")[:: 1 if whose == "student" else -1]
    one = one.replace("Sequential", "Normalised")
    with pytest.raises(TeacherError, match=f"{one} gives log-probabilities .* and {other} does not"):
        distiller(task, logits, inputs)


def test_a_models_whole_output_is_not_taken_for_several_heads() -> None:
    inputs, labels = batch()
    logits = network(1)(inputs)
    task = F.cross_entropy(logits, labels)
    distiller = whole(network(2))
    outputs: Mapping[str, Tensor] = {"logits": logits, "features": torch.ones(ROWS, 8, requires_grad=True)}
    with pytest.raises(HeadstartError, match="has 'logits' and 'features', as a model's whole output; give its 'log"):
        distiller(task, outputs, inputs)

    @dataclass
    class Output:
        logits: Tensor

    with pytest.raises(HeadstartError, match="not Output; give its `logits`"):
        distiller(task, Output(logits), inputs)  # type: ignore[arg-type]


def test_a_teacher_with_more_outputs_is_refused_or_told_which_count() -> None:
    inputs, labels = batch()
    student, teacher = network(1), network(2, outputs=CLASSES + 3)
    logits = student(inputs)
    task = F.cross_entropy(logits, labels)
    with pytest.raises(TeacherError, match="both need the same classes"):
        whole(copy.deepcopy(teacher))(task, logits, inputs)
    loss = whole(Teacher(copy.deepcopy(teacher), classes=CLASSES))(task, logits, inputs)
    torch.testing.assert_close(loss, mixed(task, kl(logits, teacher(inputs)[:, :CLASSES]).mean()))


def test_soft_labels_and_rows_without_one() -> None:
    inputs, _ = batch()
    soft = F.softmax(torch.randn(ROWS, CLASSES, dtype=torch.float64), -1)
    soft[2] = -100
    student, teacher = network(1), network(2)
    logits, known = student(inputs), torch.arange(ROWS) != 2
    loss = whole(copy.deepcopy(teacher)).loss(logits, soft, inputs)
    task = -(soft * logits.log_softmax(-1)).sum(-1)[known].mean()
    torch.testing.assert_close(loss, mixed(task, kl(logits, teacher(inputs))[known].mean()))


def test_a_distiller_in_a_module_adds_nothing_to_it() -> None:
    """As in a LightningModule, or a model that computes its own loss."""
    inputs, labels = batch()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.distiller = network(1), whole(network(2))

        def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
            logits = self.layers(inputs)
            return self.distiller(F.cross_entropy(logits, labels), logits, inputs)

    model = Model()
    assert set(model.state_dict()) == {f"layers.{name}" for name in network(1).state_dict()}
    twin = copy.deepcopy(model)  # as averages of weights begin
    assert torch.equal(model(inputs, labels), twin(inputs, labels))
