"""What a spec leads to: a run folder, somebody's checkpoint, or a name in a library of models."""

from __future__ import annotations

import glob
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headstart.errors import TeacherError
from headstart.records import RunRecord, read_record
from headstart.teachers.weights import find_description

WEIGHTS = "model.safetensors"
RECORD = "record.json"
CONFIG = "config.json"
LIBRARIES = {"hf": "transformers", "timm": "timm", "torchvision": "torchvision"}
# What libraries call the weights that they write into a folder, the preferred first.
_FILES = (WEIGHTS, f"{WEIGHTS}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".tar", ".checkpoint", ".json")
# What training programs write beside them, of the same suffixes.
_NO_WEIGHTS = ("optim", "sched", "scaler", "rng", "random_states", "training_args", "args", "dataloader", "sampler")
_OTHER_LIBRARIES = (".h5", ".msgpack")
ADAPTER = "adapter_config.json"  # of PEFT

Kind = Literal["run", "transformers", "timm", "torchvision", "weights"]


@dataclass(frozen=True)
class Found:
    """What a spec leads to; nothing has been fetched and no weights have been read.

    Attributes:
        spec: As it was given.
        kind: `run`: a run of ours; `transformers`, `timm`, `torchvision`: a model that this library builds; `weights`:
            a file of weights alone.
        place: Folder or file; for models that a library fetches, their name there.
        path: The weights' file, where it is a file of this machine.
        description: What the run wrote about its weights: task, model, classes, normalisation.
        record: The run's record, where it lies beside the weights.
        quality: Held-out quality by the metric's name, where a record or a Trainer's state tells; else empty.
    """

    spec: str
    kind: Kind
    place: str
    path: Path | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    record: RunRecord | None = None
    quality: Mapping[str, float] = field(default_factory=dict)


def is_finished(folder: Path) -> bool:
    """Whether a folder is that of a finished run: it has weights, and a record."""
    return (folder / WEIGHTS).is_file() and (folder / RECORD).is_file()


def find_teacher(spec: str | Path) -> Found:
    """Look up what a spec leads to, without fetching anything or reading weights.

    Args:
        spec: `hf:OWNER/NAME[@REVISION]` (or `hf:FOLDER`), `timm:NAME[.TAG]`, `torchvision:NAME[/WEIGHTS]`; a run folder
            of ours; a folder that `save_pretrained`, Trainer, Accelerate or Lightning wrote; a file of weights
            (`.safetensors`, an index of its parts, `.pt`, `.ckpt`, ...).

    Raises:
        TeacherError: There is no such thing, the library that it needs is missing, or the folder holds no weights.

    Example:
        >>> find_teacher("nowhere")
        Traceback (most recent call last):
        ...
        headstart.errors.TeacherError: nowhere: no such run folder or file; ...
    """
    library, _, name = str(spec).partition(":")
    if library in LIBRARIES and name:
        return _in_library(str(spec), library, name)
    path = _at_home(str(spec))
    if path.is_dir():
        return _in_folder(str(spec), path)
    if not path.exists():
        raise TeacherError(
            f"{spec}: no such run folder or file; other teachers are hf:OWNER/NAME, timm:NAME and torchvision:NAME"
        )
    return _in_file(str(spec), path)


def find_teachers(specs: Iterable[str | Path]) -> list[Found]:
    """Look up several specs; a pattern with `*`, `?` or `[...]` stands for all teachers that it matches.

    Raises:
        TeacherError: As `find_teacher`; or a pattern matches no teacher.
    """
    return [find_teacher(match) for spec in specs for match in expand_spec(str(spec))]


def expand_spec(spec: str) -> list[str]:
    """The specs that a pattern stands for, sorted; any other spec as it is.

    Raises:
        TeacherError: A pattern matches no teacher.
    """
    path = _at_home(spec)
    if spec.partition(":")[0] in LIBRARIES or not glob.has_magic(spec) or path.exists():
        return [spec]
    found, reasons = [], []
    for match in sorted(glob.glob(str(path))):
        try:
            found.append(find_teacher(match).spec)
        except TeacherError as error:  # a pattern over a folder of runs meets reports and unfinished runs as well
            reasons.append(str(error))
    if not found:
        raise TeacherError(f"{spec}: matches no teacher" + (f" ({reasons[0]})" if reasons else ""))
    return found


def _at_home(name: str) -> Path:
    """The path of a name; `~` in front stands for somebody's home, as in a shell, which a recipe never sees."""
    path = Path(name)
    try:
        return path if path.exists() else path.expanduser()
    except RuntimeError:  # there is no such user
        return path


def _in_library(spec: str, library: str, name: str) -> Found:
    package = LIBRARIES[library]
    if importlib.util.find_spec(package) is None:
        extra = "text" if package == "transformers" else "vision"
        raise TeacherError(f"{spec}: needs {package}, which is not installed; pip install 'headstart[{extra}]'")
    if library == "hf":
        folder = _at_home(name)
        return _in_folder(spec, folder) if folder.is_dir() else Found(spec, "transformers", name)
    return Found(spec, "timm" if library == "timm" else "torchvision", name)


def _in_folder(spec: str, folder: Path) -> Found:
    path = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if path is None and (folder / ADAPTER).is_file():
        if importlib.util.find_spec("peft") is None:
            raise TeacherError(f"{spec}: holds an adapter (LoRA), which needs peft; pip install peft")
        return Found(spec, "transformers", str(folder), quality=_trainer_quality(folder))
    path = path or _only_checkpoint(spec, folder)
    config = folder / CONFIG
    described = _in_file(spec, path)
    if described.kind == "run" or not config.is_file():
        return described
    library: Kind = "timm" if "architecture" in _read_json(config) else "transformers"
    place = f"local-dir:{folder}" if library == "timm" else str(folder)
    return Found(spec, library, place, path, quality=_trainer_quality(folder))


def _only_checkpoint(spec: str, folder: Path) -> Path:
    """The one file of weights in a folder, whatever it is called."""
    checkpoints = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _SUFFIXES and path.suffix != ".json" and not path.name.startswith(_NO_WEIGHTS)
    )
    if len(checkpoints) != 1:
        raise TeacherError(f"{spec}: no {WEIGHTS} in this folder; {_instead(folder, checkpoints)}")
    return checkpoints[0]


def _in_file(spec: str, path: Path) -> Found:
    if path.suffix not in _SUFFIXES:
        raise TeacherError(f"{spec}: is no file of weights by its name; known are {', '.join(_SUFFIXES)}")
    description = find_description(path)
    if description is None:
        return Found(spec, "weights", str(path), path, quality=_trainer_quality(path.parent))
    record_path = path.parent / RECORD
    record = read_record(RunRecord, record_path) if record_path.is_file() else None
    quality = {record.metric: record.quality} if record is not None else {}
    return Found(spec, "run", str(path), path, description, record, quality)


def _instead(folder: Path, checkpoints: list[Path]) -> str:
    """What the user may have meant by a folder without weights."""
    if checkpoints:
        best = next((path for path in checkpoints if "best" in path.name), checkpoints[-1])
        return f"give one of its checkpoints, for example {best}"
    inner = sorted(
        (path for path in folder.glob("checkpoint-*") if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    if inner:
        return f"give one of its checkpoints, for example {inner[-1]}"
    if others := sorted(path.name for path in folder.iterdir() if path.suffix in _OTHER_LIBRARIES):
        return f"{others[0]} is of TensorFlow or Flax; save the model from PyTorch: model.save_pretrained(folder)"
    if next(folder.glob("**/*.distcp"), None) is not None:
        return "its checkpoint is in parts of a sharded training; put them together with accelerate merge-weights"
    return "the run has not finished, or it is no run folder"


def _trainer_quality(folder: Path) -> dict[str, float]:
    """The last evaluation that a Trainer of transformers noted beside its checkpoint: a metric, or else the loss."""
    path = folder / "trainer_state.json"
    history = _read_json(path).get("log_history", []) if path.is_file() else []
    costs = ("runtime", "per_second", "model_preparation_time", "num_input_tokens_seen")
    for entry in reversed(history):
        values = {key.removeprefix("eval_"): value for key, value in entry.items() if key.startswith("eval_")}
        known = {key: float(value) for key, value in values.items() if not key.endswith(costs)}
        if known:
            name = next((key for key in known if key != "loss"), "loss")
            return {name: known[name]}
    return {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TeacherError(f"{path}: cannot be read as JSON ({error})") from None
    return content if isinstance(content, dict) else {}
