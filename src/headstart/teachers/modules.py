"""From what was found to a module with its weights."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from headstart.errors import HeadstartError, TeacherError
from headstart.tasks.images import ImageModel, build_model
from headstart.teachers.find import Found
from headstart.teachers.hugging_face import load_transformers
from headstart.teachers.libraries import load_timm, load_torchvision
from headstart.teachers.loaded import Loaded
from headstart.teachers.weights import States, choose, read_states
from headstart.teachers.wrappers import fitting, lacking, without_wrappers


def load_module(
    found: Found, build: Callable[[], nn.Module] | None = None, *, weights: str | None = None, logits: bool = True
) -> Loaded:
    """Build the module that was found, and fill in its weights.

    Args:
        found: From `find_teacher`.
        build: Builds the module that the weights fit, whatever the file says.
        weights: Which to take where its file holds several, as in `load_teacher`.
        logits: Whether it has to give logits, as there.

    Raises:
        TeacherError: Nothing says which module the weights are for; they are damaged, execute code, or do not fit.
        HeadstartError: A library that the model comes from is not installed.
    """
    if build is not None:
        if found.path is None:
            raise TeacherError(f"{found.spec}: builds its own module; leave out build, or give a file of weights")
        if isinstance(build, nn.Module):
            raise TeacherError(f"{found.spec}: build is a module; give what makes one: build=lambda: MyModel()")
        return Loaded(_filled(build(), found, weights))
    if found.kind == "transformers":
        return load_transformers(found.place, logits=logits)
    if found.kind == "timm":
        return load_timm(found.place)
    if found.kind == "torchvision":
        return load_torchvision(found.place)
    if found.kind == "weights":
        raise TeacherError(
            f"{found.spec}: does not say which model it is for (no run of headstart wrote it); give a builder: "
            "load_teacher(path, build=lambda: MyModel()), or in a recipe the teacher's `model`"
        )
    task = found.description.get("task")
    return _load_language_run(found, str(task)) if task in ("mlm", "clm") else _load_image_run(found)


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


def _load_language_run(found: Found, task: str) -> Loaded:
    from headstart.tasks.text.causal.models import restore_causal_model
    from headstart.tasks.text.models import restore_model

    assert found.path is not None
    try:
        length = int(found.description["length"])
        module = (restore_model if task == "mlm" else restore_causal_model)(found.description, length=length)
    except (KeyError, TypeError, ValueError, HeadstartError) as error:
        raise _undescribed(found, error) from None
    head = "mlm" if task == "mlm" else "causal-lm"
    return Loaded(_filled(module, found), head, length=length, tokenizer=str(found.path.parent))


def _undescribed(found: Found, error: Exception) -> TeacherError:
    return TeacherError(f"{found.path}: its description does not name a model that can be built ({error})")


def _filled(module: nn.Module, found: Found, weights: str | None = None) -> nn.Module:
    assert found.path is not None
    states = read_states(found.path)
    fits = {
        ".".join(part for part in (place, prefix.strip(".")) if part): inner
        for place, state in states.items()
        for prefix, inner in fitting(state, module).items()
    }
    if not fits:
        raise _misfit(module, found, states)
    try:
        module.load_state_dict(fits[choose(fits, weights, found.spec)], strict=False)
    except RuntimeError as error:  # a size does not fit
        raise _misfit(module, found, states, (str(error).splitlines()[1:2] or [str(error)])[0].strip()) from None
    return module


def _others(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _misfit(module: nn.Module, found: Found, states: States, reason: str | None = None) -> TeacherError:
    """What is wrong with the weights that come closest."""
    nearest = max((without_wrappers(state) for state in states.values()), key=lambda state: _known(state, module))
    names = without_wrappers({name: name for name in module.state_dict()})
    if reason is None:
        missing = lacking(module, [names[name] for name in nearest if name in names])
        extra = [name for name in nearest if name not in names]
        reason = f"{missing[0]} is missing" + _others(missing) if missing else ""
        reason = reason or f"it has no {extra[0]}" + _others(extra)
        if missing and extra:
            reason += f"; the file has {extra[0]}" + _others(extra)
    places = [place for place in states if place]
    held = f" (it holds {', '.join(map(repr, places))})" if places else ""
    reason = textwrap.shorten(reason, 200, placeholder=" ...")
    return TeacherError(f"{found.spec}: the weights do not fit {type(module).__name__}: {reason}{held}")


def _known(weights: Mapping[str, Any], module: nn.Module) -> int:
    return len(weights.keys() & without_wrappers(module.state_dict()).keys())


def image_builder(model: ImageModel, *, classes: int | None, channels: int | None, spec: str | Path) -> Any:
    """What builds the image model that a recipe names for a file of weights.

    Raises:
        TeacherError: It is not known how many classes or channels the images have.
    """
    if classes is None or channels is None:
        raise TeacherError(f"{spec}: a `model` for its weights needs the student's classes and normalisation as well")
    return lambda: build_model(model, classes=classes, channels=channels)
