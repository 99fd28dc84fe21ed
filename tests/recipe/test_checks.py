"""Settings that do not go together are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.errors import RecipeError
from headstart.experiment.fill_cache import cache_recipe
from headstart.recipe.checks import check_settings
from headstart.recipe.load import parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.train.session import Session

MIXUP: dict[str, Any] = {"augment": {"mixup": 0.2}}
GROWING: dict[str, Any] = {"size": 32, "progressive": {}}
CACHED: dict[str, Any] = {"teachers": ["old"], "cache": "targets"}


def recipe(**sections: Any) -> Recipe:
    content: dict[str, Any] = {"data": {"name": "x"}, "train": {"epochs": 1}}
    for name, section in sections.items():
        content[name] = {**content.get(name, {}), **section}
    return parse_recipe(content, "recipe")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": MIXUP, "distill": CACHED}, r"data.augment.mixup: a mixture's target belongs to two.*cache=null"),
        ({"data": GROWING, "distill": CACHED}, "data.progressive: how large an image is depends"),
        ({"train": {"ema": 0.9, "sharding": "fsdp"}}, "train.ema needs whole weights.*train.sharding=none"),
        ({"data": GROWING, "train": {"first_cycle": 1}}, "data.progressive.*train.first_cycle"),
    ],
)
def test_it_is_said_what_does_not_go_together(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        Session(recipe(**sections))


def test_a_loss_of_images_is_refused_for_text() -> None:
    text = {"task": "mlm", "data": {"name": "x"}, "train": {"epochs": 1, "task_loss": "bce"}}
    with pytest.raises(RecipeError, match=r"train.task_loss=bce is a loss of images; the task mlm has"):
        check_settings(parse_recipe(text, "recipe"))


@pytest.mark.parametrize("data", [MIXUP, GROWING], ids=["mixup", "progressive"])
def test_their_targets_are_not_cached_either(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.(augment\.mixup|progressive):"):
        cache_recipe(recipe(data=data, distill={"teachers": ["old"]}), tmp_path)


@pytest.mark.parametrize(
    "sections",
    [
        {"data": MIXUP, "distill": {"teachers": ["old"]}},
        {"data": MIXUP, "distill": {"teachers": ["old"], "loss": "dkd"}},
        {"data": GROWING, "distill": {"teachers": ["old"]}},
        {"distill": CACHED, "train": {"task_loss": "bce", "ema": 0.9}},
    ],
    ids=str,
)
def test_the_rest_goes_together(sections: dict[str, Any]) -> None:
    check_settings(recipe(**sections))
