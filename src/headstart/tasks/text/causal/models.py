"""Causal models of transformers: built from a configuration, or with a checkpoint's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headstart.errors import RecipeError
from headstart.tasks.hub import one_line
from headstart.tasks.text.causal.head import attach_causal_head
from headstart.tasks.text.causal.model_config import CAUSAL
from headstart.tasks.text.causal.probe import keeps_documents_apart, looks_ahead
from headstart.tasks.text.model_config import read_settings, restore_config
from headstart.tasks.text.models import check_fitting, fresh, read_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def build_causal_model(
    config: PreTrainedConfig, *, columns: int, length: int = 1, apart: bool = False
) -> PreTrainedModel:
    """Build a causal model with fresh weights, which follow from torch's default generator.

    Args:
        config: From `build_causal_config` or `restore_config`.
        columns: Size of the vocabulary; see `attach_causal_head`.
        length: Tokens of a sequence, which the model must have positions for.
        apart: Whether it has to keep the documents of a sequence apart.

    Returns:
        A float32 model that takes `input_ids` and `position_ids`, [batch, length], and `next_token_rows`.

    Raises:
        RecipeError: The configuration is impossible, sequences are longer than its positions, it sees later tokens, or
            it cannot keep documents apart.

    Example:
        >>> import torch
        >>> shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        >>> config = restore_config({"model_type": "llama", "vocab_size": 50, **shape}, CAUSAL)
        >>> model = build_causal_model(config, columns=50)
        >>> rows = torch.tensor([0, 1, 2, 6, 7])
        >>> model(input_ids=torch.zeros(2, 6, dtype=torch.long), next_token_rows=rows).logits.hidden.shape
        torch.Size([5, 8])
    """
    return _fitted(fresh(config, CAUSAL), columns, length, apart)


def restore_causal_model(description: Mapping[str, Any], *, length: int) -> PreTrainedModel:
    """Build the model that a run's weights are for; its own are fresh.

    Args:
        description: What `CausalLM.describe` gave.
        length: Tokens of a sequence that it is to read.

    Raises:
        HeadstartError: It cannot be built, or sequences are longer than its positions.
        KeyError, TypeError: This is no description of a run of a causal model.
    """
    columns = int(description["vocabulary"]["size"])
    return build_causal_model(restore_config(description["config"], CAUSAL), columns=columns, length=length)


def load_causal_checkpoint(
    reference: str, *, columns: int, length: int = 1, apart: bool = False, config: PreTrainedConfig | None = None
) -> PreTrainedModel:
    """Load a causal model with its weights, from safetensors only, without executing code.

    Args:
        reference: A folder, or a name on the Hub.
        columns: As for `build_causal_model`.
        length: As there.
        apart: As there.
        config: Instead of the checkpoint's own, for example with other dropout.

    Raises:
        HeadstartError: It cannot be had, has no causal head, or does not fit vocabulary, length or configuration.
    """
    config = config or restore_config(read_settings(reference), CAUSAL)
    return _fitted(read_checkpoint(reference, config, CAUSAL), columns, length, apart)


def _fitted(model: PreTrainedModel, columns: int, length: int, apart: bool) -> PreTrainedModel:
    """Check what a model does, and attach the head."""
    check_fitting(model, columns, length)
    name = type(model).__name__
    try:
        ahead = looks_ahead(model)
    except RuntimeError as error:  # settings that do not go together and are found out by computing alone
        raise RecipeError(f"model.config: {name} cannot compute so ({one_line(error)})") from None
    if ahead:
        raise RecipeError(
            f"model: {name} sees the tokens that it is to predict; take a causal model, for example llama, or say in "
            "model.config that this one is one (is_decoder: true)"
        )
    if apart and not keeps_documents_apart(model):
        raise RecipeError(
            f"data.documents_apart=true: {name} cannot keep the documents of a sequence apart, as positions that begin "
            "anew mean nothing to it; set data.documents_apart=false, or take another type, for example llama"
        )
    attach_causal_head(model, columns=columns)
    return model
