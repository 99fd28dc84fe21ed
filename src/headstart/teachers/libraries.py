"""Models that a library builds and, where a spec's prefix asks for it, fetches."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from headstart.errors import TeacherError
from headstart.tasks.hub import from_hub, one_line, quiet
from headstart.teachers.loaded import Loaded

# What the class of a model is called in transformers, and what its logits are for.
_HEADS = {
    "ForMaskedLM": "mlm",
    "ForPreTraining": "mlm",  # of BERT: a masked-LM head, and one for the next sentence that is left out
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForImageClassification": "image-classification",
    "ForSequenceClassification": "text-classification",
}
# Their constructors, told of weights, change what the forward does to its inputs.
_SELF_NORMALISING = ("googlenet", "inception_v3")


def load_transformers(place: str) -> Loaded:
    """Load a model of transformers, by the class that its configuration names; no code of its authors is run.

    Args:
        place: A folder, or `OWNER/NAME[@REVISION]` on the Hub.

    Raises:
        TeacherError: It cannot be had, is of a class that transformers does not have or that gives no logits, or some
            weights of that class are missing.
    """
    local = Path(place).is_dir()
    name, _, revision = (place, "", "") if local else place.partition("@")
    where: dict[str, Any] = {"revision": revision or "main", "local_files_only": local, "trust_remote_code": False}
    try:
        with quiet(), from_hub(name):
            module, task, missing = _from_pretrained(name, where)
    except TeacherError as error:
        raise TeacherError(f"{place}: {error}") from None
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise TeacherError(f"{place}: transformers cannot load it ({one_line(error)}); {_hint(local)}") from None
    if missing:
        raise TeacherError(
            f"{place}: holds no weights for {min(missing)} of {type(module).__name__}, which would be random; a "
            "teacher needs all weights, those of its head too"
        )
    facts = _image_facts(name, where, module.config) if task == "image-classification" else _text_facts(module.config)
    classes = _label_names(module.config) if "classification" in task else None
    return Loaded(module, task, classes, tokenizer=name, revision=revision or None, **facts)


def _from_pretrained(name: str, where: dict[str, Any]) -> tuple[Any, str, Collection[str]]:
    """The model, what its logits are for, and the names of weights that its checkpoint lacks."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(name, **where)
    architecture = (config.architectures or ["none"])[0]
    task = next((task for suffix, task in _HEADS.items() if architecture.endswith(suffix)), None)
    kind: Any = getattr(transformers, "AutoModelForMaskedLM" if task == "mlm" else architecture, None)
    if task is None or kind is None:
        reason = "names no class" if architecture == "none" else f"is a {architecture}"
        raise TeacherError(
            f"{reason}, and none with a head that gives logits is known by that name; a teacher is one for masked or "
            "causal language modelling, or a classifier. Code from the Hub is never run"
        )
    # On the Hub only safetensors: for others transformers would ask a service to convert them.
    safe = None if where["local_files_only"] else True
    module, report = kind.from_pretrained(name, config=config, output_loading_info=True, use_safetensors=safe, **where)
    return module, task, report["missing_keys"]


def _label_names(config: Any) -> list[str] | None:
    names = [str(label) for _, label in sorted(config.id2label.items())]
    return None if all(label.startswith("LABEL_") for label in names) else names


def _text_facts(config: Any) -> dict[str, Any]:
    positions = getattr(config, "max_position_embeddings", None)
    return {"length": min(128, positions) if isinstance(positions, int) else 128}


def _image_facts(name: str, where: dict[str, Any], config: Any) -> dict[str, Any]:
    """Normalisation and size of the images."""
    from transformers import ImageProcessingMixin

    size = getattr(config, "image_size", None)
    size = (size, size) if isinstance(size, int) else size
    facts: dict[str, Any] = {"size": size, "channels": getattr(config, "num_channels", 3)}
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name, **where)
        return facts | {"normalisation": (processor["image_mean"], processor["image_std"])}
    except (OSError, KeyError):
        return facts


def load_timm(name: str) -> Loaded:
    """Load a pretrained model of timm.

    Args:
        name: Its name, with or without the tag of its weights; or `local-dir:FOLDER`, as timm has it.

    Raises:
        TeacherError: timm has no such weights, or cannot have them.
    """
    timm = import_module("timm")
    if ":" not in name and not timm.is_model_pretrained(name):
        raise TeacherError(f"timm:{name}: timm has no such model, or no weights for it; see timm.list_pretrained()")
    try:
        with _without_code(), from_hub(name.removeprefix("local-dir:")):
            module = timm.create_model(name, pretrained=True)
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise TeacherError(f"timm:{name}: timm cannot load it ({one_line(error)}); {_hint(':' in name)}") from None
    facts = module.pretrained_cfg
    return Loaded(
        module,
        "image-classification",
        facts.get("label_names"),
        normalisation=(facts["mean"], facts["std"]),
        size=tuple(facts["input_size"][1:]),
    )


def load_torchvision(name: str) -> Loaded:
    """Load a pretrained classifier of torchvision.

    Args:
        name: `NAME`, with its default weights, or `NAME/WEIGHTS`.

    Raises:
        TeacherError: torchvision has no such weights, or cannot have them.
    """
    models = import_module("torchvision.models")
    name, _, weights_name = name.partition("/")
    if name in _SELF_NORMALISING:
        raise TeacherError(f"torchvision:{name}: normalises its inputs once more inside; take timm:{name}")
    try:
        choices = models.get_model_weights(name)
        weights = choices[weights_name] if weights_name else choices.DEFAULT
    except (ValueError, KeyError, AttributeError):
        of = f" of {name}" if weights_name else ""
        raise TeacherError(
            f"torchvision:{name}{'/' if weights_name else ''}{weights_name}: torchvision has no such "
            f"{'weights' if weights_name else 'model'}{of}; see torchvision.models.list_models()"
        ) from None
    classes = weights.meta.get("categories", ())
    try:
        module = models.get_model(name, weights=None, num_classes=len(classes))
        # Not by get_model(weights=...), which would read them in a way that can execute code.
        module.load_state_dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:
        raise TeacherError(
            f"torchvision:{name}: torchvision cannot load it ({one_line(error)}); {_hint(False)}"
        ) from None
    images = weights.transforms()
    side = images.crop_size[0]
    return Loaded(module, "image-classification", classes, normalisation=(images.mean, images.std), size=(side, side))


@contextmanager
def _without_code() -> Iterator[None]:
    """Have `torch.load` refuse files that execute code, whatever it is told: earlier versions of timm allow them."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _hint(local: bool) -> str:
    if local:
        return "see that the folder holds all that save_pretrained writes"
    return "check the name and the connection; weights are taken as safetensors or plain tensors only"
