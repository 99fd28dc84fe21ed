"""Networks of the sizes that people train on GPUs, with random weights, for the overhead benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

TOKENS, EVERY = 128, 7  # of a sequence, and which of them are masked: 19, about 15 %
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # so that steps can be compared
_TINY_BERT = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
# A quarter of these are the channels of its inner convolutions. With one channel, their backward in fp32 and in
# channels_last writes beyond its memory on a CPU (torch 2.13).
_TINY_RESNET = {"embedding_size": 16, "hidden_sizes": [16] * 4, "depths": [1] * 4}

Made = tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]]]


class Maker(Protocol):
    """What gives a function that makes a network, and one that makes a batch for it."""

    def __call__(self, batch_size: int, device: torch.device, *, miniature: bool) -> Made:
        """Without making either yet."""


class MaskedRows(nn.Module):
    """A masked-language model that gives the logits of the masked tokens alone, `[sequences * 19, vocabulary]`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Takes `[sequences, tokens]` of int64."""
        hidden = self.model.bert(tokens)[0][:, ::EVERY].flatten(0, 1)
        logits: Tensor = self.model.cls(hidden)
        return logits


class Logits(nn.Module):
    """A classifier of transformers that gives its logits and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Takes `[rows, 3, height, width]`."""
        logits: Tensor = self.model(images).logits
        return logits


def resnet50(batch_size: int, device: torch.device, *, miniature: bool) -> Made:
    """ResNet-50 (v1.5) on 224 x 224, 1000 classes."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config: dict[str, Any] = {"num_labels": 1000, **(_TINY_RESNET if miniature else {})}
    side = 32 if miniature else 224

    def batch() -> tuple[Tensor, Tensor]:
        return torch.randn(batch_size, 3, side, side, device=device), torch.randint(1000, (batch_size,), device=device)

    return lambda: Logits(ResNetForImageClassification(ResNetConfig(**config))), batch


def bert_base(batch_size: int, device: torch.device, *, miniature: bool) -> Made:
    """BERT-base, 128 tokens of which 19 are masked, its vocabulary head at these alone."""
    from transformers import BertConfig, BertForMaskedLM

    settings: dict[str, Any] = {**_NO_DROPOUT, **(_TINY_BERT | {"num_attention_heads": 2} if miniature else {})}
    config = BertConfig(**settings)

    def batch() -> tuple[Tensor, Tensor]:
        tokens = torch.randint(config.vocab_size, (batch_size, TOKENS), device=device)
        return tokens, tokens[:, ::EVERY].flatten()

    return lambda: MaskedRows(BertForMaskedLM(config)), batch


MODELS: Mapping[str, Maker] = {"bert-base": bert_base, "resnet50": resnet50}
