"""The recipe: one model from which the YAML, the command's overrides and their documentation come."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from headstart.config import Config, Seed
from headstart.tasks.glue.options import GlueOptions
from headstart.tasks.images.config import ImageData, ImageModel
from headstart.tasks.text.config import MlmData, MlmModel
from headstart.teachers import TeacherEntry, expand_spec
from headstart.train.race_section import Race

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Train(Config):
    """How one run trains."""

    epochs: Positive | None = None
    """Length of training in passes over the data. Either this or `steps`; a race sets it to each of its budgets."""
    steps: PositiveInt | None = None
    """Length of training in optimiser steps."""
    batch_size: PositiveInt = 128
    """Samples of one optimiser step, over all processes and micro-batches."""
    accumulate: PositiveInt = 1
    """Micro-batches of one optimiser step, on each process."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    lr: Positive = 0.1
    """The schedule's highest learning rate."""
    momentum: BelowOne = 0.9
    """Of SGD."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    """Of AdamW."""
    eps: Positive = 1e-8
    """Of AdamW."""
    weight_decay: float = Field(5e-4, ge=0)
    """As in torch.optim (AdamW: times the learning rate, SGD: part of the gradient); biases and norms are left out."""
    schedule: Literal["one-cycle", "cosine", "linear"] = "one-cycle"
    """one-cycle: cosine up, then cosine down to 0; cosine and linear: linear warm-up, then down to `final_lr`."""
    warmup: BelowOne = 0.25
    """Fraction of training over which the learning rate rises."""
    final_lr: Fraction = 0.0
    """Learning rate at the end, as a fraction of `lr`; for cosine and linear."""
    label_smoothing: BelowOne = 0.0
    """Of the task loss."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient; null: no clipping."""
    sharding: Literal["none", "fsdp"] = "none"
    """Of several processes. none: each holds the whole student (DDP); fsdp: each holds a part of its weights, gradients
    and optimiser state (FSDP2). Teachers are whole on each."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16: autocast, for student and teachers."""
    seed: Seed = 0
    """Of weights, order and augmentation; a race sets it to each of its seeds."""
    deterministic: bool = False
    """On a GPU: only algorithms that repeat bit for bit (slower). On a CPU runs repeat anyway."""
    log_every: PositiveInt = 50
    """Steps between two lines of metrics."""
    checkpoint_every: PositiveInt = 1000
    """Steps between two checkpoints."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(default_factory=list)
    """What metrics, settings and results are logged to besides the run folder; each needs its package."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps, and not both (null for the other)")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a key that is newer than recipes in run folders, where it changes nothing: these stay the same."""
        content: dict[str, Any] = handler(self)
        newer: dict[str, Any] = {"sharding": "none", "trackers": []}
        return {key: value for key, value in content.items() if key not in newer or value != newer[key]}

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Train:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be cut into accumulate={self.accumulate} equal micro-batches"
            )
        return self


class Distill(Config):
    """How the student learns from teachers. See docs/defaults.md for the measurements behind the defaults."""

    teachers: list[TeacherEntry] = Field(min_length=1)
    """Names from the recipe's `teachers`, run folders, other checkpoints or names in libraries: each a spec, or a
    mapping of `spec` and options."""
    loss: Literal["kl", "reverse_kl", "jsd", "mse", "dkd", "dist"] = "kl"
    """The distillation loss."""
    temperature: Positive = 4.0
    """Divides both sides' logits in the loss (mse: not used)."""
    weight: Fraction = 0.9
    """w of (1 - w) * task + w * distill."""
    start: Fraction = 0.0
    """Fraction of training at which distillation begins."""
    stop: Fraction = 0.5
    """Fraction of training at which it ends; from there on a step costs what it costs without us."""
    every: PositiveInt = 1
    """Distil on every k-th step of the window only; the mean weight is then weight / k."""
    ramp_up: Fraction = 0.0
    """Fraction of training over which the weight rises, inside the window."""
    ramp_down: Fraction = 0.0
    """Fraction of training over which the weight falls, inside the window."""
    standardize: bool = False
    """Standardise both sides' logits first (arXiv 2403.01427)."""
    draw: PositiveInt | Literal["all"] = 1
    """Teachers asked at a step: a number, drawn at random, or all."""
    per_rank: bool = False
    """Draw anew on each process, so that n of them see up to n teachers at a step, instead of the same on all."""
    weights: list[float] | None = None
    """Odds of the teachers; null: equal."""
    cache: str | None = None
    """A folder that `headstart cache` has filled: targets are read from it and no teacher runs; null: teachers run."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of each batch that is distilled: its first samples; teachers see no others, and cost less."""
    residence: Literal["device", "stream"] = "device"
    """Where teachers are: all on the device, or two at most, the others waiting on the host."""
    spool: str | None = None
    """With `residence: stream`, a folder for files in which they wait; null: the host's memory (without CUDA: files in
    the system's temporary folder)."""
    average: Literal["probability", "logit"] | None = None
    """Mean of several teachers of one step; null: the one that a random draw estimates without bias (see Distiller)."""

    @field_validator("teachers")
    @classmethod
    def _patterns(cls, teachers: list[TeacherEntry]) -> list[TeacherEntry]:
        """A pattern stands for what it matches."""
        return [
            entry if spec == entry.spec else entry.model_copy(update={"spec": spec})
            for entry in teachers
            for spec in expand_spec(entry.spec)
        ]

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that are newer than recipes in run folders, where they change nothing: these stay the same."""
        content: dict[str, Any] = handler(self)
        newer = {"per_rank": False, "fraction": 1.0, "residence": "device", "spool": None}
        return {key: value for key, value in content.items() if key not in newer or value != newer[key]}

    @property
    def specs(self) -> list[str]:
        """The teachers' specs, in order."""
        return [entry.spec for entry in self.teachers]

    @model_validator(mode="after")
    def _spool_of_a_stream(self) -> Distill:
        if self.spool is not None and self.residence != "stream":
            raise ValueError(f"spool={self.spool!r}: teachers wait in files with residence: stream only")
        return self

    @model_validator(mode="after")
    def _window(self) -> Distill:
        if self.start > self.stop:
            raise ValueError(f"start={self.start} is after stop={self.stop}")
        if self.ramp_up + self.ramp_down > self.stop - self.start + 1e-12:
            raise ValueError(
                "ramp_up and ramp_down do not fit between start and stop; all are fractions of the whole training"
            )
        return self


class Recipe(Config):
    """Model, data, training, distillation and race, in one file."""

    name: str = "recipe"
    """For the report."""
    task: str = "image-classification"
    """What is trained: `image-classification`, or `mlm`; it decides what `model` and `data` hold."""
    model: Config
    """The student."""
    data: Config
    """What it learns from and is judged by."""
    train: Train
    """How it trains."""
    teachers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Teachers to train first, by name: overrides of this recipe (without its distillation) by dotted key."""
    distill: Distill | None = None
    """How it learns from teachers; null: not at all."""
    race: Race | None = None
    """What `headstart race` compares."""

    @property
    def model_label(self) -> str:
        """The student in a word."""
        raise NotImplementedError

    @property
    def step_work(self) -> dict[str, Any]:
        """What of model and data decides how much work a step is."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _whole_steps(self) -> Recipe:
        for budget in self.race.budgets if self.race and self.train.steps is not None else []:
            if not budget.is_integer():
                raise ValueError(
                    f"race.budgets: {budget:g} is no number of steps, which train.steps makes the unit here"
                )
        return self


class ImageRecipe(Recipe):
    """Image classification."""

    task: Literal["image-classification"] = "image-classification"
    model: ImageModel = ImageModel()
    data: ImageData

    @property
    def model_label(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def step_work(self) -> dict[str, Any]:
        """Model, and how large its images are and what is done to them."""
        return {
            "model": self.model.model_dump(),
            "data": self.data.name,
            "augment": self.data.augment.model_dump(),
        }


class MlmRecipe(Recipe):
    """Masked-language pretraining of an encoder."""

    task: Literal["mlm"] = "mlm"
    model: MlmModel = MlmModel()
    data: MlmData
    glue: GlueOptions | None = None
    """Judge a run by its GLUE score, and not by the masked-LM loss; null: by the loss."""

    @property
    def model_label(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def step_work(self) -> dict[str, Any]:
        """Model, and how many tokens there are to read, to predict and to choose from."""
        data = self.data.model_dump(include={"name", "subset", "tokenizer", "vocab_size", "length", "mask"})
        return {"model": self.model.model_dump(), "data": data}

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a section that is newer than recipes in run folders, where there is none: these stay the same."""
        content: dict[str, Any] = handler(self)
        if self.glue is None:
            content.pop("glue", None)
        return content

    @model_validator(mode="after")
    def _streams_have_no_epochs(self) -> MlmRecipe:
        if self.data.streaming and self.train.epochs is not None:
            raise ValueError("train.epochs: how long a stream is nobody knows (data.streaming); give train.steps")
        return self


RECIPES: dict[str, type[Recipe]] = {"image-classification": ImageRecipe, "mlm": MlmRecipe}
"""The recipe of each task."""
