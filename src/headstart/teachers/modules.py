"""From what was found to a module with its weights."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from headstart.errors import HeadstartError, TeacherError
from headstart.tasks.images import ImageModel, build_model
from headstart.teachers.find import Found
from headstart.teachers.libraries import load_timm, load_torchvision, load_transformers
from headstart.teachers.loaded import Loaded
from headstart.teachers.weights import read_weights, unwrapped

_LIGHTNING = "model."  # what a LightningModule calls its model by custom


def load_module(found: Found, build: Callable[[], nn.Module] | None = None) -> Loaded:
    """Build the module that was found, and fill in its weights.

    Args:
        found: From `find_teacher`.
        build: Builds the module that the weights fit, whatever the file says.

    Raises:
        TeacherError: Nothing says which module the weights are for; they are damaged, execute code, or do not fit.
        HeadstartError: A library that the model comes from is not installed.
    """
    if build is not None:
        if found.path is None:
            raise TeacherError(f"{found.spec}: builds its own module; leave out build, or give a file of weights")
        if isinstance(build, nn.Module):
            raise TeacherError(f"{found.spec}: build is a module; give what makes one: build=lambda: MyModel()")
        return Loaded(_filled(build(), found))
    if found.kind == "transformers":
        return load_transformers(found.place)
    if found.kind == "timm":
        return load_timm(found.place)
    if found.kind == "torchvision":
        return load_torchvision(found.place)
    if found.kind == "weights":
        raise TeacherError(
            f"{found.spec}: does not say which model it is for (no run of headstart wrote it); give a builder: "
            "load_teacher(path, build=lambda: MyModel()), or in a recipe the teacher's `model`"
        )
    return _load_masked_lm(found) if found.description.get("task") == "mlm" else _load_image_run(found)


def _load_image_run(found: Found) -> Loaded:
    facts = found.description
    try:
        classes = [str(name) for name in facts["classes"]]
        model = ImageModel.model_validate(facts["model"])
        module = build_model(model, classes=len(classes), channels=int(facts["channels"]))
    except (KeyError, TypeError, ValueError, HeadstartError) as error:
        raise _undescribed(found, error) from None
    normalisation = (facts["mean"], facts["std"]) if "mean" in facts and "std" in facts else None
    size = (int(facts["size"][0]), int(facts["size"][1])) if "size" in facts else None
    channels = int(facts["channels"])
    return Loaded(_filled(module, found), "image-classification", classes, normalisation, size, channels)


def _load_masked_lm(found: Found) -> Loaded:
    from headstart.tasks.text.models import restore_model

    assert found.path is not None
    try:
        length = int(found.description["length"])
        module = restore_model(found.description, length=length)
    except (KeyError, TypeError, ValueError, HeadstartError) as error:
        raise _undescribed(found, error) from None
    return Loaded(_filled(module, found), "mlm", length=length, tokenizer=str(found.path.parent))


def _undescribed(found: Found, error: Exception) -> TeacherError:
    return TeacherError(f"{found.path}: its description does not name a model that can be built ({error})")


def _filled(module: nn.Module, found: Found) -> nn.Module:
    assert found.path is not None
    weights = _at_modules_names(read_weights(found.path), module)
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # a size does not fit
        raise _misfit(module, found, (str(error).splitlines()[1:2] or [str(error)])[0].strip()) from None
    if missing := _untied(module, missing):
        raise _misfit(module, found, f"{missing[0]} is missing" + _others(missing))
    if unexpected:
        raise _misfit(module, found, f"it has no {unexpected[0]}" + _others(unexpected))
    return module


def _at_modules_names(weights: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """The weights by the module's names: Lightning keeps them under the module's place in the LightningModule.

    That is `model.`, beside which there may be others (of a loss, of metrics); another place must hold all there is, so
    that no part of a model is taken for the whole.
    """
    wanted = module.state_dict().keys()
    plain = {unwrapped(name): name for name in wanted}
    if weights.keys() == plain.keys():  # also where the module itself has what a wrapper would have: self.module
        return {plain[name]: value for name, value in weights.items()}
    first = next(iter(wanted), "")
    for prefix in [name.removesuffix(first) for name in weights if name.endswith(f".{first}")]:
        inner = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if inner.keys() == wanted and (prefix == _LIGHTNING or len(inner) == len(weights)):
            return inner
    return weights


def _untied(module: nn.Module, missing: list[str]) -> list[str]:
    """Those of the missing names that do not share a tensor with one that is there."""
    state: dict[str, Any] = module.state_dict()
    there = {value.data_ptr() for name, value in state.items() if name not in missing}
    return [name for name in missing if state[name].data_ptr() not in there]


def _others(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _misfit(module: nn.Module, found: Found, reason: str) -> TeacherError:
    reason = textwrap.shorten(reason, 200, placeholder=" ...")
    return TeacherError(f"{found.spec}: the weights do not fit {type(module).__name__}: {reason}")


def image_builder(model: ImageModel, *, classes: int | None, channels: int | None, spec: str | Path) -> Any:
    """What builds the image model that a recipe names for a file of weights.

    Raises:
        TeacherError: It is not known how many classes or channels the images have.
    """
    if classes is None or channels is None:
        raise TeacherError(f"{spec}: a `model` for its weights needs the student's classes and normalisation as well")
    return lambda: build_model(model, classes=classes, channels=channels)
