"""A data set and recipes so small that a whole training takes a fraction of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from headstart.recipe.load import dump_recipe, parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord
from headstart.tasks.images import ImageModel, build_model
from headstart.train.state.run_folder import RunFolder

CLASSES = ("bright", "left", "top")
SIZE = 8
RACE = {
    "budgets": [4, 8],
    "seeds": [0],
    "primary": "distill",
    "arms": {"baseline": {"set": {"distill": None}}, "distill": {}},
    "calibration_pairs": 1,
}


def write_images(folder: Path, *, train: int = 120, test: int = 60, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write a folder of grey 8 x 8 images whose classes can be learnt; as many of each class, or one more."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            label = number % len(classes)
            place = folder / split / classes[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_image(label, generator)).save(place / f"{number:03}.png")
    return folder


def _image(label: int, generator: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise, and a bright part whose place tells the class."""
    pixels = generator.integers(0, 120, (SIZE, SIZE))
    part = (slice(None), (slice(None), slice(0, 3)), slice(0, 3), slice(5, None))[label % 4]
    pixels[part] += 80
    return pixels.astype(np.uint8)


def tiny_recipe(data: Path, /, **overrides: Any) -> Recipe:
    """A ResNet-8 of four channels, 12 steps, a checkpoint at every fourth; overrides by key with `__` for the dot."""
    content: dict[str, Any] = {
        "name": "tiny",
        "model": {"name": "resnet8", "width": 4},
        "data": {"name": str(data), "augment": {"crop": 1, "flip": True, "cutout": 2}},
        # On a GPU runs repeat only with deterministic algorithms.
        "train": {
            "steps": 12,
            "batch_size": 24,
            "lr": 0.1,
            "precision": "fp32",
            "log_every": 2,
            "checkpoint_every": 4,
            "deterministic": torch.cuda.is_available(),
        },
    }
    for key, value in overrides.items():
        section, _, name = key.partition("__")
        if name:
            content.setdefault(section, {})[name] = value
        else:
            content[section] = value
    return parse_recipe(content, "tiny recipe")


def write_recipe(path: Path, recipe: Recipe) -> Path:
    """Write a recipe to a YAML file."""
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    return path


def write_run(
    folder: Path,
    *,
    name: str = "resnet8",
    width: int = 4,
    classes: int = 3,
    mean: tuple[float, ...] = (0.4,),
    std: tuple[float, ...] = (0.2,),
) -> Path:
    """Write what a finished run leaves, with fresh weights."""
    config = ImageModel(name=name, width=width)
    model = build_model(config, classes=classes, channels=len(mean))
    description = {
        "task": "image-classification",
        "model": config.model_dump(),
        "classes": [str(number) for number in range(classes)],
        "channels": len(mean),
        "mean": list(mean),
        "std": list(std),
    }
    record = RunRecord(quality=0.9, metric="accuracy", seconds=12.5, flops=1e9, steps={"plain": 12})
    place = RunFolder(folder, tiny_recipe(folder))
    place.save_weights(model, description)
    place.finish(record)
    return folder


def racing(data: Path, /, **changes: Any) -> Recipe:
    """A race of a baseline and an arm whose teacher is trained first."""
    content: dict[str, Any] = {
        "race": RACE,
        "teachers": {"old": {"train.steps": 16, "train.seed": 100}},
        "distill": {"teachers": ["old"]},
        **changes,
    }
    return tiny_recipe(data, **content)


def weight_bits(run: Path) -> tuple[dict[str, Any], bytes]:
    """Header and bits of a run's weights; safetensors writes the header's metadata in any order."""
    content = (run / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]
