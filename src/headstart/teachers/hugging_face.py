"""Models of transformers as teachers: any class that gives logits, by asking the library; adapters of PEFT merged."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from headstart.adapters.model_head import why_not
from headstart.errors import TeacherError
from headstart.tasks.hub import from_hub, one_line, quiet
from headstart.teachers.adapters import is_adapter, load_adapter
from headstart.teachers.images import image_facts
from headstart.teachers.loaded import Loaded

# What logits are for, by the library's own lists of classes; a class is in the first that names it.
_TASKS = {
    "mlm": ("MASKED_LM",),
    "causal-lm": ("CAUSAL_LM",),
    "seq2seq": ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ"),
    "image-classification": ("IMAGE_CLASSIFICATION",),
    "text-classification": ("SEQUENCE_CLASSIFICATION",),
    "token-classification": ("TOKEN_CLASSIFICATION",),
    "segmentation": ("SEMANTIC_SEGMENTATION",),
    "question-answering": ("QUESTION_ANSWERING",),
    "multiple-choice": ("MULTIPLE_CHOICE",),
    "video-classification": ("VIDEO_CLASSIFICATION",),
    "audio-classification": ("AUDIO_CLASSIFICATION",),
}
# Fields of outputs beside which `logits` are of something else than classes or tokens.
_NO_LOGITS = {
    "pred_boxes": "an object detector, whose queries have no fixed counterpart in another model",
    "ids_restore": "a masked auto-encoder, whose `logits` are pixels",
}


def load_transformers(place: str, *, logits: bool = True) -> Loaded:
    """Load a model of transformers, by the class that its configuration names; no code of its authors is run.

    Args:
        place: A folder, or `OWNER/NAME[@REVISION]` on the Hub. A folder with an adapter alone (LoRA) is merged into the
            base model that it names, which must be on this machine.
        logits: Whether it has to give logits; else it may be a backbone without a head.

    Raises:
        TeacherError: It cannot be had, is of a class that transformers does not have or that gives no logits, or some
            weights of that class are missing.
    """
    local = Path(place).is_dir()
    name, _, revision = (place, "", "") if local else place.partition("@")
    where: dict[str, Any] = {"revision": revision or "main", "local_files_only": local, "trust_remote_code": False}
    try:
        with quiet(), from_hub(name):
            if local and is_adapter(Path(place)):
                module, missing = load_adapter(Path(place))
                task = _task(type(module).__name__)
            else:
                module, task, missing = _from_pretrained(name, where, logits)
    except TeacherError as error:
        raise TeacherError(f"{place}: {error}") from None
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise TeacherError(f"{place}: transformers cannot load it ({one_line(error)}); {hint(local)}") from None
    if missing:
        raise TeacherError(
            f"{place}: holds no weights for {min(missing)} of {type(module).__name__}, which would be random; a "
            "teacher needs all weights, those of its head too"
        )
    classes = label_names(module.config) if task is not None and "classification" in task else None
    return Loaded(module, task, classes, tokenizer=name, revision=revision or None, **_facts(name, where, module))


def outline_transformers(place: str) -> Loaded:
    """A model of transformers in a folder without its weights: shapes and dtypes alone, on the meta device.

    Args:
        place: The folder; none with an adapter alone.

    Raises:
        TeacherError: As `load_transformers`, but that nothing is known of the weights.
    """
    where: dict[str, Any] = {"revision": "main", "local_files_only": True, "trust_remote_code": False}
    try:
        import transformers

        with quiet():
            config = transformers.AutoConfig.from_pretrained(place, **where)
            kind, task = model_class(config)
            with torch.device("meta"):
                module = kind._from_config(config, dtype=config.dtype or torch.float32)
    except TeacherError as error:
        raise TeacherError(f"{place}: {error}") from None
    except Exception as error:  # each type checks in its own way
        raise TeacherError(f"{place}: transformers cannot build it ({one_line(error)}); {hint(True)}") from None
    classes = label_names(module.config) if task is not None and "classification" in task else None
    return Loaded(module, task, classes, tokenizer=place, **_facts(place, where, module))


def model_class(config: Any, *, logits: bool = True) -> tuple[Any, str | None]:
    """The class that a configuration names, and what its logits are for; without `logits` it need not give any.

    Raises:
        TeacherError: transformers has no such class, or it gives no logits.
    """
    import transformers

    architecture = (config.architectures or ["none"])[0]
    task = _task(architecture)
    # BERT's head of pretraining is a masked-LM head, and one for the next sentence that is left out.
    pretraining = architecture.endswith("ForPreTraining") and "MaskedLM" in _auto_class(config, "MASKED_LM")
    name = _auto_class(config, "MASKED_LM") if pretraining else architecture
    kind: Any = getattr(transformers, name, None)
    unknown = "none with a head that gives logits is known by that name"
    reason = unknown if kind is None else _why_no_logits(kind) if logits else None
    if reason is not None:
        called = "names no class" if architecture == "none" else f"is a {architecture}"
        raise TeacherError(
            f"{called}, and {reason}; a teacher is a language model or a classifier, with its head. Code from the Hub "
            "is never run"
        )
    return kind, "mlm" if pretraining else task


def _from_pretrained(name: str, where: dict[str, Any], logits: bool) -> tuple[Any, str | None, Collection[str]]:
    """The model, what its logits are for, and the names of weights that its checkpoint lacks."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(name, **where)
    kind, task = model_class(config, logits=logits)
    # On the Hub only safetensors: for others transformers would ask a service to convert them.
    safe = None if where["local_files_only"] else True
    module, report = kind.from_pretrained(name, config=config, output_loading_info=True, use_safetensors=safe, **where)
    return module, task, report["missing_keys"]


def _task(architecture: str) -> str | None:
    return next(
        (task for task, lists in _TASKS.items() for listed in lists if architecture in _listed(listed).values()),
        "image-classification" if "ForImageClassification" in architecture else None,
    )


def _listed(name: str) -> Mapping[str, str]:
    """The library's classes for a purpose, by the model's type."""
    from transformers.models.auto import modeling_auto

    listed: Mapping[str, Any] = getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES", {})
    # Where a type has several classes, the library lists them in a tuple.
    return {f"{key}/{index}": kind for key, kinds in listed.items() for index, kind in enumerate(_each(kinds))}


def _each(kinds: str | tuple[str, ...]) -> tuple[str, ...]:
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def _auto_class(config: Any, purpose: str) -> str:
    return _listed(purpose).get(f"{config.model_type}/0", "")


def _why_no_logits(kind: Any) -> str | None:
    """Why the outputs of a class hold no logits that can be distilled; None where they do, as far as it says."""
    if (named := why_not(kind)) is not None:
        return named
    fields = _output_fields(kind)
    for field, what in _NO_LOGITS.items():
        if field in fields:
            return f"it is {what}"
    if fields and not any(name.endswith("logits") for name in fields):
        return f"its forward gives no logits, but {', '.join(sorted(fields)[:4])}: it has no head"
    return (
        None
        if fields or _task(kind.__name__) is not None
        else "none with a head that gives logits is known by that name"
    )


def _output_fields(kind: Any) -> set[str]:
    """The names of what a forward returns, by its annotation."""
    from transformers import modeling_outputs

    annotation = str(inspect.signature(kind.forward).return_annotation)
    module: Any = inspect.getmodule(kind)
    fields: set[str] = set()
    for name in re.findall(r"\w*Output\w*", annotation):
        output = getattr(module, name, None) or getattr(modeling_outputs, name, None)
        fields |= set(getattr(output, "__dataclass_fields__", ()))
    return fields


def label_names(config: Any) -> list[str] | None:
    """The classes that a configuration of transformers names; None where it numbers them."""
    names = [str(label) for _, label in sorted(config.id2label.items())]
    return None if all(label.startswith("LABEL_") for label in names) else names


def _facts(name: str, where: Mapping[str, Any], module: Any) -> dict[str, Any]:
    """What is known of its inputs."""
    if module.main_input_name == "pixel_values":
        return image_facts(name, where, module.config)
    if module.main_input_name != "input_ids":
        return {}
    positions = getattr(module.config, "max_position_embeddings", None)
    return {"length": min(128, positions) if isinstance(positions, int) else 128}


def hint(local: bool) -> str:
    """What to look at where a library cannot load a model."""
    if local:
        return "see that the folder holds all that save_pretrained writes"
    return "check the name and the connection; weights are taken as safetensors or plain tensors only"
