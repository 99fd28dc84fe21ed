"""From a spec to a ready frozen teacher."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill import Teacher
from headstart.errors import RecipeError, TeacherError
from headstart.records import RunRecord, read_record
from headstart.tasks.images import ImageModel, build_model
from headstart.teachers.weights import read_description, read_weights

WEIGHTS = "model.safetensors"
RECORD = "record.json"


@dataclass(frozen=True)
class Found:
    """What a spec points to.

    Attributes:
        spec: As it was given.
        path: The weights' file.
        description: What the run wrote about its weights: model, classes, normalisation.
        record: The run's record, where it lies beside the weights.
    """

    spec: str
    path: Path
    description: dict[str, Any]
    record: RunRecord | None


def find_teacher(spec: str | Path) -> Found:
    """Look up a run folder, or the safetensors file in one, without loading the weights.

    Raises:
        TeacherError: There is no such thing, or no run of ours wrote it.
    """
    path = Path(spec)
    if not path.exists():
        raise TeacherError(f"{spec}: no such run folder or file")
    if path.is_dir():
        path = path / WEIGHTS
        if not path.is_file():
            raise TeacherError(f"{spec}: no {WEIGHTS} in this folder; the run has not finished, or it is no run folder")
    record = path.parent / RECORD
    return Found(str(spec), path, read_description(path), read_record(RunRecord, record) if record.is_file() else None)


def load_teacher(
    spec: str | Path,
    *,
    build: Callable[[], nn.Module] | None = None,
    name: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    autocast: torch.dtype | None = None,
) -> Teacher:
    """Load a teacher.

    Args:
        spec: A run folder of ours; or a `.safetensors` or weights-only torch file.
        build: Builds the module that the weights fit. Needed for any file that no run of ours wrote.
        name: For messages and records; the spec's last part by default.
        mean: Per channel, what the *student's* inputs are normalised with. Where a run's teacher was trained with other
            values, its inputs are changed accordingly.
        std: As `mean`.
        autocast: As in `Teacher`.

    Returns:
        A frozen teacher in eval mode, on the CPU.

    Raises:
        TeacherError: The file is missing, damaged or would execute code, or its weights do not fit the module.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(nn.Linear(2, 3).state_dict(), f"{folder}/old.pt")
        ...     load_teacher(f"{folder}/old.pt", build=lambda: nn.Linear(2, 3)).name
        'old'
    """
    path = Path(spec)
    name = name or (path.name if path.is_dir() else path.stem)
    if build is not None:
        module = build()
        _fill(module, read_weights(spec), spec)
        return Teacher(module, name=name, autocast=autocast)
    if path.is_file() and path.suffix != ".safetensors":
        raise TeacherError(
            f"{spec}: holds weights alone; say which model they are for: load_teacher(path, build=lambda: MyModel())"
        )
    found = find_teacher(spec)
    module = _build(found)
    _fill(module, read_weights(found.path), spec)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    prepare = _renormalisation(found, mean, std)
    return Teacher(module, name=name, prepare=prepare, autocast=autocast)


def _build(found: Found) -> nn.Module:
    try:
        model = ImageModel.model_validate(found.description["model"])
        return build_model(
            model, classes=len(found.description["classes"]), channels=int(found.description["channels"])
        )
    except (KeyError, TypeError, ValueError, RecipeError) as error:
        raise TeacherError(f"{found.path}: its description does not name a model that can be built ({error})") from None


def _fill(module: nn.Module, weights: dict[str, Tensor], spec: str | Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = (str(error).splitlines()[1:2] or [str(error)])[0]
        reason = textwrap.shorten(first, 200, placeholder=" ...")
        raise TeacherError(f"{spec}: the weights do not fit {type(module).__name__}: {reason}") from None


def _renormalisation(
    found: Found, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Callable[[Tensor], Tensor] | None:
    if mean is None or std is None:
        return None
    try:
        own_mean, own_std = torch.tensor(found.description["mean"]), torch.tensor(found.description["std"])
    except (KeyError, TypeError, ValueError) as error:
        raise TeacherError(f"{found.path}: its description does not say how images are normalised ({error})") from None
    if len(mean) != len(own_mean):
        raise TeacherError(f"{found.spec}: takes images of {len(own_mean)} channels, the student's have {len(mean)}")
    scale = torch.tensor(std) / own_std
    shift = (torch.tensor(mean) - own_mean) / own_std
    if torch.allclose(scale, torch.ones(())) and torch.allclose(shift, torch.zeros(()), atol=1e-6):
        return None

    def prepare(images: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        return torch.addcmul(shift.view(shape).to(images), images, scale.view(shape).to(images))

    return prepare
