"""The fused loss is the weighted sum of cross-entropy and objective, in value and gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from headstart.distill import build_objective, cross_entropy, fused_loss
from headstart.distill.fused import loss as fused_module
from headstart.distill.fused import rows
from headstart.distill.objective import Objective
from headstart.errors import HeadstartError

Make = Callable[..., Tensor]
ROWS, CLASSES = 9, 7
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1])
SOME = torch.tensor([0, -100, 2, 3, -100, -100, 6, 0, -100])
KEEP = torch.tensor([True, True, False, True, True, False, True, True, True])
NAMES = ["kl", "reverse_kl", "jsd", "mse", "dkd"]

pytestmark = pytest.mark.usefixtures("always_fused")


def _separately(
    student: Tensor, labels: Tensor, teachers: list[Tensor], objective: Objective, weight: float, **options: Any
) -> Tensor:
    """The same from two losses, each with a graph of its own."""
    items, keep = options.get("num_items"), options.get("keep", torch.ones(len(labels), dtype=torch.bool))
    task = F.cross_entropy(
        student,
        labels,
        label_smoothing=options.get("label_smoothing", 0.0),
        reduction="mean" if items is None else "sum",
    )
    shares = options.get("shares", [1 / len(teachers)] * len(teachers))
    distill = objective(student, teachers, shares, keep=keep & (labels != -100), labels=labels, num_items=items)
    return (1 - weight) * (task if items is None else task / items) + weight * distill


@pytest.mark.parametrize("many", [0, 10**9], ids=["one pass", "by torch"])
@pytest.mark.parametrize("labels", [LABELS, SOME], ids=["all labelled", "some labelled"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1},
        {"keep": KEEP},
        {"num_items": 5, "label_smoothing": 0.2},
        {"num_items": torch.tensor(5), "keep": KEEP},
    ],
    ids=str,
)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", NAMES)
def test_is_both_losses(
    name: str,
    temperature: float,
    options: dict[str, Any],
    labels: Tensor,
    many: int,
    logits: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused_module, "_MANY", many)
    student, teacher = logits(ROWS, CLASSES).requires_grad_(), logits(ROWS, CLASSES)
    objective = build_objective(name, temperature)
    result = fused_loss(student, labels, [teacher], objective=objective, weight=0.3, **options)
    expected = _separately(student, labels, [teacher], objective, 0.3, **options)
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(0.7 * result.task + 0.3 * result.distill, expected)
    torch.testing.assert_close(torch.autograd.grad(result.loss, student), torch.autograd.grad(expected, student))


@pytest.mark.parametrize("items", [None, 3, torch.tensor(3)], ids=str)
def test_gradients_in_float64_are_not_rounded_to_float32(items: Any, logits: Make) -> None:
    student, teacher, objective = logits(7, CLASSES).requires_grad_(), logits(7, CLASSES), build_objective("kl", 2.0)
    result = fused_loss(student, LABELS[:7], [teacher], objective=objective, weight=0.3, num_items=items)
    expected = _separately(student, LABELS[:7], [teacher], objective, 0.3, num_items=items)
    gradients = [torch.autograd.grad(of, student)[0] for of in (result.loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("average", ["probability", "logit"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_of_several_teachers(name: str, standardize: bool, average: Any, logits: Make) -> None:
    student, teachers = logits(ROWS, CLASSES).requires_grad_(), [logits(ROWS, CLASSES) for _ in range(3)]
    objective, shares = build_objective(name, 2.0, standardize, average), [0.5, 0.2, 0.3]
    result = fused_loss(student, SOME, teachers, objective=objective, weight=0.6, shares=shares)
    expected = _separately(student, SOME, teachers, objective, 0.6, shares=shares)
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(torch.autograd.grad(result.loss, student), torch.autograd.grad(expected, student))


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_the_value(name: str, weight: float, logits: Make) -> None:
    """By finite differences; the pass asks autograd nothing for most of the losses."""
    teachers = [logits(4, CLASSES) for _ in range(2)]
    objective, labels = build_objective(name, 3.0), torch.tensor([2, -100, 0, 6])

    def value(student: Tensor) -> Tensor:
        return (
            3
            * fused_loss(
                student, labels, teachers, objective=objective, weight=weight, label_smoothing=0.1
            ).loss.square()
        )

    assert torch.autograd.gradcheck(value, [logits(4, CLASSES).requires_grad_()])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels", [LABELS, SOME], ids=["all labelled", "some labelled"])
@pytest.mark.parametrize("num_items", [None, 5])
def test_cross_entropy_alone(labels: Tensor, smoothing: float, num_items: int | None, logits: Make) -> None:
    student = logits(ROWS, CLASSES).requires_grad_()
    value = cross_entropy(student, labels, label_smoothing=smoothing, num_items=num_items)
    total = F.cross_entropy(student, labels, label_smoothing=smoothing, reduction="sum")
    expected = total / (num_items or (labels != -100).sum())
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, student), torch.autograd.grad(expected, student))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("name", NAMES)
def test_rows_not_kept_may_hold_anything(name: str, poison: float, logits: Make) -> None:
    student, teacher = logits(ROWS, CLASSES).requires_grad_(), logits(ROWS, CLASSES)
    objective = build_objective(name, 2.0)
    expected = fused_loss(student, LABELS, [teacher], objective=objective, weight=0.5, keep=KEEP)
    bad = teacher.clone()
    bad[~KEEP, 3] = poison
    result = fused_loss(student, LABELS, [bad], objective=objective, weight=0.5, keep=KEEP)
    assert [part.item() for part in result] == [part.item() for part in expected]
    assert torch.equal(*(torch.autograd.grad(of.loss, student)[0] for of in (result, expected)))


@pytest.mark.parametrize("name", NAMES)
def test_a_student_that_diverged_is_not_hidden(name: str, logits: Make) -> None:
    student, objective = logits(ROWS, CLASSES), build_objective(name, 2.0)
    student[3, 1] = torch.nan
    result = fused_loss(student.requires_grad_(), LABELS, [logits(ROWS, CLASSES)], objective=objective, weight=0.5)
    assert result.task.isnan() and result.distill.isnan() and result.loss.isnan()
    assert torch.autograd.grad(result.loss, student)[0].isnan().any(-1).nonzero().tolist() == [[3]]


@pytest.mark.parametrize("many", [0, 10**9], ids=["one pass", "by torch"])
def test_no_row_counts(many: int, logits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A micro-batch without a masked token must not make the loss NaN."""
    monkeypatch.setattr(fused_module, "_MANY", many)
    monkeypatch.setattr(fused_module, "_MANY_WITHOUT", many)
    student, nothing = logits(ROWS, CLASSES).requires_grad_(), torch.full((ROWS,), -100)
    objective = build_objective("kl", 2.0)
    result = fused_loss(student, nothing, [logits(ROWS, CLASSES)], objective=objective, weight=0.5)
    for value in (result.loss, cross_entropy(student, nothing)):
        assert value.item() == 0
        assert torch.equal(torch.autograd.grad(value, student)[0], torch.zeros(ROWS, CLASSES, dtype=torch.float64))
    assert [part.item() for part in result] == [0.0] * 6


@pytest.mark.parametrize("many", [0, 10**9], ids=["one pass", "by torch"])
@pytest.mark.parametrize("name", ["kl", "mse", "jsd"])
def test_shares_are_those_of_the_top_classes(
    name: str, many: int, logits: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_module, "_MANY", many)
    student, teacher, labels = logits(400, 3), logits(400, 3), torch.randint(3, (400,))
    labels[::5] = -100
    keep = torch.rand(400) < 0.7
    objective = build_objective(name, 2.0)
    result = fused_loss(student.requires_grad_(), labels, [teacher], objective=objective, weight=0.5, keep=keep)
    labelled, distilled = labels != -100, (labels != -100) & keep
    ours, theirs = student.argmax(-1), teacher.argmax(-1)
    assert result.agreement.item() == pytest.approx((ours == theirs)[distilled].double().mean().item())
    assert result.student_accuracy.item() == pytest.approx((ours == labels)[labelled].double().mean().item())
    assert result.teacher_accuracy.item() == pytest.approx((theirs == labels)[distilled].double().mean().item())


def test_equal_logits_are_all_top_classes() -> None:
    student = torch.tensor([[1.0, 1.0, 0.0]] * 3, requires_grad=True)
    teacher = torch.tensor([[0.0, 2.0, 2.0]] * 3)
    labels = torch.tensor([0, 1, 2])
    result = fused_loss(student, labels, [teacher], objective=build_objective("kl", 1.0), weight=0.5)
    assert result.agreement.item() == 1.0
    assert (result.student_accuracy.item(), result.teacher_accuracy.item()) == pytest.approx((2 / 3, 2 / 3))


class TestPrecision:
    @pytest.mark.parametrize("name", ["kl", "reverse_kl", "mse", "jsd"])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_is_no_worse_than_float32_by_hand(self, dtype: torch.dtype, name: str, logits: Make) -> None:
        """The gradient against float64, of logits up to 30; the same rounding to the logits' dtype stays at the end."""
        student, teacher = logits(64, 97, scale=8.0).to(dtype).requires_grad_(), logits(64, 97, scale=8.0).to(dtype)
        labels, objective = torch.randint(97, (64,)), build_objective(name, 4.0)
        wide = student.detach().double().requires_grad_()
        (exact,) = torch.autograd.grad(_separately(wide, labels, [teacher.double()], objective, 0.9), wide)
        by_hand = _separately(student.float(), labels, [teacher.float()], objective, 0.9)
        result = fused_loss(student, labels, [teacher], objective=objective, weight=0.9)
        errors = [
            ((torch.autograd.grad(loss, student)[0].double() - exact).norm() / exact.norm()).item()
            for loss in (result.loss, by_hand)
        ]
        assert result.loss.dtype == torch.float32
        assert errors[0] <= max(1.05 * errors[1], 1e-6)

    def test_half_precision_with_a_scaled_loss(self, logits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """What GradScaler multiplies in the backward comes too late for a gradient already rounded to 0."""
        monkeypatch.setattr(rows, "_elements", lambda _: 1000 * CLASSES)
        student, teacher = logits(3000, CLASSES).half().requires_grad_(), logits(3000, CLASSES).half()
        labels, objective = torch.randint(CLASSES, (3000,)), build_objective("kl", 2.0)
        wide = student.detach().double().requires_grad_()
        (exact,) = torch.autograd.grad(_separately(wide, labels, [teacher.double()], objective, 0.9), wide)
        loss = fused_loss(student, labels, [teacher], objective=objective, weight=0.9).loss
        (scaled,) = torch.autograd.grad(loss * 2.0**12, student)
        assert ((scaled.double() / 2.0**12 - exact).norm() / exact.norm()).item() < 5e-4

    def test_autocast_changes_nothing(self, logits: Make) -> None:
        student, teacher = logits(ROWS, CLASSES).float().requires_grad_(), logits(ROWS, CLASSES).float()
        for name in NAMES:
            objective = build_objective(name, 2.0)
            expected = fused_loss(student, LABELS, [teacher], objective=objective, weight=0.5).loss
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = fused_loss(student, LABELS, [teacher], objective=objective, weight=0.5).loss
                assert torch.equal(loss, expected)
                assert torch.equal(*(torch.autograd.grad(of, student)[0] for of in (loss, expected)))


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes how many elements the results of operations have that are no views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: dict[int, tuple[Tensor, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for item in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(item, Tensor):
                storage = item.untyped_storage()
                self.storages[storage.data_ptr()] = (item, storage.nbytes())  # kept, so that no address comes twice
        return output


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_the_gradient_is_of_the_logits_size(name: str, logits: Make) -> None:
    student, teacher = logits(40, 50).bfloat16().requires_grad_(), logits(40, 50).bfloat16()
    labels = torch.randint(50, (40,))
    inputs = {tensor.untyped_storage().data_ptr() for tensor in (student, teacher)}
    with _Largest() as largest:
        loss = fused_loss(student, labels, [teacher], objective=build_objective(name, 2.0), weight=0.5).loss
        (gradient,) = torch.autograd.grad(loss, student)
    sizes = [size for address, (_, size) in largest.storages.items() if address not in inputs]
    whole = gradient.untyped_storage().nbytes()
    assert whole == 2 * 40 * 50
    assert sorted(sizes)[-1] == whole
    assert sorted(sizes)[-2] <= 5 * 40 * 4  # the five numbers a row


class TestBackward:
    def _loss(self, student: Tensor, logits: Make) -> Tensor:
        return fused_loss(
            student, LABELS, [logits(ROWS, CLASSES)], objective=build_objective("kl", 2.0), weight=0.5
        ).loss

    def test_can_be_repeated(self, logits: Make) -> None:
        student = logits(ROWS, CLASSES).requires_grad_()
        loss = self._loss(student, logits)
        first, second = (torch.autograd.grad(k * loss, student, retain_graph=True)[0] for k in (1.0, 3.0))
        torch.testing.assert_close(second, 3 * first)
        torch.testing.assert_close(torch.autograd.grad(loss, student)[0], first)
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            torch.autograd.grad(loss, student)

    def test_needs_no_second_tensor_for_a_factor(self, logits: Make) -> None:
        student = logits(ROWS, CLASSES).requires_grad_()
        loss = self._loss(student, logits)
        with _Largest() as largest:
            torch.autograd.grad(loss / 4, student)
        assert max(size for _, size in largest.storages.values()) == ROWS * CLASSES * 8
        assert sum(size == ROWS * CLASSES * 8 for _, size in largest.storages.values()) == 1

    def test_second_derivatives_are_refused(self, logits: Make) -> None:
        student = logits(ROWS, CLASSES).requires_grad_()
        with pytest.raises(
            HeadstartError, match=r"no second derivative, so create_graph=True .* distiller\(loss, logits"
        ):
            torch.autograd.grad(self._loss(student, logits), student, create_graph=True)

    def test_parts_have_no_gradient(self, logits: Make) -> None:
        result = fused_loss(
            logits(ROWS, CLASSES).requires_grad_(),
            LABELS,
            [logits(ROWS, CLASSES)],
            objective=build_objective("kl", 2.0),
            weight=0.5,
        )
        assert [part.requires_grad for part in result] == [True] + 5 * [False]


def test_few_logits_go_through_torch(logits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_module, "_MANY", ROWS * CLASSES + 1)
    student = logits(ROWS, CLASSES).requires_grad_()
    objective = build_objective("kl", 2.0)
    result = fused_loss(student, LABELS, [logits(ROWS, CLASSES)], objective=objective, weight=0.5)
    (gradient,) = torch.autograd.grad(result.loss, student, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), student)[0].abs().sum() > 0
    assert [part.requires_grad for part in result] == [True] + 5 * [False]


def test_strided_logits(logits: Make) -> None:
    """Slices of padded vocabularies are not contiguous."""
    student, teacher = logits(ROWS, CLASSES + 4).requires_grad_(), logits(CLASSES, ROWS).T
    objective = build_objective("kl", 2.0)
    part = student[:, 2 : CLASSES + 2]
    loss = fused_loss(part, LABELS, [teacher], objective=objective, weight=0.5).loss
    expected = _separately(part, LABELS, [teacher], objective, 0.5)
    torch.testing.assert_close(torch.autograd.grad(loss, student), torch.autograd.grad(expected, student))


def test_torch_compile_around_it(logits: Make) -> None:
    """Its graph breaks there, so that a thousand chunks are no part of it, and nothing is compiled twice."""
    weight, teacher = logits(3, CLASSES).requires_grad_(), logits(ROWS, CLASSES)
    inputs, objective = logits(ROWS, 3), build_objective("kl", 2.0)
    graphs = []

    def step(inputs: Tensor) -> Tensor:
        return 2 * fused_loss((inputs @ weight).tanh(), LABELS, [teacher], objective=objective, weight=0.5).loss

    def note(graph: Any, _: Any) -> Any:
        graphs.append([node.target for node in graph.graph.nodes])
        return graph

    compiled = torch.compile(step, backend=note)
    expected = step(inputs)
    (gradient,) = torch.autograd.grad(expected, weight)
    for _ in range(3):
        loss = compiled(inputs)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], gradient)
    assert len(graphs) == 3
    assert not any("exp2" in str(target) for targets in graphs for target in targets)


class TestMessages:
    @pytest.mark.parametrize("labels", [-1, CLASSES])
    def test_of_labels_that_are_no_class(self, labels: int, logits: Make) -> None:
        objective, bad = build_objective("kl", 2.0), LABELS.clone()
        bad[4] = labels
        with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
            fused_loss(
                logits(ROWS, CLASSES).requires_grad_(), bad, [logits(ROWS, CLASSES)], objective=objective, weight=0.5
            )

    def test_of_shapes(self, logits: Make) -> None:
        student, objective = logits(ROWS, CLASSES).requires_grad_(), build_objective("kl", 2.0)
        with pytest.raises(HeadstartError, match=r"shapes \(9, 7\) \(student\) and \(9, 6\) \(teacher\) do not fit"):
            fused_loss(student, LABELS, [logits(ROWS, 6)], objective=objective, weight=0.5)
        with pytest.raises(HeadstartError, match=r"labels of shape \(4,\) do not fit 9 rows"):
            fused_loss(student, LABELS[:4], [logits(ROWS, CLASSES)], objective=objective, weight=0.5)
        with pytest.raises(HeadstartError, match="at least one teacher"):
            fused_loss(student, LABELS, [], objective=objective, weight=0.5)

    def test_of_losses_that_need_all_rows(self, logits: Make) -> None:
        for loss in ("dist", lambda student, teacher, *, temperature, labels: student.sum(-1)):
            with pytest.raises(
                HeadstartError, match=r"one row at a time; for others call distiller\(loss, logits, inputs\)"
            ):
                fused_loss(
                    logits(ROWS, CLASSES).requires_grad_(),
                    LABELS,
                    [logits(ROWS, CLASSES)],
                    objective=build_objective(loss, 2.0),
                    weight=0.5,
                )
