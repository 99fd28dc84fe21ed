"""Tiny data, tiny runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.train.run import train
from tests.tiny import tiny_recipe, write_images


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> list[str]:
    """Two finished runs."""
    folder = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        for seed in (7, 8):
            train(tiny_recipe(tiny_data, train__seed=seed, train__steps=30), folder / f"seed{seed}")
    return [str(folder / "seed7"), str(folder / "seed8")]
