"""Measures what distilling costs a step of causal language modelling, in time and memory, against the step by hand.

Usage: python benchmarks/clm_cost.py [--pairs 200] [--out benchmarks/results]

Model and optimiser are those of recipes/llama-wikipedia.yaml in float32, with half its batch; the teacher is of the
student's size, that of hidden states half as wide. The text is made up, as no step's work depends on what it says.
Everything runs in one process on the same batch; each ratio is of pairs of steps, interleaved in ABBA order. Memory is
what the CPU's allocator reports to torch's profiler of each allocation, temporary ones inside operators too, of a step
with eight times the batch, so that logits come in several chunks; on CUDA it is the allocator's own peak. Run it on a
quiet machine: about 7 minutes on 2 cores; `--quick` is a trial.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from overhead import check_same_loss, table_line
from overhead_steps import TOTAL_STEPS
from text_steps import by_hand, made_up_text, trained
from torch import Tensor

from headstart.distill.fused import linear
from headstart.distill.hidden.states import states_at
from headstart.recipe.load import load_recipe, varied
from headstart.recipe.recipe import ClmRecipe, Recipe
from headstart.tasks.text.causal.tokenizer import END, wrap_bpe
from headstart.train.run import train
from headstart.train.session import Session
from peak_memory import peak_allocated
from results_file import RESULTS, Figure, command_line, finish, name_on
from step_times import Step, median_figure, paired_ratios

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "llama-wikipedia.yaml"
# So small a rate changes no float32 weight: all steps have the same loss and do the same work.
SAME_WORK: dict[str, Any] = {
    "train.lr": 1e-30,
    "train.warmup": 0.0,
    "train.steps": TOTAL_STEPS,
    "train.precision": "fp32",
    "data.tuning": 0,  # the text is one document
    "data.documents_apart": False,
    "distill.stop": 1.0,
    "race": None,
}
LET = {"distill.weight": 0.0, "distill.hidden": {"weight": 0.1}}
BATCH, LONGER = 8, 8  # sequences of a step; times as many where memory is measured
GOALS = {"distilling_step_ratio": 0.8, "hidden_step_ratio": 1.03, "memory_above_plain_in_chunks": 1.1}


def made_recipe(overrides: Sequence[str], folder: Path) -> ClmRecipe:
    """The recipe, with made-up text and teachers of one step."""
    recipe: Recipe = load_recipe(RECIPE, [f"train.batch_size={BATCH}", *overrides])
    assert isinstance(recipe, ClmRecipe)
    text = folder / "text"
    text.mkdir()
    sequences = LONGER * recipe.train.batch_size
    files = made_up_text(recipe, text, special=[END], unknown=END, wrap=wrap_bpe, sequences=sequences)
    changed = varied(recipe, {**SAME_WORK, **files}, "the same work at each step")
    assert isinstance(changed, ClmRecipe)
    for name, settings in changed.teachers.items():
        plain = changed.model_copy(update={"teachers": {}})
        train(varied(plain, {**settings, "distill": None, "train.steps": 1}, name), folder / name)
    return changed


class Sessions:
    """The recipe brought to life, with a teacher of each kind and without; the students are equal.

    Args:
        recipe: From `made_recipe`.
        folder: Where its teachers are.
    """

    def __init__(self, recipe: ClmRecipe, folder: Path) -> None:
        self.recipe, self._paths = recipe, {name: folder / name for name in recipe.teachers}
        self.plain = self._session({"distill": None})
        self.distilling = self._session({"distill.teachers": ["earlier-run"]})
        self.aligning = self._session({"distill.teachers": ["half-size"], **LET})

    def longer(self, **changes: Any) -> Session:
        """With a batch of several chunks of logits."""
        return self._session({"train.batch_size": LONGER * self.recipe.train.batch_size, **changes})

    def _session(self, changes: dict[str, Any]) -> Session:
        return Session(varied(self.recipe, changes, "a step"), self._paths)


def full_logits(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The logits of all places but the last of each sequence, `[rows, vocabulary]`, as transformers makes them."""
    logits: Tensor = model(input_ids=inputs["input_ids"], use_cache=False).logits
    return logits[:, :-1].flatten(0, 1)


def with_teacher_to_its_layer(plain: Session, aligning: Session) -> Step:
    """A step without a teacher, and the forward of a teacher up to the layer that is asked for."""
    assert aligning.hidden is not None and aligning.hidden.teacher is not None
    step, teacher, features = trained(plain), aligning.hidden.teacher.module, aligning.hidden.teacher_features
    layer = teacher.get_submodule(features.name)

    def both() -> Tensor:
        tokens = plain.batch(0).inputs["input_ids"]
        with torch.no_grad():
            states_at(layer, features, lambda: teacher(input_ids=tokens, use_cache=False))
        return step()

    return both


def comparisons(sessions: Sessions) -> dict[str, tuple[Step, Step]]:
    """By figure: the step measured, and the one it is compared with.

    Raises:
        ArithmeticError: Two steps meant to do the same work give different losses.
    """
    plain, distilling, aligning = sessions.plain, sessions.distilling, sessions.aligning
    same_work = {
        "distilling_step_ratio": (trained(distilling), by_hand(distilling, full_logits)),
        "plain_step_ratio": (trained(plain), by_hand(plain, full_logits)),
    }
    for name, (step, reference) in same_work.items():
        check_same_loss(name, step, reference, tolerance=1e-4)
    return {
        **same_work,
        "over_plain_step": (trained(distilling), trained(plain)),
        "hidden_step_ratio": (trained(aligning), with_teacher_to_its_layer(plain, aligning)),
    }


def memory(sessions: Sessions) -> dict[str, Figure]:
    """By how much a distilling step needs more memory at its peak than one without a teacher."""
    chunk = 4 * (linear._CHUNK // sessions.recipe.data.vocab_size) * sessions.recipe.data.vocab_size
    longer: dict[str, Callable[[], Step]] = {
        "plain": lambda: trained(sessions.longer(distill=None)),
        "distilling": lambda: trained(sessions.longer(**{"distill.teachers": ["earlier-run"]})),
        "by hand": lambda: by_hand(sessions.longer(**{"distill.teachers": ["earlier-run"]}), full_logits),
    }
    peaks = {}
    for name, make in longer.items():
        step = make()
        step()  # the optimiser's state stays
        peaks[name] = peak_allocated(step, sessions.plain.device)
    above = {name: peak - peaks["plain"] for name, peak in peaks.items()}
    return {
        "memory_above_plain_in_chunks": Figure(value=above["distilling"] / chunk, n=1),
        "memory_above_plain_by_hand_in_chunks": Figure(value=above["by hand"] / chunk, n=1),
        "chunk": Figure(value=chunk / 2**20, unit="MiB", n=1),
    }


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of steps, per ratio; fewer than 200 only for a trial")
    parser.add_argument("--quick", action="store_true", help="a trial: 20 pairs")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the recipe; only for a trial")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for clm-cost.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        os.environ["HEADSTART_CACHE"] = str(Path(name) / "cache")
        sessions = Sessions(made_recipe(options.set, Path(name)), Path(name))
        device, figures = sessions.plain.device, {}
        print(f"{'ratio of step times':38s}  median   95 % interval         pairs   goal")
        for figure, (step, reference) in comparisons(sessions).items():
            pairs = 20 if options.quick else options.pairs
            figures[figure] = median_figure(paired_ratios(step, reference, pairs=pairs, device=device))
            print(table_line(figure, figures[figure], GOALS), flush=True)
        for figure, found in memory(sessions).items():
            figures[figure] = found
            goal = GOALS.get(figure)
            print(f"{figure:38s} {found.value:7.4f}" + (f"   goal {goal}" if goal else ""), flush=True)
    finish(
        name_on("clm-cost", device),
        figures,
        command=command_line(__file__, arguments),
        device=device,
        begin=begin,
        folder=options.out,
        packages=["transformers"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
