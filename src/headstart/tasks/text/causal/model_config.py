"""Transformers' configuration of a causal student: from a type and a size, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from headstart.errors import HeadstartError, RecipeError
from headstart.tasks.text.config import ClmModel
from headstart.tasks.text.model_config import LanguageHead, named_settings, read_settings, restore_config
from headstart.tasks.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CAUSAL = LanguageHead(
    name="causal-LM head",
    listed="MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    auto="AutoModelForCausalLM",
    instead="a decoder, for example llama",
    several="gpt2, llama and qwen3",
    alone="a decoder alone, for example llama",
    training="causal-language pretraining",
)


class _Size(NamedTuple):
    layers: int
    width: int
    heads: int
    key_heads: int
    inner: int


# Those of SmolLM2 (135m, 360m) and Llama 3.2 (1b), and smaller ones in their proportions.
_SIZES = {
    "1m": _Size(4, 128, 2, 1, 384),
    "5m": _Size(6, 256, 4, 2, 704),
    "25m": _Size(8, 512, 8, 4, 1408),
    "60m": _Size(14, 640, 10, 5, 1728),
    "135m": _Size(30, 576, 9, 3, 1536),
    "360m": _Size(32, 960, 15, 5, 2560),
    "1b": _Size(16, 2048, 32, 8, 8192),
}
_HEAD_WIDTH = 64


def build_causal_config(model: ClmModel, vocabulary: Vocabulary, boundary: Sequence[int]) -> PreTrainedConfig:
    """Make transformers' configuration of a student.

    Args:
        model: Its type and size, or its checkpoint, and changes to them.
        vocabulary: Gives the number of logits. A pretrained model keeps its own.
        boundary: The tokens between documents: the first ends one, the last begins one.

    Raises:
        RecipeError: The type or checkpoint is unknown or has no causal head, or a setting is unknown or impossible.
    """
    try:
        settings: dict[str, Any]
        settings = read_settings(model.checkpoint) if model.checkpoint else {"model_type": model.name}
        plain = restore_config(settings, CAUSAL)
        settings |= _size_settings(plain, model.size) | named_settings(plain, model.config)
        if not model.pretrained:
            # No token pads. Naming one would keep its embedding from learning, and many a tokenizer pads with its last.
            settings |= {"eos_token_id": boundary[0], "bos_token_id": boundary[-1], "pad_token_id": None}
            settings["vocab_size"] = vocabulary.size
        return restore_config(settings, CAUSAL)
    except HeadstartError as error:
        raise RecipeError(f"model: {error}") from None


def _size_settings(plain: PreTrainedConfig, size: str | None) -> dict[str, Any]:
    """The settings of a named size, as far as the type has them."""
    if size is None:
        return {}
    layers, width, heads, key_heads, inner = _SIZES[size]
    known = {*plain.to_dict(), *plain.attribute_map}
    needed = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    if not needed.keys() <= known:
        raise HeadstartError(
            f"size={size!r} has no meaning for {plain.model_type}, which names its sizes in its own way; set them in "
            "model.config"
        )
    optional = {"num_key_value_heads": key_heads, "intermediate_size": inner, "head_dim": _HEAD_WIDTH}
    optional["tie_word_embeddings"] = True
    return named_settings(plain, needed | {key: value for key, value in optional.items() if key in known})
