"""Makes of a run folder what the repository can carry: weights in half precision, recipe, record.

Usage:
    headstart train recipes/old-model.yaml --out runs/old-model
    python tools/old_model.py runs/old-model --out examples/old-model

The weights are rounded to fp16, which halves their file and changes the last digits of a logit at most. Who loads them
computes in the precision of the run, as always. The record says what the training cost, and how good the weights were
before they were rounded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from headstart.errors import HeadstartError, TeacherError
from headstart.files import write_atomically
from headstart.teachers.find import RECORD, WEIGHTS
from headstart.train.state.run_folder import RECIPE

console = Console()


def main() -> int:
    """Parse the command line, copy the run, say how large it is."""
    parser = argparse.ArgumentParser(description="Copy a run folder with its weights in half precision.")
    parser.add_argument("run", type=Path, help="a finished run of headstart train")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args()
    try:
        size = halve(arguments.run, arguments.out)
    except HeadstartError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    console.print(f"{arguments.out}: {size / 1000:.0f} kB", markup=False, highlight=False, soft_wrap=True)
    return 0


def halve(run: Path, out: Path) -> int:
    """Copy recipe and record of a run, and its weights rounded to half precision; bytes of the weights' file.

    Raises:
        TeacherError: The run has not finished, or a weight is too large for half precision.
    """
    missing = [name for name in (RECIPE, RECORD, WEIGHTS) if not (run / name).exists()]
    if missing:
        raise TeacherError(f"{run}: has no {missing[0]}; give the folder of a run that headstart train has finished")
    out.mkdir(parents=True, exist_ok=True)
    with safe_open(run / WEIGHTS, framework="pt") as file:
        metadata, names = file.metadata(), file.keys()
        weights = {name: _halved(name, file.get_tensor(name)) for name in names}
    content = save(weights, metadata=metadata)
    write_atomically(out / WEIGHTS, content)
    for name in (RECIPE, RECORD):
        shutil.copyfile(run / name, out / name)
    return len(content)


def _halved(name: str, tensor: Tensor) -> Tensor:
    """A tensor in half precision; whole numbers, such as a batch norm's count of batches, as they are."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.to(torch.float16)
    if not half.isfinite().all():
        raise TeacherError(f"{name}: holds numbers above 65504, the largest in half precision; copy the run as it is")
    return half


if __name__ == "__main__":
    sys.exit(main())
