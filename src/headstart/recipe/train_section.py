"""The section of a recipe that says how one run trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from headstart.config import BelowOne, Config, Fraction, Positive, Seed
from headstart.recipe.cycles import number_of_cycles


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
    schedule: Literal["one-cycle", "cosine", "linear", "wsd"] = "one-cycle"
    """one-cycle: cosine up, then cosine down to 0; cosine and linear: linear warm-up, then down to `final_lr`; wsd:
    linear warm-up, then the highest, then linear down to `final_lr` (warm-up, stable, decay; arXiv 2404.06395)."""
    warmup: BelowOne = 0.25
    """Fraction of training over which the learning rate rises."""
    final_lr: Fraction = 0.0
    """Learning rate at the end, as a fraction of `lr`; for cosine, linear and wsd."""
    decay: Fraction = 0.2
    """Fraction of training, at its end, over which the learning rate of wsd falls."""
    first_cycle: Positive | None = None
    """Length of the first cycle, in the unit of the training: the schedule, and the window of `distill` with it, begin
    anew with each cycle, which is twice as long as the one before (arXiv 2206.00832); null: one schedule."""
    label_smoothing: BelowOne = 0.0
    """Of the task loss."""
    task_loss: Literal["cross-entropy", "bce"] = "cross-entropy"
    """bce: binary cross-entropy, each class a yes or no of its own, summed over classes; for images."""
    ema: BelowOne | None = None
    """Judge and keep a moving average of the weights: at each step this much of it stays, 0.999 say. It looks back over
    about 1 / (1 - ema) steps, in a short run as in a long one. null: the weights themselves."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient; null: no clipping."""
    sharding: Literal["none", "fsdp"] = "none"
    """Of several processes. none: each holds the whole student (DDP); fsdp: each holds a part of its weights, gradients
    and optimiser state (FSDP2). Of teachers, `distill.residence` says it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast, for student and teachers. auto: bf16 where the device computes it in hardware, else fp32; a run
    folder's `recipe.yaml` says which it was, and a run that is resumed keeps it."""
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

    @model_validator(mode="after")
    def _decay_after_warmup(self) -> Train:
        if self.schedule == "wsd" and self.warmup + self.decay > 1 + 1e-12:
            raise ValueError(
                f"warmup={self.warmup} and decay={self.decay} do not fit into one training; both are fractions of it"
            )
        return self

    @model_validator(mode="after")
    def _whole_cycles(self) -> Train:
        shares = 2**self.cycles - 1
        if self.steps is not None and self.steps % shares:
            raise ValueError(f"first_cycle={self.first_cycle} is no number of steps")
        return self

    @property
    def length(self) -> float:
        """Epochs or steps, whichever are given."""
        return self.epochs or float(self.steps or 0)

    @property
    def cycles(self) -> int:
        """How many cycles the training has: 1 without `first_cycle`."""
        return number_of_cycles(self.length, self.first_cycle or self.length)

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Train:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be cut into accumulate={self.accumulate} equal micro-batches"
            )
        return self
