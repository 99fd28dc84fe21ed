"""What is asked of each program, and the figures of the answers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from real_programs.program import Refused, Setup
from real_programs.runs import ProgramError, Record, Runs
from results_file import Figure

STOP = "0.67"  # of 6 steps: open in the step that a run is resumed at, closed before the last
COMPARED = 3  # steps, all in the window
CLOSE = 1e-4  # largest difference from a reference, relative; float32, and summed in another order


def checked(setup: Setup, programs: Path) -> dict[str, Figure]:
    """The figures of one set-up.

    Raises:
        ProgramError: A program failed.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{setup.name}-"))
    runs = Runs(setup, programs, folder)
    runs.run("teacher", start="teacher")
    untouched = runs.run("untouched")
    closed = runs.run("closed", setup.lines, stop="0")
    distilled = runs.run("distilled", setup.lines, stop=STOP)
    by_hand = runs.run("by-hand", setup.by_hand)
    resumed = runs.run("resumed", setup.lines, stop=STOP, first="distilled")
    changed, added = runs.lines(setup.lines)
    figures = {
        "lines_changed": Figure(value=changed),
        "lines_added": Figure(value=added),
        "closed_steps_identical": Figure(value=identical(closed, untouched), n=len(untouched.weights)),
        **against_reference(distilled, by_hand, untouched),
    }
    resumed_identical = same_end(resumed, distilled)
    figures["resumed_steps_identical"] = Figure(value=resumed_identical, n=len(resumed.weights))
    if resumed_identical < len(resumed.weights):  # the program itself may not resume to the same weights
        again = runs.run("resumed-by-hand", setup.by_hand, first="by-hand")
        figures["resumed_by_hand_steps_identical"] = Figure(value=same_end(again, by_hand), n=len(again.weights))
        figures["resumed_weights_difference"] = Figure(value=weights_difference(resumed, again, steps=1), n=1)
    shutil.rmtree(folder)
    return figures


def refused(case: Refused, programs: Path) -> dict[str, Figure]:
    """Whether a set-up is refused with the message that it should be.

    Raises:
        ProgramError: It was not.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(case.setup, programs, Path(folder) / case.setup.name)
        runs.run("teacher", start="teacher")
        try:
            runs.run("refused", case.setup.lines, stop=STOP)
        except ProgramError as error:
            if case.says not in str(error):
                raise
            return {"refused": Figure(value=1)}
    raise ProgramError(f"{case.setup.name}: trained, though it should say {case.says!r}")


def faults(figures: dict[str, Figure]) -> list[str]:
    """The figures that are not what they should be."""
    wrong = []
    for name, figure in figures.items():
        kind = name.rpartition(".")[2]
        if kind == "closed_steps_identical" and figure.value != figure.n:
            wrong.append(name)
        if kind == "resumed_steps_identical":  # as many as by hand, and without that all
            by_hand = figures.get(name.replace("resumed_", "resumed_by_hand_"))
            if figure.value < (by_hand.value if by_hand is not None else figure.n or 0):
                wrong.append(name)
        if kind.endswith("_difference") and not figure.value <= CLOSE:
            wrong.append(name)
        if kind == "distillation_in_first_loss" and not figure.value > 100 * CLOSE:  # else a reference shows nothing
            wrong.append(name)
    return wrong


def identical(run: Record, other: Record) -> int:
    """The steps until losses and weights of two runs differ in any bit."""
    per_step = len(run.losses) // len(run.weights)
    for step, (weights, others) in enumerate(zip(run.weights, other.weights, strict=True)):
        micro = slice(step * per_step, (step + 1) * per_step)
        if run.losses[micro] != other.losses[micro] or not torch.equal(weights, others):
            return step
    return len(run.weights)


def same_end(resumed: Record, whole: Record) -> int:
    """The steps of a resumed run whose weights are bit for bit those of the run that was not interrupted."""
    tail = whole.weights[-len(resumed.weights) :]
    return sum(torch.equal(weights, others) for weights, others in zip(resumed.weights, tail, strict=True))


def against_reference(run: Record, by_hand: Record, untouched: Record) -> dict[str, Figure]:
    """The largest differences in the first steps, relative; and how much distilling changed the first loss."""
    per_step = len(run.losses) // len(run.weights)
    compared = COMPARED * per_step
    losses = [
        abs(loss - other) / abs(other)
        for loss, other in zip(run.losses[:compared], by_hand.losses[:compared], strict=True)
    ]
    return {
        "reference_loss_difference": Figure(value=max(losses), n=compared),
        "reference_weights_difference": Figure(value=weights_difference(run, by_hand, steps=COMPARED), n=COMPARED),
        "distillation_in_first_loss": Figure(value=abs(run.losses[0] - untouched.losses[0]) / abs(untouched.losses[0])),
    }


def weights_difference(run: Record, other: Record, *, steps: int) -> float:
    """The largest difference between weights after each of the first steps, over the largest change since the start."""
    pairs = zip(run.weights[:steps], other.weights[:steps], strict=True)
    return max(float((one - two).abs().max() / (two - other.start).abs().max()) for one, two in pairs)
