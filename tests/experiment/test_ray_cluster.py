"""Races on a Ray cluster: two workers on this machine."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headstart.errors import HeadstartError, RecipeError
from headstart.experiment.race import race_recipe
from headstart.experiment.ray_cluster import Cluster
from tests.experiment.lost_worker import ATTEMPTS, train_lost_once
from tests.tiny import racing, weight_bits


def test_without_ray_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HeadstartError, match=r"needs Ray, which is not installed; pip install 'headstart\[ray\]'"):
        Cluster()


def test_who_asks_for_no_gpus_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray by itself leaves all of them in sight then (2.60)."""
    stand_in = SimpleNamespace(
        remote=lambda **_: lambda _: SimpleNamespace(remote=lambda task: lambda: task.environment),
        get=lambda answer: answer(),
        exceptions=None,
    )
    monkeypatch.setattr("headstart.experiment.ray_cluster._import_ray", lambda: stand_in)
    assert Cluster().call(_environment)["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in Cluster(gpus=1).call(_environment)


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _refuse(message: str) -> None:
    raise RecipeError(message)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two processors, started here."""
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install 'headstart[ray]'")
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
    module.init(
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield module
    module.shutdown()


@pytest.fixture
def cluster(ray: Any) -> Iterator[Cluster]:
    with Cluster(retries=1) as entered:
        yield entered
    assert ray.is_initialized(), "who did not start it does not end it"


@pytest.mark.slow
def test_calls_and_their_errors(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cluster.call(os.getpid) != os.getpid()
    assert Path(cluster.call(os.getcwd)) == tmp_path
    with pytest.raises(RecipeError, match=r"^wrong$"):
        cluster.call(_refuse, "wrong")
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        cluster.call(math.sqrt, -1)
    with pytest.raises(HeadstartError, match=r"the worker that trained it was lost 2 times, .* --cpus or --gpus"):
        cluster.call(os._exit, 1)
    assert cluster.call(math.sqrt, 4) == 2
    assert cluster.call(os.getenv, "CUDA_VISIBLE_DEVICES") == "", "without --gpus it sees none"


@pytest.mark.slow
def test_room_for_runs(ray: Any) -> None:
    with Cluster(cpus=1) as one, Cluster(cpus=2) as two:
        assert (one.places, two.places) == (2, 1)
    with Cluster(gpus=1) as none, pytest.raises(HeadstartError, match=r"has the 1 CPU and 1 GPU .* 2 CPU, 0 GPU\)"):
        _ = none.places


@pytest.mark.slow
def test_a_race_whose_workers_are_lost_is_the_race_without(
    cluster: Cluster, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = racing(tiny_data, train__checkpoint_every=4, train__log_every=2)
    here = race_recipe(recipe, tmp_path / "here")
    monkeypatch.setattr("headstart.experiment.race.train", train_lost_once)
    there = race_recipe(recipe, tmp_path / "there", cluster=cluster, workers=2)
    assert there.failures == [] and there.calibration is not None and here.calibration is not None
    assert set(there.calibration.kinds) == set(here.calibration.kinds)
    for one, other in zip(here.runs, there.runs, strict=True):
        assert (one.arm, one.budget, one.seed, one.quality, one.steps, one.folder) == (
            other.arm,
            other.budget,
            other.seed,
            other.quality,
            other.steps,
            other.folder,
        )
        assert one.folder is not None
        assert weight_bits(tmp_path / "here" / one.folder) == weight_bits(tmp_path / "there" / one.folder)
        attempts = (tmp_path / "there" / one.folder / ATTEMPTS).read_text().split()
        assert attempts == (["False"] if one.budget == 4 else ["False", "True"])
    assert (tmp_path / "there/teachers/old" / ATTEMPTS).read_text().split() == ["False", "True"]
