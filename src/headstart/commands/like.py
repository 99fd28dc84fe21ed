"""The shape of a new model of transformers, as `headstart init --like` is told it."""

from __future__ import annotations

import difflib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml

from headstart.distill.vocabulary import count_tokens
from headstart.errors import RecipeError
from headstart.init.picking.depth import layers
from headstart.tasks.hub import from_hub, one_line


def changed_config(own: Any, like: str, *, first: bool = False) -> tuple[Any, Any, None]:
    """The older model's configuration with some settings changed, and its class.

    Args:
        own: The older model's.
        like: `num_hidden_layers=2,hidden_size=128`.
        first: Of its layers the first ones are kept, rather than evenly spaced ones.

    Raises:
        RecipeError: A setting is unknown, or its value impossible.
    """
    settings = own.to_dict()
    known = {*settings, *own.attribute_map} - {"model_type", "transformers_version", "architectures"}
    for part in like.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in known:
            nearest = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "give key=value,key=value"
            raise RecipeError(f"--like={like}: {type(own).__name__} has no setting {key!r}; {hint}")
        settings[own.attribute_map.get(key, key)] = yaml.safe_load(value)
    try:
        _adapt_kinds(settings, own, first=first)
        config = type(own).from_dict(settings)
    except Exception as error:  # each type checks in its own way
        raise RecipeError(f"--like={like}: {type(own).__name__} does not take that ({one_line(error)})") from None
    return config, _class_of(config, own, like), None


def _adapt_kinds(settings: dict[str, Any], own: Any, *, first: bool) -> None:
    """The kinds of layers for another number of them: as its type derives them, or those of the layers taken.

    Args:
        settings: The new ones; changed in place.
        own: The older model's configuration.
        first: As in `changed_config`.
    """
    depth = own.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    old, new, kinds = getattr(own, depth, None), settings.get(depth), settings.get("layer_types")
    if old == new or not isinstance(new, int) or not isinstance(old, int) or kinds is None:
        return
    del settings["layer_types"]
    derived = type(own).from_dict({key: value for key, value in own.to_dict().items() if key != "layer_types"})
    if list(kinds) != list(derived.layer_types or ()):  # a pattern of somebody's own
        settings["layer_types"] = [kinds[layer] for layer in layers(old, new, first=first) if layer is not None]


def read_like(like: str, own: Any) -> tuple[Any, Any, Path | None]:
    """A configuration from a file, a folder or the Hub, the class that it is for, and the folder.

    Args:
        like: `config.json`, its folder, or `hf:OWNER/NAME`.
        own: The older model's configuration; its class is taken where the file names none.

    Raises:
        RecipeError: There is no such configuration, or none that transformers takes.
    """
    from transformers import AutoConfig

    place = like.removeprefix("hf:")
    if place == like and not Path(place).exists():
        raise RecipeError(
            f"--like={like}: no such file or folder; give a config.json or its folder, hf:OWNER/NAME, or changes to "
            "the older model's configuration, such as num_hidden_layers=2,hidden_size=128"
        )
    try:
        with from_hub(place):
            config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise RecipeError(f"--like={like}: is no configuration that transformers takes ({one_line(error)})") from None
    path = Path(place)
    folder = path if path.is_dir() else path.parent if path.is_file() else None
    return config, _class_of(config, own, like), folder


def built(kind: Any, config: Any, *, fresh: bool) -> Any:
    """A new model of transformers.

    Args:
        kind: Its class.
        config: Its configuration.
        fresh: Without, its weights are whatever was in memory.

    Raises:
        RecipeError: The class does not take the configuration.
    """
    from transformers.initialization import no_init_weights

    dtype = getattr(config, "dtype", None) or torch.float32
    try:
        with nullcontext() if fresh else no_init_weights():
            return kind._from_config(config, dtype=dtype)
    except Exception as error:  # a width that its heads do not divide, say: each type in its own way
        raise RecipeError(f"--like: {kind.__name__} cannot be built so ({one_line(error)})") from None


def check_tokens(config: Any, tokenizer: Any, like: str) -> None:
    """Refuse a vocabulary that is smaller than the tokens that its text is cut into.

    Args:
        config: The new model's configuration.
        tokenizer: Its tokenizer, where there is one.
        like: As it was told, for the message.

    Raises:
        RecipeError: It is smaller.
    """
    size = getattr(config, "vocab_size", None)
    needed = count_tokens(tokenizer) or 0
    if size is not None and size < needed:
        raise RecipeError(
            f"--like={like}: vocab_size={size} is less than the {needed} tokens of the tokenizer; leave the vocabulary "
            "as it is, or give a folder with config.json and the smaller tokenizer: tokens are matched by their text"
        )


def _class_of(config: Any, own: Any, like: str) -> Any:
    import transformers

    named = config.architectures or (own.architectures if config.model_type == own.model_type else None)
    kind = getattr(transformers, (named or ["none"])[0], None)
    if kind is None:
        raise RecipeError(
            f"--like={like}: names no class of transformers; write it into the configuration, as "
            '"architectures": ["LlamaForCausalLM"]'
        )
    config.architectures = [kind.__name__]
    return kind
