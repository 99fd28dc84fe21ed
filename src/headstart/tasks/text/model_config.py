"""Transformers' configuration of a student: from a type and a size, or from a checkpoint."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, RecipeError
from headstart.tasks.hub import from_hub, one_line
from headstart.tasks.text.config import MlmModel
from headstart.tasks.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512)}  # layers, width
_HEAD_WIDTH = 64
# Compiled inside the model, ModernBERT cannot be compiled from outside, and recompiles for each shape.
_PRESETS = {"modernbert": {"reference_compile": False}}
# Settings that name a special token, and that token's role.
_SPECIAL = {
    "pad_token_id": "pad",
    "bos_token_id": "cls",
    "cls_token_id": "cls",
    "eos_token_id": "sep",
    "sep_token_id": "sep",
}


@dataclass(frozen=True)
class LanguageHead:
    """A kind of head of language models.

    Attributes:
        name: For messages.
        listed: The name of transformers' list of classes that have it, by the model's type.
        auto: The name of transformers' class that builds any of them.
        instead: What to take where a type has no such head.
        several: Some types, for messages.
        alone: What to take in the place of an encoder with a decoder.
        training: What it is trained by, for messages.
    """

    name: str
    listed: str
    auto: str
    instead: str
    several: str
    alone: str
    training: str

    def architecture(self, kind: str) -> str:
        """The class of a model type that has it.

        Raises:
            HeadstartError: There is none, or no such type.
        """
        from transformers import CONFIG_MAPPING
        from transformers.models.auto import modeling_auto

        known: Mapping[str, Any] = getattr(modeling_auto, self.listed)
        if kind in known:
            return str(known[kind])
        if kind in CONFIG_MAPPING:
            raise HeadstartError(f"{kind} has no {self.name} in transformers; take {self.instead}")
        nearest = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"for example, there are {self.several}"
        raise HeadstartError(f"{kind!r} is no type of transformers with a {self.name}; {hint}")


MASKED = LanguageHead(
    name="masked-LM head",
    listed="MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    auto="AutoModelForMaskedLM",
    instead="an encoder, for example bert",
    several="bert, roberta and modernbert",
    alone="an encoder alone, for example bert",
    training="masked-language pretraining",
)


def build_config(model: MlmModel, vocabulary: Vocabulary) -> PreTrainedConfig:
    """Make transformers' configuration of a student.

    Args:
        model: Its type and size, or its checkpoint, and changes to them.
        vocabulary: Gives the number of logits, and the special tokens. A pretrained model keeps its own.

    Raises:
        RecipeError: The type or checkpoint is unknown or has no masked-LM head, or a setting is unknown or impossible.
    """
    try:
        settings = read_settings(model.checkpoint) if model.checkpoint else _type_settings(model.name)
        plain = restore_config(settings)
        settings |= _size_settings(plain, model.size) | named_settings(plain, model.config)
        if not model.pretrained:
            given = [key for key in _SPECIAL if getattr(plain, key, None) is not None]
            settings |= {key: vocabulary.special.get(_SPECIAL[key]) for key in given}
            settings["vocab_size"] = vocabulary.size
        return restore_config(settings)
    except HeadstartError as error:
        raise RecipeError(f"model: {error}") from None


def restore_config(settings: Mapping[str, Any], head: LanguageHead = MASKED) -> PreTrainedConfig:
    """Make a configuration from its settings, as `config.to_dict()` gives them, `model_type` among them.

    Args:
        settings: Them.
        head: The kind of model that they are to be of.

    Raises:
        HeadstartError: They are no settings of such a model, or impossible.
    """
    from transformers import AutoConfig

    kind = str(settings.get("model_type"))
    architecture = head.architecture(kind)
    try:
        config: PreTrainedConfig = AutoConfig.for_model(**settings)
    except Exception as error:  # each type checks in its own way
        raise HeadstartError(f"{kind}: not a configuration that transformers takes ({one_line(error)})") from None
    if config.is_encoder_decoder:
        raise HeadstartError(f"{kind} is an encoder with a decoder; take {head.alone}")
    config.architectures = [architecture]
    return config


def _type_settings(kind: str) -> dict[str, Any]:
    return {"model_type": kind, **_PRESETS.get(kind, {})}


def read_settings(reference: str) -> dict[str, Any]:
    """Read the settings of a checkpoint, in a folder or on the Hub.

    Raises:
        HeadstartError: There are none.
    """
    from transformers import PreTrainedConfig

    try:
        with from_hub(reference):
            settings, _ = PreTrainedConfig.get_config_dict(reference)
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise HeadstartError(
            f"{reference}: no configuration of a model can be had ({one_line(error)}); give a folder with a "
            "config.json, or a name on the Hub that can be reached"
        ) from None
    return _type_settings(str(settings.get("model_type"))) | settings


def _size_settings(plain: PreTrainedConfig, size: str | None) -> dict[str, Any]:
    """The settings of a named size; the inner layers keep the type's own proportion."""
    if size not in _SIZES:
        return {}
    layers, width = _SIZES[size]
    inner = "intermediate_size" if hasattr(plain, "intermediate_size") else "hidden_dim"
    try:
        inner_width = getattr(plain, inner) * width // plain.hidden_size
    except AttributeError:
        raise HeadstartError(
            f"size={size!r} has no meaning for {plain.model_type}, which names its sizes in its own way; set them in "
            "model.config"
        ) from None
    settings = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": width // _HEAD_WIDTH}
    return named_settings(plain, settings | {inner: inner_width})


def named_settings(plain: PreTrainedConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names that the type itself uses; transformers would take a misspelt one without a word."""
    known = {*plain.to_dict(), *plain.attribute_map} - {"model_type", "transformers_version"}
    for key in settings:
        if key not in known:
            nearest = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise HeadstartError(f"config.{key}: {type(plain).__name__} has no such setting{hint}")
    return {plain.attribute_map.get(key, key): value for key, value in settings.items()}
