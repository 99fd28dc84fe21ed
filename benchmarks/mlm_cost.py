"""Measures what distilling costs a step of masked-language pretraining, against the same step written by hand.

Usage: python benchmarks/mlm_cost.py [--pairs 200] [--out benchmarks/results]

Model, batch and optimiser are those of recipes/modernbert-wikipedia.yaml, and the teacher is of the student's size. The
text is made up, as no step's work depends on what it says. Everything runs in one process on the same batch; each ratio
is of pairs of steps, interleaved in ABBA order. Run it on a quiet machine: about 10 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from overhead import check_same_loss, table_line
from overhead_steps import TOTAL_STEPS
from text_steps import by_hand, made_up_text, trained
from torch import Tensor, nn

from headstart import Distiller
from headstart.distill import cross_entropy
from headstart.distill.projection import as_logits
from headstart.recipe.load import load_recipe, varied
from headstart.recipe.recipe import MlmRecipe, Recipe
from headstart.tasks.text.tokenizer import SPECIAL, wrap
from headstart.train.optimizer import build_optimizer
from headstart.train.run import train
from headstart.train.session import Session
from results_file import RESULTS, command_line, finish
from step_times import Step, median_figure, paired_ratios

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "modernbert-wikipedia.yaml"
# So small a rate changes no float32 weight: all steps have the same loss and do the same work.
SAME_WORK: dict[str, Any] = {
    "train.lr": 1e-30,
    "train.warmup": 0.0,
    "train.steps": TOTAL_STEPS,
    "train.precision": "bf16",  # on every machine
    "distill.stop": 1.0,
    "race": None,
}
GOALS = {"masked_step_ratio": 1.03}


def make_sessions(recipe: MlmRecipe, folder: Path) -> tuple[Session, Session]:
    """Bring the recipe to life twice, with a teacher (trained for one step) and without; the students are equal."""
    assert recipe.distill is not None
    (spec,) = recipe.distill.specs
    recipe = recipe.model_copy(update={"teachers": {}})
    teacher = varied(recipe, {"distill": None, "train.seed": 100, "train.steps": 1}, "the teacher")
    train(teacher, folder / "teacher")
    paths = {spec: folder / "teacher"}
    return Session(recipe, paths), Session(varied(recipe, {"distill": None}, "the plain step"))


def masked_logits(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The logits of a ModernBERT at the masked rows, `[masked rows, vocabulary]` of float32."""
    input_ids = inputs["input_ids"]
    with torch.autocast(input_ids.device.type, dtype=torch.bfloat16):
        hidden = model.model(input_ids=input_ids).last_hidden_state
        logits: Tensor = model.decoder(model.head(hidden.flatten(0, 1)[inputs["masked_rows"]]))
    return logits.float()


def at_all_positions(session: Session) -> Step:
    """The session's step, but distilled at every position, as fast as headstart can.

    Cross-entropy is of the masked rows; the KL of all rows takes one pass over the logits (a Distiller of weight 1).
    """
    student, config, distill = session.student, session.recipe.train, session.recipe.distill
    assert distill is not None and distill.temperature != "auto" and distill.weight != "auto"
    assert session.pool is not None
    weight = distill.weight
    optimizer = build_optimizer(student, config)
    distiller = Distiller(session.pool, total_steps=TOTAL_STEPS, stop=1.0, temperature=distill.temperature, weight=1.0)

    def step() -> Tensor:
        batch = session.task.batch(0, config.batch_size)
        student.train()
        inputs = {"input_ids": batch.inputs["input_ids"]}
        with torch.autocast(session.device.type, dtype=torch.bfloat16):
            logits = as_logits(session.task.forward(student, inputs))
        task = cross_entropy(logits.flatten(0, 1)[batch.inputs["masked_rows"]], batch.labels)
        divergence = distiller.loss(logits, inputs["input_ids"], inputs)
        loss = (1.0 - weight) * task + weight * divergence
        session.accelerator.backward(loss)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(student.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()
        return loss.detach()

    return step


def comparisons(distilling: Session, plain: Session) -> dict[str, tuple[Step, Step]]:
    """By figure: the step measured, and the one it is compared with.

    Raises:
        ArithmeticError: Two steps meant to do the same work give different losses.
    """
    masked = trained(distilling)
    same_work = {
        "masked_step_ratio": (masked, by_hand(distilling, masked_logits)),
        "plain_step_ratio": (trained(plain), by_hand(plain, masked_logits)),
    }
    for name, (step, reference) in same_work.items():
        check_same_loss(name, step, reference)
    return {
        **same_work,
        "over_plain_step": (masked, trained(plain)),
        "all_positions_ratio": (at_all_positions(distilling), masked),
    }


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of steps, per ratio; fewer than 200 only for a trial")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the recipe; only for a trial")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for mlm-cost.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        os.environ["HEADSTART_CACHE"] = str(Path(name) / "cache")
        recipe = masked_lm_recipe(options.set, Path(name))
        sessions = make_sessions(recipe, Path(name))
        steps = comparisons(*sessions)
        device = sessions[0].device
        print(f"{'ratio of step times':24s}  median   95 % interval         pairs   goal")
        figures = {}
        for figure, (step, reference) in steps.items():
            figures[figure] = median_figure(paired_ratios(step, reference, pairs=options.pairs, device=device))
            print(table_line(figure, figures[figure], GOALS), flush=True)
    finish(
        "mlm-cost" if device.type == "cpu" else f"mlm-cost-{device.type}",
        figures,
        command=command_line(__file__, arguments),
        device=device,
        begin=begin,
        folder=options.out,
        packages=["transformers"],
    )


def masked_lm_recipe(overrides: Sequence[str], folder: Path) -> MlmRecipe:
    """The recipe, with made-up text."""
    recipe: Recipe = load_recipe(RECIPE, overrides)
    assert isinstance(recipe, MlmRecipe)
    text = folder / "text"
    text.mkdir()
    sequences = recipe.train.batch_size
    files = made_up_text(recipe, text, special=SPECIAL, unknown="[UNK]", wrap=wrap, sequences=sequences)
    changed = varied(recipe, {**SAME_WORK, **files}, "the same work at each step")
    assert isinstance(changed, MlmRecipe)
    return changed


if __name__ == "__main__":
    main(sys.argv[1:])
