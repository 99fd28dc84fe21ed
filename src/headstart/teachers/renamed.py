"""Names of a checkpoint of transformers as its class has them in memory: files keep the names of earlier versions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch

from headstart.generators import generators_untouched
from headstart.tasks.hub import quiet

# A name in a file to the name in memory, and whether tensors are joined or split on the way.
_Rename = Callable[[str], tuple[str, bool]]


def names_in_memory(names: Iterable[str], config: Any) -> dict[str, str] | None:
    """For each name in a file the one that `from_pretrained` gives it.

    Args:
        names: In the file.
        config: The checkpoint's configuration; where its class is none of transformers, names stay as they are.

    Returns:
        The names in memory, by those in the file; None: some tensors are joined or split when they are loaded.
    """
    model = _outline(config)
    if model is None:
        return {name: name for name in names}
    known, prefix = set(model.state_dict()), f"{model.base_model_prefix}."
    rename = _rename(model)

    def has(name: str) -> bool:
        return bool({name, prefix + name, name.removeprefix(prefix)} & known)

    found: dict[str, str] = {}
    for name in names:
        new, joined = rename(name)
        if has(name) and not has(new):  # a pattern that is not meant for it; the library looks likewise
            new, joined = name, False
        if joined:
            return None
        found[name] = new
    return found if len(set(found.values())) == len(found) else {name: name for name in found}


def _outline(config: Any) -> Any:
    """The model of a configuration, without weights; None: transformers has no such class."""
    import transformers

    kind = getattr(transformers, (getattr(config, "architectures", None) or ["none"])[0], None)
    try:
        with quiet(), generators_untouched(), torch.device("meta"):
            if kind is None:
                return transformers.AutoModel.from_config(copy.deepcopy(config))
            return kind._from_config(copy.deepcopy(config))
    except Exception:  # each type checks in its own way; what it is taken for is told from its tensors later on
        return None


def _rename(model: Any) -> _Rename:
    """As the installed version of transformers renames."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        entries = get_model_conversion_mapping(model)
        renamings = [entry for entry in entries if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in entries if isinstance(entry, WeightConverter)]
        rename_source_key("", renamings, converters)
    except (ImportError, AttributeError, TypeError):  # no part of its interface: another version may not have it
        return _old_norms

    def rename(name: str) -> tuple[str, bool]:
        new, pattern = rename_source_key(name, renamings, converters)
        return new, pattern is not None

    return rename


def _old_norms(name: str) -> tuple[str, bool]:
    """What versions do that know no more: BERT's first checkpoints come from TensorFlow."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"), False
