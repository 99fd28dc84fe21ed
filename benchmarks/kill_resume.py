"""Kills trainings at random points, lets them resume, and compares their weights with those of undisturbed ones.

Usage: python benchmarks/kill_resume.py [--trials 50] [--enough SECONDS] [--steps 40] [--seed 0]
    [--out benchmarks/results]

Half of the trials train a small ResNet on images, half a small BERT with dropout on text, both distilled for half of
their steps; on made-up data, with a checkpoint at every second step. In each trial the training is started in a process
of its own and killed (SIGKILL) after a random time, one to three times, then left to finish. It counts as identical
where all bits of the weights and all lines of metrics, but for the seconds, are those of the undisturbed training. On a
GPU only deterministic algorithms are used. A few minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from headstart.recipe.load import parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from results_file import RESULTS, Figure, command_line, name_on, new_result, write_result

STEPS = 40
MOST_KILLS = 3
# Or a library that asks on import whether there is CUDA would keep what is forked afterwards from using it.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
# Forked from a server that has done the slow imports and nothing else, so that a trial is training and little else.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "torch._dynamo", "transformers.models.bert.modeling_bert"])


@dataclass(frozen=True)
class Subject:
    """A training to be killed, and what comes of it undisturbed."""

    recipe: Recipe
    outcome: str
    seconds: float


@dataclass
class Counts:
    """What has happened so far; `resumed` counts the starts from a checkpoint."""

    trials: int = 0
    identical: int = 0
    kills: int = 0
    resumed: int = 0


def write_images(folder: Path, *, count: int = 96, size: int = 8) -> Path:
    """Grey images of two classes; the brighter half tells which."""
    noise = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(count):
            pixels = noise.integers(0, 150, (size, size))
            pixels[:, : size // 2] += 100 * (number % 2)
            place = folder / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder


def write_text(folder: Path, *, lines: int = 300) -> Path:
    """Sentences of made-up words."""
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefgh", k=3)) for _ in range(40)]
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        sentences = (" ".join(chance.choices(words, k=12)) for _ in range(lines))
        (folder / f"{split}.txt").write_text("\n".join(sentences), encoding="utf-8")
    return folder


def recipes(folder: Path, *, steps: int, deterministic: bool) -> dict[str, Recipe]:
    """What is trained, without teachers, by name; the data is written first."""
    common = {"steps": steps, "log_every": 2, "checkpoint_every": 2, "deterministic": deterministic}
    images = {
        "model": {"name": "resnet8", "width": 4},
        "data": {"name": str(write_images(folder / "images")), "augment": {"crop": 1, "flip": True}},
        "train": {**common, "batch_size": 16, "lr": 0.1},
    }
    text = {
        "task": "mlm",
        "model": {"name": "bert", "size": "tiny", "config": {"hidden_size": 16, "intermediate_size": 32}},
        "data": {"name": str(write_text(folder / "text")), "vocab_size": 80, "length": 16, "evaluate_sequences": 20},
        "train": {**common, "batch_size": 8, "optimizer": "adamw", "lr": 0.01},
    }
    return {name: parse_recipe(content, name) for name, content in (("images", images), ("text", text))}


def undisturbed(recipe: Recipe, folder: Path) -> Subject:
    """Train the teacher, then the student once as a warm-up of caches and once with an eye on the clock."""
    train(recipe, folder / "teacher")
    content = {**recipe.model_dump(mode="json"), "distill": {"teachers": [str(folder / "teacher")]}}
    content["train"] = {**content["train"], "seed": 1}
    distilled = parse_recipe(content, recipe.name)
    finish(start(distilled, folder / "warm-up"))
    begin = time.perf_counter()
    finish(start(distilled, folder / "whole"))
    seconds = time.perf_counter() - begin
    if outcome(folder / "warm-up") != outcome(folder / "whole"):
        raise ArithmeticError(
            f"{recipe.task}: two undisturbed trainings differ, so that there is nothing to compare with"
        )
    return Subject(distilled, outcome(folder / "whole"), seconds)


def trial(subject: Subject, folder: Path, chance: random.Random, counts: Counts) -> None:
    """Kill a training one to three times, then let it finish; one that was too quick to be killed does not count."""
    killed = 0
    for _ in range(chance.randint(1, MOST_KILLS)):
        process = start(subject.recipe, folder)
        process.join(chance.random() * subject.seconds)
        if not process.is_alive():
            break
        process.kill()
        process.join()
        killed += 1
        counts.resumed += any(folder.glob("checkpoint-*"))
    finish(start(subject.recipe, folder))
    if killed:
        counts.trials += 1
        counts.kills += killed
        counts.identical += outcome(folder) == subject.outcome


def start(recipe: Recipe, folder: Path) -> BaseProcess:
    """Begin or resume a training in a process of its own."""
    process = _CONTEXT.Process(target=_train, args=(recipe, folder), daemon=True)
    process.start()
    return process


def finish(process: BaseProcess) -> None:
    """Wait for a training.

    Raises:
        RuntimeError: It failed.
    """
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a training ended with {process.exitcode}")


def outcome(folder: Path) -> str:
    """A digest of a run's weights and metrics."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(load_file(folder / "model.safetensors").items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        digest.update(json.dumps({**json.loads(line), "seconds": 0}).encode())
    return digest.hexdigest()


def measure(
    folder: Path, *, trials: int, steps: int, seed: int, deterministic: bool, enough: float = float("inf")
) -> Counts:
    """So many trials, of images and text in turn; after `enough` seconds none begins, but for the first two."""
    begin = time.perf_counter()
    prepared = recipes(folder / "data", steps=steps, deterministic=deterministic)
    subjects = [undisturbed(recipe, folder / name) for name, recipe in prepared.items()]
    chance, counts, number = random.Random(seed), Counts(), 0
    while counts.trials < trials and (counts.trials < len(subjects) or time.perf_counter() - begin < enough):
        trial(subjects[number % len(subjects)], folder / f"trial{number}", chance, counts)
        number += 1
        print(f"{counts.identical} of {counts.trials} identical, {counts.kills} kills", flush=True)
    return counts


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--enough", type=float, default=float("inf"), help="seconds after which no trial begins")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps of a training")
    parser.add_argument("--seed", type=int, default=0, help="of the times of killing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure and write the result file."""
    options = parse_arguments(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        counts = measure(
            Path(place),
            trials=options.trials,
            steps=options.steps,
            seed=options.seed,
            deterministic=device.type == "cuda",
            enough=options.enough,
        )
    figures: dict[str, Any] = {name: Figure(value=value) for name, value in vars(counts).items()}
    seconds = time.perf_counter() - begin
    command = command_line(__file__, arguments)
    result = new_result(
        name_on("kill-resume", device),
        figures,
        command=command,
        device=device,
        seconds=seconds,
        packages=("transformers",),
    )
    print(f"{write_result(result, options.out)}, {result.seconds:.0f} s on {result.device}")


def _train(recipe: Recipe, folder: Path) -> None:
    torch.set_num_threads(1)
    train(recipe, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
