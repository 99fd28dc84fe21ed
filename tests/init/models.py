"""Small models whose numbers are all of their own: no norm at one, no bias at zero."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from headstart.init.view import View

WORDS = 50
IDS = torch.arange(18).reshape(2, 9) * 7 % WORDS

LANGUAGE = {
    "bert": "BertForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
    "roberta": "RobertaForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
SIZES = {
    "distilbert": ("dim", "n_layers", "n_heads", "hidden_dim"),
    "gpt2": ("n_embd", "n_layer", "n_head", "n_inner"),
}
ROTARY = ("modernbert", "llama", "mistral", "qwen2", "qwen3")
LAYERS = {"bert": "encoder.layer", "roberta": "encoder.layer", "distilbert": "transformer.layer", "gpt2": "h"}
GROUPED = ("llama", "mistral", "qwen2", "qwen3")


def stirred(model: nn.Module) -> nn.Module:
    """Move every number away from where a fresh model has it, and go into eval mode."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return model.eval()


def language(
    kind: str, width: int = 32, layers: int = 3, heads: int = 4, inner: int = 48, *, words: int = WORDS, **more: Any
) -> nn.Module:
    """A language model of a family of transformers, fresh, in eval mode."""
    names = SIZES.get(kind, ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"))
    sizes = dict(zip(names, (width, layers, heads, inner), strict=True))
    if kind in ("llama", "mistral", "qwen2", "qwen3"):
        more = {"num_key_value_heads": max(heads // 2, 1), "head_dim": width // heads} | more
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}
    config = transformers.AutoConfig.for_model(kind, **(special | {"vocab_size": words} | sizes | more))
    config._attn_implementation = "eager"
    model: nn.Module = getattr(transformers, LANGUAGE[kind])(config)
    return model.eval()


def outputs(model: nn.Module, inputs: Tensor | None = None) -> Tensor:
    """Logits of some ids, or of images."""
    with torch.no_grad():
        given = IDS if inputs is None else inputs
        found = model(given)
    result: Tensor = found if isinstance(found, Tensor) else found.logits
    return result


def of(model: nn.Module, name: str) -> Tensor:
    """A tensor of a model, which may be changed in place."""
    found: Tensor = model.state_dict()[name]
    return found


def assert_same_outputs(student: nn.Module, source: nn.Module, inputs: Tensor | None = None) -> None:
    """Outputs agree to 1e-5 of the largest."""
    mine, theirs = outputs(student, inputs), outputs(source, inputs)
    assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def assert_same_weights(student: nn.Module, source: nn.Module) -> None:
    """All tensors are equal, bit for bit."""
    other = source.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in student.state_dict().items())


def without_channels(view: View, rotated: tuple[int, ...], plain: tuple[int, ...]) -> None:
    """Make all other channels of the heads zero, wherever the table says that they are."""
    assert view.heads is not None
    count, groups, size = view.heads.count, view.heads.groups, view.heads.size
    marks = {kept: [float(channel in kept) for channel in range(size)] for kept in (rotated, plain)}
    kept = {"query": marks[rotated] * count, "key": marks[rotated] * groups}
    kept |= {"value": marks[plain] * groups, "attended": marks[plain] * count}
    for name, place in view.places.items():
        for number, dim in enumerate(place.roles):
            if dim.axes and {axis.base for axis in dim.axes} <= {*kept}:
                entries = torch.tensor([mark for axis in dim.axes for mark in kept[axis.base]])
                tensor = view.side.tensors[view.side.names[name]]
                shape = [-1 if other == number else 1 for other in range(tensor.dim())]
                with torch.no_grad():
                    tensor.mul_(entries.view(shape))
