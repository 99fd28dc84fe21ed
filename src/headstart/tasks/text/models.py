"""Language models of transformers: built from a configuration, or with a checkpoint's weights; masked ones whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from headstart.errors import HeadstartError, RecipeError
from headstart.tasks.hub import from_hub, one_line
from headstart.tasks.text.masked_head import attach_masked_head
from headstart.tasks.text.model_config import MASKED, LanguageHead, read_settings, restore_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def build_model(config: PreTrainedConfig, *, columns: int, length: int = 1) -> PreTrainedModel:
    """Build a masked-LM model with fresh weights, which follow from torch's default generator.

    Args:
        config: From `build_config` or `restore_config`.
        columns: Size of the vocabulary; see `attach_masked_head`.
        length: Tokens of a sequence, which the model must have positions for.

    Returns:
        A float32 model that takes `input_ids` [batch, length] and `masked_rows`, and attends by torch's fused attention
        where its type knows that.

    Raises:
        RecipeError: The configuration is impossible, or sequences are longer than its positions.

    Example:
        >>> shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        >>> config = restore_config({"model_type": "bert", "vocab_size": 50, **shape})
        >>> model = build_model(config, columns=50)
        >>> model(input_ids=torch.zeros(2, 6, dtype=torch.long), masked_rows=torch.tensor([1, 4, 9])).logits.shape
        torch.Size([3, 50])
    """
    return _fitted(fresh(config, MASKED), columns, length)


def fresh(config: PreTrainedConfig, head: LanguageHead) -> PreTrainedModel:
    """A float32 model with a head of this kind and fresh weights.

    Raises:
        RecipeError: The configuration is impossible.
    """
    import transformers

    try:
        model: PreTrainedModel = getattr(transformers, head.auto).from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # a width that its heads do not divide, an unknown activation: each in its own way
        raise RecipeError(f"model.config: {config.model_type} cannot be built so ({one_line(error)})") from None
    return model


def restore_model(description: Mapping[str, Any], *, length: int) -> PreTrainedModel:
    """Build the model that a run's weights are for; its own are fresh.

    Args:
        description: What `MaskedLM.describe` gave.
        length: Tokens of a sequence that it is to read.

    Raises:
        HeadstartError: It cannot be built, or sequences are longer than its positions.
        KeyError, TypeError: This is no description of a masked-LM run.
    """
    columns = int(description["vocabulary"]["size"])
    return build_model(restore_config(description["config"]), columns=columns, length=length)


def load_checkpoint(
    reference: str, *, columns: int, length: int = 1, config: PreTrainedConfig | None = None
) -> PreTrainedModel:
    """Load a masked-LM model with its weights, from safetensors only, without executing code.

    Args:
        reference: A folder, or a name on the Hub.
        columns: As for `build_model`.
        length: As for `build_model`.
        config: Instead of the checkpoint's own, for example with other dropout.

    Returns:
        As `build_model`.

    Raises:
        HeadstartError: It cannot be had, has no masked-LM head, or does not fit vocabulary, length or configuration.
    """
    config = config or restore_config(read_settings(reference))
    return _fitted(read_checkpoint(reference, config, MASKED), columns, length)


def read_checkpoint(reference: str, config: PreTrainedConfig, head: LanguageHead) -> PreTrainedModel:
    """A checkpoint's float32 model, all of it, from safetensors only, without executing code.

    Raises:
        HeadstartError: It cannot be had, has no head of this kind, or does not fit the configuration.
    """
    import transformers

    try:
        with from_hub(reference):
            model: PreTrainedModel
            model, info = getattr(transformers, head.auto).from_pretrained(
                reference,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise HeadstartError(
            f"{reference}: its weights cannot be had, or do not fit ({one_line(error)}); give a folder, or a name on "
            "the Hub, with a model.safetensors (which model.save_pretrained(folder) writes)"
        ) from None
    if info["missing_keys"]:
        raise HeadstartError(
            f"{reference}: has no {head.name}, or is no whole model: {min(info['missing_keys'])} is missing; take a "
            f"checkpoint of {head.training}"
        )
    return model


def _fitted(model: PreTrainedModel, columns: int, length: int) -> PreTrainedModel:
    """Check a model against vocabulary and length, and attach the masked head."""
    check_fitting(model, columns, length)
    attach_masked_head(model, columns=columns)
    return model


def check_fitting(model: PreTrainedModel, columns: int, length: int) -> None:
    """Check a model against the size of the vocabulary and the length of sequences.

    Raises:
        RecipeError: It has fewer logits or positions.
    """
    name, logits, known = type(model).__name__, model.config.vocab_size, positions(model)
    if columns > logits:
        raise RecipeError(
            f"{name} has {logits} logits, fewer than the {columns} tokens of the vocabulary; take its own tokenizer "
            "(data.tokenizer)"
        )
    if known is not None and length > known:
        raise RecipeError(
            f"data.length={length} is more than the {known} positions of {name}; shorten the sequences, or raise "
            "model.config.max_position_embeddings"
        )


def positions(model: PreTrainedModel) -> int | None:
    """How many tokens a model of transformers reads at most; None where nothing limits them.

    RoBERTa and its kin count positions from the padding token's number on.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return getattr(model.config, "max_position_embeddings", None)
