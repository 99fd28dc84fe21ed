"""Which tensors of a model of no known family stand in attention, and into how many heads that is cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from headstart.init.side import Side, clean

# Names that a layer of attention goes by inside its model.
_NAMED = re.compile(r"(self|cross|encoder|decoder)?_?(attn|attention)\d*", re.IGNORECASE)

_CONFIGS = ("config", "cfg", "args")


class Attention:
    """What the modules of a model tell of attention heads.

    Args:
        side: The model; of a mapping nothing is told.
    """

    def __init__(self, side: Side) -> None:
        self.modules = {} if side.module is None else _modules(side.module)
        told = {path: _numbers(module) for path, module in self.modules.items()}
        self.told = {path: numbers for path, numbers in told.items() if numbers}
        self.told |= self._configured(side.config)

    def around(self, name: str) -> list[str]:
        """The modules that tell the heads of the attention that a tensor stands in; none: it stands in no attention.

        A module tells them of all inside it, unless it only hands the number on to another one in it. What has a name
        such as `attention` is one with what tells the heads in it: BERT's kin have their last layer beside that.
        """
        owner = name.rpartition(".")[0]
        chain = _chain(owner)
        found: list[str] = []
        for place in chain:
            inside = [path for path in self.told if path != place and _within(path, place)]
            if place in self.told and all(path in chain for path in inside):
                found.append(place)
            elif _NAMED.fullmatch(place.rpartition(".")[2]) and not self._is_norm(owner):
                found += inside
        return list(dict.fromkeys(found))

    def _configured(self, config: Any) -> dict[str, dict[str, int]]:
        """What is named attention and has no number itself goes by the configuration, its own or the model's."""
        found = {}
        for path, module in self.modules.items():
            if _NAMED.fullmatch(path.rpartition(".")[2]) and not any(_within(f"{told}.", path) for told in self.told):
                own = next((vars(module)[name] for name in _CONFIGS if name in vars(module)), config)
                found[path] = heads_told(own)
        return {path: numbers for path, numbers in found.items() if numbers}

    def _is_norm(self, path: str) -> bool:
        return "norm" in type(self.modules.get(path)).__name__.lower()


def heads_told(config: Any) -> dict[str, int]:
    """The numbers of a configuration that are about attention heads."""
    return _of_heads(settings_of(config))


def settings_of(config: Any) -> Mapping[str, Any]:
    """A configuration as a mapping; empty where it is none."""
    if isinstance(config, Mapping):
        return config
    if hasattr(config, "to_dict"):
        settings: Mapping[str, Any] = config.to_dict()
        return settings
    return vars(config) if hasattr(config, "__dict__") else {}


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by their names without those of wrappers; of a wrapper and what it wraps the latter."""
    named = model.named_modules(remove_duplicate=False)
    return {clean(f"{path}.x" if path else "x").rpartition(".")[0]: module for path, module in named}


def _numbers(module: nn.Module) -> dict[str, int]:
    classes = (vars(each) for each in reversed(type(module).__mro__))
    known = {key: value for own in (*classes, vars(module)) for key, value in own.items()}
    computed = [key for key, value in known.items() if isinstance(value, property) and _is_of_heads(key, known)]
    return _of_heads(known | {key: getattr(module, key, None) for key in computed})


def _of_heads(settings: Mapping[str, Any]) -> dict[str, int]:
    return {
        key: value
        for key, value in settings.items()
        if isinstance(value, int) and not isinstance(value, bool) and _is_of_heads(key, settings)
    }


def _is_of_heads(key: str, beside: Iterable[str]) -> bool:
    if key == "h":  # heads, as in the Annotated Transformer; beside a width it is a height
        return "w" not in beside
    return "head" in key.lower() or key == "num_key_value_groups"


def _chain(path: str) -> list[str]:
    """A module and all around it, the model itself last.

    Example:
        >>> _chain("a.b")
        ['a.b', 'a', '']
    """
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _within(path: str, place: str) -> bool:
    return not place or path.startswith(f"{place}.")
