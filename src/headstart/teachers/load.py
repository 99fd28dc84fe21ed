"""From a spec to a ready frozen teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from headstart.distill import Teacher
from headstart.distill.class_names import class_map
from headstart.distill.inputs import Normalisation, channels_of, each_image, renormalise
from headstart.errors import TeacherError
from headstart.generators import generators_untouched
from headstart.teachers.classes import shared_vocabulary
from headstart.teachers.config import TeacherOptions
from headstart.teachers.find import LIBRARIES, Found, find_teacher
from headstart.teachers.loaded import Loaded
from headstart.teachers.modules import image_builder, load_module

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BGR = 3  # channels that have two orders
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def load_teacher(
    spec: str | Path,
    *,
    build: Callable[[], nn.Module] | None = None,
    name: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    tokenizer: Any = None,
    length: int | None = None,
    autocast: torch.dtype | None = None,
    options: TeacherOptions | None = None,
    logits: bool = True,
) -> Teacher:
    """Load a teacher, without executing code from its files.

    Nothing is fetched unless the prefix `hf:`, `timm:` or `torchvision:` asks for it. Random generators stay where they
    are: training goes on as if no teacher had been loaded.

    Args:
        spec: As in `find_teacher`: a run folder or any other checkpoint, a file of weights, or a name with a prefix.
        build: Builds the module that the weights fit. Needed for files that do not say which that is.
        name: For messages and records; the spec's last part by default.
        mean: Per channel, what the *student's* inputs are normalised with. Where the teacher was trained with other
            values, its inputs are changed accordingly.
        std: As `mean`.
        classes: Names of the student's classes, in order. Where the teacher names all of these, in another order or
            among others, its logits are put into the student's order.
        tokenizer: The student's, for models of texts: the teacher must have the same one, compared by content. Of a
            language model further logits that pad its vocabulary are cut off, and a masked-LM teacher then takes
            `masked_rows`, as students of the task `mlm` do, a causal one `next_token_rows`, as those of `clm`.
        length: Tokens of the student's sequences, for language models: the teacher must have positions for them.
        autocast: As in `Teacher`; without effect where the options name a dtype.
        options: What belongs to the teacher's side.
        logits: Whether its logits will be asked for. If not, because hidden states are (`HiddenLoss`), an image model
            needs no head, and its classes may be any.

    Returns:
        A frozen teacher in eval mode, on the CPU unless the options say otherwise.

    Raises:
        TeacherError: The teacher is missing, damaged, would execute code, or does not fit the student or the options.
        HeadstartError: A library that it comes from is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(nn.Linear(2, 3).state_dict(), f"{folder}/old.pt")
        ...     load_teacher(f"{folder}/old.pt", build=lambda: nn.Linear(2, 3)).name
        'old'
    """
    with generators_untouched():
        return _load(
            find_teacher(spec),
            options or TeacherOptions(),
            build=build,
            name=name,
            images=(mean, std),
            classes=classes,
            tokenizer=tokenizer,
            length=length,
            autocast=autocast,
            logits=logits,
        )


def _load(
    found: Found,
    options: TeacherOptions,
    *,
    build: Callable[[], nn.Module] | None,
    name: str | None,
    images: tuple[Sequence[float] | None, Sequence[float] | None],
    classes: Sequence[str] | None,
    tokenizer: Any,
    length: int | None,
    autocast: torch.dtype | None,
    logits: bool,
) -> Teacher:
    mean, std = images
    if build is None and options.model is not None and found.kind == "weights":
        channels = len(mean) if mean is not None else None
        build = image_builder(
            options.model, classes=len(classes) if classes else None, channels=channels, spec=found.spec
        )
    loaded = load_module(found, build, weights=options.weights, logits=logits)
    name = name or _name(found)
    count = _logits_that_count(found, loaded, options, classes if logits else None, tokenizer, name)
    if length is not None:
        _check_length(loaded.module, length, name)
    dtype = _DTYPES[options.dtype] if options.dtype is not None else _half(loaded.module)
    return Teacher(
        loaded.module,
        name=name,
        prepare=_preparation(_renormalisation(found, loaded, options, mean, std), loaded.flipped),
        size=options.size,
        classes=count,
        autocast=None if dtype is not None else autocast,
        dtype=dtype,
        device=options.device,
        memory_format=_memory_format(loaded, options),
        fold=options.fold,
        compile=options.compile,
        temperature=options.temperature or 1.0,
    )


def _name(found: Found) -> str:
    if found.spec.partition(":")[0] in LIBRARIES:
        return found.spec
    path = Path(found.spec)
    return path.name if path.is_dir() else path.name.removesuffix(".tar").rpartition(".")[0] or path.name


def _logits_that_count(
    found: Found,
    loaded: Loaded,
    options: TeacherOptions,
    classes: Sequence[str] | None,
    tokenizer: Any,
    name: str,
) -> int | list[int] | None:
    size = None if tokenizer is None else shared_vocabulary(found, loaded, tokenizer, name=name)
    if size is not None:
        if found.kind != "run":  # a run's model comes with it
            _attach_head(loaded, size)
        return options.vocabulary or size
    if options.vocabulary is not None:
        return options.vocabulary
    return class_map(options.classes, loaded.classes, classes, name=name)


def _attach_head(loaded: Loaded, columns: int) -> None:
    """Let a language model take the rows that a student of ours is given."""
    from headstart.tasks.text.causal.head import attach_causal_head
    from headstart.tasks.text.masked_head import attach_masked_head

    attach = {"mlm": attach_masked_head, "causal-lm": attach_causal_head}.get(str(loaded.task))
    if attach is not None:
        attach(cast("PreTrainedModel", loaded.module), columns=columns)


def _check_length(module: nn.Module, length: int, name: str) -> None:
    from headstart.tasks.text.models import positions

    known = positions(cast("PreTrainedModel", module))
    if known is not None and length > known:
        raise TeacherError(
            f"teacher {name!r} reads {known} tokens at most, and the student's sequences have {length}; take a teacher "
            "that reads more, or shorten the sequences (data.length)"
        )


def _renormalisation(
    found: Found,
    loaded: Loaded,
    options: TeacherOptions,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Callable[[Any], Any] | None:
    own: Normalisation | None = loaded.normalisation
    if options.mean is not None and options.std is not None:
        own = options.mean, options.std
    if mean is None or std is None:
        return None
    if own is None:
        if found.kind == "run" and loaded.task == "image-classification":
            raise TeacherError(f"{found.path}: its description does not say how images are normalised")
        return None
    try:
        return renormalise((mean, std), own)
    except TeacherError as error:
        raise TeacherError(f"{found.spec}: {error}") from None


def _preparation(renormalised: Callable[[Any], Any] | None, flipped: bool) -> Callable[[Any], Any] | None:
    """What is done to the inputs first; images are flipped last, as mean and std are given for RGB."""
    if not flipped:
        return renormalised
    return lambda inputs: each_image(_flip_channels, renormalised(inputs) if renormalised is not None else inputs)


def _flip_channels(images: Tensor) -> Tensor:
    return images.flip(channels_of(images, _BGR))


def _half(module: nn.Module) -> torch.dtype | None:
    """The dtype of a checkpoint in half precision: its inputs have to be converted."""
    dtypes = {parameter.dtype for parameter in module.parameters()}
    return dtypes.pop() if len(dtypes) == 1 and dtypes != {torch.float32} else None


def _memory_format(loaded: Loaded, options: TeacherOptions) -> torch.memory_format | None:
    if options.memory_format is not None:
        return _FORMATS[options.memory_format]
    return torch.channels_last if loaded.task == "image-classification" else None
