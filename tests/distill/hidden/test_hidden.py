"""The loss between hidden states: its value and gradients, layers by path and depth, and a projection's whole life."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from headstart.distill import HiddenLoss, Teacher
from headstart.distill.hidden.layers import find_layer
from headstart.errors import HeadstartError, TeacherError
from tests.train.processes import run_together

WIDTH = 6
INPUTS = torch.randn(5, 3, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Deep(nn.Module):
    """Tokens through a stack of layers, then a head."""

    def __init__(self, layers: int = 4, width: int = WIDTH, classes: int = 3, *, tuples: bool = False) -> None:
        super().__init__()
        self.into = nn.Linear(WIDTH, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, classes)
        self.calls = 0
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.into(inputs)
        for block in self.blocks:
            self.calls += 1
            hidden = torch.tanh(block(hidden))
        logits: Tensor = self.head(hidden)
        return logits


def states(module: Deep, index: int) -> Tensor:
    """What a block gives."""
    found: list[Tensor] = []
    with module.blocks[index].register_forward_hook(lambda *given: found.append(given[-1])):
        module(INPUTS)
    return found[0].flatten(0, -2)


def align(student: nn.Module, teacher: Any, **options: Any) -> HiddenLoss:
    return HiddenLoss(student, teacher, INPUTS, **{"total_steps": 10, "weight": 0.5, "falling": False, **options})


@pytest.mark.parametrize("loss", ["cosine", "mse"])
@pytest.mark.parametrize("width", [WIDTH, 9])
def test_value_and_gradients_are_those_of_the_formula(loss: Any, width: int) -> None:
    student, teacher = Deep(), Deep(2, width, classes=7)
    hidden = align(student, teacher, loss=loss, layer=0.5, teacher_layer=1.0)
    task = student(INPUTS).square().mean()
    found = hidden(task, INPUTS)
    own, given = states(student, 1), states(teacher, 1).detach()
    if width != WIDTH:
        (weight,) = hidden.parameters()
        assert weight.shape == (width, WIDTH) and weight.dtype == torch.float64
        own = own @ weight.T
    if loss == "cosine":
        value = 1 - (own * given).sum(-1) / (own.norm(dim=-1) * given.norm(dim=-1))
    else:
        value = ((own - given) ** 2).mean(-1)
    expected = student(INPUTS).square().mean() + 0.5 * value.mean()
    torch.testing.assert_close(found, expected)
    parameters = [*student.blocks[:2].parameters(), *student.head.parameters(), *hidden.parameters()]
    pairs = zip(torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


def test_the_student_runs_once_and_the_teacher_up_to_its_layer() -> None:
    student, teacher = Deep(), Deep(8)
    hidden = align(student, teacher, teacher_layer="blocks.2")
    student.calls = teacher.calls = 0
    hidden(student(INPUTS).square().mean(), INPUTS)
    assert (student.calls, teacher.calls) == (4, 3)


def test_the_weight_falls_linearly_and_then_nothing_of_ours_is_left() -> None:
    student, teacher = Deep(), Deep(2, 9)
    hidden = align(student, teacher, falling=True, stop=0.5, weight=0.1)
    (weight,) = hidden.parameters()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    added = []
    gone = weakref.ref(teacher)
    del teacher
    for _ in range(6):
        task = student(INPUTS).square().mean()
        loss = hidden(task, INPUTS)
        if loss is task:
            break
        base = hidden._between(states(student, 0), _teacher_states(hidden), None)
        added.append(float((loss - task).detach() / base.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        hidden.step()
    assert added == pytest.approx([0.1 * (4.5 - step) / 5 for step in range(5)])
    assert not [*hidden.parameters()] and hidden.projection is None
    gc.collect()
    assert gone() is None
    assert not any(module._forward_hooks for module in student.modules())


def _teacher_states(hidden: HiddenLoss) -> Tensor:
    return hidden.ask(INPUTS, INPUTS.device)


def test_outside_the_window_and_without_gradients_the_loss_comes_back_itself() -> None:
    student, teacher = Deep(), Deep(2)
    hidden = align(student, teacher, start=0.5)
    teacher.calls = 0
    task = student(INPUTS).mean()
    assert hidden(task, INPUTS) is task and teacher.calls == 0
    with torch.no_grad():
        task = student(INPUTS).mean()
        assert hidden(task, INPUTS) is task


def test_rows_may_be_left_out_and_states_that_are_not_finite_are_reported() -> None:
    student, teacher = Deep(), Deep(2)
    hidden = align(student, teacher)
    keep = torch.arange(15).view(5, 3) % 2 == 0
    zero = student(INPUTS).sum() * 0
    found = hidden(zero, INPUTS, keep=keep)
    pairs = 1 - F.cosine_similarity(states(student, 0), states(teacher, 1))
    torch.testing.assert_close(found, 0.5 * pairs[keep.flatten()].mean())
    last: Any = teacher.blocks[1]
    with torch.no_grad():
        last.bias[0] = torch.nan
    hidden._seen.take()
    loss = hidden(student(INPUTS).mean(), INPUTS)
    assert loss.isfinite()
    hidden.step()
    with pytest.raises(TeacherError, match="teacher 'Deep' gave non-finite"):
        hidden.step()


class Masked(Deep):
    """Takes named inputs with a mask, and makes nothing of it."""

    def forward(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return super().forward(inputs)


def test_padding_is_left_out_where_a_mask_of_the_states_shape_tells() -> None:
    student, teacher = Masked(), Masked(2)
    hidden = align(student, teacher)
    real = torch.arange(3) < torch.tensor([[3], [1], [2], [3], [1]])
    pairs = 1 - F.cosine_similarity(states(student, 0), states(teacher, 1)).detach().view(5, 3)
    masks = {"bool": real, "int64": real.long(), "whole": real.long(), "flat": real.flatten(), "none": None}
    for name, mask in masks.items():
        inputs = {"inputs": INPUTS, "attention_mask": mask}
        keep = torch.ones(5, 3) if name == "whole" else None
        found = hidden(student(**inputs).sum() * 0, inputs, keep=keep)
        counted = real if "int" in name or "bool" in name else torch.ones_like(real)
        torch.testing.assert_close(found, 0.5 * pairs[counted].mean())
        hidden = align(student, teacher)
    student(INPUTS)
    with pytest.raises(HeadstartError, match=r"keep=\(5, 2\) is not a mask of the 15 rows of states of 'blocks\.0'"):
        hidden(torch.zeros(()), INPUTS, keep=torch.ones(5, 2))


@pytest.mark.parametrize("masked", [True, False])
def test_micro_batches_by_their_share_are_the_whole_batch(masked: bool) -> None:
    real = torch.arange(3) < torch.tensor([[3], [1], [2], [3], [1]])
    gradients = []
    for parts in ([5], [1, 4]):
        torch.manual_seed(0)
        student = Masked()
        hidden = align(student, Masked(2, 9), loss="mse")
        batches = [
            {"inputs": inputs, **({"attention_mask": mask.long()} if masked else {})}
            for inputs, mask in zip(INPUTS.split(parts), real.split(parts), strict=True)  # type: ignore[no-untyped-call]
        ]
        rows = sum(hidden.size(batch) for batch in batches)
        for batch in batches:
            loss = hidden(student(**batch).sum() * 0, batch, share=hidden.size(batch) / rows)
            loss.backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad for parameter in [*student.parameters(), *hidden.parameters()]])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


class Backbone(nn.Module):
    """Maps of an image, and no head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.stages(images)
        return maps


def test_an_image_backbone_without_a_head_teaches_a_classifier_of_its_own_classes() -> None:
    images = torch.randn(2, 3, 8, 8)
    student = nn.Sequential(Backbone(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    hidden = HiddenLoss(student, Teacher(Backbone(7)), images, total_steps=60, layer="0.stages.0", weight=1.0)
    optimizer = torch.optim.Adam([*student.parameters(), *hidden.parameters()], lr=0.02)
    values = []
    for _ in range(40):
        task = student(images).sum() * 0
        hidden._step = 0
        loss = hidden(task, images)
        values.append(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.5 * values[0]
    with pytest.raises(HeadstartError, match=r"gives 128 rows of states, the teacher's 'stages\.1' 32"):
        hidden._between(torch.zeros(128, 4), torch.zeros(32, 7), None)


def test_a_model_of_transformers_by_fraction_of_its_depth() -> None:
    pytest.importorskip("transformers")
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    student = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=1, intermediate_size=16))
    teacher = GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=8, n_layer=2, n_head=2))
    assert find_layer(student, 0.25, whose="student")[0] == "model.layers.0"
    assert find_layer(teacher, 1.0, whose="teacher")[0] == "transformer.h.1"
    inputs = {"input_ids": torch.arange(12).view(2, 6)}
    hidden = HiddenLoss(student, teacher, inputs, total_steps=4)
    loss = hidden(student(**inputs, labels=inputs["input_ids"]).loss, inputs)
    loss.backward()  # type: ignore[no-untyped-call]
    (weight,) = hidden.parameters()
    assert weight.shape == (8, 16) and weight.grad is not None and weight.grad.abs().max() > 0
    assert student.model.layers[0].mlp.up_proj.weight.grad.abs().max() > 0


def train(student: nn.Module, hidden: HiddenLoss, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        loss = hidden(student(INPUTS).square().mean(), INPUTS)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        hidden.step()


def test_a_loop_that_clears_the_models_gradients_alone_adds_none_up() -> None:
    weights = []
    for whole in (True, False):
        torch.manual_seed(0)
        student = Deep()
        hidden = align(student, Deep(2, 9))
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        hidden.join(optimizer)
        for _ in range(3):
            hidden(student(INPUTS).square().mean(), INPUTS).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            (optimizer if whole else student).zero_grad()
            hidden.step()
        weights.append([*student.parameters(), *hidden.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_a_checkpoint_takes_the_projection_along(tmp_path: Path) -> None:
    def make() -> Any:
        torch.manual_seed(0)
        student = Deep()
        hidden = align(student, Deep(2, 9))
        return student, hidden, torch.optim.AdamW([*student.parameters(), *hidden.parameters()], lr=0.01)

    whole, (student, hidden, optimizer) = make(), make()
    train(whole[0], whole[1], whole[2], 5)
    train(student, hidden, optimizer, 2)
    saved = [part.state_dict() for part in (student, hidden, optimizer)]
    torch.save(saved, tmp_path / "checkpoint.pt")
    again = make()
    for part, state in zip(again, torch.load(tmp_path / "checkpoint.pt"), strict=True):
        part.load_state_dict(state)
    train(again[0], again[1], again[2], 3)
    assert all(torch.equal(a, b) for a, b in zip(again[0].parameters(), whole[0].parameters(), strict=True))
    assert torch.equal(next(again[1].parameters()), next(whole[1].parameters()))


def test_the_first_weights_take_nothing_from_torchs_generator() -> None:
    student, teacher = Deep(), Deep(2, 9)
    before = torch.random.get_rng_state()
    first, second = (align(student, teacher) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(next(first.parameters()), next(second.parameters()))


def test_a_projection_left_out_of_the_optimiser_is_reported() -> None:
    student = Deep()
    hidden = align(student, Deep(2, 9))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(HeadstartError, match=r"of 'blocks\.0' has not changed .* no optimiser has it\. .*align\.join"):
        train(student, hidden, optimizer, 10)


@pytest.mark.parametrize("joined", [False, True])
def test_a_projection_that_no_optimiser_stepped_in_a_short_window_is_reported_at_its_end(joined: bool) -> None:
    student = Deep()
    hidden = align(student, Deep(2, 9), stop=0.3)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    reason = "no optimiser has it"
    if joined:
        hidden.join(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1))
        reason = "the optimiser that it joined makes no steps"
    train(student, hidden, optimizer, 2)
    with pytest.raises(HeadstartError, match=f"has not changed in 3 steps: {reason}"):
        train(student, hidden, optimizer, 1)


def test_a_joined_optimiser_that_never_steps_is_reported_in_a_long_window() -> None:
    student = Deep()
    hidden = align(student, Deep(2, 9), total_steps=100)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    hidden.join(other)
    with pytest.raises(HeadstartError, match="has not changed in 20 steps: the optimiser that it joined"):
        train(student, hidden, torch.optim.SGD(student.parameters(), lr=0.1), 30)


class Raw(torch.optim.SGD):
    """Writes as optimisers with kernels of their own do: torch is not told."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data.add_(weight.grad, alpha=-group["lr"])


def test_optimisers_that_write_unseen_and_runs_resumed_at_the_end_are_not_reported() -> None:
    student = Deep()
    hidden = align(student, Deep(2, 9), stop=0.3)
    optimizer = Raw(student.parameters(), lr=0.1)
    hidden.join(optimizer)
    train(student, hidden, optimizer, 2)
    resumed = Deep()
    again = align(resumed, Deep(2, 9), stop=0.3)
    again.load_state_dict(hidden.state_dict())
    train(student, hidden, optimizer, 2)
    again(resumed(INPUTS).mean(), INPUTS)  # and the optimiser passes this step over, as GradScaler has it do
    again.step()
    assert hidden.projection is None and again.projection is None


def test_it_joins_one_optimiser_and_leaves_it_when_the_window_closes() -> None:
    student = Deep()
    hidden = align(student, Deep(2, 9), stop=0.3)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01, weight_decay=0.5)
    hidden.join(optimizer)
    hidden.join(optimizer)  # as a loop that asks twice
    assert [len(group["params"]) for group in optimizer.param_groups] == [len([*student.parameters()]), 1]
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    with pytest.raises(HeadstartError, match="in another optimiser already"):
        hidden.join(torch.optim.SGD(student.parameters(), lr=0.1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    (weight,) = hidden.parameters()
    for step in range(5):
        train(student, hidden, optimizer, 1)
        schedule.step()
        assert (weight in optimizer.state) == (step < 2)
    assert optimizer.param_groups[1]["params"] == []


@pytest.mark.parametrize("order", [1, -1], ids=["optimiser-last", "optimiser-first"])
def test_a_resumed_optimiser_has_what_the_first_one_had_before_and_after_the_window(order: int) -> None:
    def make() -> Any:
        torch.manual_seed(0)
        student = Deep()
        hidden, optimizer = align(student, Deep(2, 9), stop=0.5), torch.optim.AdamW(student.parameters(), lr=0.01)
        hidden.join(optimizer)
        return student, hidden, optimizer

    for done in (3, 7):
        whole, first, again = make(), make(), make()
        train(whole[0], whole[1], whole[2], 9)
        train(first[0], first[1], first[2], done)
        for part, other in list(zip(again, first, strict=True))[::order]:
            part.load_state_dict(other.state_dict())
        train(again[0], again[1], again[2], 9 - done)
        assert all(torch.equal(a, b) for a, b in zip(again[0].parameters(), whole[0].parameters(), strict=True))


def test_a_checkpoint_of_other_widths_is_refused() -> None:
    hidden = align(Deep(), Deep(2, 9))
    with pytest.raises(HeadstartError, match=r"the checkpoint's projection is \(9, 6\), and this one \(7, 6\)"):
        align(Deep(), Deep(2, 7)).load_state_dict(hidden.state_dict())


def test_a_copy_of_the_student_keeps_nothing_of_ours() -> None:
    student, teacher = Deep(), Deep(2)
    hidden = align(student, teacher)
    student(INPUTS)
    copied = copy.deepcopy(student)  # with states kept that have a gradient, which cannot be copied
    copied(INPUTS).mean()
    hidden(student(INPUTS).mean(), INPUTS)
    with pytest.raises(HeadstartError, match="was not called since the last loss"):
        hidden(copied(INPUTS).mean(), INPUTS)


@pytest.mark.parametrize("reentrant", [False, True])
def test_layers_that_are_computed_again_in_the_backward(reentrant: bool) -> None:
    class Sparing(Deep):
        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.into(inputs)
            for block in self.blocks:
                hidden = torch.tanh(checkpoint(block, hidden, use_reentrant=reentrant))
            logits: Tensor = self.head(hidden)
            return logits

    student, sparing, teacher = Deep(), Sparing(), Deep(2, 9)
    sparing.load_state_dict(student.state_dict())
    gradients = []
    for model in (student, sparing):
        hidden = align(model, teacher)
        if reentrant and model is sparing:
            with pytest.raises(HeadstartError, match="reentrant checkpointing has them off"):
                hidden(model(INPUTS).mean(), INPUTS)
            return
        hidden(model(INPUTS).mean(), INPUTS).backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_compiled_student_is_aligned_as_it_is_uncompiled() -> None:
    student, teacher = Deep(), Deep(2, 9)
    hidden = align(student, teacher, stop=0.3)
    compiled: Any = torch.compile(student, backend="aot_eager")
    for _ in range(4):
        gradients = []
        for model in (student, compiled):
            loss = hidden(model(INPUTS).mean(), INPUTS)
            gradients.append(torch.autograd.grad(loss, [*student.parameters()]))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)
        hidden.step()
    assert not hidden.active
    with pytest.raises(TeacherError, match="teacher 'Deep' is compiled, so that it does not tell"):
        align(student, Teacher(Deep(2), compile=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "bloks.1"}, r"student: Deep has no layer 'bloks.1'; did you mean 'blocks.\d'"),
        ({"teacher_layer": "nowhere"}, r"teacher: Deep has no layer 'nowhere'; there are into, "),
        ({"layer": 0.0}, r"layer=0.0 must be a path, or a fraction"),
        ({"loss": "l1"}, r"loss='l1' is unknown; choose one of cosine, mse"),
        ({"weight": -1.0}, r"weight=-1.0 .* must not be negative"),
        ({"stop": 1.5}, r"window: stop=1.5"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadstartError, match=message):
        align(Deep(), Deep(2), **options)


def test_a_model_of_one_layer_has_a_last_one() -> None:
    assert find_layer(Deep(1), 1.0, whose="teacher")[0] == find_layer(Deep(1), 0.25, whose="teacher")[0] == "blocks.0"


def test_a_model_without_a_stack_wants_a_path() -> None:
    student = nn.Linear(WIDTH, WIDTH).double()
    with pytest.raises(HeadstartError, match=r"Linear has no stack of layers .* give the path of a layer"):
        align(student, Deep(2))


def test_a_loss_without_a_forward_before_it_is_refused() -> None:
    student = Deep()
    hidden = align(student, Deep(2))
    loss = student(INPUTS).mean()
    hidden(loss, INPUTS)
    with pytest.raises(HeadstartError, match="was not called since the last loss"):
        hidden(loss, INPUTS)


def step_in_a_process(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    student = Deep()
    hidden = align(student, Deep(2, 9))
    model = nn.parallel.DistributedDataParallel(student)
    optimizer = torch.optim.SGD([*student.parameters(), *hidden.parameters()], lr=0.1)
    mine = INPUTS[rank::2][:2]
    for _ in range(2):
        hidden(model(mine).square().mean(), mine).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        hidden.step()
    torch.save([*student.parameters(), *hidden.parameters()], folder / str(rank))


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    run_together(step_in_a_process, tmp_path)
    torch.manual_seed(0)
    student = Deep()
    hidden = align(student, Deep(2, 9))
    optimizer = torch.optim.SGD([*student.parameters(), *hidden.parameters()], lr=0.1)
    both = torch.cat([INPUTS[0::2][:2], INPUTS[1::2][:2]])
    for _ in range(2):
        hidden(student(both).square().mean(), both).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        hidden.step()
    for rank in range(2):
        found = torch.load(tmp_path / str(rank), weights_only=False)
        for one, other in zip(found, [*student.parameters(), *hidden.parameters()], strict=True):
            torch.testing.assert_close(one, other)
