"""Whether a model of transformers is taken for a causal one."""

from __future__ import annotations

from torch import nn
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from headstart.distill.vocabulary import inside

# Causal models whose names transformers' own LOSS_MAPPING does not know.
_CAUSAL = {
    "BertGenerationDecoder",
    "BertLMHeadModel",
    "CTRLLMHeadModel",
    "GPT2LMHeadModel",
    "OpenAIGPTLMHeadModel",
    "ReformerModelWithLMHead",
}


def is_causal(model: nn.Module) -> bool:
    """Whether a model's labels are those of the next position.

    A model of your own says so as those of transformers do: by `loss_type = "ForCausalLM"`.

    Example:
        >>> is_causal(nn.Linear(2, 3))
        False
    """
    model = inside(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False  # its decoder is given the shifted ones
    return LOSS_MAPPING.get(getattr(model, "loss_type", "")) is ForCausalLMLoss or type(model).__name__ in _CAUSAL
