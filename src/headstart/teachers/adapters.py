"""Adapters of PEFT (LoRA), merged into their base models."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from headstart.errors import TeacherError
from headstart.teachers.weights import read_weights

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_AUTO = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in _WEIGHTS)


def load_adapter(folder: Path) -> tuple[Any, Collection[str]]:
    """The base model with an adapter merged into it, and the names of weights that neither of them has.

    Raises:
        TeacherError: The base model is not on this machine, or peft is not installed.
    """
    try:
        import peft
    except ImportError:
        raise TeacherError("holds an adapter (LoRA), which needs peft; pip install peft") from None

    described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    weights = read_weights(next(folder / name for name in _WEIGHTS if (folder / name).is_file()))
    kind, labels = _base_class(described), _labels(described, weights)
    base, report = kind.from_pretrained(
        _place(str(described.get("base_model_name_or_path")), folder),
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=False,
        **labels,
    )
    merged: Any = peft.PeftModel.from_pretrained(base, str(folder), local_files_only=True).merge_and_unload()
    saved = described.get("modules_to_save") or ()
    return merged, [name for name in report["missing_keys"] if not set(name.split(".")) & set(saved)]


def _base_class(described: Mapping[str, Any]) -> Any:
    import transformers

    named = (described.get("auto_mapping") or {}).get("base_model_class") or _AUTO.get(str(described.get("task_type")))
    if named is None or not hasattr(transformers, named):
        raise TeacherError(
            "holds an adapter that does not say which head its model has (task_type); merge it where it was made: "
            "model.merge_and_unload().save_pretrained(folder)"
        )
    return getattr(transformers, named)


def _labels(described: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, int]:
    """How many classes a classifier has: its head comes with the adapter."""
    if described.get("task_type") not in ("SEQ_CLS", "TOKEN_CLS"):
        return {}
    heads = [
        value
        for name, value in weights.items()
        if name.endswith(("score.weight", "classifier.weight", "out_proj.weight"))
    ]
    return {"num_labels": len(heads[-1])} if heads else {}


def _place(base: str, folder: Path) -> str:
    """Where the base model is on this machine: a folder, also beside the adapter, or a name in the Hub's cache."""
    for place in (Path(base), folder / base, folder.parent / base):
        if place.is_dir():
            return str(place)
    from huggingface_hub import try_to_load_from_cache

    if not Path(base).is_absolute() and isinstance(try_to_load_from_cache(base, "config.json"), str):
        return base
    raise TeacherError(
        f"holds an adapter for {base!r}, which is not on this machine; fetch that first, or merge the adapter where "
        "both are: model.merge_and_unload().save_pretrained(folder)"
    )
