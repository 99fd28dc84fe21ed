"""Models that timm and torchvision build and, where a spec's prefix asks for it, fetch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from headstart.errors import TeacherError
from headstart.tasks.hub import from_hub, one_line
from headstart.teachers.hugging_face import hint
from headstart.teachers.loaded import Loaded

# Their constructors, told of weights, change what the forward does to its inputs.
_SELF_NORMALISING = ("googlenet", "inception_v3")


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
        raise TeacherError(f"timm:{name}: timm cannot load it ({one_line(error)}); {hint(':' in name)}") from None
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
            f"torchvision:{name}: torchvision cannot load it ({one_line(error)}); {hint(False)}"
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
