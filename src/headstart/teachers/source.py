"""The older model whose weights an init takes: from a spec to its tensors and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from headstart.errors import TeacherError
from headstart.generators import generators_untouched
from headstart.tasks.hub import from_hub, one_line, quiet
from headstart.teachers.find import CONFIG, Found, find_teacher
from headstart.teachers.lazy import LazyTensors, lazy_weights
from headstart.teachers.modules import load_module
from headstart.teachers.renamed import names_in_memory

_NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked", "position_ids")
# What a checkpoint on the Hub is made of, weights as safetensors only; no code.
_FETCHED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model"]


@dataclass(frozen=True)
class Source:
    """An older model, to take weights from.

    Attributes:
        spec: As it was given.
        weights: Its tensors by name, read one by one where its files allow it; or the module, where it has to run or a
            library builds it.
        config: What it is configured by; None where nothing says.
        classes: Names of its classes, where known.
        tokenizer: Folder or name of its tokenizer, where it has one.
        folder: Of its files, where they are on this machine.
    """

    spec: str
    weights: nn.Module | Mapping[str, Tensor]
    config: Any = None
    classes: Sequence[str] | None = None
    tokenizer: str | None = None
    folder: Path | None = None

    @property
    def parameters(self) -> int:
        """How many it has."""
        if isinstance(self.weights, nn.Module):
            return sum(parameter.numel() for parameter in self.weights.parameters())
        shapes = getattr(self.weights, "shapes", None)
        shapes = shapes or {name: tensor.shape for name, tensor in self.weights.items()}
        return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_NO_PARAMETERS))

    @property
    def vocabulary(self) -> int | None:
        """How many rows its vocabulary has, those that pad it included; None where nothing says."""
        known = self.config
        found = known.get("vocab_size") if isinstance(known, Mapping) else getattr(known, "vocab_size", None)
        return found if isinstance(found, int) else None


def load_source(spec: str | Path, *, runs: bool = False) -> Source:
    """Find an older model and open its weights, without executing code from its files.

    Args:
        spec: As in `find_teacher`. `hf:OWNER/NAME` is fetched, weights as safetensors only.
        runs: Whether it has to run (its units are scored): then all of it is read into a module.

    Raises:
        TeacherError: It is missing, damaged, would execute code, or has to run and nothing says what builds it.
        HeadstartError: A library that it comes from is not installed.
    """
    found = find_teacher(spec)
    if found.kind == "transformers" and not Path(found.place).is_dir():
        found = _fetched(found)
    if runs or found.path is None or found.kind in ("timm", "torchvision"):
        with generators_untouched():
            loaded = load_module(found)
        folder = found.path.parent if found.path is not None else None
        config = getattr(loaded.module, "config", None)
        return Source(found.spec, loaded.module, config, loaded.classes, loaded.tokenizer, folder)
    weights = lazy_weights(found.path)
    if found.kind == "transformers":
        return _of_transformers(found, weights)
    described = found.description
    classes = [str(name) for name in described["classes"]] if "classes" in described else None
    tokenizer = str(found.path.parent) if described.get("task") == "mlm" else None
    return Source(found.spec, weights, described.get("config"), classes, tokenizer, found.path.parent)


def read_tokenizer(place: str, spec: str) -> Any:
    """A tokenizer, to compare its tokens.

    Args:
        place: Its folder, or `OWNER/NAME[@REVISION]`.
        spec: Whose it is, for messages.

    Raises:
        TeacherError: It cannot be read.
    """
    from transformers import AutoTokenizer

    name, _, revision = place.partition("@")
    try:
        with from_hub(name):
            return AutoTokenizer.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise TeacherError(
            f"{spec}: holds no tokenizer that can be read ({one_line(error)}), so its tokens cannot be matched; write "
            "it there: tokenizer.save_pretrained(folder)"
        ) from None


def _of_transformers(found: Found, weights: Mapping[str, Tensor]) -> Source:
    from transformers import AutoConfig

    from headstart.teachers.hugging_face import label_names

    assert found.path is not None
    folder = found.path.parent
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each type checks in its own way
        raise TeacherError(
            f"{found.spec}: its {CONFIG} is none that transformers takes ({one_line(error)}); code from the Hub is "
            "never run"
        ) from None
    classes = label_names(config) if "Classification" in (config.architectures or [""])[0] else None
    return Source(found.spec, _as_in_memory(found, weights, config), config, classes, str(folder), folder)


def _as_in_memory(found: Found, weights: Mapping[str, Tensor], config: Any) -> nn.Module | Mapping[str, Tensor]:
    """Weights by the names that a student of that class has; a module where some are joined or split on the way."""
    names = names_in_memory(weights, config)
    if names is None:
        with generators_untouched():
            return load_module(found, logits=False).module
    if isinstance(weights, LazyTensors):
        return weights.renamed(names)
    return {names[name]: tensor for name, tensor in weights.items()}


def _fetched(found: Found) -> Found:
    """The checkpoint in the Hub's cache on this machine."""
    from huggingface_hub import snapshot_download

    name, _, revision = found.place.partition("@")
    try:
        with quiet(), from_hub(name):
            folder = snapshot_download(name, revision=revision or None, allow_patterns=_FETCHED)
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise TeacherError(
            f"{found.spec}: cannot be had ({one_line(error)}); check the name and the connection"
        ) from None
    return replace(find_teacher(folder), spec=found.spec)
