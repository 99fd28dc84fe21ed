"""From hidden states and heads: the same losses, and no model's logits in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from headstart.distill import Projection, build_objective, fused_linear_loss, fused_loss
from headstart.distill.fused import linear
from headstart.errors import HeadstartError

Make = Callable[..., Tensor]
ROWS, CLASSES, FEATURES = 9, 7, 4
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1])
SOME = torch.tensor([0, -100, 2, 3, -100, -100, 6, 0, -100])

pytestmark = pytest.mark.usefixtures("always_fused")


def _student(logits: Make, *, bias: bool = True) -> Projection:
    leaves = [logits(ROWS, FEATURES), logits(CLASSES, FEATURES), logits(CLASSES) if bias else None]
    return Projection(*(leaf if leaf is None else leaf.requires_grad_() for leaf in leaves))  # type: ignore[arg-type]


def _teacher(logits: Make) -> Projection:
    return Projection(logits(ROWS, 5), logits(CLASSES, 5), logits(CLASSES))


def _leaves(student: Projection) -> list[Tensor]:
    return [leaf for leaf in student if leaf is not None]


@pytest.mark.parametrize("labels", [LABELS, SOME], ids=["all labelled", "some labelled"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd", "mse", "dkd"])
def test_is_that_of_the_logits(name: str, count: int, bias: bool, labels: Tensor, logits: Make) -> None:
    student, teachers = _student(logits, bias=bias), [_teacher(logits) for _ in range(count)]
    options = {"objective": build_objective(name, 2.0), "weight": 0.3, "label_smoothing": 0.1, "num_items": 5}
    result = fused_linear_loss(student, labels, teachers, **options)  # type: ignore[arg-type]
    expected = fused_loss(F.linear(*student), labels, [F.linear(*t) for t in teachers], **options)  # type: ignore[arg-type]
    for part, whole in zip(result, expected, strict=True):
        torch.testing.assert_close(part, whole)
    leaves = _leaves(student)
    torch.testing.assert_close(torch.autograd.grad(result.loss, leaves), torch.autograd.grad(expected.loss, leaves))


def test_gradient_is_that_of_the_value(logits: Make) -> None:
    teachers, objective = [_teacher(logits)], build_objective("kl", 3.0)

    def value(*leaves: Tensor) -> Tensor:
        return 2 * fused_linear_loss(Projection(*leaves), SOME, teachers, objective=objective, weight=0.6).loss

    assert torch.autograd.gradcheck(value, _leaves(_student(logits)))


def test_a_frozen_head_gets_no_gradient(logits: Make) -> None:
    hidden, weight = logits(ROWS, FEATURES).requires_grad_(), logits(CLASSES, FEATURES)
    loss = fused_linear_loss(
        Projection(hidden, weight), LABELS, [_teacher(logits)], objective=build_objective("kl", 2.0), weight=0.5
    ).loss
    torch.autograd.backward(loss)
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_rows_without_finite_targets_add_nothing(poison: float, logits: Make) -> None:
    student, teacher, bad = _student(logits), _teacher(logits), [2, 7]
    teacher.hidden[bad] = poison
    objective = build_objective("kl", 2.0)
    result = fused_linear_loss(student, LABELS, [teacher], objective=objective, weight=0.5)
    good = [row for row in range(ROWS) if row not in bad]
    expected = fused_loss(
        F.linear(*student)[good], LABELS[good], [F.linear(*teacher)[good]], objective=objective, weight=0.5
    )
    torch.testing.assert_close(result.distill, expected.distill * len(good) / ROWS)
    torch.testing.assert_close(result.agreement, expected.agreement)
    torch.testing.assert_close(result.task, F.cross_entropy(F.linear(*student), LABELS).detach())
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(result.loss, _leaves(student)))


def test_under_autocast(logits: Make) -> None:
    """The products are in bf16, the gradients in the weights' dtype and about as exact as autograd's."""
    student = Projection(*(leaf.detach().float().requires_grad_() for leaf in _leaves(_student(logits))))
    teacher = Projection(*(leaf.float() for leaf in _leaves(_teacher(logits))))
    objective = build_objective("kl", 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = fused_linear_loss(student, LABELS, [teacher], objective=objective, weight=0.5)
        by_torch = fused_loss(F.linear(*student), LABELS, [F.linear(*teacher)], objective=objective, weight=0.5)
    assert result.loss.dtype == torch.float32
    torch.testing.assert_close(result.loss, by_torch.loss, rtol=1e-5, atol=0)
    wide = Projection(*(leaf.detach().double().requires_grad_() for leaf in _leaves(student)))
    exact = fused_linear_loss(
        wide, LABELS, [Projection(*(item.double() for item in _leaves(teacher)))], objective=objective, weight=0.5
    )
    gradients = (
        torch.autograd.grad(of.loss, _leaves(on)) for of, on in ((result, student), (by_torch, student), (exact, wide))
    )
    for ours, theirs, best in zip(*gradients, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - best).norm() <= 1.5 * (theirs - best).norm()


def test_sums_over_many_chunks_stay_exact(logits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum in bf16 would stop growing: 700 equal parts are added up to the head's gradient."""
    monkeypatch.setattr(linear, "_CHUNK", CLASSES)
    hidden = torch.ones(700, FEATURES, dtype=torch.bfloat16)
    weight = torch.zeros(CLASSES, FEATURES, dtype=torch.bfloat16, requires_grad=True)
    teacher = Projection(hidden, logits(CLASSES, FEATURES).bfloat16())
    labels, objective = torch.zeros(700, dtype=torch.int64), build_objective("kl", 2.0)
    loss = fused_linear_loss(Projection(hidden, weight), labels, [teacher], objective=objective, weight=0.5).loss
    (gradient,) = torch.autograd.grad(loss, weight)
    first = Projection(hidden[:1].double(), weight.detach().double().requires_grad_())
    target = Projection(hidden[:1].double(), teacher.weight.double())
    one = fused_linear_loss(first, labels[:1], [target], objective=objective, weight=0.5).loss
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(one, first.weight)[0], rtol=1e-2, atol=1e-3)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _whole(tensor: Tensor | None) -> Tensor | None:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("wrap", [nn.parallel.DistributedDataParallel, fully_shard])
def test_in_wrapped_models(wrap: Callable[[nn.Module], nn.Module]) -> None:
    """Logits of a model under DDP or FSDP2: the gradients of its weights are those of the bare model."""
    inputs, targets, objective = torch.randn(ROWS, FEATURES), torch.randn(ROWS, CLASSES), build_objective("kl", 2.0)
    bare = nn.Linear(FEATURES, CLASSES)
    wrapped = nn.Linear(FEATURES, CLASSES)
    wrapped.load_state_dict(bare.state_dict())
    model = wrap(wrapped)
    for module in (bare, model):
        torch.autograd.backward(fused_loss(module(inputs), LABELS, [targets], objective=objective, weight=0.5).loss)
    for one, other in zip(bare.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(_whole(other.grad), one.grad)


@pytest.mark.usefixtures("one_process")
def test_a_sharded_head_is_gathered_by_its_owner() -> None:
    head, hidden = nn.Linear(FEATURES, CLASSES), torch.randn(ROWS, FEATURES)
    teacher, objective = Projection(torch.randn(ROWS, 5), torch.randn(CLASSES, 5)), build_objective("kl", 2.0)
    whole = Projection(hidden, head.weight.detach().clone().requires_grad_(), head.bias.detach().clone())
    expected = fused_linear_loss(whole, LABELS, [teacher], objective=objective, weight=0.5).loss
    fully_shard(head)
    assert isinstance(head.weight, DTensor) and isinstance(head.bias, DTensor)
    gathered = Projection(hidden, head.weight.full_tensor(), head.bias.full_tensor())
    loss = fused_linear_loss(gathered, LABELS, [teacher], objective=objective, weight=0.5).loss
    torch.testing.assert_close(loss, expected)
    torch.autograd.backward(loss)
    torch.testing.assert_close(_whole(head.weight.grad), torch.autograd.grad(expected, whole.weight)[0])


class TestMessages:
    @pytest.mark.parametrize(
        ("teacher", "message"),
        [
            (
                Projection(torch.zeros(ROWS, 5), torch.zeros(6, 5)),
                r"weight \(6, 5\) do not fit .* 9 rows and 7 classes",
            ),
            (Projection(torch.zeros(ROWS, 5), torch.zeros(CLASSES, 4)), r"states \(9, 5\) and weight \(7, 4\)"),
            (Projection(torch.zeros(8, 5), torch.zeros(CLASSES, 5)), r"the teacher's hidden states \(8, 5\)"),
            (Projection(torch.zeros(ROWS, 5), torch.zeros(CLASSES, 5), torch.zeros(6)), r"\[classes\] as the bias"),
        ],
    )
    def test_of_shapes(self, teacher: Projection, message: str, logits: Make) -> None:
        with pytest.raises(HeadstartError, match=message):
            fused_linear_loss(_student(logits), LABELS, [teacher], objective=build_objective("kl", 2.0), weight=0.5)

    def test_of_labels(self, logits: Make) -> None:
        with pytest.raises(HeadstartError, match=r"labels of shape \(4,\) do not fit 9 rows"):
            fused_linear_loss(
                _student(logits), LABELS[:4], [_teacher(logits)], objective=build_objective("kl", 2.0), weight=0.5
            )
