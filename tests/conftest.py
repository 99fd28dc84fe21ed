"""Settings of every test: one thread, fixed seeds, no network, no cache or data of the user's."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before the libraries that read them are imported; tests that start programs hand them on.
os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    MPLBACKEND="Agg",
    PYTHONPATH=os.pathsep.join(
        filter(None, (str(Path(__file__).parent / "cpu_torchvision"), os.environ.get("PYTHONPATH")))
    ),
)

import numpy as np
import torch
from accelerate.state import AcceleratorState

from headstart.train.run import train
from tests import skips
from tests.cpu_torchvision import sitecustomize  # noqa: F401 - prepares the import of torchvision in this process
from tests.tasks.images.photos import FORMS, cutting, write_photos
from tests.tiny import tiny_recipe, write_images

torch.set_num_threads(1)

pytest_addoption, pytest_configure = skips.add_option, skips.register


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: with several processes none of them is the last, which all others wait for."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


_GIVEN_DATA = os.path.abspath(os.environ.get("HEADSTART_DATA") or "nowhere")


@pytest.fixture(scope="session")
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, _session_cache: Path) -> Iterator[None]:
    """Give a test the same random numbers each time, an empty cache, and no data but its own.

    And no Accelerator of another test: its precision would be that of all later ones in the process. Trainers and
    trainings also leave settings of the process behind, and words in the environment, which are put back.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("HEADSTART_CACHE", str(_session_cache))
    monkeypatch.delenv("HEADSTART_DATA", raising=False)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    environment, dtype, threads = dict(os.environ), torch.get_default_dtype(), torch.get_num_threads()
    yield
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(dtype)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture
def research_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that HEADSTART_DATA names, and set it; skip the test where there is none."""
    if not os.path.isdir(_GIVEN_DATA):
        pytest.skip("HEADSTART_DATA names no folder of research data")
    monkeypatch.setenv("HEADSTART_DATA", _GIVEN_DATA)
    return Path(_GIVEN_DATA)


@pytest.fixture
def able_to_cut() -> Iterator[None]:
    """Images can be streamed, be torchvision installed or not."""
    with cutting():
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the same photographs in each form of files; they are not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    return {form: write_photos(folder / form, form) for form in FORMS}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tiny images."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> list[str]:
    """Return two finished runs."""
    folder = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        for seed in (7, 8):
            train(tiny_recipe(tiny_data, train__seed=seed, train__steps=30), folder / f"seed{seed}")
    return [str(folder / "seed7"), str(folder / "seed8")]
