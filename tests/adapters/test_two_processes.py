"""Two processes that share a step's rows train to the weights of one, in every framework."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="needs lightning: pip install headstart[lightning]")

from tests.adapters.loops import LOOPS, Training, Weights, plain
from tests.adapters.two_processes import FROM_ONE, FROM_TWO, OPTIONS, RESUMED, RUNS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of all runs, made by one start of two processes: importing is what takes long.

    One process has left a checkpoint of each loop for them to go on from.
    """
    place = tmp_path_factory.mktemp("two")
    for loop in RESUMED:
        (place / loop / FROM_ONE).mkdir(parents=True)
        (place / loop / FROM_TWO).mkdir()
        LOOPS[loop](Training(place / loop / FROM_ONE, OPTIONS), stop=True)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.adapters.two_processes"]
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    on_cpu = {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **on_cpu}
    done = subprocess.run(
        [sys.executable, "-m", *launch, str(place)], env=environment, cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return place


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_two_processes_train_to_the_weights_of_one(run: str, folder: Path, tmp_path: Path) -> None:
    weights: Weights = torch.load(folder / f"{run}.pt")
    expected = plain(Training(tmp_path, OPTIONS))
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-2 if run.endswith("bf16-mixed") else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loop", RESUMED)
def test_a_run_of_one_process_goes_on_in_two_and_that_of_two_in_one(loop: str, folder: Path, tmp_path: Path) -> None:
    expected = plain(Training(tmp_path, OPTIONS))
    weights: Weights = torch.load(folder / f"{loop} {FROM_ONE}.pt")
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
    alone = LOOPS[loop](Training(folder / loop / FROM_TWO, OPTIONS), resume=True)
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-6)
