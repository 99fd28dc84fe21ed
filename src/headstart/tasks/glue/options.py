"""What can be chosen about a GLUE score."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from headstart.config import Config
from headstart.errors import RecipeError
from headstart.tasks.glue.protocol import find_tasks


class GlueOptions(Config):
    """What departs from the protocol, mostly for less time; for comparisons, the same for all that are compared."""

    tasks: list[str] | None = None
    """Which tasks; null: all whose data is at hand. RTE, MRPC and STS-B start from MNLI only where that is one of
    them."""
    seeds: int | None = Field(None, ge=1)
    """Fine-tunings of a task at most; null: as many as the protocol has, 1 to 5."""
    epochs: float | None = Field(None, gt=0)
    """Epochs of a fine-tuning at most; null: as many as the protocol has, 3 to 10."""
    lr_scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Learning rates over the protocol's, which were chosen for BERT-base. The smallest BERT of Turc et al. (arXiv
    1908.08962) were fine-tuned at up to 3e-4, ten times as much. Weight decay per step, which the authors decouple
    from the rate, stays."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast. auto: bf16 where the device computes it in hardware, else fp32."""

    @field_validator("tasks")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        try:
            return names if names is None else [task.name for task in find_tasks(names)]
        except RecipeError as error:  # of which pydantic would not say where the names are
            raise ValueError(str(error)) from None
