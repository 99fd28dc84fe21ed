"""The section of a recipe that says how the student learns from teachers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from headstart.config import Config, Fraction, Positive
from headstart.distill.pool.draw import count_drawn
from headstart.distill.stopping import latest_stop
from headstart.errors import TeacherError
from headstart.recipe.hidden_section import Hidden
from headstart.teachers import TeacherEntry, expand_spec


class Distill(Config):
    """How the student learns from teachers. See docs/defaults.md for the measurements behind the defaults."""

    teachers: list[TeacherEntry] = Field(min_length=1)
    """Names from the recipe's `teachers`, run folders, other checkpoints or names in libraries: each a spec, or a
    mapping of `spec` and options."""
    loss: Literal["kl", "reverse_kl", "jsd", "mse", "huber", "dkd", "dist"] = "kl"
    """The distillation loss."""
    temperature: Positive | Literal["auto"] = 4.0
    """Divides both sides' logits in the loss (mse, huber: not used). auto: 4, or 1 where there are more than 100
    classes, of teachers that a look before training has calibrated (docs/auto.md)."""
    weight: Fraction | Literal["auto"] = 0.9
    """w of (1 - w) * task + w * distill. auto: 0.5, or 0.9 where labels are mostly noise, as the next word of a text is
    (docs/auto.md). 0 with `hidden`: nothing is learnt from the teacher's logits, so that it needs no head and may have
    other classes, and it runs up to the layer asked for only."""
    hidden: Hidden | None = None
    """A loss between hidden states beside that between logits; null: none. For one teacher, live and on the device."""
    start: Fraction = 0.0
    """Fraction of training at which distillation begins."""
    stop: Fraction | Literal["auto"] = 0.5
    """Fraction of training at which it ends; from there on a step costs what it costs without us. auto: as soon as the
    teachers no longer help, and not while the learning rate rises (docs/window.md)."""
    cap: Fraction | None = None
    """With `stop: auto`, the fraction of training at which it ends at the latest; null: 0.5, as a fixed stop does."""
    open_at: Annotated[float, Field(gt=0, le=2)] | Literal["auto"] | None = None
    """From `start` on, distil only once the student's Brier score on its training batches, the mean of
    |probabilities - label|^2, has come down to this; null: at once. auto: where teachers begin to be worth their cost,
    by what a look before training finds (docs/window.md); where labels are mostly noise it also lowers the cap of an
    automatic stop to where the student catches up with them."""
    every: PositiveInt | Literal["auto"] = 1
    """Distil on every k-th step of the window only; the mean weight is then weight / k. auto: on every
    step, unless teachers cost more than the student's step itself, by FLOPs."""
    ramp_up: Fraction = 0.0
    """Fraction of training over which the weight rises, inside the window."""
    ramp_down: Fraction = 0.0
    """Fraction of training over which the weight falls, inside the window; 0.01 at least where an automatic stop comes
    before the cap."""
    standardize: bool = False
    """Standardise both sides' logits first (arXiv 2403.01427)."""
    draw: PositiveInt | Literal["all"] = 1
    """Teachers asked at a step: a number, drawn at random, or all."""
    per_rank: bool = False
    """Draw anew on each process, so that n of them see up to n teachers at a step, instead of the same on all."""
    weights: list[float] | Literal["auto"] | None = None
    """Odds of the teachers; null: equal. auto: by what each may gain, as a probe before training finds it; one that is
    of no use is not asked, and where none is of use, training goes on without distillation."""
    cache: str | None = None
    """A folder that `headstart cache` has filled: targets are read from it and no teacher runs; null: teachers run."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of each batch that is distilled: its first samples; teachers see no others, and cost less."""
    residence: Literal["device", "stream", "sharded"] = "device"
    """Where teachers are: all on the device; stream: two at most, the others waiting on the host; sharded: each in
    parts over all processes (FSDP2), which have to draw the same ones."""
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

    @property
    def undecided(self) -> list[str]:
        """The keys whose values a probe before training decides."""
        return [key for key in ("temperature", "weight", "open_at", "every", "weights") if getattr(self, key) == "auto"]

    @property
    def specs(self) -> list[str]:
        """The teachers' specs, in order."""
        return [entry.spec for entry in self.teachers]

    @property
    def of_logits(self) -> bool:
        """Whether the student learns from the teachers' logits; if not, from hidden states alone."""
        return self.hidden is None or self.weight != 0

    @model_validator(mode="after")
    def _what_hidden_states_go_with(self) -> Distill:
        if self.hidden is None:
            return self
        for wrong, what, advice in (
            (len(self.teachers) != 1, f"{len(self.teachers)} teachers", "name one"),
            (self.cache is not None, f"cache={self.cache!r}", "a cache holds logits and no states; leave it out"),
            (self.stop == "auto", "stop=auto", "an automatic stop judges logits; set stop to a fraction"),
            (self.open_at is not None, f"open_at={self.open_at}", "set start instead"),
            (self.fraction < 1, f"fraction={self.fraction:g}", "states are compared for whole batches; leave it out"),
            (
                self.residence != "device",
                f"residence={self.residence}",
                "the teacher stays on the device; leave it out",
            ),
        ):
            if wrong:
                raise ValueError(f"hidden does not go with {what}: {advice}")
        return self

    @model_validator(mode="after")
    def _spool_of_a_stream(self) -> Distill:
        if self.spool is not None and self.residence != "stream":
            raise ValueError(f"spool={self.spool!r}: teachers wait in files with residence: stream only")
        return self

    @model_validator(mode="after")
    def _one_draw_of_sharded_teachers(self) -> Distill:
        if self.per_rank and self.residence == "sharded":
            raise ValueError("per_rank=true: all processes have to ask the same teacher with residence: sharded")
        return self

    @model_validator(mode="after")
    def _draws_there_are_teachers_for(self) -> Distill:
        try:
            weights = [1.0] * len(self.teachers) if self.weights == "auto" else self.weights
            count_drawn(self.draw, len(self.teachers), weights=weights)
        except TeacherError as error:  # of which pydantic would not say where in the recipe it is
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _window(self) -> Distill:
        if self.cap is not None and self.stop != "auto":
            raise ValueError(f"cap={self.cap} goes with stop=auto; with a fixed stop={self.stop} leave it out (null)")
        end, latest = "stop" if self.stop != "auto" else "cap", latest_stop(self.stop, self.cap)
        if self.start > latest:
            raise ValueError(f"start={self.start} is after {end}={latest}")
        if self.ramp_up + self.ramp_down > latest - self.start + 1e-12:
            raise ValueError(
                f"ramp_up and ramp_down do not fit between start and {end}; all are fractions of the whole training"
            )
        return self
