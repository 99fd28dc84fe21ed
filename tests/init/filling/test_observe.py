"""What units are worth, and the least squares that make up for those left out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from headstart.init import init_from
from headstart.init.filling.observe import Observed, give, observe
from headstart.init.roles import Axis
from headstart.init.side import Side
from headstart.init.view import View, views
from tests.init.models import IDS, language, outputs, stirred


def view(model: nn.Module) -> View:
    found = views(Side(model, None, "student"), Side(model, None, "source"))
    assert found is not None
    return found[1]


def scores(model: nn.Module, *batches: object) -> Observed:
    return observe(view(model), batches, give, scores=True, moments=True)


def test_scores_are_minitrons() -> None:
    """|x| averaged over positions, squared, summed over samples, the root, summed over layers."""
    model = stirred(language("llama", layers=2))
    inputs: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "gate_proj", "down_proj")):
            module.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
    found = scores(model, IDS)
    units = {name: x.abs().mean(1).square().sum(0).sqrt().double() for name, x in inputs.items()}
    hidden = sum(value for name, value in units.items() if not name.endswith("down_proj"))
    assert torch.allclose(found.scores[Axis("hidden")], torch.as_tensor(hidden))
    down = units["model.layers.1.mlp.down_proj"]
    assert torch.allclose(found.scores[Axis("inner", "layers", 1)], down)
    flat = inputs["model.layers.0.mlp.down_proj"].flatten(0, 1)
    assert torch.allclose(found.moments["layers.0.mlp.down_proj.weight"], (flat.T @ flat).double(), rtol=1e-4)


def test_batches_add_up_and_padding_does_not_count() -> None:
    model = stirred(language("bert"))
    whole = scores(model, {"input_ids": IDS})
    for other in (
        scores(model, {"input_ids": IDS[:1]}, {"input_ids": IDS[1:]}),
        scores(
            model,
            {
                "input_ids": torch.nn.functional.pad(IDS, (0, 3)),
                "attention_mask": torch.nn.functional.pad(torch.ones_like(IDS), (0, 3)),
            },
        ),
    ):
        assert all(torch.allclose(value, other.scores[axis], rtol=1e-4) for axis, value in whole.scores.items())
        for name, moment in whole.moments.items():
            assert torch.allclose(moment, other.moments[name], atol=1e-5 * float(moment.max()))


@pytest.mark.parametrize("kind", ["llama", "modernbert"])
def test_units_and_heads_that_give_nothing_are_left_out(kind: str) -> None:
    source = stirred(language(kind, heads=4, **({"num_key_value_heads": 4} if kind == "llama" else {})))
    with torch.no_grad():
        for name, weight in source.named_parameters():
            if name.endswith("mlp.up_proj.weight"):
                weight[:24] = 0
            elif name.endswith("mlp.Wi.weight"):
                weight[48 : 48 + 24] = 0  # the gates of the first half
            elif name.endswith("v_proj.weight"):
                weight[8:24] = 0  # heads 1 and 2
            elif name.endswith("Wqkv.weight"):
                weight[64 + 8 : 64 + 24] = 0
    student = language(kind, 16, heads=2, inner=24, **({"num_key_value_heads": 2} if kind == "llama" else {}))
    indices = init_from(student, source, scores="activation", batches=[IDS]).indices
    assert indices["inner"] == tuple(range(24, 48)) and indices["heads"] == (0, 3)


def test_heads_are_scored_within_their_group() -> None:
    source = stirred(language("llama", heads=4, num_key_value_heads=2, head_dim=8))
    student = language("llama", 32, heads=2, num_key_value_heads=2, head_dim=8)
    indices = init_from(student, source, scores="activation", batches=[IDS]).indices
    chosen = [indices[name] for name in indices if name.partition("[")[0] == "heads"]
    assert all(first in (0, 1) and second in (2, 3) for first, second in chosen)


def test_the_first_ones() -> None:
    source, student = stirred(language("bert", layers=4)), language("bert", 16, 2, 2, 24)
    indices = init_from(student, source, scores="first").indices
    assert indices["hidden"] == tuple(range(16)) and indices["encoder.layer"] == (0, 1) and indices["heads"] == (0, 1)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "modernbert"])
def test_least_squares_make_up_for_units_that_others_know(kind: str) -> None:
    """Every second unit says what the one before it says: without it, its reader has to count that one twice."""
    small = stirred(language(kind, inner=24))
    source, plain, fitted = language(kind, inner=48), language(kind, inner=24), language(kind, inner=24)
    init_from(source, small, "grow")
    with torch.no_grad():
        for name, parameter in source.named_parameters():
            if name.endswith(("mlp.Wo.weight", "down_proj.weight", "output.dense.weight")) and parameter.shape[1] == 48:
                parameter[:, ::2] *= 3
            elif name.endswith("mlp.c_proj.weight"):
                parameter[::2] *= 3
    ids = torch.randint(0, 50, (16, 12), generator=torch.Generator().manual_seed(2))
    rows = init_from(fitted, source, scores="first", compensate=True, batches=[ids]).tensors
    init_from(plain, source, scores="first")
    wrong, right = ((outputs(model) - outputs(source)).abs().max() for model in (plain, fitted))
    assert right < 0.1 * wrong
    assert {row.what for row in rows if "compensated" in row.what} == {"selected and compensated"}


def test_the_source_keeps_its_mode_and_its_hooks() -> None:
    source = language("bert").train()
    source.get_submodule("cls").eval()
    init_from(language("bert", 16, heads=2), source, scores="activation", batches=[IDS])
    assert source.training and not source.get_submodule("cls").training
    assert not any(module._forward_pre_hooks for module in source.modules())


def test_the_first_of_a_pair_may_be_a_mapping() -> None:
    model = stirred(language("bert"))
    padded = {
        "input_ids": torch.nn.functional.pad(IDS, (0, 3)),
        "attention_mask": torch.nn.functional.pad(torch.ones_like(IDS), (0, 3)),
    }
    alone, paired = scores(model, padded), scores(model, (padded, torch.zeros(2)))
    assert all(torch.equal(value, paired.scores[axis]) for axis, value in alone.scores.items())
    student = language("bert", inner=24)
    assert init_from(student, model, scores="activation", batches=[(padded, torch.zeros(2))]).share == 1


class Convnext(nn.Module):
    """Names and shapes of timm's ConvNeXt, one stage of one block."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 2, 2))
        mlp = nn.ModuleDict({"fc1": nn.Linear(4, inner), "fc2": nn.Linear(inner, 4)})
        convolution = nn.Conv2d(4, 4, 3, groups=4, padding=1)
        block = nn.ModuleDict({"conv_dw": convolution, "norm": nn.LayerNorm(4), "mlp": mlp})
        self.stages = nn.ModuleList([nn.ModuleDict({"blocks": nn.ModuleList([block])})])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv, norm, fc1, fc2 = (
            self.get_submodule(f"stages.0.blocks.0.{name}") for name in ("conv_dw", "norm", "mlp.fc1", "mlp.fc2")
        )
        result: torch.Tensor = fc2(torch.relu(fc1(norm(conv(self.stem(x)).permute(0, 2, 3, 1)))))
        return result


def test_what_reads_the_units_of_a_stage_is_refitted() -> None:
    source, student, plain = stirred(Convnext(8)), Convnext(6), Convnext(6)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    rows = init_from(student, source, compensate=True, batches=[images]).tensors
    assert {row.name for row in rows if "compensated" in row.what} == {"stages.0.blocks.0.mlp.fc2.weight"}
    init_from(plain, source)
    wrong, right = ((outputs(model, images) - outputs(source, images)).square().sum() for model in (plain, student))
    assert right < wrong
