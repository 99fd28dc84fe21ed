"""Parameters and FLOPs of the models that scaling.py predicts for, counted without computing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from headstart.distill.flops import forward_flops, step_flops
from headstart.distill.pool.sharding import layers
from headstart.tasks.text.causal.model_config import build_causal_config
from headstart.tasks.text.config import ClmModel
from headstart.tasks.text.masked_head import attach_masked_head
from headstart.tasks.text.vocabulary import Vocabulary

PIXELS, TOKENS, MASKED = 224, 128, 19  # of an image's side; of a sequence; 15 % of these
VOCABULARY = 30522
SMOLLM_TOKENS, SMOLLM_VOCABULARY = 2048, 49152


@dataclass(frozen=True)
class Counted:
    """What there is to know of a model.

    Attributes:
        parameters: How many it has.
        gathered: Of these, what a process holds at a time where they are sharded: what is in no stack, and two layers,
            as the next one is gathered while one works.
        forward_flops: Of one sample.
        step_flops: Of one sample's forward and backward.
    """

    parameters: int
    gathered: int
    forward_flops: float
    step_flops: float

    @property
    def rho(self) -> float:
        """The forward as a part of a step, both taken to run at the same FLOP/s."""
        return self.forward_flops / self.step_flops


def count_resnet() -> Counted:
    """ResNet-50 (v1.5), 224 x 224, 1000 classes."""
    from transformers import ResNetConfig, ResNetForImageClassification

    classes: dict[str, Any] = {"num_labels": 1000}
    with torch.device("meta"):
        model = ResNetForImageClassification(ResNetConfig(**classes))
        images = torch.empty(1, 3, PIXELS, PIXELS)
    return _counted(model, images, lambda module, given: module(given).logits)


def count_bert() -> Counted:
    """BERT-base, 128 tokens of which 19 are masked, its vocabulary head at these alone."""
    from transformers import BertConfig, BertForMaskedLM

    with torch.device("meta"):
        model = BertForMaskedLM(BertConfig(vocab_size=VOCABULARY))
        inputs = {
            "input_ids": torch.zeros(1, TOKENS, dtype=torch.int64),
            "masked_rows": torch.zeros(MASKED, dtype=torch.int64),
        }
    attach_masked_head(model, columns=VOCABULARY)
    return _counted(model, inputs, lambda module, given: module(**given).logits)


def count_smollm(size: Literal["135m", "360m"]) -> Counted:
    """SmolLM2 of a size, sequences of 2048 tokens, its vocabulary head at all of them."""
    from transformers import AutoModelForCausalLM

    vocabulary = Vocabulary(SMOLLM_VOCABULARY, {}, ordinary=(), content={})
    config = build_causal_config(ClmModel(size=size), vocabulary, [0])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        tokens = torch.zeros(1, SMOLLM_TOKENS, dtype=torch.int64)
    return _counted(model, {"input_ids": tokens}, lambda module, given: module(**given, use_cache=True).logits)


def _counted(model: nn.Module, inputs: Any, forward: Any) -> Counted:
    total = _size(model)
    sizes = sorted((_size(layer) for layer in layers(model)), reverse=True)
    return Counted(
        parameters=total,
        gathered=total - sum(sizes) + sum(sizes[:2]),
        forward_flops=forward_flops(model, inputs, forward),
        step_flops=step_flops(model, inputs, forward),
    )


def _size(module: nn.Module) -> int:
    """Its parameters, those that have several names once."""
    return sum(parameter.numel() for parameter in module.parameters())
