"""What a recipe says about a teacher of its own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator

from headstart.config import Config, Positive
from headstart.tasks.images.config import ImageModel


class TeacherOptions(Config):
    """What belongs to a teacher's side: how it is held, what it is given, and which of its outputs count."""

    dtype: Literal["fp32", "bf16", "fp16"] | None = None
    """Weights and computation in this, whatever the student trains in; null: weights as they are, computation as the
    student's."""
    device: str | None = None
    """Where it stays, for example `cuda:1`; null: beside the student."""
    memory_format: Literal["channels_last", "contiguous"] | None = None
    """Of convolutions' weights and of images; null: channels_last where the model is known to take images."""
    fold: bool = False
    """Fold batch norms into the convolutions before them: the same outputs up to rounding, with less work."""
    compile: bool = False
    """Run it through torch.compile."""
    size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    """Resize images to this height and width for it (one number for both). Fewer pixels cost less time."""
    mean: list[float] | None = None
    """What it was trained with, per channel, where its file does not say; null: what the file says, or as the
    student."""
    std: list[float] | None = None
    """As `mean`."""
    classes: list[int | str] | None = None
    """For each of the student's classes, in order, the teacher's: its index, or its name where the teacher's file names
    them. null: by name where it names all of the student's, else as they are."""
    vocabulary: PositiveInt | None = None
    """Take the first so many of its logits, where its vocabulary is padded; null: as the student's tokenizer has."""
    temperature: Positive | None = None
    """Divides its logits: what calibrates it, as `headstart teachers --probe` finds it; null: they are as they are."""
    weights: str | None = None
    """Which to take where a checkpoint holds several: `ema` (averaged over training), `raw`, or the key that they have
    in it (`student`, `state.model`). null: the averaged ones, with a warning; other choices are asked for."""
    model: ImageModel | None = None
    """Which image model its weights are for, where the file does not say; with the student's classes and channels."""

    @model_validator(mode="after")
    def _consistent(self) -> TeacherOptions:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give mean and std together")
        if self.classes is not None and self.vocabulary is not None:
            raise ValueError("give classes or vocabulary; the first says it all")
        return self


class TeacherEntry(TeacherOptions):
    """A teacher in a recipe's list: its spec alone, or a mapping of the spec and its options.

    Example:
        >>> TeacherEntry.model_validate("runs/old")
        TeacherEntry('runs/old')
        >>> TeacherEntry.model_validate({"spec": "timm:resnet18.a1_in1k", "size": 160}).model_dump()
        {'spec': 'timm:resnet18.a1_in1k', 'size': 160}
    """

    spec: str = Field(min_length=1)
    """A name from the recipe's `teachers`; a run folder, checkpoint or file of weights, or a pattern of them
    (`runs/*`); `hf:OWNER/NAME[@REVISION]`, `timm:NAME[.TAG]` or `torchvision:NAME[/WEIGHTS]`."""

    @model_validator(mode="before")
    @classmethod
    def _from_spec(cls, value: Any) -> Any:
        return {"spec": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        """What was set, so that a plain spec stays one, and records of earlier versions stay as they were."""
        written = {"spec": self.spec} | {key: value for key, value in handler(self).items() if value != _DEFAULTS[key]}
        return self.spec if len(written) == 1 else written

    def __repr__(self) -> str:
        return f"TeacherEntry({self.model_dump()!r})"


_DEFAULTS = {name: field.default for name, field in TeacherEntry.model_fields.items()}
