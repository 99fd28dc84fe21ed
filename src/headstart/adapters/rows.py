"""Which rows of a batch are distilled, for models of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from headstart.adapters.next_token import next_tokens
from headstart.distill.inputs import logits_in
from headstart.errors import HeadstartError

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
    model = getattr(model, "_orig_mod", model)  # torch.compile's
    if hasattr(model, "get_base_model"):  # PEFT's
        model = cast(Any, model).get_base_model()
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False  # its decoder is given the shifted ones
    return LOSS_MAPPING.get(getattr(model, "loss_type", "")) is ForCausalLMLoss or type(model).__name__ in _CAUSAL


def labels_of(inputs: Mapping[str, Any], *, causal: bool) -> Tensor | None:
    """The label of each row of the logits, None where the batch has none.

    Args:
        inputs: The batch, as the model takes it.
        causal: See `is_causal`.
    """
    if "shift_labels" in inputs:
        return cast(Tensor, inputs["shift_labels"])
    labels = inputs.get("labels")
    return next_tokens(labels) if causal and labels is not None else labels


def logits_of(outputs: Any, *, after_loss: bool) -> Tensor:
    """The logits of a model's outputs, `[..., classes]`.

    Args:
        outputs: The logits alone, a mapping or an object that names them, or a tuple.
        after_loss: Whether a tuple begins with the loss, as that of a model which was given the labels does.

    Raises:
        HeadstartError: There are none.
    """
    logits = logits_in(outputs)
    if logits is None and isinstance(outputs, Sequence):
        logits = next(iter(outputs[int(after_loss) :]), None)
    if not isinstance(logits, Tensor):
        raise HeadstartError(
            "the student gave no `logits` to distil: models with several outputs have none, and use_liger_kernel=True "
            "leaves them out"
        )
    return logits
