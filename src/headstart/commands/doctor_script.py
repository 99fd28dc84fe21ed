"""What `headstart doctor --script` does: a user's own file tells the student, the teachers and the batches."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.teachers.doctor import Check, doctor

_NEEDED = ("model", "teachers", "batches")
_BATCHES = 4


def doctor_script(path: Path) -> list[Check]:
    """Run a Python file, and examine what it defines.

    Args:
        path: The file, which is run as `python` would run it, in this process. It defines `model`, `teachers` and
            `batches`, and may define any other argument of `headstart.doctor` by its name. Of the batches the first
            four are taken: pairs of inputs and labels, or mappings with the labels in them, as a dataloader gives them.

    Raises:
        HeadstartError: There is no such file, or it does not define these.
    """
    if not path.is_file():
        raise HeadstartError(f"{path}: no such file; give a Python file that defines {', '.join(_NEEDED)}")
    place = str(path.resolve().parent)
    sys.path.insert(0, place)  # as for `python FILE`: it may import what lies beside it
    try:
        defined = runpy.run_path(str(path))
    finally:
        sys.path.remove(place)
    missing = [name for name in _NEEDED if name not in defined]
    if missing:
        raise HeadstartError(
            f"{path}: does not define {' and '.join(missing)}; the doctor needs model, teachers and batches (a few "
            "pairs of inputs and labels, or a dataloader) by these names"
        )
    further = inspect.signature(doctor).parameters.keys() - set(_NEEDED)
    options = {name: defined[name] for name in further if name in defined}
    return doctor(defined["model"], defined["teachers"], _pairs(path, defined["batches"]), **options)


def _pairs(path: Path, batches: Iterable[Any]) -> list[tuple[Any, Any]]:
    pairs = []
    for batch in islice(batches, _BATCHES):
        if isinstance(batch, Mapping) and "labels" in batch:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            pairs.append((inputs, batch["labels"]))
        elif isinstance(batch, tuple | list) and len(batch) == 2:
            pairs.append((batch[0], batch[1]))
        else:
            raise HeadstartError(
                f"{path}: a batch is a {type(batch).__name__}, and no pair of inputs and labels, nor a mapping with "
                "`labels` in it; define batches as a list of such pairs"
            )
    return pairs
