"""The shape of a new model of transformers, as `headstart init --like` is told it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from headstart.errors import RecipeError
from headstart.tasks.hub import from_hub, one_line


def changed_config(own: Any, like: str) -> tuple[Any, Any, None]:
    """The older model's configuration with some settings changed, and its class.

    Args:
        own: The older model's.
        like: `num_hidden_layers=2,hidden_size=128`.

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
    # What is told layer by layer follows from the number of layers, where it is no pattern of somebody's own.
    depth = own.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if settings.get(depth) != getattr(own, depth, None):
        settings.pop("layer_types", None)
    try:
        config = type(own).from_dict(settings)
    except Exception as error:  # each type checks in its own way
        raise RecipeError(f"--like={like}: {type(own).__name__} does not take that ({one_line(error)})") from None
    return config, _class_of(config, own, like), None


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
