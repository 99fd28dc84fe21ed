"""The command under torchrun and accelerate launch, and a process killed under torchrun's eyes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.records import RunRecord, read_record
from headstart.train.run import train
from tests.tiny import tiny_recipe, weight_bits, write_recipe
from tests.train.processes import run_together
from tests.train.test_distributed import metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    "accelerate": [
        "accelerate.commands.launch",
        "--multi_gpu",  # the one that starts several processes; with --cpu that needs MPI
        "--num_processes=2",
        "--num_machines=1",
        "--main_process_port=0",
        "--mixed_precision=no",
        "--dynamo_backend=no",
    ],
}


def launch(launcher: list[str], *arguments: object) -> str:
    """Standard output of a program started twice."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def recipe(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.yaml", tiny_recipe(tiny_data))


@pytest.fixture(scope="module")
def whole(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    run_together(train, tiny_recipe(tiny_data), folder)
    return folder


def test_the_command_trains_with_two_processes_of_accelerate(recipe: Path, whole: Path, tmp_path: Path) -> None:
    told = launch(LAUNCHERS["accelerate"], "--module", "headstart", "train", recipe, "--out", tmp_path, "--json")
    assert RunRecord.model_validate_json(told) == read_record(RunRecord, tmp_path / "record.json")
    assert weight_bits(tmp_path) == weight_bits(whole)
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4, 6, 8, 10, 12]


def test_torchrun_starts_again_where_a_process_was_killed(
    recipe: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, out = tmp_path / "killed", tmp_path / "run"
    program = Path(__file__).with_name("killed_once.py")
    # Or the second start may read the addresses of the first: https://github.com/pytorch/pytorch/issues/135712
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    launch([*LAUNCHERS["torchrun"], "--max-restarts=1"], program, marker, 9, "train", recipe, "--out", out)
    assert marker.exists()
    assert weight_bits(out) == weight_bits(whole)
