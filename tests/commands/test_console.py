"""What is shown while a race goes on."""

from __future__ import annotations

import io

from rich.console import Console

from headstart.commands.console import Display
from headstart.records import Failure, RunRecord

NAME = "x[/y] [half]"  # which rich would take for its own marks


def test_names_are_shown_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    record = RunRecord(arm=NAME, budget=1, quality=0.5, seconds=2, metric="score[/z]")
    with Display(console) as display, console.capture() as capture:
        display.training(NAME)
        display.run_started(NAME, 1, 0, 1, 2)
        display.run_finished(record)
        display.run_failed(Failure(arm=NAME, budget=1, seed=0, message="no [/luck]"))
    shown = capture.get()
    assert f"done {NAME}, budget 1, seed 0: score[/z] 0.5000 in 2.0 s" in shown
    assert f"failed {NAME}, budget 1, seed 0:" in shown and "no [/luck]" in shown
