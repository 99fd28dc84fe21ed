"""Where a run lives inside the race folder."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def run_name(arm: str, budget: float, seed: int) -> str:
    """The name of a run: safe as a file name, and another one for every (arm, budget, seed).

    Args:
        arm: The arm's name; anything but letters, digits and `_.-~` is percent-encoded.
        budget: The budget; the shortest decimal that gives it back, without a trailing `.0`.
        seed: The seed.

    Example:
        >>> run_name("distill-early", 4.0, 1), run_name("T=4, half", 0.5, 0)
        ('distill-early-b4-s1', 'T%3D4%2C%20half-b0.5-s0')
    """
    return f"{quote(arm, safe='')}-b{budget_text(budget)}-s{seed}"


def run_part(arm: str, budget: float, seed: int) -> str:
    """The run folder of a run inside the race folder, which is what a part of a race is called too.

    Example:
        >>> run_part("baseline", 2, 0)
        'runs/baseline-b2-s0'
    """
    return f"runs/{run_name(arm, budget, seed)}"


def run_folder(folder: str | os.PathLike[str], arm: str, budget: float, seed: int) -> Path:
    """The run folder of a run: `folder/runs/<run name>`.

    Args:
        folder: The race folder.
        arm: The arm's name.
        budget: The budget.
        seed: The seed.

    Example:
        >>> run_folder("runs/demo", "baseline", 2, 0).as_posix()
        'runs/demo/runs/baseline-b2-s0'
    """
    return Path(folder) / run_part(arm, budget, seed)


def record_path(folder: str | os.PathLike[str], arm: str, budget: float, seed: int) -> Path:
    """The run's record, which the race writes once the run has finished."""
    return run_folder(folder, arm, budget, seed) / "record.json"


def budget_text(budget: float) -> str:
    """A budget in as few characters as give it back exactly: `4`, `0.5`, `1e+20`."""
    value = float(budget)
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
