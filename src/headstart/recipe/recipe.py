"""The recipe: one model from which the YAML, the command's overrides and their documentation come."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from headstart.config import Config
from headstart.recipe.automatic import in_a_word
from headstart.recipe.distill_section import Distill
from headstart.recipe.init_section import Init, with_init_section
from headstart.recipe.race_section import Race
from headstart.recipe.train_section import Train
from headstart.tasks.glue.options import GlueOptions
from headstart.tasks.images.config import ImageData, ImageModel
from headstart.tasks.text.config import ClmData, ClmModel, MlmData, MlmModel, TextSource


class Recipe(Config):
    """Model, data, training, distillation and race, in one file."""

    name: str = "recipe"
    """For the report."""
    task: str = "image-classification"
    """What is trained: `image-classification`, `mlm`, or `clm`; it decides what `model` and `data` hold."""
    model: Config
    """The student."""
    data: Config
    """What it learns from and is judged by."""
    train: Train
    """How it trains."""
    teachers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Teachers to train first, by name: overrides of this recipe (without its distillation) by dotted key."""
    init: Init | None = None
    """The older model that it starts from; null: from fresh weights."""
    distill: Distill | None = None
    """How it learns from teachers; null: not at all. auto: from all teachers of the recipe, with settings that follow
    from a probe before training (docs/auto.md)."""
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

    @property
    def sources(self) -> list[str]:
        """The specs of its teachers, and of the weights that it starts from, in this order and each once."""
        specs = self.distill.specs if self.distill is not None else []
        return list(dict.fromkeys([*specs, *([self.init.source] if self.init is not None else [])]))

    @model_validator(mode="before")
    @classmethod
    def _distill_in_a_word(cls, content: Any) -> Any:
        return in_a_word(content)

    @model_validator(mode="before")
    @classmethod
    def _older_name_of_init(cls, content: Any) -> Any:
        return with_init_section(content)

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
            "size": self.data.size,
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

    @model_validator(mode="after")
    def _streams_have_no_epochs(self) -> MlmRecipe:
        _check_length_of_stream(self.data, self.train)
        return self


class ClmRecipe(Recipe):
    """Pretraining of a causal language model."""

    task: Literal["clm"] = "clm"
    model: ClmModel = ClmModel()
    data: ClmData

    @property
    def model_label(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def step_work(self) -> dict[str, Any]:
        """Model, and how many tokens there are to read and to choose from."""
        data = self.data.model_dump(include={"name", "subset", "tokenizer", "vocab_size", "length", "documents_apart"})
        return {"model": self.model.model_dump(), "data": data}

    @model_validator(mode="after")
    def _streams_have_no_epochs(self) -> ClmRecipe:
        _check_length_of_stream(self.data, self.train)
        return self


def _check_length_of_stream(data: TextSource, train: Train) -> None:
    if data.streaming and train.epochs is not None:
        raise ValueError("train.epochs: how long a stream is nobody knows (data.streaming); give train.steps")


RECIPES: dict[str, type[Recipe]] = {"image-classification": ImageRecipe, "mlm": MlmRecipe, "clm": ClmRecipe}
"""The recipe of each task."""
