"""Models of other people's code, by the names of a family that is known: taken for what they are, or refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.errors import InitError
from headstart.init import init_from
from tests.init.models import IDS, WORDS, assert_same_outputs, assert_same_weights, language, stirred

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class CausalAttention(nn.Module):
    """As nanoGPT's (github.com/karpathy/nanoGPT, model.py)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.n_head = heads

    def forward(self, x: Tensor) -> Tensor:
        parts = self.c_attn(x).chunk(3, 2)
        query, key, value = (part.unflatten(2, (self.n_head, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        result: Tensor = self.c_proj(attended.transpose(1, 2).flatten(2))
        return result


class Feed(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return result


class GPTBlock(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = CausalAttention(width, heads), Feed(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        result: Tensor = x + self.mlp(self.ln_2(x))
        return result


class NanoGPT(nn.Module):
    def __init__(self, width: int = 32, heads: int = 4, inner: int = 48) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(WORDS, width),
                "wpe": nn.Embedding(64, width),
                "h": nn.ModuleList(GPTBlock(width, heads, inner) for _ in range(3)),
                "ln_f": nn.LayerNorm(width),
            }
        )
        self.lm_head = nn.Linear(width, WORDS, bias=False)
        self.lm_head.weight = self.get_submodule("transformer.wte").weight  # type: ignore[assignment]

    def forward(self, ids: Tensor) -> Tensor:
        parts = self.transformer
        x = parts["wte"](ids) + parts["wpe"](torch.arange(ids.shape[1]))
        for block in parts["h"].children():
            x = block(x)
        result: Tensor = self.lm_head(parts["ln_f"](x))
        return result


@pytest.mark.parametrize("as_tensors", [False, True])
def test_gpt2_and_nanogpt_do_not_start_from_each_other(as_tensors: bool) -> None:
    """All names are the same, and the squares of `attn.c_proj` lie the other way round."""
    nano, known = NanoGPT(), language("gpt2")
    with pytest.raises(InitError, match=r"source: has GPT-2's names, but weights that lie with their outputs first"):
        init_from(known, nano.state_dict() if as_tensors else nano)
    with pytest.raises(InitError, match=r"student: has GPT-2's names, but .*transpose those of c_attn, c_proj and"):
        init_from(nano, known.state_dict() if as_tensors else known)


def test_a_nanogpt_of_the_same_shape_is_taken_by_sizes() -> None:
    student, source = NanoGPT(), stirred(NanoGPT())
    assert init_from(student, source).share == 1
    assert_same_weights(student, source)


def test_a_nanogpt_grows_in_what_its_feed_forward_holds() -> None:
    student, source = NanoGPT(inner=96), stirred(NanoGPT())
    inherited = init_from(student, source)
    assert inherited.share == 1 and {row.what for row in inherited.tensors} == {"copied", "tiled"}
    assert_same_outputs(student, source, IDS)


def test_a_transposed_nanogpt_gives_gpt2_its_outputs() -> None:
    """What the refusal says to do."""
    source, student = stirred(NanoGPT()), language("gpt2")
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    state = {name: value.T if name.endswith(turned) else value for name, value in source.state_dict().items()}
    heads = {"model_type": "gpt2", "n_head": 4}
    assert init_from(student, state, source_config=heads).share == 1
    assert_same_outputs(student, source, IDS)


class CifarBlock(nn.Module):
    """As pytorch-cifar's (github.com/kuangliu/pytorch-cifar, models/resnet.py and preact_resnet.py)."""

    def __init__(self, inputs: int, width: int, stride: int, *, before: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs if before else width), nn.BatchNorm2d(width)
        self.before = before
        if stride != 1 or inputs != width:
            projection = [nn.Conv2d(inputs, width, 1, stride, bias=False)]
            self.shortcut = nn.Sequential(*projection, *([] if before else [nn.BatchNorm2d(width)]))

    def forward(self, x: Tensor) -> Tensor:
        start = F.relu(self.bn1(x)) if self.before else x
        around = self.shortcut(start) if hasattr(self, "shortcut") else x
        if self.before:
            inside: Tensor = self.conv2(F.relu(self.bn2(self.conv1(start))))
            return inside + around
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + around)


class CifarResNet(nn.Module):
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, width: int, blocks: int = 2, *, before: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        if not before:
            self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage in range(1, 4):
            out = width * 2 ** (stage - 1)
            first = CifarBlock(inputs, out, 1 if stage == 1 else 2, before=before)
            rest = [CifarBlock(out, out, 1, before=before) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
            inputs = out
        self.linear = nn.Linear(inputs, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = F.relu(self.bn1(x)) if hasattr(self, "bn1") else x
        x = self.layer3(self.layer2(self.layer1(x)))
        result: Tensor = self.linear(x.mean((2, 3)))
        return result


@pytest.mark.parametrize("before", [False, True])
def test_residual_networks_of_other_code_keep_their_outputs_at_twice_the_width(before: bool) -> None:
    source = stirred(CifarResNet(4, before=before))
    student = CifarResNet(8, before=before).eval()
    assert init_from(student, source, "grow").share == 1
    assert_same_outputs(student, source, IMAGES)


@pytest.mark.parametrize("before", [False, True])
def test_residual_networks_of_other_code_of_the_same_shape(before: bool) -> None:
    student, source = (CifarResNet(4, before=before) for _ in range(2))
    assert init_from(student, stirred(source), "copy").share == 1
    assert_same_weights(student, source)


def test_a_projection_called_shortcut_is_one() -> None:
    student, source = CifarResNet(4, 1), stirred(CifarResNet(8))
    rows = {row.name: row for row in init_from(student, source).tensors}
    assert rows["layer2.0.shortcut.0.weight"].what == "selected"
    kept = torch.arange(0, 8, 2)
    theirs = source.get_parameter("layer2.0.shortcut.0.weight")[torch.arange(0, 16, 2)][:, kept]
    assert torch.equal(student.get_parameter("layer2.0.shortcut.0.weight"), theirs)
